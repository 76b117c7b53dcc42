"""Explainable boosting (a sum of learned step functions) as a classifier.

interpret fits it; what is kept is the model's meaning, in our own JSON: for each term its cut points and a
score for each bin. It is predicted from that alone, so a model in use needs no interpret.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mlho.grids import GRIDS, Setting
from mlho.method.classifiers.base import Classifier, Coefficients, FittedClassifier, Labels
from mlho.method.classifiers.files import MODEL_JSON, ModelFields, model_json
from mlho.method.design_matrix import Floats, Matrix


@dataclass(frozen=True, eq=False)
class Term:
    """A step function of one feature, or of two.

    Attributes
    ----------
    features : tuple of int
        One or two columns.
    cuts : tuple of float64 arrays
        For each feature its increasing cut points; a value on a cut belongs to the bin above.
    scores : float64, shape (n_cuts + 1,) or (n_cuts_0 + 1, n_cuts_1 + 1)
        Log-odds that each bin adds.
    """

    features: tuple[int, ...]
    cuts: tuple[Floats, ...]
    scores: Floats

    def of(self, matrix: Matrix) -> Floats:
        """Return the term's score of each row, shape (n_samples,)."""
        bins = tuple(
            np.searchsorted(cuts, _column(matrix, feature), side="right")
            for feature, cuts in zip(self.features, self.cuts, strict=True)
        )
        scores: Floats = self.scores[bins]
        return scores


@dataclass(frozen=True, eq=False)
class FittedEBM(FittedClassifier):
    """A sum of terms.

    Attributes
    ----------
    terms : tuple of Term
        In the order in which they are added.
    intercept : float
        Log-odds that the terms' scores are added to.
    weight : float64, shape (n_features,)
        Mean absolute score on the training rows; a pair's is halved between its two features.
    """

    name: ClassVar[str] = "ebm"

    terms: tuple[Term, ...]
    intercept: float
    weight: Floats

    @property
    def n_features(self) -> int:
        """Number of columns that it was fitted with."""
        return self.weight.size

    def _log_odds(self, matrix: Matrix) -> Floats:
        total = np.zeros(matrix.shape[0])
        for term in self.terms:
            total += term.of(matrix)
        return total + self.intercept

    def _contributions(self, matrix: Matrix) -> Floats:
        """Return the scores by feature; a pair's is halved between its two features."""
        parts = np.zeros((matrix.shape[0], self.n_features + 1))
        for term in self.terms:
            share = term.of(matrix) / len(term.features)
            for feature in term.features:
                parts[:, feature] += share
        parts[:, -1] = self.intercept
        return parts

    def coefficients(self) -> Coefficients | None:
        """Return None: step functions have no coefficients."""
        return None

    def importance(self) -> Floats:
        """Return the mean absolute contribution of each feature on the training rows, in log-odds."""
        return self.weight

    def to_files(self) -> dict[str, bytes]:
        """Return ``model.json``."""
        terms = [
            {
                "features": list(term.features),
                "cuts": [cuts.tolist() for cuts in term.cuts],
                "scores": term.scores.ravel().tolist(),
            }
            for term in self.terms
        ]
        fields = {
            "nFeatures": self.n_features,
            "intercept": self.intercept,
            "weight": self.weight,
            "terms": terms,
        }
        return {MODEL_JSON: model_json(self.name, fields)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Return the model that ``to_files`` wrote; BundleError if it is damaged or of another version."""
        fields = ModelFields(cls.name, files)
        n_features = fields.integer("nFeatures", low=1)
        intercept = fields.number("intercept")
        weight = fields.floats("weight", size=n_features, low=0.0)
        terms = tuple(_terms_from(fields, n_features))
        fields.finish()
        return cls(terms=terms, intercept=intercept, weight=weight)


def _terms_from(fields: ModelFields, n_features: int) -> Iterator[Term]:
    for term in fields.objects("terms"):
        features = term.integers("features", low=0, high=n_features - 1)
        cuts = tuple(term.as_floats(part, "cuts") for part in term.sequence("cuts", size=features.size))
        if features.size not in (1, 2) or not all((np.diff(part) > 0).all() for part in cuts):
            term.refuse("a term has not one or two features with increasing cuts")
        shape = tuple(part.size + 1 for part in cuts)
        scores = term.floats("scores", size=int(np.prod(shape))).reshape(shape)
        term.finish()
        yield Term(tuple(features.tolist()), cuts, scores)


def _column(matrix: Matrix, j: int) -> Floats:
    """Return one column dense, shape (n_samples,)."""
    if not sp.issparse(matrix):
        dense: Floats = matrix[:, j]
        return dense
    column = np.zeros(matrix.shape[0])
    stored = slice(matrix.indptr[j], matrix.indptr[j + 1])
    column[matrix.indices[stored]] = matrix.data[stored]
    return column


class EBM(Classifier):
    """Explainable boosting machine. Simpler: fewer pairs of features, coarser bins, a lower rate, fewer rounds."""

    name = "ebm"
    parameters = GRIDS["ebm"]
    fitted = FittedEBM

    def _fit_settings(
        self, matrix: Matrix, labels: Labels, settings: Sequence[Setting], *, seed: int, n_threads: int
    ) -> list[FittedClassifier]:
        dense = matrix.toarray() if sp.issparse(matrix) else matrix
        return [_fitted(dense, labels, setting, seed) for setting in settings]


def _fitted(dense: Floats, labels: Labels, setting: Setting, seed: int) -> FittedEBM:
    from interpret.glassbox import ExplainableBoostingClassifier

    model = ExplainableBoostingClassifier(
        # Said, not guessed: interpret would take few distinct numbers for categories.
        feature_types=["continuous"] * dense.shape[1],
        interactions=int(setting["nInteractions"]),
        max_bins=int(setting["maxBins"]),
        learning_rate=setting["learningRate"],
        max_rounds=int(setting["maxRounds"]),
        outer_bags=int(setting["nBags"]),
        # One process: a run's parallelism is its tasks.
        n_jobs=1,
        random_state=seed,
    ).fit(dense, labels)
    terms = tuple(_term(model, t) for t in range(len(model.term_features_)))
    return FittedEBM(
        terms=terms, intercept=float(model.intercept_[0]), weight=_weights(model, terms, dense.shape[1])
    )


def _term(model: Any, t: int) -> Term:
    features = tuple(int(feature) for feature in model.term_features_[t])
    # interpret bins a feature more coarsely in pairs: its list holds the cuts of terms of one, then of two features.
    cuts = tuple(
        np.asarray(model.bins_[f][min(len(features), len(model.bins_[f])) - 1], dtype=np.float64)
        for f in features
    )
    return Term(features, cuts, _seen_bins(model.term_scores_[t]))


def _seen_bins(table: NDArray[np.float64]) -> Floats:
    """Return the table without its first and last bins, which are for missing and for unknown values: refused here."""
    return np.array(table[(slice(1, -1),) * table.ndim], dtype=np.float64)


def _weights(model: Any, terms: Sequence[Term], n_features: int) -> Floats:
    weights = np.zeros(n_features)
    for t, term in enumerate(terms):
        n_rows = _seen_bins(model.bin_weights_[t])
        mean_size = float((n_rows * np.abs(term.scores)).sum() / n_rows.sum())
        for feature in term.features:
            weights[feature] += mean_size / len(term.features)
    return weights
