"""Near-duplicate patients: one person under several ids, whose records would be in training and in test."""

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.encoding.events.patients import frozen
from mlho.encoding.tally.sketch import mix
from mlho.training.iterations.problem import Problem

MIN_CODES: Final = 12  # codes that a sample must have: short records agree by chance
#: Information of the common cells: two unrelated patients share a cell with the probability of its prevalence. Real records of single
#: hospital stays reach 50 bits by chance, because codes go together.
MIN_BITS: Final = 60.0
MIN_OVERLAP: Final = 0.9  # Jaccard index of the cells (code and number of records) of two samples
#: Pairs of overlap 0.9 agree in at least one band of 3 hashes with probability 1 - (1 - 0.9³)⁸ > 0.9999.
_BANDS: Final = 8
_ROWS: Final = 3
_MOST_IN_BUCKET: Final = 50  # samples compared with their next ones in a bucket
_CHUNK: Final = 512
_FIRST_SLOTS: Final = 1 << 16  # of the hash table of cells, a power of two


def count_twins(problem: Problem) -> tuple[int, int]:
    """Return the number of units with a near-duplicate under another id, and of units that could be compared.

    Two samples are near-duplicates if the Jaccard index of their cells in the longest window is at least ``MIN_OVERLAP``, and the common
    cells are too rare to be shared by chance (``MIN_BITS``). A cell is a code with its number of records. Candidates are found by MinHash, and then compared exactly.
    """
    indptr, cells = _rows_of(problem)
    sizes = np.diff(indptr)
    rows = np.flatnonzero(sizes >= MIN_CODES)
    unit_of = problem.cohort.unit_of
    n_units = len(np.unique(unit_of[rows]))
    if len(rows) < 2:
        return 0, n_units
    bits = _bits_of(cells, problem.cohort.n_samples)
    signature = _min_hashes(indptr, cells, rows, _BANDS * _ROWS)
    has_twin = np.zeros(len(problem.cohort.unit_ids), np.bool_)
    for band in range(_BANDS):
        keys = _band_keys(signature[:, band * _ROWS : (band + 1) * _ROWS])
        order = np.argsort(keys, kind="stable")
        _compare(keys[order], rows[order], (indptr, cells, bits), frozen(unit_of), has_twin)
    return int(has_twin.sum()), n_units


