"""Gradient-boosted trees (xgboost) as a classifier.

The model is stored as its UBJSON bytes: training and later processes predict from the same bytes with the same library,
with bit-identical results. xgboost is imported lazily, because the import takes seconds.

It is fitted on the matrix of trees (:mod:`mlho.method.classifiers.tree_matrix`), in which absent means missing. Older models
are still supported: they use dense rows, in which absent means zero.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mlho.errors import BundleError, DataError, plural
from mlho.grids import GRIDS, Setting
from mlho.method.classifiers.base import (
    Classifier,
    FittedClassifier,
    TrainingData,
    prefix_groups,
    prefix_key,
)
from mlho.method.classifiers.design_matrix import Floats, Matrix
from mlho.method.classifiers.files import ModelFields, absent_fields
from mlho.method.trees.shapley import ShapleyTables, Tree, shapley_tables

#: File of the trees, in xgboost's binary JSON format.
MODEL_UBJ = "model.ubj"

#: Rows converted to dense at a time in predictions with ``absent: zero``: bounds memory without changing results.
_ROWS_AT_ONCE = 16_384

_XGBOOST_NAMES = {
    "maxDepth": "max_depth",
    "learningRate": "learning_rate",
    "minChildWeight": "min_child_weight",
    "subsample": "subsample",
    "colsample": "colsample_bytree",
    "lambda": "reg_lambda",
}


@dataclass(frozen=True, eq=False)
class FittedXGBoost(FittedClassifier):
    """Boosted trees."""

    name: ClassVar[str] = "xgboost"

    model: bytes
    """The booster as UBJSON."""
    gain: Floats
    """Total loss reduction of the splits on each feature. Shape (n_features,)."""
    n_rounds: int
    """Number of trees."""
    value_columns: NDArray[np.bool_] | None = None
    """Value columns; None in an older model in which absent means zero. Shape (n_features,)."""

    @property
    def n_features(self) -> int:
        """Number of columns in training."""
        return self.gain.size

    @cached_property
    def _booster(self) -> Any:
        return _booster_from(self.model)

    def _log_odds(self, matrix: Matrix) -> Floats:
        """Return xgboost's margin, a float32 sum over the trees in order, as float64."""
        return self._predicted(matrix, output_margin=True)

    def _contributions(self, matrix: Matrix) -> Floats:
        """Return TreeSHAP values; the intercept includes the float32 rounding difference between their sum and the margin.

        For shallow trees they come from tables in float64, many times faster than from xgboost, which computes in float32.
        """
        tables = self._tables
        if tables is None:
            shap = self._predicted(matrix, pred_contribs=True)
        else:
            shap = np.empty((matrix.shape[0], self.n_features + 1))
            shap[:, :-1] = tables.values(matrix)
        return with_intercept(shap, self._log_odds(matrix))

    def _feature_contributions(self, matrix: Matrix) -> Floats:
        """Return the values of the tables; the intercept would need the margin of each row."""
        tables = self._tables
        return super()._feature_contributions(matrix) if tables is None else tables.values(matrix)

    @property
    def _tables(self) -> ShapleyTables | None:
        return None if self.value_columns is None else _shapley_tables(self.model, self.n_features)

    def _predicted(self, matrix: Matrix, **what: bool) -> Floats:
        if self.value_columns is not None:
            predicted: Floats = self._booster.predict(_dmatrix(matrix), **what).astype(np.float64)
            return predicted
        return _by_dense_rows(matrix, lambda rows: self._booster.predict(_dmatrix(rows), **what))

    def to_files(self) -> dict[str, bytes]:
        """Return ``model.json`` (sizes, gain, the digest of the trees) and ``model.ubj`` (the trees)."""
        return super().to_files() | {MODEL_UBJ: self.model}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Restore a model from the output of ``to_files``. Raise BundleError if it is damaged or of a different version."""
        fields = ModelFields(cls.name, files, other_files=frozenset({MODEL_UBJ}))
        attributes = cls._attributes(fields)
        digest = fields.take("modelSha256")
        fields.finish()
        # Verify before xgboost's C++ parser reads the bytes, since it does not validate its input.
        if digest != hashlib.sha256(files[MODEL_UBJ]).hexdigest():
            fields.refuse(f"{MODEL_UBJ} does not match its digest")
        fitted = cls(model=bytes(files[MODEL_UBJ]), **attributes)
        booster, declared = fitted._booster, (fitted.n_features, fitted.n_rounds)
        if (booster.num_features(), booster.num_boosted_rounds()) != declared:
            fields.refuse(f"{MODEL_UBJ} has a different number of features or trees than declared")
        return fitted

    def _fields(self) -> dict[str, Any]:
        return {
            "nFeatures": self.n_features,
            "nRounds": self.n_rounds,
            "gain": self.gain,
            "modelSha256": hashlib.sha256(self.model).hexdigest(),
            **absent_fields(self.value_columns),
        }

    @classmethod
    def _attributes(cls, fields: ModelFields) -> dict[str, Any]:
        n_features = fields.integer("nFeatures", low=1)
        return {
            "n_rounds": fields.integer("nRounds", low=1),
            "gain": fields.floats("gain", size=n_features, low=0.0),
            "value_columns": fields.value_columns(n_features),
        }


def with_intercept(parts: Floats, log_odds: Floats) -> Floats:
    """Set the last column to the log-odds minus the other columns, added from left to right."""
    by_feature = np.zeros(len(log_odds))
    for column in parts.T[:-1]:
        by_feature += column
    parts[:, -1] = log_odds - by_feature
    return parts


class XGBoost(Classifier):
    """Boosted trees by histogram.

    Simpler means, in this order: shallower trees, a lower learning rate, a larger leaf weight, a smaller share of
    rows, of columns, a stronger penalty, fewer trees.
    """

    name = "xgboost"
    parameters = GRIDS["xgboost"]
    fitted = FittedXGBoost
    absent = "missing"

    def _fit_settings(self, data: TrainingData, settings: Sequence[Setting]) -> list[FittedClassifier]:
        # xgboost bounds the leaves on both sides of a split on such a column; missing values may go to either side. An absent
        # code is therefore fitted as the number zero.
        obeyed = {"monotone_constraints": self.directions} if self.directions else {}
        zeros = [place for place in np.flatnonzero(self.directions).tolist() if not data.value_columns[place]]
        rows = _with_zeros(data.matrix, zeros) if zeros else data.matrix
        fits = boosted(
            data._replace(matrix=rows),
            settings,
            lambda setting: training_parameters(setting, data.seed) | obeyed,
            label=data.labels,
        )
        if zeros:
            fits = [fit | {"model": _absent_like_zero(fit["model"], zeros)} for fit in fits]
        return [FittedXGBoost(**fit) for fit in fits]


def _with_zeros(matrix: Matrix, columns: Sequence[int]) -> Any:
    """Return the rows with a stored zero wherever one of these columns is absent."""
    cells = matrix.tocoo()
    place = np.full(matrix.shape[1], -1)
    place[columns] = np.arange(len(columns))
    is_among = place[cells.col] >= 0
    is_stored = np.zeros((matrix.shape[0], len(columns)), np.bool_)
    is_stored[cells.row[is_among], place[cells.col[is_among]]] = True
    row, column = np.nonzero(~is_stored)
    added = sp.csr_array(
        (
            np.concatenate([cells.data, np.zeros(len(row), np.float32)]),
            (np.concatenate([cells.row, row]), np.concatenate([cells.col, np.array(columns)[column]])),
        ),
        shape=matrix.shape,
    )
    added.sort_indices()
    return added


def _absent_like_zero(model: bytes, columns: Sequence[int]) -> bytes:
    """Return the model with absent cells of these columns on the side of zero: the left side, because these columns have no negative numbers."""
    document = json.loads(bytes(_booster_from(model).save_raw("json")))
    for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
        for node, feature in enumerate(tree["split_indices"]):
            if tree["left_children"][node] >= 0 and feature in columns:
                tree["default_left"][node] = 1
    return bytes(_booster_from(json.dumps(document).encode()).save_raw("ubj"))


def boosted(
    data: TrainingData,
    settings: Sequence[Setting],
    parameters: Callable[[Mapping[str, float]], dict[str, Any]],
    **labels: Any,
) -> list[dict[str, Any]]:
    """Return the attributes of the fitted model of each setting; settings that differ only in ``nRounds`` share a fit."""
    import xgboost

    # Bins are independent of the setting and stored with the matrix, so they are computed once for all settings. The trees
    # equal those from a QuantileDMatrix, which takes less memory and 80 ms instead of 30 for a million cells.
    binned = xgboost.DMatrix(data.matrix, nthread=1, **labels)
    longest = {
        key: xgboost.train(parameters(dict(key)), binned, num_boost_round=n_rounds)
        for key, n_rounds in prefix_groups(settings, "nRounds").items()
    }
    return [
        _prefix(longest[prefix_key(setting, "nRounds")], int(setting["nRounds"]), data.value_columns)
        for setting in settings
    ]


def training_parameters(values: Mapping[str, float], seed: int) -> dict[str, Any]:
    """Return xgboost's parameters for a setting."""
    return {
        **{ours: values[name] for name, ours in _XGBOOST_NAMES.items()},
        "objective": "binary:logistic",
        "tree_method": "hist",
        "seed": seed,
        # Always one thread: threads add partial histograms in a different order, and a last bit can change a split.
        # Runs are parallelised by tasks.
        "nthread": 1,
        "verbosity": 0,
    }


