"""Predicted against observed risk in bins: reliability diagram, expected and maximum calibration error."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mlho.errors import SpecError
from mlho.method.evaluation.tally import FloatArray, IntArray, Tally, tally

Binning = Literal["equal-count", "equal-width"]


@dataclass(frozen=True)
class ReliabilityBin:
    """Predicted and observed risk of one bin of predictions.

    Attributes
    ----------
    n, n_positive : int
    mean_predicted, observed : float in [0, 1]
    low, high : float
        Wilson interval of ``observed``; samples taken as independent.
    """

    n: int
    n_positive: int
    mean_predicted: float
    observed: float
    low: float
    high: float


def reliability_bins(
    y: ArrayLike, p: ArrayLike, *, n_bins: int = 10, how: Binning = "equal-count", level: float = 0.95
) -> tuple[ReliabilityBin, ...]:
    """Return the bins of a reliability diagram, in ascending order; empty ones are left out.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,)
    p : array of float in [0, 1], shape (n_samples,)
    n_bins : int
    how : "equal-count" or "equal-width"
        Equal width: [i/n, (i+1)/n), the last with both ends. Equal count: sample r of n in ascending order goes to bin
        ⌊r · n_bins / n⌋; equal predictions are never parted and go where the first of them goes.
    level : float in (0, 1)

    References
    ----------
    Wilson (1927), JASA 22.
    """
    t = tally(y, p)
    bins = bins_of(t, n_bins, how)
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    n, positive, predicted = _binned(t, bins, n_bins)
    return tuple(
        ReliabilityBin(
            int(n[i]), int(positive[i]), float(predicted[i] / n[i]), *_wilson(positive[i], n[i], z)
        )
        for i in np.flatnonzero(n)
    )


#: From the first bin of a group and the one after its last: patients with, and patients without, the outcome.
PatientsOf = Callable[[int, int], tuple[int, int]]


def pooled_bins(
    bins: Sequence[ReliabilityBin],
    min_cell: int,
    *,
    patients_of: PatientsOf | None = None,
    level: float = 0.95,
) -> tuple[ReliabilityBin, ...]:
    """Return the bins with neighbours joined until none shows a small cell.

    A bin tells how many of its samples have the outcome, and how many have not: each of these numbers, unless it is
    zero, is of at least ``min_cell`` patients. What is left over at the upper end joins the bin below it. The bins of
    too few patients become one, or none if all together are too few.

    Parameters
    ----------
    bins : sequence of ReliabilityBin
        In ascending order.
    min_cell : int
        0 or 1 joins nothing.
    patients_of : callable, optional
        Patients of a range of bins; without it each sample is a patient.
    level : float in (0, 1)
        Of the intervals.
    """
    count = patients_of or (lambda start, stop: _samples(bins[start:stop]))
    ranges: list[tuple[int, int]] = []
    start = 0
    for stop in range(1, len(bins) + 1):
        if not _is_small(count(start, stop), min_cell):
            ranges.append((start, stop))
            start = stop
    while start < len(bins) and ranges and _is_small(count(start, len(bins)), min_cell):
        start = ranges.pop()[0]
    if start < len(bins) and not _is_small(count(start, len(bins)), min_cell):
        ranges.append((start, len(bins)))
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    return tuple(_joined(bins[start:stop], z) for start, stop in ranges)


def _samples(group: Sequence[ReliabilityBin]) -> tuple[int, int]:
    positive = sum(own.n_positive for own in group)
    return positive, sum(own.n for own in group) - positive


def _is_small(parts: tuple[int, int], min_cell: int) -> bool:
    return sum(parts) < min_cell or any(0 < part < min_cell for part in parts)


def _joined(group: Sequence[ReliabilityBin], z: float) -> ReliabilityBin:
    if len(group) == 1:
        return group[0]
    n, positive = sum(own.n for own in group), sum(own.n_positive for own in group)
    predicted = math.fsum(own.n * own.mean_predicted for own in group) / n
    return ReliabilityBin(n, positive, predicted, *_wilson(positive, n, z))


def _wilson(n_positive: float, n: float, z: float) -> tuple[float, float, float]:
    rate = n_positive / n
    centre = (rate + z * z / (2.0 * n)) / (1.0 + z * z / n)
    half = z / (1.0 + z * z / n) * math.sqrt(rate * (1.0 - rate) / n + z * z / (4.0 * n * n))
    # Exactly 0 and 1 at the ends, where the formula leaves a rounding error.
    low = float(centre - half) if n_positive > 0 else 0.0
    high = float(centre + half) if n_positive < n else 1.0
    return float(rate), low, high


def calibration_error(y: ArrayLike, p: ArrayLike, *, n_bins: int = 10, how: Binning) -> tuple[float, float]:
    """Return (ECE, MCE): the mean, weighted by samples, and the largest |mean prediction − observed| over bins.

    Bins as in ``reliability_bins``.

    References
    ----------
    Naeini, Cooper & Hauskrecht (2015), AAAI.
    """
    t = tally(y, p)
    return calibration_error_of(t, bins_of(t, n_bins, how), n_bins)


def calibration_error_of(t: Tally, bins: IntArray, n_bins: int) -> tuple[float, float]:
    """Return (ECE, MCE) of counted predictions, given the bin of each distinct one."""
    n, positive, predicted = _binned(t, bins, n_bins)
    gap = np.abs(predicted - positive)
    filled = n > 0
    return float(gap.sum() / t.n_total), float((gap[filled] / n[filled]).max())


def bins_of(t: Tally, n_bins: int, how: Binning) -> IntArray:
    """Return the bin, 0 to n_bins − 1, of each distinct prediction."""
    if n_bins < 1:
        raise SpecError(f"calibration: the number of bins is at least 1, not {n_bins}.")
    if how == "equal-width":
        edges = np.arange(1, n_bins) / n_bins
        return np.searchsorted(edges, t.p, side="right").astype(np.int64, copy=False)
    first = np.cumsum(t.n) - t.n
    by_count: IntArray = (first * n_bins // t.n.sum()).astype(np.int64, copy=False)
    return by_count


def _binned(t: Tally, bins: IntArray, n_bins: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return samples, positives and summed predictions of each bin."""
    n = np.bincount(bins, t.n, n_bins)
    return n, np.bincount(bins, t.n_positive, n_bins), np.bincount(bins, t.n * t.p, n_bins)


def caliber_mlho_r(y: ArrayLike, p: ArrayLike) -> list[tuple[float, float | None]]:
    """Return R MLHO's calibration table: (upper edge, observed rate) of the ten bins (a, b] of width 0.1.

    R sets the observed rate against the *upper edge*, which makes any good model look too high. None for an empty
    bin. A prediction of exactly 0 is in no bin, as in R.

    References
    ----------
    hestiri/mlho, R/caliber.R.
    """
    t = tally(y, p)
    edges = np.arange(11) / 10
    bins = np.searchsorted(edges, t.p, side="left")
    n, positive, _ = _binned(t, bins.astype(np.int64, copy=False), 11)
    return [(float(edges[i]), float(positive[i] / n[i]) if n[i] else None) for i in range(1, 11)]
