"""Area under the ROC curve, its standard error for independent and for repeated patients, and the curve."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlho.errors import DataError
from mlho.method.evaluation.metrics import Z_95, Estimate
from mlho.method.evaluation.tally import FloatArray, IntArray, Tally, checked_groups, class_reason, tally

MAX_CURVE_POINTS = 200


def auroc(y: ArrayLike, p: ArrayLike) -> float:
    """Return the probability that a positive scores above a negative, ties counting half.

    The direction is never reversed: a model that ranks backwards has a value below 0.5.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,)
    p : array of float, shape (n_samples,)
        Scores or probabilities; only their order counts.

    Raises
    ------
    DataError
        With one class only; ``auroc_estimate`` returns an absent figure instead.

    Notes
    -----
    Pairs are counted in integers and divided once, so the result is exact for any order of rows. O(n log n).

    Examples
    --------
    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    t = tally(y, p, probabilities=False)
    reason = class_reason(t)
    if reason is not None:
        raise DataError(
            "AUROC", "both classes are needed", expected="positives and negatives", got=reason,
            remedy="Use auroc_estimate, which returns an absent figure with the reason.",
        )  # fmt: skip
    return auroc_of(t)


def auroc_of(t: Tally) -> float:
    """Return the AUROC of tallied predictions of both classes."""
    wins_twice = t.n_positive * _twice_below(t.n - t.n_positive)
    return float(wins_twice.sum()) / (2.0 * t.n_positive_total * t.n_negative_total)


def auroc_estimate(y: ArrayLike, p: ArrayLike, *, groups: ArrayLike | None = None) -> Estimate:
    """Return the AUROC with its standard error and interval.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,)
    p : array of float, shape (n_samples,)
    groups : array of int, shape (n_samples,), or None
        Patient of each sample. If a patient has several samples, the clustered variance is used.

    Returns
    -------
    Estimate
        The interval is value ± 1.96 · standard error (Wald), clipped to [0, 1]. It is absent, with the reason, if a class
        has fewer than two patients or the classes are perfectly separated (the estimated variance is then zero,
        which would understate the uncertainty).

    References
    ----------
    DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44, computed from mid-ranks as in Sun & Xu (2014), IEEE Signal
    Processing Letters 21. Clustered: Obuchowski (1997), Biometrics 53, which equals DeLong when no patient repeats.
    """
    t = tally(y, p, probabilities=False)
    patient = checked_groups(groups, t.cell.size)
    n_patients = int(patient.max()) + 1
    clustered = n_patients < t.cell.size
    method = f"Wald, {'Obuchowski clustered by patient' if clustered else 'DeLong'}"
    reason = class_reason(t)
    if reason is not None:
        return Estimate.absent(reason, method)
    value = auroc_of(t)
    if clustered:
        positive = np.asarray(y) == 1
        variance = _clustered_variance(t, positive.astype(np.float64), patient, n_patients, value)
    else:
        variance = _delong_variance(t, value)
    return _wald(value, variance, method)


def _wald(value: float, variance: float | None, method: str) -> Estimate:
    if variance is None:
        return Estimate(value, None, None, None, method, "no interval: a class has fewer than two patients")
    if variance <= 0.0:
        return Estimate(value, None, None, None, method, "no interval: the estimated variance is zero")
    standard_error = math.sqrt(variance)
    low, high = max(0.0, value - Z_95 * standard_error), min(1.0, value + Z_95 * standard_error)
    return Estimate(value, low, high, standard_error, method)


def _twice_below(n: IntArray) -> IntArray:
    # Twice the number below plus the number tied: integers, so that sums are exact.
    below: IntArray = 2 * (np.cumsum(n) - n) + n
    return below


def _delong_variance(t: Tally, value: float) -> float | None:
    """Return S10/n₁ + S01/n₀ from the placements of each class among the other."""
    n_positive, n_negative = t.n_positive_total, t.n_negative_total
    if min(n_positive, n_negative) < 2:
        return None
    negative = t.n - t.n_positive
    of_positive = _twice_below(negative) / (2.0 * n_negative)
    of_negative = 1.0 - _twice_below(t.n_positive) / (2.0 * n_positive)
    s10 = float((t.n_positive * (of_positive - value) ** 2).sum()) / (n_positive - 1.0)
    s01 = float((negative * (of_negative - value) ** 2).sum()) / (n_negative - 1.0)
    return s10 / n_positive + s01 / n_negative


def _clustered_variance(
    t: Tally, positive: FloatArray, patient: IntArray, n_patients: int, value: float
) -> float | None:
    """Return Obuchowski's variance, in which the samples of a patient are summed.

    The sums are of integers (twice a placement), and exact in any order of rows.
    """
    n_positive, n_negative = t.n_positive_total, t.n_negative_total
    wins = positive * _twice_below(t.n - t.n_positive)[t.cell]
    losses = (1.0 - positive) * _twice_below(t.n_positive)[t.cell]
    m = np.bincount(patient, positive, n_patients)
    n = np.bincount(patient, 1.0 - positive, n_patients)
    of_positive = np.bincount(patient, wins, n_patients) / (2.0 * n_negative) - m * value
    of_negative = n - np.bincount(patient, losses, n_patients) / (2.0 * n_positive) - n * value
    n_with_positive, n_with_negative = int((m > 0).sum()), int((n > 0).sum())
    if min(n_with_positive, n_with_negative) < 2:
        return None
    s10 = n_with_positive / (n_with_positive - 1.0) * float((of_positive**2).sum()) / n_positive
    s01 = n_with_negative / (n_with_negative - 1.0) * float((of_negative**2).sum()) / n_negative
    s11 = n_patients / (n_patients - 1.0) * float((of_positive * of_negative).sum())
    return s10 / n_positive + s01 / n_negative + 2.0 * s11 / (n_positive * n_negative)


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Points of the ROC curve from (0, 0) to (1, 1)."""

    false_positive_rate: FloatArray
    true_positive_rate: FloatArray
    """Both non-decreasing; linear interpolation gives the AUROC (exactly, without thinning). Shape (n_points,)."""


def roc_curve_of(t: Tally, *, max_points: int | None = MAX_CURVE_POINTS) -> RocCurve | None:
    """Return the ROC curve of tallied predictions, thinned to the visible resolution; None with one class only.

    Parameters
    ----------
    max_points : int or None
        Maximum number of points, including the ends; None keeps one per distinct score.
    """
    if class_reason(t) is not None:
        return None
    tp, fp = t.operating_points
    true_positive, false_positive = tp / t.n_positive_total, fp / t.n_negative_total
    kept = thinned(false_positive, true_positive, max_points)
    return RocCurve(false_positive_rate=false_positive[kept], true_positive_rate=true_positive[kept])


def thinned(x: FloatArray, y: FloatArray, max_points: int | None) -> IntArray:
    """Return indices of at most ``max_points`` points, evenly spaced along the curve.

    Length is measured as |Δx| + |Δy|, so that steep and flat parts of a staircase are both represented. Both ends are
    kept; the choice is deterministic.

    Parameters
    ----------
    x, y : float64 arrays, shape (n_points,)
    max_points : int or None
    """
    if max_points is None or x.size <= max_points:
        return np.arange(x.size, dtype=np.int64)
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    wanted = np.linspace(0.0, along[-1], max_points)
    kept = np.minimum(np.searchsorted(along, wanted), x.size - 1)
    kept[0], kept[-1] = 0, x.size - 1
    return np.unique(kept).astype(np.int64, copy=False)
