"""Ordered pairs of codes: the patients that have them, and the information about the outcome beyond their two codes.

The pair a → b is present in a sample if ``last(b) - first(a) > coOccurrenceDays``: some event of a is earlier than some event
of b by more than that. Every pair is counted, but no table of pairs is stored: memory grows with the cells, not with the
square of the codes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.method.selection.bits import entropy_table
from mlho.method.sequences.days import CodeSpans, LastDays, SpanCells, last_days

# Counters and scores of this many pairs are in memory at a time (48 MB), for any number of codes.
_PAIRS_AT_ONCE: Final = 1 << 22


@dataclass(frozen=True, eq=False)
class Pairs:
    """Ordered pairs of codes."""

    first: NDArray[np.int64]
    then: NDArray[np.int64]
    """Numbers of the two codes; equal for a code that recurs. Shape (n_pairs,)."""
    n_patients: NDArray[np.int64]
    """Patients with the pair. Shape (n_pairs,)."""
    information: NDArray[np.float64]
    """I(pair; Y | first, then) in nats. Shape (n_pairs,)."""
    n_screened: int
    """Number of pairs from which these were chosen: those with enough patients."""

    def __len__(self) -> int:
        return len(self.first)


def informative_pairs(
    spans: CodeSpans,
    y: NDArray[np.uint8],
    n_pairs: int,
    *,
    min_patients: int,
    co_occurrence_days: int = 0,
    patient_of: NDArray[np.int32] | None = None,
    starts: NDArray[np.bool_] | None = None,
    ends: NDArray[np.bool_] | None = None,
) -> Pairs:
    """Return the pairs with the largest I(pair; Y | first, then), largest first.

    A pair is present only in samples with both codes, so this is the information in the order among these samples. Pairs without
    information (every sample with both codes has the order) are omitted.

    Parameters
    ----------
    spans : CodeSpans
        Spans of training samples only.
    y : uint8, shape (n_samples,)
        Labels, 0 or 1.
    n_pairs : int
        Maximum number of pairs.
    min_patients : int
        At least 1.
    co_occurrence_days : int
        Events at most this number of days apart have no order.
    patient_of : int32, shape (n_samples,), optional
        Patient of each sample, non-decreasing; default: one sample per patient.
    starts, ends : bool, shape (n_codes,), optional
        Codes that a pair may start and end with; default: all.

    Returns
    -------
    Pairs
        Ties are in the order of (first, then). Sums are integers, so ties are exact and the order of summation does not matter.
    """
    no_number = np.empty(0, np.int64)
    nothing = Pairs(no_number, no_number, no_number, np.empty(0), 0)
    first_of, then_of = (
        np.arange(spans.n_codes) if mask is None else np.flatnonzero(mask) for mask in (starts, ends)
    )
    if spans.n_samples < 2 or not first_of.size or not then_of.size:
        return nothing
    table, scale = entropy_table(spans.n_samples)
    best, n_screened = np.empty((0, 4), np.int64), 0  # minus score, first, then, patients
    counted = _counted(
        spans if starts is None else spans.of_codes(first_of),
        spans if ends is None else spans.of_codes(then_of),
        y,
        co_occurrence_days,
        min_patients,
        patient_of,
        table,
    )
    for start, n_patients, scores in counted:
        n_screened += int(np.count_nonzero(n_patients >= min_patients))
        bound = -best[-1, 0] if len(best) == n_pairs else 0
        first, then = np.nonzero(scores > bound)
        found = np.empty((len(first), 4), np.int64)
        found[:, 0] = -scores[first, then]
        found[:, 1], found[:, 2] = first_of[first + start], then_of[then]
        found[:, 3] = n_patients[first, then]
        best = np.concatenate([best, found])
        best = best[np.lexsort((best[:, 2], best[:, 1], best[:, 0]))][:n_pairs]
    if not len(best):
        return nothing
    information = -best[:, 0] / (spans.n_samples * scale)
    return Pairs(best[:, 1], best[:, 2], best[:, 3], information, n_screened)


def pair_samples(
    spans: CodeSpans,
    first: NDArray[np.int64],
    then: NDArray[np.int64],
    *,
    more_than: NDArray[np.int64],
    at_most: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the samples with each pair.

    Parameters
    ----------
    first, then : int64, shape (n_pairs,)
    more_than, at_most : int64, shape (n_pairs,)
        Bounds in days of last(then) − first(first) of each pair.

    Returns
    -------
    indptr : int64, shape (n_pairs + 1,)
    samples : int32, shape (n_cells,)
        Ascending within a pair.
    """
    lengths = np.diff(spans.indptr)
    samples = np.empty(int(np.minimum(lengths[first], lengths[then]).sum()), np.int32)
    indptr = np.zeros(len(first) + 1, np.int64)
    _fill_samples(
        spans.indptr,
        spans.cells,
        np.ascontiguousarray(first, np.int64),
        np.ascontiguousarray(then, np.int64),
        np.ascontiguousarray(more_than, np.int64),
        np.ascontiguousarray(at_most, np.int64),
        indptr,
        samples,
    )
    return indptr, samples[: indptr[-1]]


