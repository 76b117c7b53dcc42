"""Days of codes: for each sample and code the first and the last day, or all days.

Whether some event of code a precedes some event of code b depends only on the first day of a and the last day of b. The
spans of codes are therefore sufficient for the presence of every ordered pair; only durations need all days.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.method.selection.levels import frozen


@dataclass(frozen=True, eq=False)
class CodeSpans:
    """First and last day of each code in each sample, by code (CSC)."""

    n_samples: int
    indptr: NDArray[np.int64]
    """Start of the cells of each code. Shape (n_codes + 1,)."""
    samples: NDArray[np.int32]
    """Ascending within a code. Shape (n_cells,)."""
    first: NDArray[np.int32]
    last: NDArray[np.int32]
    """Days, counted from any origin; ``first <= last``. Shape (n_cells,)."""

    def __post_init__(self) -> None:
        # Read-only views: memory-mapped and ordinary arrays use the same compiled code.
        object.__setattr__(self, "indptr", frozen(self.indptr, np.int64))
        for name in ("samples", "first", "last"):
            object.__setattr__(self, name, frozen(getattr(self, name), np.int32))

    @property
    def n_codes(self) -> int:
        """Number of codes."""
        return len(self.indptr) - 1

    def of_codes(self, codes: NDArray[np.int64]) -> "CodeSpans":
        """Return the spans of some codes, in the given order."""
        lengths = self.indptr[codes + 1] - self.indptr[codes]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = np.repeat(self.indptr[codes] - indptr[:-1], lengths) + np.arange(indptr[-1])
        return CodeSpans(self.n_samples, indptr, self.samples[at], self.first[at], self.last[at])

    @property
    def cells(self) -> "SpanCells":
        """The cells for compiled code."""
        return SpanCells(self.samples, self.first, self.last)


class SpanCells(NamedTuple):
    """The cells of :class:`CodeSpans`: sample, first and last day."""

    samples: NDArray[np.int32]
    first: NDArray[np.int32]
    last: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class DayLists:
    """All distinct days of each code in each sample."""

    spans: CodeSpans
    """One cell for each list."""
    indptr: NDArray[np.int64]
    """Start of the days of each cell. Shape (n_cells + 1,)."""
    days: NDArray[np.int32]
    """Ascending within a cell. Shape (n_days,)."""


def join_spans(
    blocks: Sequence[tuple[int, CodeSpans]], codes: NDArray[np.int64], sample_mask: NDArray[np.bool_]
) -> CodeSpans:
    """Join the spans of some codes from blocks of samples; only the masked samples are kept, renumbered 0, 1, … in their order.

    Parameters
    ----------
    blocks : sequence of (first sample, spans)
        In ascending order; samples are relative to the first one.
    codes : int64, shape (n_codes,)
    sample_mask : bool, shape (n_samples,)
    """
    number = frozen(np.where(sample_mask, np.cumsum(sample_mask) - 1, -1), np.int32)
    wanted = frozen(codes, np.int64)
    n_cells = np.zeros(len(codes), np.int64)
    nothing = np.empty(0, np.int32)
    for start, spans in blocks:
        _copy_spans(
            start, spans.indptr, spans.cells, wanted, number, n_cells, SpanCells(nothing, nothing, nothing)
        )
    indptr = np.concatenate([[0], np.cumsum(n_cells)]).astype(np.int64)
    joined = SpanCells(*(np.empty(indptr[-1], np.int32) for _ in range(3)))
    place = indptr[:-1].copy()
    for start, spans in blocks:
        _copy_spans(start, spans.indptr, spans.cells, wanted, number, place, joined)
    return CodeSpans(int(np.count_nonzero(sample_mask)), indptr, *joined)


@njit(cache=True, nogil=True)
def _copy_spans(
    start: Any, indptr: Any, cells: SpanCells, codes: Any, number: Any, place: Any, out: SpanCells
) -> None:  # pragma: no cover - compiled
    """Copy each cell to the ``place`` of its code and advance it. With empty arrays, only count the cells."""
    for j in range(codes.size):
        to = place[j]
        for at in range(indptr[codes[j]], indptr[codes[j] + 1]):
            sample = number[start + cells.samples[at]]
            if sample < 0:
                continue
            if out.samples.size:
                out.samples[to] = sample
                out.first[to] = cells.first[at]
                out.last[to] = cells.last[at]
            to += 1
        place[j] = to


class LastDays(NamedTuple):
    """The start of each sample's cells, and the code and the last day of each cell; codes ascend within a sample."""

    starts: NDArray[np.int64]
    codes: NDArray[np.int32]
    last: NDArray[np.int32]


def last_days(spans: CodeSpans) -> LastDays:
    """Return the last day of each code by sample."""
    starts = np.zeros(spans.n_samples + 1, np.int64)
    np.cumsum(np.bincount(spans.samples, minlength=spans.n_samples), out=starts[1:])
    codes, last = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int32)
    _transpose(spans.indptr, spans.samples, spans.last, starts[:-1].copy(), codes, last)
    return LastDays(starts, codes, last)


@njit(cache=True, nogil=True)
def _transpose(
    indptr: Any, samples: Any, last: Any, place: Any, out_codes: Any, out_last: Any
) -> None:  # pragma: no cover - compiled
    for code in range(indptr.size - 1):
        for at in range(indptr[code], indptr[code + 1]):
            to = place[samples[at]]
            place[samples[at]] = to + 1
            out_codes[to] = code
            out_last[to] = last[at]
