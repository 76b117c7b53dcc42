"""Features: conversion of a column's counts and values for the ranking and for the model.

A *column* is code × window; a *feature* is column × aggregate. The matrix stores, per sample and column, the number
of events and the numbers that the aggregates need, such as the latest value. Each feature gets one of these numbers.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.method.selection.levels import cut_at_terciles, cut_levels

AGGREGATES: Final = (  # in the order of their features within a column
    "count",
    "first",
    "last",
    "levels",
    "max",
    "mean",
    "min",
    "outOfRange",
    "presence",
    "recency",
    "slope",
)
DURATIONS: Final = ("maxDays", "meanDays", "minDays")  # only for sequences
VALUES: Final = frozenset(
    {"first", "last", "max", "mean", "min", "recency", "slope", *DURATIONS}
)  # zero is an ordinary number
OF_NUMBERS: Final = VALUES | {"outOfRange"}  # unknown unless the cell has a number
TUKEY_REACH: Final = 1.5  # Tukey 1977: fences at 1.5 interquartile ranges beyond the quartiles


@dataclass(frozen=True)
class Cells:
    """Non-zeros of one column: its samples, their numbers of events, and the number that the aggregate needs."""

    samples: NDArray[np.int32]
    """Ascending. Shape (n_cells,)."""
    counts: NDArray[np.int32]
    """At least 1. Shape (n_cells,)."""
    values: NDArray[np.float64] | None = None
    """``NaN`` if there is none: events without a value, or a slope without a second day. Shape (n_cells,)."""


@dataclass(frozen=True)
class Range:
    """A reference range, bounds included: a value below ``low`` or above ``high`` is out of range."""

    low: float
    high: float


@dataclass(frozen=True)
class Encoding:
    """Numeric encoding of one feature, learned from training cells only."""

    aggregate: str
    """One of ``AGGREGATES`` or ``DURATIONS``."""
    level_cuts: tuple[int, ...] = ()
    """For ``levels``."""
    centre: float = 0.0
    """For the aggregates ``VALUES`` in a linear model: the training median, which is subtracted. A sample without a value is encoded as the
    median: 0. For trees, which use the value itself: 0."""
    reference: Range | None = None
    """For ``outOfRange``."""

    def encode(self, cells: Cells) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return the samples with a non-zero number, and these numbers; all others are zero.

        Returns
        -------
        samples : int32, shape (n_non_zero,)
        numbers : float64, shape (n_non_zero,)
        """
        if self.aggregate == "presence":
            return cells.samples, np.ones(len(cells.samples))
        if self.aggregate == "count":
            return cells.samples, cells.counts.astype(np.float64)
        if self.aggregate == "levels":
            return _non_zero(cells.samples, cut_levels(cells.counts, self.level_cuts).astype(np.float64))
        samples, values = _with_value(cells)
        if self.is_value:
            return _non_zero(samples, values - self.centre)
        reference = self.reference or Range(-np.inf, np.inf)
        return _non_zero(samples, ((values < reference.low) | (values > reference.high)).astype(np.float64))

    @property
    def is_value(self) -> bool:
        """Whether zero is an ordinary number: a value column in :mod:`mlho.method.classifiers.tree_matrix`."""
        return self.aggregate in VALUES

    def stored(self, cells: Cells) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return the cells to store in the matrix of trees: all known values unchanged for a value column, otherwise as :meth:`encode`."""
        return _with_value(cells) if self.is_value else self.encode(cells)


def learn_encoding(
    aggregate: str, cells: Cells, *, level_cuts: tuple[int, ...] = (), known_range: Range | None = None
) -> Encoding:
    """Learn the numeric encoding of a feature from the cells of training samples.

    Parameters
    ----------
    aggregate : str
        One of ``AGGREGATES`` or ``DURATIONS``.
    cells : Cells
        Cells of training samples only, so that the centre and the fences contain no test data.
    level_cuts : tuple of int
        Cut points of ``levels``.
    known_range : Range, optional
        The code's reference range. By default, Tukey's fences of the training values are used.
    """
    if aggregate == "levels":
        return Encoding(aggregate, level_cuts=level_cuts)
    if aggregate not in OF_NUMBERS:
        return Encoding(aggregate)
    _, values = _with_value(cells)
    if aggregate in VALUES:
        return Encoding(aggregate, centre=float(np.median(values)) if values.size else 0.0)
    return Encoding(aggregate, reference=known_range or _tukey_fences(values))


def levels_for_ranking(
    encoding: Encoding, cells: Cells, *, every_count: bool = False
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return discrete levels of a feature for the ranking; samples that are not listed have level 0.

    ``presence`` and ``outOfRange`` have levels 0 and 1, ``levels`` its cuts, ``count`` terciles of the non-zero numbers, and
    ``VALUES`` terciles of the known ones: level 0 is an absent value. Terciles give few levels, because plug-in information
    grows with the number of levels.

    Parameters
    ----------
    cells : Cells
        Cells of training samples only: the terciles are learned from them.
    every_count : bool
        If true, every distinct count is a level, as in R MLHO.

    Returns
    -------
    samples, levels : int32, shape (n_non_zero,)
    """
    if encoding.aggregate == "count":
        if every_count:
            return cells.samples, cells.counts
        return cells.samples, cut_at_terciles(cells.counts).astype(np.int32)
    if encoding.is_value:
        samples, values = _with_value(cells)
        return samples, cut_at_terciles(values).astype(np.int32)
    samples, numbers = encoding.encode(cells)
    return samples, numbers.astype(np.int32)


def n_with_value(cells: Cells) -> int:
    """Return the number of samples with a known number."""
    return len(_with_value(cells)[0])


def known_values(cells: Cells) -> NDArray[np.float64]:
    """Return the known numbers."""
    return _with_value(cells)[1]


def _with_value(cells: Cells) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    if cells.values is None:
        return cells.samples[:0], np.empty(0)
    known = ~np.isnan(cells.values)
    return cells.samples[known], cells.values[known]


def _non_zero(
    samples: NDArray[np.int32], numbers: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    kept = numbers != 0
    return samples[kept], numbers[kept]


def _tukey_fences(values: NDArray[np.float64]) -> Range:
    if not values.size:
        return Range(-np.inf, np.inf)
    lower, upper = np.percentile(values, [25, 75])
    reach = TUKEY_REACH * (upper - lower)
    return Range(float(lower - reach), float(upper + reach))
