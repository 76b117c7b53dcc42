"""The interface of all classifiers: fit, predict, explain, serialize.

A classifier is one class in one module, listed in ``mlho.method.classifiers``; the contract suite runs on all
listed ones. Fitting is deterministic given data, setting and seed, for any number of threads. A prediction for
a row is bit-identical alone, in any batch, for sparse and dense input, and after a round trip through
files.

For linear models an absent cell is zero; for trees it is missing
(:mod:`mlho.method.classifiers.tree_matrix`).
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mlho.errors import DataError, SpecError
from mlho.grids import Parameter, Setting, setting_from, settings_from
from mlho.method.classifiers import log_odds
from mlho.method.classifiers.design_matrix import Floats, Matrix, checked_labels, checked_matrix, dense_floats
from mlho.method.classifiers.files import MODEL_JSON, ModelFields, model_json
from mlho.method.classifiers.tree_matrix import Absent, tree_matrix
from mlho.method.survival.times import EventTimes, checked_times

Labels = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Coefficients of a linear model in clinically interpretable units."""

    intercept: float
    """Log-odds of a row of zeros."""
    values: Floats
    """Log odds ratio per original unit of the feature. Shape (n_features,)."""
    scale: Floats
    """Training standard deviation (ddof 1); 0 for a constant column. Shape (n_features,)."""


class FittedClassifier(ABC):
    """A fitted classifier. Subclasses are frozen and hold only arrays and bytes."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def n_features(self) -> int:
        """Number of columns in training."""

    #: Value columns, shape (n_features,), in which absent means missing; None if absent means zero.
    value_columns: NDArray[np.bool_] | None = None

    @property
    def absent(self) -> Absent:
        """Meaning of an absent cell."""
        return "zero" if self.value_columns is None else "missing"

    @property
    def empty_row(self) -> Floats:
        """A dense row of unknown values, shape (n_features,): NaN in value columns, else 0."""
        is_value = self.value_columns
        return np.zeros(self.n_features) if is_value is None else np.where(is_value, np.nan, 0.0)

    @abstractmethod
    def _log_odds(self, matrix: Matrix) -> Floats:
        """Return the log-odds of a checked matrix, shape (n_samples,)."""

    @abstractmethod
    def _contributions(self, matrix: Matrix) -> Floats:
        """Return the contributions of a checked matrix, shape (n_samples, n_features + 1)."""

    def coefficients(self) -> Coefficients | None:
        """Return the coefficients of a linear model; None for trees and explainable boosting, which have none."""
        return None

    def to_files(self) -> dict[str, bytes]:
        """Serialize the model to files in safe formats, by name. Equal models give equal bytes."""
        return {MODEL_JSON: model_json(self.name, self._fields())}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Restore a model from the output of ``to_files``.

        Raises
        ------
        BundleError
            A different schema or version, a missing, unknown or malformed field, or inconsistent parts.
        """
        fields = ModelFields(cls.name, files)
        attributes = cls._attributes(fields)
        fields.finish()
        return cls(**attributes)

    @abstractmethod
    def _fields(self) -> dict[str, Any]:
        """Return the fields of ``model.json``."""

    @classmethod
    @abstractmethod
    def _attributes(cls, fields: ModelFields) -> dict[str, Any]:
        """Return the attributes of the model from the fields of ``model.json``. Refuse invalid ones."""

    def checked(self, X: Any, *, names: Sequence[str] | None = None) -> Matrix:
        """Return X checked and converted to the model's matrix format; ``names`` are the column names in errors.

        A checked matrix may be passed in place of X everywhere.
        """
        is_value = self.value_columns
        if is_value is None:
            return checked_matrix(X, n_features=self.n_features)
        return tree_matrix(X, is_value, names=names)

    def log_odds(self, X: Any) -> Floats:
        """Return the log-odds of y = 1 for each row, shape (n_samples,)."""
        matrix = self.checked(X)
        return self._log_odds(matrix) if matrix.shape[0] else np.empty(0)

    def predict_proba(self, X: Any) -> Floats:
        """Return P(y = 1) for each row.

        Parameters
        ----------
        X : dense or SciPy sparse, shape (n_samples, n_features)
            The columns in training order. If :attr:`absent` is "missing", an unknown number is NaN in a dense matrix and not
            stored in a sparse one.

        Returns
        -------
        float64, shape (n_samples,)
            Strictly inside (0, 1): log-odds are clipped to ±36. The result for a row does not depend on its
            batch.

        Raises
        ------
        DataError
            A different number of columns, a cell that is not a finite number, or NaN outside the value columns.
        """
        return log_odds.probabilities(self.log_odds(X))

    def contributions(self, X: Any) -> Floats:
        """Return the contribution of each feature to the log-odds of each row.

        Returns
        -------
        float64, shape (n_samples, n_features + 1)
            One column per feature, then the intercept. Summed from left to right, they are the log-odds of
            ``predict_proba`` (before clipping to ±36).
        """
        matrix = self.checked(X)
        return self._contributions(matrix) if matrix.shape[0] else np.empty((0, self.n_features + 1))

    def feature_contributions(self, X: Any) -> Floats:
        """Return :meth:`contributions` without the intercept, shape (n_samples, n_features), bit-identical."""
        matrix = self.checked(X)
        return self._feature_contributions(matrix) if matrix.shape[0] else np.empty((0, self.n_features))

    def _feature_contributions(self, matrix: Matrix) -> Floats:
        return self._contributions(matrix)[:, :-1]