def _counted(
    starts: CodeSpans,
    ends: CodeSpans,
    y: NDArray[np.uint8],
    co_occurrence_days: int,
    min_patients: int,
    patient_of: NDArray[np.int32] | None,
    table: NDArray[np.int64],
) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.int64]]]:
    """Yield the number of the first code of a piece, and patients and scores of its pairs, shape (n_first, n_then).

    Scores are 0 below ``min_patients``.
    """
    of_ends = last_days(ends)
    n_rows = max(1, _PAIRS_AT_ONCE // max(1, ends.n_codes))
    patients = np.empty(0, np.int32) if patient_of is None else np.ascontiguousarray(patient_of, np.int32)
    for start in range(0, starts.n_codes, n_rows):
        shape = (min(n_rows, starts.n_codes - start), ends.n_codes)
        n_patients, scores = np.empty(shape, np.int32), np.empty(shape, np.int64)
        _count_pairs(
            starts.indptr[start : start + shape[0] + 1],
            starts.cells,
            of_ends,
            np.ascontiguousarray(y, np.uint8),
            patients,
            co_occurrence_days,
            min_patients,
            table,
            _Counted(n_patients, scores),
        )
        yield start, n_patients, scores


class _Counted(NamedTuple):
    """Patients and scores of pairs, shape (n_first, n_then)."""

    n_patients: NDArray[np.int32]
    scores: NDArray[np.int64]


@njit(cache=True, nogil=True)
def _count_pairs(
    indptr: Any,
    cells: SpanCells,
    of_ends: LastDays,
    y: Any,
    patient_of: Any,
    co_occurrence_days: Any,
    min_patients: Any,
    table: Any,
    out: _Counted,
) -> None:  # pragma: no cover - compiled
    """Count for one first code after another, so that the counters of all second codes stay in the cache."""
    samples, first, _ = cells
    sample_starts, codes, last = of_ends
    n_patients, scores = out
    n_rows, n_then = n_patients.shape
    counts = np.zeros((n_then, 4), np.int32)  # with both codes: class 0, 1; in order: class 0, 1
    seen = np.full(n_then if patient_of.size else 0, -1, np.int32)
    for row in range(n_rows):
        counts[:] = 0
        seen[:] = -1
        n_patients[row] = 0
        for at in range(indptr[row], indptr[row + 1]):
            sample = samples[at]
            label = y[sample]
            earliest = first[at] + co_occurrence_days
            for k in range(sample_starts[sample], sample_starts[sample + 1]):
                code = codes[k]
                is_ordered = last[k] > earliest
                counts[code, label] += 1
                counts[code, 2 + label] += is_ordered
                if patient_of.size and is_ordered and seen[code] != patient_of[sample]:
                    seen[code] = patient_of[sample]
                    n_patients[row, code] += 1
        for code in range(n_then):
            o0, o1 = counts[code, 2], counts[code, 3]
            if patient_of.size == 0:
                n_patients[row, code] = o0 + o1
            if n_patients[row, code] < min_patients:
                scores[row, code] = 0
                continue
            b0, b1 = counts[code, 0], counts[code, 1]
            score = table[o0] + table[o1] + table[b0 - o0] + table[b1 - o1] + table[b0 + b1]
            score -= table[o0 + o1] + table[b0 + b1 - o0 - o1] + table[b0] + table[b1]
            scores[row, code] = score


@njit(cache=True, nogil=True)
def _fill_samples(
    indptr: Any,
    cells: SpanCells,
    first: Any,
    then: Any,
    more_than: Any,
    at_most: Any,
    out_indptr: Any,
    out: Any,
) -> None:  # pragma: no cover - compiled
    """Merge the ascending samples of the two codes of each pair."""
    samples, first_day, last_day = cells
    to = 0
    for pair in range(first.size):
        i, i_stop = indptr[first[pair]], indptr[first[pair] + 1]
        j, j_stop = indptr[then[pair]], indptr[then[pair] + 1]
        while i < i_stop and j < j_stop:
            sample, other = samples[i], samples[j]
            if sample < other:
                i += 1
            elif sample > other:
                j += 1
            else:
                if more_than[pair] < last_day[j] - first_day[i] <= at_most[pair]:
                    out[to] = sample
                    to += 1
                i += 1
                j += 1
        out_indptr[pair + 1] = to
