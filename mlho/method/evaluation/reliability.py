"""Predicted versus observed risk in bins: reliability diagram, expected and maximum calibration error."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from mlho.method.evaluation.metrics import Z_95
from mlho.method.evaluation.tally import FloatArray, IntArray, Tally, tally

Binning = Literal["equal-count", "equal-width"]


@dataclass(frozen=True)
class ReliabilityBin:
    """Predicted and observed risk of one bin of predictions."""

    n: int
    n_positive: int
    mean_predicted: float
    observed: float
    """In [0, 1]."""
    low: float
    high: float
    """95 % Wilson interval of ``observed``, with samples treated as independent."""


def reliability_bins(
    y: ArrayLike, p: ArrayLike, *, n_bins: int = 10, how: Binning = "equal-count"
) -> tuple[ReliabilityBin, ...]:
    """Return the bins of a reliability diagram in ascending order, without empty ones.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,)
    p : array of float in [0, 1], shape (n_samples,)
    how : "equal-count" or "equal-width"
        Equal width: [i/n, (i+1)/n), the last one closed. Equal count: sample r of n in ascending order goes to bin
        ⌊r · n_bins / n⌋; equal predictions are kept together in the bin of the first of them.

    References
    ----------
    Wilson (1927), JASA 22.
    """
    t = tally(y, p)
    bins = bins_of(t, n_bins, how)
    counts = (np.bincount(bins, weights, n_bins) for weights in (t.n, t.n_positive, t.n * t.p))
    n, positive, predicted = counts
    return tuple(
        ReliabilityBin(int(n[i]), int(positive[i]), float(predicted[i] / n[i]), *_wilson(positive[i], n[i]))
        for i in np.flatnonzero(n)
    )


#: Maps the first bin of a group and the one after its last to its patients with and without the outcome.
PatientsOf = Callable[[int, int], tuple[int, int]]


def pooled_bins(
    bins: Sequence[ReliabilityBin],
    min_cell: int,
    *,
    patients_of: PatientsOf | None = None,
) -> tuple[ReliabilityBin, ...]:
    """Merge neighbouring bins until none contains a small cell.

    A bin shows its numbers of samples with and without the outcome. Each of these numbers, unless it is
    zero, must be based on at least ``min_cell`` patients. A remainder at the upper end is merged into the bin below. If all
    bins together have too few patients, none is returned.

    Parameters
    ----------
    bins : sequence of ReliabilityBin
        In ascending order.
    min_cell : int
        0 or 1 merges nothing.
    patients_of : callable, optional
        Numbers of patients in a range of bins; by default each sample is a patient.
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
    return tuple(_joined(bins[start:stop]) for start, stop in ranges)


def _samples(group: Sequence[ReliabilityBin]) -> tuple[int, int]:
    positive = sum(member.n_positive for member in group)
    return positive, sum(member.n for member in group) - positive


def _is_small(parts: tuple[int, int], min_cell: int) -> bool:
    return sum(parts) < min_cell or any(0 < part < min_cell for part in parts)


def _joined(group: Sequence[ReliabilityBin]) -> ReliabilityBin:
    if len(group) == 1:
        return group[0]
    n, positive = sum(member.n for member in group), sum(member.n_positive for member in group)
    predicted = math.fsum(member.n * member.mean_predicted for member in group) / n
    return ReliabilityBin(n, positive, predicted, *_wilson(positive, n))


def _wilson(n_positive: float, n: float) -> tuple[float, float, float]:
    z = Z_95
    rate = n_positive / n
    centre = (rate + z * z / (2.0 * n)) / (1.0 + z * z / n)
    half = z / (1.0 + z * z / n) * math.sqrt(rate * (1.0 - rate) / n + z * z / (4.0 * n * n))
    # Set the ends to exactly 0 and 1, where the formula leaves a rounding error.
    low = float(centre - half) if n_positive > 0 else 0.0
    high = float(centre + half) if n_positive < n else 1.0
    return float(rate), low, high


def bins_of(t: Tally, n_bins: int, how: Binning) -> IntArray:
    """Return the bin of each distinct prediction, from 0 to n_bins − 1."""
    if how == "equal-width":
        return np.searchsorted(bin_edges(n_bins), t.p, side="right").astype(np.int64, copy=False)
    first = np.cumsum(t.n) - t.n
    by_count: IntArray = (first * n_bins // t.n.sum()).astype(np.int64, copy=False)
    return by_count


def bin_edges(n_bins: int) -> FloatArray:
    """Return the inner edges of bins of equal width, float64, shape (n_bins − 1,)."""
    return np.arange(1, n_bins) / n_bins


@njit(cache=True, nogil=True)
def binned_rows(
    bins: IntArray, p: FloatArray, n: FloatArray, n_positive: FloatArray, n_bins: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the samples, positives and summed predictions of each bin, with a row for each replicate."""
    n_rows = n.shape[0]
    of_n, of_positive = np.zeros((n_rows, n_bins)), np.zeros((n_rows, n_bins))
    of_predicted = np.zeros((n_rows, n_bins))
    for row in range(n_rows):
        for i in range(bins.size):
            of_n[row, bins[i]] += n[row, i]
            of_positive[row, bins[i]] += n_positive[row, i]
            of_predicted[row, bins[i]] += n[row, i] * p[i]
    return of_n, of_positive, of_predicted