class TrainingData(NamedTuple):
    """The checked input of a fit."""

    matrix: Matrix
    """In the format of the classifier."""
    labels: Any
    """0 and 1 as int8, or EventTimes for a :class:`TimeClassifier`. Shape (n_samples,)."""
    seed: int
    value_columns: NDArray[np.bool_]
    """Shape (n_features,)."""


class Classifier(ABC):
    """A type of model: its grid and its fitting."""

    name: ClassVar[str]
    #: Parameters of the grid in the order of the settings: the first one varies slowest.
    parameters: ClassVar[tuple[Parameter, ...]]
    fitted: ClassVar[type[FittedClassifier]]
    #: Meaning of an absent cell: zero for linear models; trees learn a direction for missing values.
    absent: ClassVar[Absent] = "zero"
    #: The target of the fit: labels, or times to the event.
    target: ClassVar[Literal["label", "time"]] = "label"

    @property
    def _where(self) -> str:
        return f"candidate {self.name}"

    def settings(self, grid: Mapping[str, Any] | None = None) -> list[Setting]:
        """Return the cross product of the grid, simplest first; an empty grid gives the documented default.

        Raises
        ------
        SpecError
            An unknown name (the message gives the nearest valid one), or a value out of range.
        """
        return settings_from(grid or {}, self.parameters, self._where)

    def setting(self, values: Mapping[str, Any] | None = None) -> Setting:
        """Return one setting: the given values and the first default of every other parameter."""
        return setting_from(values or {}, self.parameters, self._where)

    #: Monotone constraint on each column: 1 increasing, -1 decreasing, 0 none. Empty: no constraints.
    directions: tuple[int, ...] = ()

    def constrained(self, directions: NDArray[np.int8]) -> Self:
        """Return this classifier with monotone constraints. Classifiers that do not support constraints ignore them.

        Parameters
        ----------
        directions : int8, shape (n_features,)
            1 increasing, -1 decreasing, 0 none. Missing values are not constrained.
        """
        if not directions.any():
            return self
        classifier = copy.copy(self)
        classifier.directions = tuple(directions.tolist())
        return classifier

    def fit(
        self,
        X: Any,
        y: Any,
        setting: Mapping[str, Any],
        *,
        seed: int,
        value_columns: NDArray[np.bool_] | None = None,
    ) -> FittedClassifier:
        """Fit one setting: ``fit_settings`` with a list of one."""
        (fitted,) = self.fit_settings(X, y, [setting], seed=seed, value_columns=value_columns)
        return fitted

    def fit_settings(
        self,
        X: Any,
        y: Any,
        settings: Sequence[Mapping[str, Any]],
        *,
        seed: int,
        value_columns: NDArray[np.bool_] | None = None,
    ) -> list[FittedClassifier]:
        """Fit every setting, sharing work where possible; each model is bit-identical to the one from ``fit``.

        Parameters
        ----------
        X : dense or SciPy sparse, shape (n_samples, n_features)
            Unscaled: classifiers that need scaled columns scale them internally. Constant columns are
            allowed.
        y : array-like of 0 and 1, shape (n_samples,)
            Both classes must be present.
        settings : sequence of Setting or mapping
            Parameters missing from a mapping take their first default.
        seed : int, at least 0
            Seed of all random draws of the classifier.
        value_columns : bool, shape (n_features,), optional
            If :attr:`absent` is "missing": the columns in which zero is a value and NaN (or an absent cell of a sparse
            matrix) is missing; see :mod:`mlho.method.classifiers.tree_matrix`. Default: no such columns.

        Returns
        -------
        list of FittedClassifier
            In the order of the settings.

        Raises
        ------
        DataError
            No column, cells that are not finite numbers, labels that are not 0 and 1, or a single class.
        SpecError
            A setting is invalid.
        """
        matrix = self._training_matrix(X, value_columns)
        _refuse_no_columns(matrix)
        labels = self._target(y, matrix.shape[0])
        complete = [
            setting if isinstance(setting, Setting) else self.setting(setting) for setting in settings
        ]
        is_value = _value_columns(value_columns, matrix.shape[1])
        return self._fit_settings(TrainingData(matrix, labels, seed, is_value), complete)

    def _target(self, y: Any, n_samples: int) -> Labels | EventTimes:
        return checked_labels(y, n_samples)

    def _training_matrix(self, X: Any, value_columns: NDArray[np.bool_] | None) -> Matrix:
        where = "training matrix"
        if self.absent == "zero":
            return checked_matrix(X, where=where)
        matrix = X if sp.issparse(X) else dense_floats(X, where)
        return tree_matrix(matrix, _value_columns(value_columns, matrix.shape[1]), where=where)

    def first_steps(
        self, model: FittedClassifier, X: Any, y: Any, setting: Mapping[str, Any], newcomers: Any
    ) -> Floats:
        """Return for each new column whether the fitted model would use it if it alone were added.

        Only for classifiers whose coefficients show which columns they use.

        Parameters
        ----------
        model : FittedClassifier
            Fitted by this classifier on X and y with this setting.
        X : dense or SciPy sparse, shape (n_samples, n_features)
        y : array-like of 0 and 1, shape (n_samples,)
        setting : Setting or mapping
        newcomers : dense or SciPy sparse, shape (n_samples, n_newcomers)

        Returns
        -------
        float64, shape (n_newcomers,)
            A log odds ratio per standard deviation with the sign that the coefficient would have; 0 where it would be 0.
        """
        raise SpecError(f"{self._where}: it has no coefficients that show which columns it uses.")

    @abstractmethod
    def _fit_settings(self, data: TrainingData, settings: Sequence[Setting]) -> list[FittedClassifier]:
        """Fit the settings on checked input."""


