"""The matrix of samples × columns (code × window), memory-mapped from packed blocks and read a few columns at a time."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.arrays import read_arrays, release_pages
from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.events.patients import frozen
from mlho.errors import ArtifactDamaged

UTILISATION: Final = "utilisation"
FIRST_DAY: Final = "first_day"  # first and last day of each cell of the longest window, for sequences
LAST_DAY: Final = "last_day"
DAYS: Final = "days"  # all days of each of these cells, for durations of sequences
DAY_STARTS: Final = "day_starts"
_NO_NUMBERS: Final = ("indptr", "indices", "count", UTILISATION, FIRST_DAY, LAST_DAY, DAYS, DAY_STARTS)


@dataclass(frozen=True, eq=False)
class ColumnBlock:
    """Some columns in compressed sparse form: the cells of column j are ``indptr[j]`` to ``indptr[j + 1]``."""

    indptr: NDArray[np.int64]
    """Shape (n_columns + 1,)."""
    indices: NDArray[np.int32]
    """Sample numbers, increasing in each column. Shape (n_cells,)."""
    count: NDArray[np.int32]
    """Events in the window (days with an event if duplicates are dropped), at least 1. Shape (n_cells,)."""
    number: NDArray[np.float64] | None
    """Latest number, or the requested one; ``NaN`` if missing; None if the blocks hold no numbers. Shape (n_cells,)."""


@dataclass(frozen=True, eq=False)
class _Block:
    first_sample: int
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    count: NDArray[np.int32]
    numbers: Mapping[str, NDArray[np.float64]]
    utilisation: NDArray[np.int32]  # shape (n_windows × 3, n_samples of the block); empty if not requested


@dataclass(frozen=True, eq=False)
class Matrix:
    """Cells of all blocks, memory-mapped. Every method reads only the cells that it returns or counts, and releases their pages."""

    n_samples: int
    n_columns: int
    """Shape. Column = code id × ``n_windows`` + window, shortest window first."""
    n_windows: int
    """Number of windows per code."""
    numbers: frozenset[str]
    """Names of the numbers that cells have, such as ``last``; see :func:`mlho.encoding.events.blocks.pack_block`."""
    _patient_of: NDArray[np.int32]
    _blocks: tuple[_Block, ...]

    @classmethod
    def open(cls, block_paths: Sequence[Path], cohort: Cohort, *, n_codes: int, n_windows: int) -> "Matrix":
        """Memory-map the packed blocks of a cohort.

        Parameters
        ----------
        block_paths : sequence of Path, shape (n_blocks,)
            In block order.

        Raises
        ------
        ArtifactDamaged
            A block is not an array file, or does not match the dictionary and the windows.
        """
        starts = cohort.sample_starts()
        blocks: list[_Block] = []
        for number, path in enumerate(block_paths):
            arrays = read_arrays(path)
            if len(arrays.get("indptr", ())) != n_codes * n_windows + 1:
                raise ArtifactDamaged(
                    f"{path.name}: not a block of this dictionary and these windows. Run again to recreate it."
                )
            first = int(starts[cohort.block_patients(number)[0]])
            numbers = {name: array for name, array in arrays.items() if name not in _NO_NUMBERS}
            utilisation = arrays.get(UTILISATION, np.empty((0, 0), np.int32))
            blocks.append(
                _Block(first, arrays["indptr"], arrays["indices"], arrays["count"], numbers, utilisation)
            )
        return cls(
            n_samples=cohort.n_samples,
            n_columns=n_codes * n_windows,
            n_windows=n_windows,
            numbers=frozenset.intersection(*(frozenset(block.numbers) for block in blocks)),
            _patient_of=frozen(cohort.patient_of),
            _blocks=tuple(blocks),
        )

    @property
    def n_cells(self) -> int:
        """Number of non-zero cells."""
        return sum(len(block.indices) for block in self._blocks)

    @property
    def utilisation(self) -> NDArray[np.int32]:
        """Numbers of events, codes and days in each window, shape (n_windows × 3, n_samples), if the blocks hold them."""
        return np.concatenate([block.utilisation for block in self._blocks], axis=1)

    def patients_per_column(
        self, sample_mask: NDArray[np.bool_] | None = None, number: str | None = None
    ) -> NDArray[np.int64]:
        """Count the distinct patients with any event, or with this number, in each column, among the masked samples (default: all).

        A patient with several samples is counted once.

        Returns
        -------
        int64, shape (n_columns,)
        """
        mask = np.ones(self.n_samples, np.bool_) if sample_mask is None else self._checked(sample_mask)
        n_patients = np.zeros(self.n_columns, np.int64)
        if number is not None and number not in self.numbers:
            return n_patients
        no_numbers = frozen(np.empty(0, np.float64))
        for block in self._blocks:
            _count_patients(
                block.indptr,
                block.indices,
                no_numbers if number is None else block.numbers[number],
                block.first_sample,
                frozen(mask),
                self._patient_of,
                number is not None,
                n_patients,
            )
            release_pages(block.indices)
        return n_patients

    def column_block(
        self,
        columns: NDArray[np.integer[Any]] | Sequence[int],
        sample_mask: NDArray[np.bool_] | None = None,
        *,
        numbers: Sequence[str | None],
    ) -> ColumnBlock:
        """Return the cells of some columns, in the given order.

        Parameters
        ----------
        columns : integers
            Column numbers, in any order.
        sample_mask : bool, shape (n_samples,), optional
            Keep only these samples and renumber them 0, 1, … in their order; by default samples keep their numbers.
        numbers : sequence of str or None, shape (n_columns,)
            Name of the number to return for each column; None for ``NaN``.
        """
        return self._cells(columns, sample_mask, numbers)

    def samples_per_column(self) -> NDArray[np.int64]:
        """Return the number of samples with an event in each column; int64, shape (n_columns,)."""
        return sum((np.diff(block.indptr) for block in self._blocks), np.zeros(self.n_columns, np.int64))

    def has_events(self, windows: Collection[int]) -> NDArray[np.bool_]:
        """Return which samples have an event in one of these windows, given by number; shape (n_samples,)."""
        is_wanted = np.array([window in windows for window in range(self.n_windows)], np.bool_)
        has_event = np.zeros(self.n_samples, np.bool_)
        for block in self._blocks:
            _mark_samples(block.indptr, block.indices, block.first_sample, frozen(is_wanted), has_event)
            release_pages(block.indices)
        return has_event

    def column_samples(
        self, columns: NDArray[np.integer[Any]] | Sequence[int], sample_mask: NDArray[np.bool_] | None = None
    ) -> ColumnBlock:
        """Return the cells as :meth:`column_block` does, without reading their counts and numbers: ``count`` is empty."""
        return self._cells(columns, sample_mask, None)

    def _cells(
        self,
        columns: NDArray[np.integer[Any]] | Sequence[int],
        sample_mask: NDArray[np.bool_] | None,
        numbers: Sequence[str | None] | None,
    ) -> ColumnBlock:
        """Return cells with counts and numbers; without both if ``numbers`` is None."""
        wanted = frozen(np.asarray(columns, np.int64))
        n_stored = sum(
            (block.indptr[wanted + 1] - block.indptr[wanted] for block in self._blocks),
            start=np.zeros(len(wanted), np.int64),
        )
        starts = np.concatenate([[0], np.cumsum(n_stored)])
        indices = np.empty(starts[-1], np.int32)
        groups = _columns_by_number(len(wanted), numbers)
        has_numbers = any(name is not None for name in groups)
        count = np.empty(0 if numbers is None else starts[-1], np.int32)
        number = np.full(starts[-1] if has_numbers else 0, np.nan)
        nothing = np.empty(0, np.float64)
        out, out_without = _Cells(indices, count, number), _Cells(indices, count, nothing)
        place = starts[:-1].copy()
        new_index = self._new_index(sample_mask)
        for block in self._blocks:
            without = _Cells(block.indices, block.count, frozen(nothing))
            if new_index.size and not has_numbers:
                _copy_samples(
                    block.indptr, block.first_sample, without, wanted, new_index, place, out_without
                )
                release_pages(block.indices)
                continue
            for name, members in groups.items():
                member_places = place[members]
                source = without if name is None else without._replace(number=block.numbers[name])
                target = out_without if name is None else out
                columns = frozen(wanted[members])
                _copy_cells(
                    block.indptr, block.first_sample, source, columns, new_index, member_places, target
                )
                place[members] = member_places
            release_pages(block.indices)
        indptr = np.concatenate([[0], np.cumsum(place - starts[:-1])])
        if indptr[-1] < starts[-1]:
            _close_gaps(starts, indptr, indices, count, number)
        kept = [array[: indptr[-1]] for array in (indices, count, number)]
        return ColumnBlock(indptr, kept[0], kept[1], kept[2] if has_numbers else None)

    def _new_index(self, sample_mask: NDArray[np.bool_] | None) -> NDArray[np.int32]:
        """Return the new number of each sample among the masked ones, -1 outside the mask; empty without a mask."""
        if sample_mask is None:
            return frozen(np.empty(0, np.int32))
        mask = self._checked(sample_mask)
        return frozen(np.where(mask, np.cumsum(mask) - 1, -1).astype(np.int32))

    def _checked(self, sample_mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if sample_mask.dtype != np.bool_ or sample_mask.shape != (self.n_samples,):
            raise ValueError(
                f"sample_mask: expected {self.n_samples} Booleans; got {sample_mask.dtype}, shape {sample_mask.shape}"
            )
        return sample_mask


def _columns_by_number(
    n_columns: int, numbers: Sequence[str | None] | None
) -> dict[str | None, NDArray[np.int64]]:
    """Return the positions of the columns, grouped by the number that they need."""
    names = [None] * n_columns if numbers is None else list(numbers)
    return {
        name: np.array([place for place, other in enumerate(names) if other == name], np.int64)
        for name in dict.fromkeys(names)
    }


@njit(cache=True, nogil=True)
def _mark_samples(
    indptr: Any, indices: Any, first_sample: Any, is_wanted: Any, is_marked: Any
) -> None:  # pragma: no cover - compiled
    for column in range(indptr.size - 1):
        if is_wanted[column % is_wanted.size]:
            for at in range(indptr[column], indptr[column + 1]):
                is_marked[first_sample + indices[at]] = True


@njit(cache=True, nogil=True)
def _count_patients(
    indptr: Any,
    indices: Any,
    last: Any,
    first_sample: Any,
    mask: Any,
    patient_of: Any,
    needs_value: Any,
    n_patients: Any,
) -> None:  # pragma: no cover - compiled
    """Add the distinct masked patients of a block to each column's count. The samples of a patient are adjacent."""
    for column in range(indptr.size - 1):
        patient_before, n = np.int32(-1), 0
        for at in range(indptr[column], indptr[column + 1]):
            sample = np.uint64(first_sample + indices[at])
            patient = patient_of[sample]
            is_new = mask[sample] & (patient != patient_before)
            if needs_value and np.isnan(last[at]):
                continue
            patient_before = patient if is_new else patient_before
            n += is_new
        n_patients[column] += n


