"""Durations of ordered pairs: the days between events of the first and events of the second code."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.method.sequences.days import DayLists

# Samples in one piece of the result, at about 50 bytes each.
_CELLS_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True, eq=False)
class Durations:
    """Durations of some pairs, over all ordered pairs of distinct days of each sample."""

    indptr: NDArray[np.int64]
    """Start of the cells of each pair. Shape (n_pairs + 1,)."""
    samples: NDArray[np.int32]
    """Samples with the pair, ascending within a pair. Shape (n_cells,)."""
    count: NDArray[np.int64]
    """Number of ordered pairs of days, at least 1. Shape (n_cells,)."""
    shortest: NDArray[np.int32]
    longest: NDArray[np.int32]
    """Days. Shape (n_cells,)."""
    total: NDArray[np.int64]
    """Sum of all durations in days; the mean is ``total / count``. Shape (n_cells,)."""


def durations(
    lists: DayLists,
    first: NDArray[np.int64],
    then: NDArray[np.int64],
    *,
    co_occurrence_days: int = 0,
) -> Durations:
    """Compute the durations of pairs by merging the sorted days of their codes; no pair of events is listed.

    Parameters
    ----------
    first, then : int64, shape (n_pairs,)
        Codes of each pair.
    co_occurrence_days : int
        Days at most this far apart are not ordered.

    Examples
    --------
    Code 0 on day 1, and code 1 on days 4 and 9.

    >>> from mlho.method.sequences.days import CodeSpans
    >>> spans = CodeSpans(1, np.array([0, 1, 2]), np.array([0, 0]), first=np.array([1, 4]), last=np.array([1, 9]))
    >>> lists = DayLists(spans, np.array([0, 1, 3]), np.array([1, 4, 9], np.int32))
    >>> of_pair = durations(lists, np.array([0]), np.array([1]))
    >>> of_pair.count.tolist(), of_pair.shortest.tolist(), of_pair.longest.tolist(), of_pair.total.tolist()
    ([2], [3], [8], [11])
    """
    spans = lists.spans
    lengths = np.diff(spans.indptr)
    n_most = int(np.minimum(lengths[first], lengths[then]).sum())
    out = _Filled(
        np.zeros(len(first) + 1, np.int64),
        np.empty(n_most, np.int32),
        np.empty((n_most, 4), np.int64),
    )
    _fill_durations(
        _Days(spans.indptr, spans.samples, lists.indptr, lists.days),
        np.ascontiguousarray(first, np.int64),
        np.ascontiguousarray(then, np.int64),
        co_occurrence_days,
        out,
    )
    n_cells = int(out.indptr[-1])
    count, shortest, longest, total = out.figures[:n_cells].T
    return Durations(
        out.indptr,
        out.samples[:n_cells],
        count,
        shortest.astype(np.int32),
        longest.astype(np.int32),
        total,
    )


def durations_in_pieces(
    lists: DayLists,
    first: NDArray[np.int64],
    then: NDArray[np.int64],
    *,
    co_occurrence_days: int = 0,
) -> Iterator[tuple[slice, Durations]]:
    """Yield :func:`durations` of consecutive pairs, so that memory does not grow with their number."""
    lengths = np.diff(lists.spans.indptr)
    ends = np.cumsum(np.minimum(lengths[first], lengths[then]))
    start = 0
    while start < len(first):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CELLS_AT_ONCE, side="right")))
        piece = slice(start, stop)
        yield (
            piece,
            durations(lists, first[piece], then[piece], co_occurrence_days=co_occurrence_days),
        )
        start = stop


class _Days(NamedTuple):
    """Cells of the codes, their samples, and the days of each cell."""

    indptr: NDArray[np.int64]
    samples: NDArray[np.int32]
    day_starts: NDArray[np.int64]
    days: NDArray[np.int32]


class _Filled(NamedTuple):
    """Cells of the pairs: samples; count, shortest, longest and total duration."""

    indptr: NDArray[np.int64]
    samples: NDArray[np.int32]
    figures: NDArray[np.int64]


@njit(cache=True, nogil=True)
def _fill_durations(
    lists: _Days, first: Any, then: Any, co_occurrence_days: Any, out: _Filled
) -> None:  # pragma: no cover - compiled
    """Merge samples, then days."""
    indptr, samples, day_starts, days = lists
    out_indptr, out_samples, figures = out
    to = 0
    for pair in range(first.size):
        i, i_stop = indptr[first[pair]], indptr[first[pair] + 1]
        j, j_stop = indptr[then[pair]], indptr[then[pair] + 1]
        while i < i_stop and j < j_stop:
            if samples[i] < samples[j]:
                i += 1
                continue
            if samples[i] > samples[j]:
                j += 1
                continue
            a, a_stop = day_starts[i], day_starts[i + 1]
            count, total, shortest = np.int64(0), np.int64(0), np.int64(0)
            # Days of the first code that precede, and their sum.
            before, sum_before = np.int64(0), np.int64(0)
            for k in range(day_starts[j], day_starts[j + 1]):
                day = np.int64(days[k])
                while a + before < a_stop and day - days[a + before] > co_occurrence_days:
                    sum_before += days[a + before]
                    before += 1
                if before == 0:
                    continue
                nearest = day - days[a + before - 1]
                if count == 0 or nearest < shortest:
                    shortest = nearest
                count += before
                total += before * day - sum_before
            if count:
                out_samples[to] = samples[i]
                figures[to, 0] = count
                figures[to, 1] = shortest
                figures[to, 2] = days[day_starts[j + 1] - 1] - days[a]
                figures[to, 3] = total
                to += 1
            i += 1
            j += 1
        out_indptr[pair + 1] = to