class TimeClassifier(Classifier):
    """A type of model that is fitted to :class:`mlho.method.survival.times.EventTimes`, passed as ``y``.

    Its probability is the risk of the event up to the horizon of these times.
    """

    target = "time"

    def _target(self, y: Any, n_samples: int) -> EventTimes:
        return checked_times(y, n_samples)


def _value_columns(mask: NDArray[np.bool_] | None, n_features: int) -> NDArray[np.bool_]:
    """Return the mask of value columns, default none. A mask of a different length is a programming error."""
    is_value = np.zeros(n_features, np.bool_) if mask is None else np.asarray(mask, np.bool_)
    if is_value.shape != (n_features,):
        raise ValueError(f"value_columns: expected {n_features} Booleans; got shape {is_value.shape}")
    return is_value


def _refuse_no_columns(matrix: Matrix) -> None:
    if matrix.shape[1] == 0:
        raise DataError(
            "training matrix",
            "no feature left",
            expected="at least one column",
            got="0 columns",
            remedy="Lower selection.minPrevalence, or widen the look-back or the cohort.",
        )


def prefix_groups(settings: Sequence[Setting], length: str) -> dict[tuple[tuple[str, float], ...], int]:
    """Return the largest value of ``length`` for each combination of the other parameters.

    A boosted model with fewer steps is a prefix of one with more, so each group is fitted once and truncated.
    """
    longest: dict[tuple[tuple[str, float], ...], int] = {}
    for setting in settings:
        key = prefix_key(setting, length)
        longest[key] = max(longest.get(key, 0), int(setting[length]))
    return longest


def prefix_key(setting: Setting, length: str) -> tuple[tuple[str, float], ...]:
    """Return all of a setting except ``length``, which identifies the group that shares a fit."""
    return tuple((name, value) for name, value in setting.items() if name != length)