class _Cells(NamedTuple):
    """Cells for compiled code; without counts or numbers their arrays are empty."""

    indices: NDArray[np.int32]
    counts: NDArray[np.int32]
    number: NDArray[np.float64]


@njit(cache=True, nogil=True)
def _copy_cells(
    indptr: Any, first_sample: Any, source: _Cells, wanted: Any, new_index: Any, place: Any, out: _Cells
) -> None:  # pragma: no cover - compiled
    """Copy the cells of the wanted columns of a block to their ``place`` and advance it."""
    for j in range(wanted.size):
        at_out = place[j]
        for at in range(indptr[wanted[j]], indptr[wanted[j] + 1]):
            sample = first_sample + source.indices[at]
            if new_index.size:
                sample = np.int64(new_index[sample])
                if sample < 0:
                    continue
            out.indices[at_out] = sample
            if out.counts.size:
                out.counts[at_out] = source.counts[at]
            if out.number.size:
                out.number[at_out] = source.number[at]
            at_out += 1
        place[j] = at_out


@njit(cache=True, nogil=True)
def _copy_samples(
    indptr: Any, first_sample: Any, source: _Cells, wanted: Any, new_index: Any, place: Any, out: _Cells
) -> None:  # pragma: no cover - compiled
    """Do the work of ``_copy_cells`` with a mask and without numbers, several times faster because it has no branches."""
    for j in range(wanted.size):
        at_out = np.uint64(place[j])
        for at in range(indptr[wanted[j]], indptr[wanted[j] + 1]):
            sample = new_index[np.uint64(first_sample + source.indices[at])]
            # Overwritten by the next cell unless the sample is in the mask.
            out.indices[at_out] = sample
            if out.counts.size:
                out.counts[at_out] = source.counts[at]
            at_out += np.uint64(sample >= 0)
        place[j] = at_out


