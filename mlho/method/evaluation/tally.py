"""Outcomes tallied by distinct prediction, the common input of all metrics.

All metrics of this package depend on (y, p) only through the numbers of samples and positives at each prediction.
After tallying, every sum runs over distinct predictions in ascending order: the order of rows has no effect, ties are
handled in one place, and a bootstrap replicate is the same tally with other weights.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mlho.errors import DataError, plural

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Counts(Protocol):
    """Samples and positives at each distinct prediction: of one tally, or with a row for each replicate."""

    @property
    def p(self) -> FloatArray:
        """Distinct predictions."""

    @property
    def n(self) -> NDArray[Any]:
        """Samples."""

    @property
    def n_positive(self) -> NDArray[Any]:
        """Samples with y = 1."""


@dataclass(frozen=True, eq=False)
class Tally:
    """Samples and positives at each distinct prediction, in ascending order."""

    p: FloatArray
    """Distinct predictions, strictly increasing. Shape (n_cells,)."""
    n: NDArray[Any]
    """Samples (or their summed integer weights) with this prediction. int64 or float64, shape (n_cells,)."""
    n_positive: NDArray[Any]
    """Samples with y = 1. Of the same type as ``n``, shape (n_cells,)."""
    cell: IntArray
    """Index into ``p`` for each sample. Shape (n_samples,)."""

    @cached_property
    def n_total(self) -> float:
        """Number of samples, or their summed weights."""
        return float(self.n.sum())

    @cached_property
    def n_positive_total(self) -> float:
        """Number of positives, or their summed weights."""
        return float(self.n_positive.sum())

    @property
    def n_negative_total(self) -> float:
        """Number of negatives, or their summed weights."""
        return self.n_total - self.n_positive_total

    @cached_property
    def operating_points(self) -> tuple[FloatArray, FloatArray]:
        """True and false positives from no alert to all alerts, float64, each of shape (n_cells + 1,)."""
        tp = np.zeros(self.p.size + 1)
        fp = np.zeros(self.p.size + 1)
        np.cumsum(self.n_positive[::-1], out=tp[1:])
        np.cumsum((self.n - self.n_positive)[::-1], out=fp[1:])
        return tp, fp

    def redrawn(self, times: IntArray, patient: IntArray, positive: NDArray[np.bool_]) -> "Tally":
        """Return the tally of the same predictions with each patient counted a given number of times.

        Parameters
        ----------
        times : int64 array, shape (n_patients,)
        patient : int64 array, shape (n_samples,)
            Index into ``times`` of each sample.
        positive : array of bool, shape (n_samples,)
        """
        n, n_positive = np.zeros((2, self.p.size))
        _add_drawn(self.cell, times, patient, positive, n, n_positive)
        return Tally(p=self.p, n=n, n_positive=n_positive, cell=self.cell)

    def merged(self, max_cells: int, *, edges: ArrayLike, n_extreme: int) -> "Tally":
        """Return the tally with neighbouring predictions merged into cells of about equal size, for fast replicates.

        Parameters
        ----------
        max_cells : int ≥ 1
            Sample r of n in ascending order goes to cell ⌊r · max_cells / n⌋; equal predictions stay together. With at most
            this number of distinct predictions, nothing is merged.
        edges : array of float
            Predictions that no cell extends across: a cell is below an edge, or at or above it.
        n_extreme : int ≥ 0
            The predictions of this number of samples at each end are not merged.

        Returns
        -------
        Tally
            ``p`` is the mean prediction of each cell. Edges and extremes add to the number of cells.

        Examples
        --------
        >>> counted = tally([0, 1, 1, 0], [0.2, 0.4, 0.6, 0.9]).merged(2, edges=[], n_extreme=0)
        >>> counted.n.tolist(), counted.p.round(3).tolist()
        ([2, 2], [0.3, 0.75])
        """
        if self.p.size <= max_cells:
            return self
        rank, total = np.cumsum(self.n) - self.n, self.n.sum()
        by_rank = (rank * max_cells // total).astype(np.int64)
        part = np.searchsorted(np.unique(edges), self.p, side="right")
        is_extreme = (rank <= n_extreme) | (rank >= total - n_extreme)
        starts = is_extreme | (np.diff(by_rank, prepend=-1) > 0) | (np.diff(part, prepend=-1) > 0)
        cell_of_p = np.cumsum(starts) - 1
        first = np.flatnonzero(starts)
        n = np.add.reduceat(self.n, first)
        # A mean may differ from equal predictions in the last digit, and must not leave its cell.
        lowest, highest = self.p[first], self.p[np.append(first[1:], self.p.size) - 1]
        return Tally(
            p=np.clip(np.add.reduceat(self.n * self.p, first) / n, lowest, highest),
            n=n,
            n_positive=np.add.reduceat(self.n_positive, first),
            cell=cell_of_p[self.cell],
        )


def tally(y: ArrayLike, p: ArrayLike, *, probabilities: bool = True) -> Tally:
    """Count samples and positives at each distinct prediction.

    Parameters
    ----------
    y : array of 0/1 or bool, shape (n_samples,)
        Outcome.
    p : array of float, shape (n_samples,)
        Prediction; within [0, 1] unless ``probabilities`` is False.
    probabilities : bool
        If false, any finite score is accepted, which suffices for metrics that depend only on the order.

    Raises
    ------
    DataError
        Shapes differ, there is no sample, an outcome is neither 0 nor 1, or a prediction is missing or
        out of range.

    Examples
    --------
    >>> counted = tally([0, 1, 1], [0.2, 0.2, 0.9])
    >>> counted.n.tolist(), counted.n_positive.tolist()
    ([2, 1], [1, 1])
    """
    outcome, prediction = _checked(y, p, probabilities=probabilities)
    distinct, cell = np.unique(prediction, return_inverse=True)
    cell = cell.astype(np.int64, copy=False)
    n = np.bincount(cell, minlength=distinct.size).astype(np.int64, copy=False)
    n_positive = np.bincount(cell[outcome], minlength=distinct.size).astype(np.int64, copy=False)
    return Tally(p=distinct, n=n, n_positive=n_positive, cell=cell)


@njit(cache=True, nogil=True)
def _add_drawn(
    cell: IntArray,
    times: IntArray,
    patient: IntArray,
    positive: NDArray[np.bool_],
    n: FloatArray,
    n_positive: FloatArray,
) -> None:
    """Add the samples of drawn patients to their cells. The sums are whole numbers, and so exact in any order."""
    for i in range(cell.size):
        weight = times[patient[i]]
        n[cell[i]] += weight
        n_positive[cell[i]] += weight * positive[i]


def class_reason(t: Tally) -> str | None:
    """Return the reason why figures that need both classes do not exist; None if both are present."""
    if t.n_positive_total and t.n_negative_total:
        return None
    return f"one class only: {int(t.n_positive_total)} of {int(t.n_total)} samples are positive"


def checked_groups(groups: ArrayLike | None, n_samples: int) -> IntArray:
    """Return 0-based patient numbers in the order of the sorted codes.

    Parameters
    ----------
    groups : array of int, shape (n_samples,), or None
        Patient code of each sample; None means that each sample is a separate patient.

    Raises
    ------
    DataError
        The shape does not match.
    """
    if groups is None:
        return np.arange(n_samples, dtype=np.int64)
    codes = np.asarray(groups)
    if codes.shape != (n_samples,):
        raise DataError(
            "patient codes",
            "one code for each sample",
            expected=f"shape ({n_samples},)",
            got=f"shape {codes.shape}",
            remedy="Pass the patient of each prediction.",
        )
    return np.unique(codes, return_inverse=True)[1].astype(np.int64, copy=False)


def _checked(y: ArrayLike, p: ArrayLike, *, probabilities: bool) -> tuple[NDArray[np.bool_], FloatArray]:
    outcome = np.asarray(y)
    prediction = np.asarray(p, dtype=np.float64)
    if outcome.ndim != 1 or outcome.shape != prediction.shape or not outcome.size:
        raise DataError(
            "outcome and predictions",
            "one prediction for each outcome, at least one",
            expected="two arrays of one dimension and equal length",
            got=f"shapes {outcome.shape} and {prediction.shape}",
            remedy="Pass the two columns of the same table.",
        )
    positive = outcome == 1
    n_other = int(np.count_nonzero(~positive & (outcome != 0)))
    if n_other:
        raise DataError(
            "outcome",
            "outcomes are 0 or 1",
            expected="0 or 1 in every sample",
            got=f"{plural(n_other, 'sample')} with another value",
            remedy="Drop or recode them before evaluation.",
        )
    valid = np.isfinite(prediction)
    if probabilities:
        valid &= (prediction >= 0.0) & (prediction <= 1.0)
    if not valid.all():
        raise DataError(
            "predictions",
            "predictions are probabilities" if probabilities else "predictions are finite numbers",
            expected="numbers from 0 to 1" if probabilities else "finite numbers",
            got=f"{plural(int(np.count_nonzero(~valid)), 'sample')} outside it",
            remedy="Look for missing values in the features or an overflow in the model.",
        )
    return positive, prediction