def _prefix(booster: Any, n_rounds: int, value_columns: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the attributes of the model truncated to its first trees."""
    prefix = booster if booster.num_boosted_rounds() == n_rounds else booster[:n_rounds]
    gain = np.zeros(value_columns.size)
    for feature, total in prefix.get_score(importance_type="total_gain").items():
        gain[int(feature.removeprefix("f"))] = total
    return {
        "model": bytes(prefix.save_raw("ubj")),
        "gain": gain,
        "n_rounds": n_rounds,
        "value_columns": value_columns,
    }


def import_if_installed() -> None:
    """Import xgboost now, so that processes forked later do not. If it is missing, the first use raises the error."""
    with suppress(ImportError):
        import xgboost  # noqa: F401 - importing is the purpose


def _booster_from(model: bytes) -> Any:
    import xgboost

    booster = xgboost.Booster({"nthread": 1, "verbosity": 0})
    try:
        booster.load_model(bytearray(model))
    except xgboost.core.XGBoostError as error:
        raise BundleError(
            f"xgboost {MODEL_UBJ}: xgboost cannot read it. Build or fetch the model again."
        ) from error
    return booster


# A worker opens the same bundle for each partition.
@lru_cache(maxsize=4)
def _shapley_tables(model: bytes, n_features: int) -> ShapleyTables | None:
    """Return the tables of the trees of a booster, from its JSON form."""
    learner = json.loads(bytes(_booster_from(model).save_raw("json")))["learner"]
    trees = [
        Tree(
            left=tree["left_children"],
            right=tree["right_children"],
            feature=tree["split_indices"],
            cut=tree["split_conditions"],
            absent_left=tree["default_left"],
            cover=tree["sum_hessian"],
        )
        for tree in learner["gradient_booster"]["model"]["trees"]
    ]
    return shapley_tables(trees, n_features)


def _dmatrix(rows: Any) -> Any:
    import xgboost

    return xgboost.DMatrix(rows, nthread=1)


def _by_dense_rows(matrix: Matrix, predict: Any) -> Floats:
    """Return predictions as float64, in chunks of dense rows."""
    by_row = matrix.tocsr() if sp.issparse(matrix) else matrix
    starts = range(0, max(matrix.shape[0], 1), _ROWS_AT_ONCE)
    parts = [predict(_float32(by_row[start : start + _ROWS_AT_ONCE])) for start in starts]
    return np.concatenate(parts).astype(np.float64)


def _float32(matrix: Matrix) -> NDArray[np.float32]:
    """Return the matrix dense, as xgboost uses it; absent cells of a sparse matrix become the number zero, not missing."""
    largest = np.finfo(np.float32).max
    stored = matrix.data if sp.issparse(matrix) else matrix
    n_too_large = int(np.count_nonzero(np.abs(stored) > largest))
    if n_too_large:
        raise DataError(
            "feature matrix",
            "values too large for xgboost",
            expected=f"at most {largest:.3g} in size, the range of float32",
            got=f"{plural(n_too_large, 'larger value')}",
            remedy="Use a larger unit for that column.",
        )
    dense: NDArray[np.float32] = (
        matrix.astype(np.float32).toarray(order="C") if sp.issparse(matrix) else matrix.astype(np.float32)
    )
    return dense
