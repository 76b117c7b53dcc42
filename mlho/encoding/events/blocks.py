"""Packed blocks: the non-zero cells of every column (code × window) for a range of patients.

The rows of a block are sorted by (code, patient) with a counting sort. For each group of rows, each sample of the patient
then gets the number of rows in its windows and the latest number. These operations do not depend on the order of rows, so the
bytes depend only on the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.arrays import write_arrays
from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.cohort.windows import DAY_US, SampleWindows, needs_times, sample_windows
from mlho.encoding.events.dictionary import Dictionary
from mlho.encoding.events.matrix import UTILISATION
from mlho.encoding.events.patients import frozen
from mlho.encoding.events.rows import UsedRows
from mlho.encoding.events.segments import Segments
from mlho.encoding.events.sequences import day_arrays
from mlho.encoding.events.summaries import RowArrays, WindowArrays, sort_by_time, summarize
from mlho.encoding.events.utilisation import count_utilisation
from mlho.spec.training import TrainingSpec

_N_AFTER: Final = 3  # windows of features.after: its own, from the index date, and from the start of the past


@dataclass(frozen=True)
class PackedBlock:
    """Facts about a packed block."""

    n_rows: int
    """Used rows in the block, including same-day duplicates."""
    n_cells: int
    """Non-zero cells."""
    duplicates: tuple[int, ...]
    """Rows dropped as same-day duplicates, by partition. Of duplicates in several partitions the row in the first one is kept."""


def pack_block(
    spec: TrainingSpec,
    cohort: Cohort,
    block: int,
    partitions: Sequence[tuple[Path, NDArray[np.int32]]],
    dictionary: Dictionary,
    out: Path,
) -> PackedBlock:
    """Pack one block of patients from the segments of all partitions.

    Write the arrays ``indptr`` (int64, shape (n_columns + 1,)), ``indices`` (int32: sample within the block, increasing in
    each column), ``count`` (int32: events in the window, or days with an event if duplicates are dropped) and the numbers
    that the aggregates need (float64; ``NaN`` if there is none): ``last``, the number of the latest event that has one (the
    largest if several are at the same microsecond), and those of :mod:`mlho.encoding.events.summaries`; and, if requested,
    ``utilisation`` and the days of :mod:`mlho.encoding.events.sequences`. Column = code id × number of windows + window,
    shortest window first.

    Parameters
    ----------
    block : int
        Block number; its patients are ``cohort.block_patients(block)``.
    partitions : sequence of (path, code_ids)
        Segments of each partition, and the dictionary id of each of its codes (from ``merge_dictionary``).
    """
    patients = cohort.block_patients(block)
    if not needs_times(spec, cohort):
        arrays, n_rows = _counted_cells(
            block, partitions, sample_windows(spec, cohort, patients), len(dictionary)
        )
        write_arrays(out, arrays)
        return PackedBlock(n_rows, len(arrays["indices"]), (0,) * len(partitions))
    rows, partition = _rows_of_block(block, partitions)
    order, code_starts = _order_rows(
        frozen(rows.code), frozen(rows.patient), len(dictionary), patients[1] - patients[0]
    )
    rows = rows.take(order)
    is_daily = spec.data.duplicates == "drop"
    duplicates = np.zeros(len(partitions), np.int64)
    if is_daily:
        _find_duplicates(code_starts, rows.patient, rows.time, rows.value, partition[order], duplicates)
    windows, numbers = sample_windows(spec, cohort, patients), spec.features.numbers
    arrays = _cells(rows, frozen(code_starts), windows, has_last="last" in numbers, is_daily=is_daily)
    others, sequences = [name for name in numbers if name != "last"], spec.features.sequences
    if others or sequences is not None:
        sort_by_time(rows, code_starts)
    if others:
        arrays |= summarize(rows, code_starts, windows, arrays["indptr"], others, is_daily=is_daily)
    if spec.features.after is not None:
        arrays = _of_new_codes(arrays)
    if spec.features.utilisation:
        arrays[UTILISATION] = count_utilisation(rows, windows, arrays)
    if sequences is not None:
        n_cells, has_all_days = len(arrays["indices"]), bool(sequences.durations)
        arrays |= day_arrays(rows, code_starts, windows, n_cells, has_all_days=has_all_days)
    write_arrays(out, arrays)
    return PackedBlock(len(rows), len(arrays["indices"]), tuple(duplicates.tolist()))


def _of_new_codes(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the cells of the first of three windows whose code has no event in the sample's past; see ``features.after``."""
    indptr, indices, count = arrays["indptr"], arrays["indices"].astype(np.int64), arrays["count"]
    column = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    code, window = column // _N_AFTER, column % _N_AFTER
    key = code * (int(indices.max(initial=0)) + 1) + indices
    outcome_cells, since_cells, ever_cells = (np.flatnonzero(window == number) for number in range(_N_AFTER))
    # Windows nest, so a cell of one window has a cell in each longer one; keys ascend in each.
    n_since, n_ever = (
        count[rows[np.searchsorted(key[rows], key[outcome_cells])]] for rows in (since_cells, ever_cells)
    )
    kept = outcome_cells[n_since == n_ever]
    n_codes = (len(indptr) - 1) // _N_AFTER
    cells = {name: array[kept] for name, array in arrays.items() if name != "indptr"}
    starts = np.concatenate([[0], np.cumsum(np.bincount(code[kept], minlength=n_codes))])
    return {"indptr": starts.astype(np.int64), **cells}


