"""Comparison of the scores that two bundles give the same samples. Pure."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mlho.report.result import Part
from mlho.scoring.drift import deciles_of, score_psi

COMPARISON_SCHEMA = "mlho.io/scores-comparison/v1"
_TOP_SHARE = 0.1


class AlertChange(Part):
    """Alerts of one threshold rule, for which each bundle has its own value."""

    rule: str
    both: int
    """Samples for which both bundles alert."""
    only_this: int
    """Samples for which only the bundle of the run alerts."""
    only_other: int
    """Samples for which only the other bundle alerts."""


class ScoresComparison(Part):
    """``comparison.json``: how the scores of the bundle of the run differ from those of another bundle."""

    schema_: str = Field(default=COMPARISON_SCHEMA, alias="schema")
    bundle_digest: str
    compared_digest: str
    samples: int
    mean: float | None
    """Mean probability of the bundle of the run."""
    compared_mean: float | None
    """Mean probability of the other bundle."""
    mean_absolute_difference: float | None
    largest_difference: float | None
    """Largest absolute difference of the two probabilities of a sample."""
    rank_correlation: float | None
    """Spearman's correlation of the two probabilities; null if one of them is constant."""
    psi: float | None
    """Population stability index of the probabilities over the deciles of the other bundle's; null with fewer than 110 samples."""
    top_tenth_shared: float | None
    """Share of the samples in the highest tenth by the other bundle that are also in the highest tenth of this one."""
    alerts: list[AlertChange]


def compare_scores(
    scores: NDArray[np.float64],
    compared: NDArray[np.float64],
    alerts: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    *,
    bundle_digest: str,
    compared_digest: str,
) -> ScoresComparison:
    """Return the figures of a comparison. They do not depend on the order of the samples.

    Parameters
    ----------
    scores, compared : float64, shape (n_samples,)
        Calibrated probabilities of the same samples.
    alerts : mapping of rule to (bool, bool) arrays of shape (n_samples,)
        Alerts of both bundles, for the rules that both have.
    """
    n = len(scores)
    difference = np.abs(scores - compared)
    return ScoresComparison(
        bundle_digest=bundle_digest,
        compared_digest=compared_digest,
        samples=n,
        mean=_mean(scores),
        compared_mean=_mean(compared),
        mean_absolute_difference=_mean(difference),
        largest_difference=float(difference.max()) if n else None,
        rank_correlation=_rank_correlation(scores, compared),
        psi=score_psi(scores, deciles_of(compared) if n else None, rounding=0.0)[0],
        top_tenth_shared=_shared_top(scores, compared),
        alerts=[
            AlertChange(
                rule=rule,
                both=int((by_this & by_other).sum()),
                only_this=int((by_this & ~by_other).sum()),
                only_other=int((by_other & ~by_this).sum()),
            )
            for rule, (by_this, by_other) in sorted(alerts.items())
        ],
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    return math.fsum(values.tolist()) / len(values) if len(values) else None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks minus their mean; equal values have the mean of their ranks.

    Examples
    --------
    >>> _ranks(np.array([0.3, 0.1, 0.3])).tolist()
    [0.5, -1.0, 0.5]
    """
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return ((2 * ends - count + 1) / 2 - (len(values) + 1) / 2)[place]


def _rank_correlation(scores: NDArray[np.float64], compared: NDArray[np.float64]) -> float | None:
    x, y = _ranks(scores), _ranks(compared)
    scale = math.sqrt(math.fsum((x * x).tolist()) * math.fsum((y * y).tolist()))
    return round(math.fsum((x * y).tolist()) / scale, 12) if scale else None


def _shared_top(scores: NDArray[np.float64], compared: NDArray[np.float64]) -> float | None:
    """Return the share of the other's highest tenth that is in this one's; ties at the boundary count as inside."""
    n_top = math.ceil(_TOP_SHARE * len(scores))
    if not n_top:
        return None
    top, compared_top = (values >= np.sort(values)[-n_top] for values in (scores, compared))
    return float((top & compared_top).sum() / compared_top.sum())