def _rows_of(problem: Problem) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the cells of each sample as sorted hashes of code and count, in compressed rows."""
    columns, sizes = problem.longest_columns, np.zeros(problem.cohort.n_samples, np.int64)
    chunks = [columns[start : start + _CHUNK] for start in range(0, len(columns), _CHUNK)]
    for chunk in chunks:
        sizes += np.bincount(problem.matrix.column_samples(chunk).indices, minlength=len(sizes))
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    cells, place = np.empty(indptr[-1], np.uint64), indptr[:-1].copy()
    for chunk in chunks:
        block = problem.matrix.column_block(chunk, numbers=[None] * len(chunk))
        _scatter(block.indptr, block.indices, block.count, frozen(chunk), place, cells)
    _sort_rows(indptr, cells)
    return indptr, cells


def _bits_of(cells: NDArray[np.uint64], n_samples: int) -> NDArray[np.float32]:
    """Return −log₂ of the share of samples with each cell."""
    size = _FIRST_SLOTS
    while True:
        keys, counts = np.zeros(size, np.uint64), np.zeros(size, np.int64)
        if _count_cells(cells, keys, counts):
            break
        size *= 2
    bits = -np.log2(np.maximum(counts, 1) / n_samples).astype(np.float32)
    return np.asarray(_find_cells(cells, keys, bits))


def _band_keys(band: NDArray[np.uint64]) -> NDArray[np.uint64]:
    key = np.zeros(len(band), np.uint64)
    for values in band.T:
        key = (key ^ values) * np.uint64(0x9E3779B97F4A7C15)
    return key


@njit(cache=True, nogil=True)
def _scatter(
    indptr: Any, indices: Any, count: Any, columns: Any, place: Any, cells: Any
) -> None:  # pragma: no cover - compiled
    for j in range(indptr.size - 1):
        for i in range(indptr[j], indptr[j + 1]):
            s = indices[i]
            cells[place[s]] = mix(np.uint64(columns[j]) * np.uint64(1 << 20) + np.uint64(count[i]))
            place[s] += 1


@njit(cache=True, nogil=True)
def _sort_rows(indptr: Any, cells: Any) -> None:  # pragma: no cover - compiled
    for s in range(indptr.size - 1):
        cells[indptr[s] : indptr[s + 1]].sort()


@njit(cache=True, nogil=True)
def _count_cells(cells: Any, keys: Any, counts: Any) -> Any:  # pragma: no cover - compiled
    """Count equal cells in a hash table. Return False if more than half of its slots would be taken."""
    mask, free = np.uint64(keys.size - 1), keys.size // 2
    for cell in cells:
        slot = cell & mask
        while counts[slot] and keys[slot] != cell:
            slot = (slot + np.uint64(1)) & mask
        if not counts[slot]:
            if not free:
                return False
            free -= 1
            keys[slot] = cell
        counts[slot] += 1
    return True


@njit(cache=True, nogil=True)
def _find_cells(cells: Any, keys: Any, bits: Any) -> Any:  # pragma: no cover - compiled
    """Return the bits of each cell, which is in the hash table."""
    found, mask = np.empty(cells.size, np.float32), np.uint64(keys.size - 1)
    for i in range(cells.size):
        slot = cells[i] & mask
        while keys[slot] != cells[i]:
            slot = (slot + np.uint64(1)) & mask
        found[i] = bits[slot]
    return found


@njit(cache=True, nogil=True)
def _min_hashes(indptr: Any, cells: Any, rows: Any, n_hashes: Any) -> Any:  # pragma: no cover - compiled
    found = np.empty((rows.size, n_hashes), np.uint64)
    for r in range(rows.size):
        for h in range(n_hashes):
            salt, least = mix(np.uint64(h + 1)), np.uint64(0xFFFFFFFFFFFFFFFF)
            for i in range(indptr[rows[r]], indptr[rows[r] + 1]):
                value = mix(cells[i] ^ salt)
                if value < least:
                    least = value
            found[r, h] = least
    return found


@njit(cache=True, nogil=True)
def _compare(
    keys: Any, rows: Any, records: Any, unit_of: Any, has_twin: Any
) -> None:  # pragma: no cover - compiled
    """Mark the units of near-duplicate samples among those with equal keys."""
    for i in range(keys.size):
        for j in range(i + 1, min(keys.size, i + 1 + _MOST_IN_BUCKET)):
            if keys[j] != keys[i]:
                break
            unit, other_unit = unit_of[rows[i]], unit_of[rows[j]]
            if unit == other_unit or (has_twin[unit] and has_twin[other_unit]):
                continue
            if _are_twins(records, rows[i], rows[j]):
                has_twin[unit] = has_twin[other_unit] = True


@njit(cache=True, nogil=True)
def _are_twins(records: Any, row: Any, other_row: Any) -> Any:  # pragma: no cover - compiled
    indptr, cells, bits = records
    i, j, common, shared = indptr[row], indptr[other_row], 0, 0.0
    size, size_other = indptr[row + 1] - i, indptr[other_row + 1] - j
    # Most cells that only the first row can have at an overlap of MIN_OVERLAP, and one more for rounding.
    room = size - MIN_OVERLAP / (1 + MIN_OVERLAP) * (size + size_other) + 1
    while room >= 0 and i < indptr[row + 1] and j < indptr[other_row + 1]:
        if cells[i] == cells[j]:
            common += 1
            shared += bits[i]
            i += 1
            j += 1
        elif cells[i] < cells[j]:
            room -= 1
            i += 1
        else:
            j += 1
    total = size + size_other - common
    return common >= MIN_OVERLAP * total and shared >= MIN_BITS