def _rows_of_block(
    block: int, partitions: Sequence[tuple[Path, NDArray[np.int32]]]
) -> tuple[UsedRows, NDArray[np.int32]]:
    """Return the rows of a block from all partitions, with their codes as dictionary ids, and the partition of each row."""
    no_ids = np.empty(0, np.int32)
    pieces, numbers = [UsedRows(no_ids, no_ids, np.empty(0, np.int64), np.empty(0, np.float64))], [no_ids]
    for number, (path, code_ids) in enumerate(partitions):
        for rows in Segments.open(path).rows(block):
            patient = rows.patient.astype(np.int32)
            pieces.append(UsedRows(patient, code_ids[rows.code], rows.time, rows.value))
            numbers.append(np.full(len(rows), number, np.int32))
    names = ("patient", "code", "time", "value")
    joined = [np.concatenate([getattr(piece, name) for piece in pieces]) for name in names]
    return UsedRows(*joined), np.concatenate(numbers)


def _counted_cells(
    block: int, partitions: Sequence[tuple[Path, NDArray[np.int32]]], windows: SampleWindows, n_codes: int
) -> tuple[dict[str, NDArray[Any]], int]:
    """Return the arrays of a block that needs only counts of rows, and its number of rows.

    Each patient has one sample, and the only window contains every used row. Rows are grouped by patient, which puts the
    cells of each code in the order of the samples without another sort.
    """
    pieces = [(rows, code_ids) for path, code_ids in partitions for rows in Segments.open(path).rows(block)]
    starts = np.zeros(len(windows.starts), np.int64)
    for rows, _ in pieces:
        _count_rows(rows.patient, starts)
    np.cumsum(starts, out=starts)
    codes, place = np.empty(starts[-1], np.int32), starts.copy()
    for rows, code_ids in pieces:
        _place_codes(rows.patient, rows.code, frozen(code_ids), place, codes)
    filled, cell_counts = np.zeros(n_codes, np.int64), np.empty(len(codes), np.int32)
    cell_starts = _merge_rows(starts, codes, cell_counts, filled)
    indptr = np.concatenate([[0], np.cumsum(filled)])
    indices, count = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.int32)
    _transpose(cell_starts, codes, cell_counts, frozen(windows.starts), indptr[:-1].copy(), indices, count)
    return {"indptr": indptr, "indices": indices, "count": count}, len(codes)


