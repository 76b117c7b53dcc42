"""Estimates with a reason if absent; and measures of overall accuracy: Brier score, log loss, error per patient."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlho.method.evaluation.suppression import shown_counts
from mlho.method.evaluation.tally import Counts, FloatArray, IntArray, Tally, checked_groups, tally

# A wrong probability of exactly 0 or 1 would have an infinite log loss; with clipping it is 34.5.
PROBABILITY_CLIP = 1e-15

# Ends of a central interval of 95 %, the level of all intervals, and its normal quantile. In floats, 0.5 - 0.475 is not 0.025.
ENDS = (0.5 - 0.95 / 2.0, 0.5 + 0.95 / 2.0)
Z_95 = NormalDist().inv_cdf(ENDS[1])

# Cells with fewer patients are hidden: the limit of the US Centers for Medicare & Medicaid Services.
MIN_CELL = 11

ERROR_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
N_ERROR_BINS = 20


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty, or the reason for its absence."""

    value: float | None
    """None if the figure does not exist for these data; never NaN."""
    low: float | None
    high: float | None
    """Ends of the 95 % interval; None if the figure or its interval does not exist."""
    standard_error: float | None
    method: str
    """Description of the interval method."""
    reason: str | None = None
    """Reason why the value or its interval is absent."""

    @classmethod
    def absent(cls, reason: str, method: str = "") -> "Estimate":
        """Return an absent figure with the reason."""
        return cls(None, None, None, None, method, reason)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return dict(vars(self))


def brier_of(t: Tally) -> float:
    """Return the Brier score: the mean squared difference between outcome and probability, 0 (best) to 1.

    References
    ----------
    Brier (1950), Monthly Weather Review 78.

    Examples
    --------
    >>> brier_of(tally([0, 1], [0.5, 1.0]))
    0.125
    """
    return float(squared_error(t).sum() / t.n_total)


def squared_error(t: Counts) -> FloatArray:
    """Return the sum of (y − p)² over the samples of each prediction."""
    squared: FloatArray = t.n_positive * (1.0 - t.p) ** 2 + (t.n - t.n_positive) * t.p**2
    return squared


def log_loss_of(t: Tally) -> float:
    """Return the mean negative log likelihood in natural units, 0 (best) upwards.

    Probabilities are clipped to [1e-15, 1 − 1e-15]: a wrong prediction of 0 or 1 costs 34.5, not infinity.

    Examples
    --------
    >>> round(log_loss_of(tally([0, 1], [0.5, 0.5])), 6)
    0.693147
    """
    return float(negative_log_likelihood(t).sum() / t.n_total)


def negative_log_likelihood(t: Counts) -> FloatArray:
    """Return the sum of −log P(y) over the samples of each prediction, clipped."""
    clipped = np.clip(t.p, PROBABILITY_CLIP, 1.0 - PROBABILITY_CLIP)
    loss: FloatArray = -(t.n_positive * np.log(clipped) + (t.n - t.n_positive) * np.log1p(-clipped))
    return loss


def absolute_error(t: Counts) -> FloatArray:
    """Return the sum of |y − p| over the samples of each prediction (R's ``absErr``)."""
    error: FloatArray = t.n_positive * (1.0 - t.p) + (t.n - t.n_positive) * t.p
    return error


@dataclass(frozen=True)
class ErrorDistribution:
    """Distribution of |y − p| within one class, without disclosing a patient."""

    n: int
    """Samples of the class."""
    quantiles: dict[float, float] | None
    """|y − p| at 5, 25, 50, 75 and 95 %; None if the class has fewer than ``min_cell`` patients."""
    bin_edges: tuple[float, ...]
    """20 bins of width 0.05 over [0, 1], closed at the lower edge; the last one is closed at both."""
    counts: tuple[int | None, ...]
    """Samples per bin; None for non-empty bins with fewer than ``min_cell`` patients, and for bins that would reveal them through the
    total."""
    reason: str | None
    """Reason why quantiles are absent or counts hidden."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "n": self.n,
            "quantiles": None if self.quantiles is None else {f"{q:g}": v for q, v in self.quantiles.items()},
            "bin_edges": list(self.bin_edges),
            "counts": list(self.counts),
            "reason": self.reason,
        }


def error_distribution(
    y: ArrayLike, p: ArrayLike, *, groups: ArrayLike | None = None, min_cell: int = MIN_CELL
) -> dict[str, ErrorDistribution]:
    """Return the distribution of |y − p| among positives and among negatives.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,)
    p : array of float in [0, 1], shape (n_samples,)
    groups : array of int, shape (n_samples,), or None
        Patient of each sample. None: each sample is a patient.
    min_cell : int
        Bins with 1 to ``min_cell`` − 1 patients are not shown.

    Returns
    -------
    dict with the keys "positive" and "negative".

    References
    ----------
    hestiri/mlho, ``absErr``.
    """
    t = tally(y, p)
    patient = checked_groups(groups, t.cell.size)
    positive = np.asarray(y) == 1
    return {
        "positive": _error_distribution(
            1.0 - t.p, t.n_positive, _patients_by_bin((1.0 - t.p)[t.cell], patient, positive), min_cell
        ),
        "negative": _error_distribution(
            t.p, t.n - t.n_positive, _patients_by_bin(t.p[t.cell], patient, ~positive), min_cell
        ),
    }


def _bin_of(error: FloatArray) -> IntArray:
    edges = np.arange(1, N_ERROR_BINS) / N_ERROR_BINS
    return np.searchsorted(edges, error, side="right").astype(np.int64, copy=False)


def _patients_by_bin(error: FloatArray, patient: IntArray, in_class: NDArray[np.bool_]) -> list[int]:
    """Return the number of distinct patients in each bin, with that of the class as the last entry."""
    pairs = np.unique(np.stack([_bin_of(error[in_class]), patient[in_class]]), axis=1)
    return [*np.bincount(pairs[0], minlength=N_ERROR_BINS).tolist(), np.unique(pairs[1]).size]


def _error_distribution(
    error: FloatArray, n: FloatArray, n_patients: list[int], min_cell: int
) -> ErrorDistribution:
    edges = np.arange(N_ERROR_BINS + 1) / N_ERROR_BINS
    counts = np.bincount(_bin_of(error), n, N_ERROR_BINS).astype(int)
    shown = shown_counts([int(c) for c in counts], min_cell, n_patients=n_patients[:-1])
    total = int(n.sum())
    reasons = []
    quantiles = None
    if n_patients[-1] < max(min_cell, 1):
        reasons.append(f"fewer than {max(min_cell, 1)} patients of this class")
    else:
        at = np.quantile(np.repeat(error, n.astype(np.int64)), ERROR_QUANTILES)
        quantiles = {q: float(value) for q, value in zip(ERROR_QUANTILES, at, strict=True)}
    if None in shown:
        reasons.append(f"counts below {min_cell}, and counts that would reveal them, are suppressed")
    return ErrorDistribution(
        n=total,
        quantiles=quantiles,
        bin_edges=tuple(float(e) for e in edges),
        counts=tuple(shown),
        reason="; ".join(reasons) or None,
    )
