"""Stability of features: confidence scores and selection over the iterations, by feature and demographic."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlho.method.stability.confidence import ConfidenceTable, confidence_scores
from mlho.report.result import Confidence
from mlho.training.results.records import CoefficientRecord

Key = int | str  # a feature's number, or a demographic's name


@dataclass(frozen=True)
class Returns:
    """Selection and confidence of each feature over the iterations."""

    keys: list[Key]
    """Numbers of features selected in any iteration, ascending; then names of demographics."""
    selected: NDArray[np.bool_]
    """Whether the ranking selected a feature (features only). Shape (n_iterations, n_features)."""
    ranks: NDArray[np.float64]
    """Position in the ranking, from 1; ``NaN`` if not selected. Shape (n_iterations, n_features)."""
    confidence: ConfidenceTable
    """One entry per key."""

    @property
    def n_features(self) -> int:
        """Number of keys that are features."""
        return int(self.selected.shape[1])

    def consensus(self, min_confidence: int) -> list[Key]:
        """Return the keys with sufficient confidence."""
        return [
            key
            for key, score in zip(self.keys, self.confidence.score, strict=True)
            if score >= min_confidence
        ]

    def confidence_of(self, position: int) -> Confidence:
        """Return the confidence of one key, for the result."""
        table = self.confidence
        numbers = {
            name: _value(getattr(table, name)[position])
            for name in ("mean_odds_ratio", "low95", "high95", "low99", "high99")
        }
        n_seen = int(table.n_seen[position])
        reasons = {0: "no iteration gave it a coefficient", 1: "no interval: only one iteration used it"}
        if numbers["low95"] is None:
            reasons.setdefault(n_seen, "no interval: all odds ratios are equal, or numerically unbounded")
        return Confidence(
            score=int(table.score[position]),
            n_seen=n_seen,
            n_positive=int(table.n_positive[position]),
            n_negative=int(table.n_negative[position]),
            reason=reasons.get(n_seen),
            **numbers,
        )

    def median_rank(self, position: int) -> float | None:
        """Median position in the ranking over the iterations that selected a feature."""
        ranks = self.ranks[:, position]
        picked = ranks[~np.isnan(ranks)]
        return float(np.median(picked)) if picked.size else None


def count_returns(
    selections: Sequence[Sequence[int]], fits: Sequence[CoefficientRecord], *, n_iterations_planned: int
) -> Returns:
    """Count how often features were selected, given the fit on each selection. Odds ratios are per standard deviation, as in R MLHO."""
    features = sorted({feature for selected in selections for feature in selected})
    demographics = list(dict.fromkeys(name for fit in fits for name in fit.demographics))
    keys: list[Key] = [*features, *demographics]
    place = {key: number for number, key in enumerate(keys)}
    ranks = np.full((len(fits), len(features)), np.nan)
    log_odds = np.full((len(fits), len(keys)), np.nan)
    for row, (selected, fit) in enumerate(zip(selections, fits, strict=True)):
        for rank, feature in enumerate(selected, start=1):
            ranks[row, place[feature]] = rank
        per_sd = np.array(fit.log_odds) * np.array(fit.scale)
        fitted_keys: list[Key] = [*fit.features, *fit.demographics]
        for key, value in zip(fitted_keys, per_sd, strict=True):
            log_odds[row, place[key]] = value
    table = confidence_scores(log_odds, n_iterations_planned=n_iterations_planned)
    return Returns(keys, ~np.isnan(ranks), ranks, table)


def sets_as_table(sets: Sequence[Sequence[int]], n_features: int) -> NDArray[np.bool_]:
    """Membership table: bool, shape (n_sets, at least n_features). Columns beyond the distinct features are empty."""
    distinct = sorted({feature for members in sets for feature in members})
    place = {feature: number for number, feature in enumerate(distinct)}
    table = np.zeros((len(sets), max(n_features, len(distinct))), np.bool_)
    for row, members in enumerate(sets):
        table[row, [place[feature] for feature in members]] = True
    return table


def _value(number: object) -> float | None:
    return None if number is np.ma.masked else float(number)  # type: ignore[arg-type] # masked is handled, the rest are floats