@njit(cache=True, nogil=True)
def _count_rows(patient: Any, starts: Any) -> None:  # pragma: no cover - compiled
    """Add the rows of each patient to the next patient's place, so that the cumulative sum gives the first row of each patient."""
    for i in range(patient.size):
        starts[np.uint64(patient[i]) + np.uint64(1)] += 1


@njit(cache=True, nogil=True)
def _place_codes(
    patient: Any, code: Any, code_ids: Any, place: Any, codes: Any
) -> None:  # pragma: no cover - compiled
    for i in range(patient.size):
        p = np.uint64(patient[i])
        codes[np.uint64(place[p])] = code_ids[np.uint64(code[i])]
        place[p] += 1


@njit(cache=True, nogil=True)
def _merge_rows(starts: Any, codes: Any, counts: Any, filled: Any) -> Any:  # pragma: no cover - compiled
    """Merge the rows of each patient and code into one cell: its code, in place of the rows' codes, and its number of rows.

    Add the cells of each code to ``filled``, and return the first cell of each patient.
    """
    cell_of = np.full(filled.size, -1, np.int32)  # the latest cell of each code
    cell_starts = np.zeros_like(starts)
    n = 0
    for p in range(starts.size - 1):
        first = n
        for i in range(starts[p], starts[p + 1]):
            code = codes[i]
            c = np.uint64(code)
            if cell_of[c] < first:
                cell_of[c] = n
                codes[n] = code
                counts[n] = 1
                filled[c] += 1
                n += 1
            else:
                counts[np.uint64(cell_of[c])] += 1
        cell_starts[p + 1] = n
    return cell_starts


@njit(cache=True, nogil=True)
def _transpose(
    cell_starts: Any, codes: Any, counts: Any, sample_starts: Any, place: Any, indices: Any, count: Any
) -> None:  # pragma: no cover - compiled
    """Write the cells of the patients at the ``place`` of their code, and advance it."""
    for p in range(cell_starts.size - 1):
        for i in range(cell_starts[p], cell_starts[p + 1]):
            c = np.uint64(codes[i])
            at = np.uint64(place[c])
            place[c] += 1
            indices[at] = sample_starts[p]
            count[at] = counts[i]


def _cells(
    rows: UsedRows, code_starts: NDArray[np.int64], windows: SampleWindows, *, has_last: bool, is_daily: bool
) -> dict[str, NDArray[Any]]:
    """Compute the arrays of the block: one pass counts the cells of each column, a second one fills them."""
    arguments = (code_starts, RowArrays.of(rows), WindowArrays.of(windows), is_daily)
    filled = np.zeros((len(code_starts) - 1) * windows.n_windows, np.int64)
    nothing, no_values = np.empty(0, np.int32), np.empty(0, np.float64)
    _fill_cells(*arguments, filled, _Cells(nothing, nothing, no_values))
    indptr = np.concatenate([[0], np.cumsum(filled)])
    n_cells = int(indptr[-1])
    cells = _Cells(
        np.empty(n_cells, np.int32),
        np.empty(n_cells, np.int32),
        np.empty(n_cells if has_last else 0, np.float64),
    )
    _fill_cells(*arguments, indptr[:-1].copy(), cells)
    arrays: dict[str, NDArray[Any]] = {"indptr": indptr, "indices": cells.indices, "count": cells.counts}
    return arrays | ({"last": cells.last} if has_last else {})


@njit(cache=True, nogil=True)
def _order_rows(code: Any, patient: Any, n_codes: Any, n_patients: Any) -> Any:  # pragma: no cover - compiled
    """Return the stable order of rows by (code, patient), from two counting sorts, and the start of each code in it."""
    by_patient = np.empty(code.size, np.int32)
    place = np.zeros(n_patients + 1, np.int64)
    for i in range(patient.size):
        place[patient[i] + 1] += 1
    for p in range(n_patients):
        place[p + 1] += place[p]
    for i in range(patient.size):
        by_patient[place[patient[i]]] = i
        place[patient[i]] += 1
    code_starts = np.zeros(n_codes + 1, np.int64)
    for i in range(code.size):
        code_starts[code[i] + 1] += 1
    for c in range(n_codes):
        code_starts[c + 1] += code_starts[c]
    order = np.empty(code.size, np.int32)
    place = code_starts.copy()
    for i in by_patient:
        order[place[code[i]]] = i
        place[code[i]] += 1
    return order, code_starts