@njit(cache=True, nogil=True)
def _close_gaps(
    starts: Any, indptr: Any, indices: Any, count: Any, last: Any
) -> None:  # pragma: no cover - compiled
    """Shift the cells of each column left, from ``starts`` to ``indptr``."""
    for j in range(indptr.size - 1):
        shift = starts[j] - indptr[j]
        for at in range(indptr[j], indptr[j + 1]):
            indices[at] = indices[at + shift]
            if count.size:
                count[at] = count[at + shift]
            if last.size:
                last[at] = last[at + shift]


def move_cells(
    block: ColumnBlock, places: NDArray[np.int64], moves: NDArray[np.int64], sample_at: NDArray[np.int32]
) -> ColumnBlock:
    """Shift the cells of each column along a ring of samples, and keep those that land on a sample of interest.

    Parameters
    ----------
    block : ColumnBlock
        Cells of all samples.
    places : int64, shape (n_samples,)
        Place of each sample on the ring.
    moves : int64, shape (n_columns,)
        Distance of each column, from 0 to ``n_samples - 1``.
    sample_at : int32, shape (n_samples,)
        New number of the sample at each place; −1 for a sample that is left out.
    """
    n_kept = np.zeros(len(moves), np.int64)
    indices = np.empty_like(block.indices)
    has_more = block.count.size > 0 or block.number is not None
    source = np.empty(len(block.indices) if has_more else 0, np.int64)
    _move_cells(block.indptr, block.indices, places, moves, sample_at, n_kept, indices, source)
    indptr = np.concatenate([[0], np.cumsum(n_kept)])
    source = source[: indptr[-1]]
    count = block.count[source] if block.count.size else block.count
    return ColumnBlock(
        indptr, indices[: indptr[-1]], count, None if block.number is None else block.number[source]
    )


@njit(cache=True, nogil=True)
def _move_cells(
    indptr: Any,
    indices: Any,
    places: Any,
    moves: Any,
    sample_at: Any,
    n_kept: Any,
    out_indices: Any,
    source: Any,
) -> None:  # pragma: no cover - compiled
    """Write the new sample of each kept cell and the cell that it comes from."""
    at_out = np.uint64(0)
    for j in range(moves.size):
        before = at_out
        for at in range(indptr[j], indptr[j + 1]):
            place = places[np.uint64(indices[at])] + moves[j]
            place -= sample_at.size if place >= sample_at.size else 0
            sample = sample_at[np.uint64(place)]
            # Overwritten by the next cell unless the sample is kept.
            out_indices[at_out] = sample
            if source.size:
                source[at_out] = at
            at_out += np.uint64(sample >= 0)
        n_kept[j] = at_out - before
