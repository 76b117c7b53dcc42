"""Explainable boosting (a sum of learned step functions) as a classifier.

The library interpret fits the model. It is stored in our own JSON format: for each term its cut points and a
score for each bin. Predictions use only that, so interpret is not needed to use a model.

It is fitted on the matrix of trees (:mod:`mlho.method.classifiers.tree_matrix`): missing values have a separate bin before the
others. Older models, without that bin, are still supported: they treat absent cells as zeros.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mlho.grids import GRIDS, Setting
from mlho.method.classifiers.base import Classifier, FittedClassifier, TrainingData
from mlho.method.classifiers.design_matrix import Floats, Matrix
from mlho.method.classifiers.files import ModelFields, absent_fields
from mlho.method.classifiers.tree_matrix import dense_rows


@dataclass(frozen=True, eq=False)
class Term:
    """A step function of one or two features."""

    features: tuple[int, ...]
    """One or two columns."""
    cuts: tuple[Floats, ...]
    """Increasing cut points of each feature; a value on a cut belongs to the bin above it."""
    scores: Floats
    """Contribution of each bin to the log-odds. A feature has n_cuts + 1 bins, preceded by one for missing values if any. Shape (n_bins,)
    or (n_bins_0, n_bins_1)."""
    has_missing: bool = False
    """Whether a feature may be missing (NaN)."""

    def of(self, columns: Sequence[Floats]) -> Floats:
        """Return the score of each row from the values of the term's features, shape (n_samples,)."""
        bins = tuple(self._bins(numbers, cuts) for numbers, cuts in zip(columns, self.cuts, strict=True))
        scores: Floats = self.scores[bins]
        return scores

    def _bins(self, numbers: Floats, cuts: Floats) -> NDArray[np.intp]:
        bins = np.searchsorted(cuts, numbers, side="right")
        return np.where(np.isnan(numbers), 0, bins + 1) if self.has_missing else bins


@dataclass(frozen=True, eq=False)
class FittedEBM(FittedClassifier):
    """A sum of terms."""

    name: ClassVar[str] = "ebm"

    terms: tuple[Term, ...]
    """In the order of summation."""
    intercept: float
    """Log-odds to which the scores of the terms are added."""
    weight: Floats
    """Mean absolute score on the training rows; the score of a pair is split equally between its two features. Shape (n_features,)."""
    value_columns: NDArray[np.bool_] | None = None
    """Value columns; None in an older model in which absent means zero. Shape (n_features,)."""

    @property
    def n_features(self) -> int:
        """Number of columns in training."""
        return self.weight.size

    def _log_odds(self, matrix: Matrix) -> Floats:
        total = np.zeros(matrix.shape[0])
        for _, scores in self._scored_terms(matrix):
            total += scores
        return total + self.intercept

    def _scored_terms(self, matrix: Matrix) -> Iterator[tuple[Term, Floats]]:
        """Yield each term with its score of each row."""
        columns = matrix.tocsc() if sp.issparse(matrix) else matrix
        absent = 0.0 if self.value_columns is None else np.nan
        for term in self.terms:
            yield term, term.of([_column(columns, feature, absent) for feature in term.features])

    def _contributions(self, matrix: Matrix) -> Floats:
        """Return the scores by feature; the score of a pair is split equally between its two features."""
        parts = np.zeros((matrix.shape[0], self.n_features + 1))
        for term, scores in self._scored_terms(matrix):
            share = scores / len(term.features)
            for feature in term.features:
                parts[:, feature] += share
        parts[:, -1] = self.intercept
        return parts

    def _fields(self) -> dict[str, Any]:
        terms = [
            {
                "features": list(term.features),
                "cuts": [cuts.tolist() for cuts in term.cuts],
                "scores": term.scores.ravel().tolist(),
            }
            for term in self.terms
        ]
        return {
            "nFeatures": self.n_features,
            "intercept": self.intercept,
            "weight": self.weight,
            "terms": terms,
            **absent_fields(self.value_columns),
        }

    @classmethod
    def _attributes(cls, fields: ModelFields) -> dict[str, Any]:
        n_features = fields.integer("nFeatures", low=1)
        value_columns = fields.value_columns(n_features)
        return {
            "terms": tuple(_terms_from(fields, n_features, has_missing=value_columns is not None)),
            "intercept": fields.number("intercept"),
            "weight": fields.floats("weight", size=n_features, low=0.0),
            "value_columns": value_columns,
        }


def _terms_from(fields: ModelFields, n_features: int, *, has_missing: bool) -> Iterator[Term]:
    for term in fields.objects("terms"):
        features = term.integers("features", low=0, high=n_features - 1)
        cuts = tuple(term.as_floats(part, "cuts") for part in term.sequence("cuts", size=features.size))
        if features.size not in (1, 2) or not all((np.diff(part) > 0).all() for part in cuts):
            term.refuse("a term does not have one or two features with increasing cuts")
        shape = tuple(part.size + 1 + has_missing for part in cuts)
        scores = term.floats("scores", size=int(np.prod(shape))).reshape(shape)
        term.finish()
        yield Term(tuple(features.tolist()), cuts, scores, has_missing)