@njit(cache=True, nogil=True)
def _find_duplicates(
    code_starts: Any, patient: Any, time: Any, value: Any, partition: Any, duplicates: Any
) -> None:  # pragma: no cover - compiled
    """Sort the rows of each code and patient by time, in place. Count per partition all rows of a day beyond the first."""
    for c in range(code_starts.size - 1):
        start = code_starts[c]
        while start < code_starts[c + 1]:
            stop = start + 1
            is_sorted = True
            while stop < code_starts[c + 1] and patient[stop] == patient[start]:
                is_sorted = is_sorted and time[stop - 1] <= time[stop]
                stop += 1
            if not is_sorted:
                order = np.argsort(time[start:stop])
                time[start:stop] = time[start:stop][order]
                partition[start:stop] = partition[start:stop][order]
                if value.size:
                    value[start:stop] = value[start:stop][order]
            while start < stop:
                day, first = time[start] // DAY_US, partition[start]
                while start < stop and time[start] // DAY_US == day:
                    duplicates[partition[start]] += 1
                    first = min(first, partition[start])
                    start += 1
                duplicates[first] -= 1


class _Cells(NamedTuple):
    indices: NDArray[np.int32]
    counts: NDArray[np.int32]
    last: NDArray[np.float64]


@njit(cache=True, nogil=True)
def _fill_cells(
    code_starts: Any, rows: RowArrays, windows: WindowArrays, is_daily: Any, place: Any, out: _Cells
) -> None:  # pragma: no cover - compiled
    """Write each cell at the ``place`` of its column and advance it. With empty arrays, only count the cells.

    This is a single loop nest without helper functions, because passing these arrays costs more than the work on a group of a
    few rows.
    """
    patient, time, value = rows
    sample_starts, _, upper_us, lower_us = windows
    indices, count, last = out
    n_windows = lower_us.shape[0]
    n, last_time, last_value = (
        np.zeros(n_windows, np.int32),
        np.zeros(n_windows, np.int64),
        np.zeros(n_windows),
    )
    for c in range(code_starts.size - 1):
        start = code_starts[c]
        while start < code_starts[c + 1]:
            p = patient[start]
            stop = start + 1
            while stop < code_starts[c + 1] and patient[stop] == p:
                stop += 1
            for s in range(sample_starts[p], sample_starts[p + 1]):
                for k in range(n_windows):
                    n[k] = 0
                    last_value[k] = np.nan
                day_before = np.int64(0)
                for i in range(start, stop):
                    t = time[i]
                    if t > upper_us[s]:
                        continue
                    day = t // DAY_US if is_daily else np.int64(0)
                    for k in range(n_windows - 1, -1, -1):
                        if t <= lower_us[k, s]:
                            break  # shorter windows begin later
                        # If duplicates are dropped, the days are sorted, and all rows after the start of a window are in it.
                        if not is_daily or n[k] == 0 or day != day_before:
                            n[k] += 1
                        if last.size == 0 or np.isnan(value[i]):
                            continue
                        is_tied = t == last_time[k] and value[i] > last_value[k]
                        if np.isnan(last_value[k]) or t > last_time[k] or is_tied:
                            last_time[k] = t
                            last_value[k] = value[i]
                    day_before = day
                for k in range(n_windows):
                    if n[k] == 0:
                        continue
                    at = place[c * n_windows + k]
                    place[c * n_windows + k] = at + 1
                    if indices.size:
                        indices[at] = s
                        count[at] = n[k]
                    if last.size:
                        last[at] = last_value[k]
            start = stop