def _column(matrix: Matrix, j: int, absent: float) -> Floats:
    """Return one column dense, shape (n_samples,)."""
    if not sp.issparse(matrix):
        dense: Floats = matrix[:, j]
        return dense
    column = np.full(matrix.shape[0], absent)
    stored = slice(matrix.indptr[j], matrix.indptr[j + 1])
    column[matrix.indices[stored]] = matrix.data[stored]
    return column


class EBM(Classifier):
    """Explainable boosting machine. Simpler means fewer pairs of features, coarser bins, a lower rate, fewer rounds."""

    name = "ebm"
    parameters = GRIDS["ebm"]
    fitted = FittedEBM
    absent = "missing"

    def _fit_settings(self, data: TrainingData, settings: Sequence[Setting]) -> list[FittedClassifier]:
        dense = dense_rows(data.matrix, np.full(data.matrix.shape[1], np.nan))
        return [_fitted(dense, data, setting, self.directions) for setting in settings]


def _pairs_of(directions: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the pairs of columns in which at least one column has a direction."""
    pairs = combinations(range(len(directions)), 2)
    return [(a, b) for a, b in pairs if directions[a] or directions[b]]


def _fitted(dense: Floats, data: TrainingData, setting: Setting, directions: tuple[int, ...]) -> FittedEBM:
    """Fit one setting on dense rows, with NaN for missing values."""
    from interpret.glassbox import ExplainableBoostingClassifier

    model = ExplainableBoostingClassifier(
        # Set explicitly: interpret would treat a column with few distinct numbers as categorical.
        feature_types=["continuous"] * dense.shape[1],
        interactions=int(setting["nInteractions"]),
        max_bins=int(setting["maxBins"]),
        learning_rate=setting["learningRate"],
        max_rounds=int(setting["maxRounds"]),
        outer_bags=int(setting["nBags"]),
        # A pair would add to the effect of its features, so columns with a direction are excluded from pairs.
        exclude=_pairs_of(directions),
        # One process: runs are parallelised by tasks.
        n_jobs=1,
        random_state=data.seed,
    )
    with warnings.catch_warnings():
        # This warning concerns interpret's own charts, which omit the bin of missing values and are not used here.
        warnings.filterwarnings("ignore", message="Missing values detected", category=UserWarning)
        # Raised for a column that is missing in all training rows: it gets no cut and no effect.
        warnings.filterwarnings("ignore", message="All-NaN slice encountered", category=RuntimeWarning)
        # Absent cells of a code with a direction are fitted as the number zero, which is part of the order.
        counted = [
            place for place, direction in enumerate(directions) if direction and not data.value_columns[place]
        ]
        dense[:, counted] = np.nan_to_num(dense[:, counted])
        model.fit(dense, data.labels)
        for place, direction in enumerate(directions):
            if direction:  # after the fit, as interpret recommends: during it, other columns would compensate
                model.monotonize(place, increasing=direction > 0)
        # The column is not in a pair, so its only term has its number. Bin 0 is for missing numbers, bin 1 for zero.
        for place in counted:
            model.term_scores_[place][0] = model.term_scores_[place][1]
    terms = tuple(_term(model, t) for t in range(len(model.term_features_)))
    return FittedEBM(
        terms=terms,
        intercept=float(model.intercept_[0]),
        weight=_weights(model, terms, dense.shape[1]),
        value_columns=data.value_columns,
    )


def _term(model: Any, t: int) -> Term:
    features = tuple(int(feature) for feature in model.term_features_[t])
    # interpret uses coarser bins in pairs: its list holds the cuts for main effects, then those for pairs.
    cuts = tuple(
        np.asarray(model.bins_[f][min(len(features), len(model.bins_[f])) - 1], dtype=np.float64)
        for f in features
    )
    return Term(features, cuts, _seen_bins(model.term_scores_[t]), has_missing=True)


def _seen_bins(table: NDArray[np.float64]) -> Floats:
    """Return the table without its last bins, which are for unknown categories and unused here."""
    return np.array(table[(slice(0, -1),) * table.ndim], dtype=np.float64)


def _weights(model: Any, terms: Sequence[Term], n_features: int) -> Floats:
    weights = np.zeros(n_features)
    for t, term in enumerate(terms):
        n_rows = _seen_bins(model.bin_weights_[t])
        mean_size = float((n_rows * np.abs(term.scores)).sum() / n_rows.sum())
        for feature in term.features:
            weights[feature] += mean_size / len(term.features)
    return weights
