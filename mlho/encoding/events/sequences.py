"""The matrix with sequences: after the columns of the codes, one column for every ordered pair of codes.

A block holds the spans of the codes: the first and the last day in the longest window of each sample, and all days if
durations are requested. Columns of pairs are computed from them when they are read, in the same way in training and in
scoring.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.arrays import read_arrays, release_pages
from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.cohort.windows import DAY_US, SampleWindows
from mlho.encoding.events.matrix import DAY_STARTS, DAYS, FIRST_DAY, LAST_DAY, ColumnBlock, Matrix
from mlho.encoding.events.patients import frozen
from mlho.encoding.events.rows import UsedRows
from mlho.errors import ArtifactDamaged
from mlho.method.sequences.days import CodeSpans, DayLists, join_spans
from mlho.method.sequences.durations import durations_in_pieces
from mlho.method.sequences.pairs import pair_samples
from mlho.spec.training import TrainingSpec


@dataclass(frozen=True, eq=False)
class SequenceMatrix(Matrix):
    """A matrix in which column ``n_columns + n_codes · (n_codes · part + first) + then`` belongs to the pair first → then.

    Part 0 is the pair with any number of days between the events. Part k is the pair in the k-th band, or its k-th duration:
    a matrix has bands, or durations, or neither. Counts by column cover only the columns of codes.
    """

    n_codes: int
    co_occurrence_days: int
    """Events that are at most this many days apart have no order."""
    spans_of_blocks: tuple[tuple[int, CodeSpans], ...]
    bands: tuple[int, ...] = ()
    """Edges of the bands in days, ascending; the last band has no upper bound."""
    durations: tuple[str, ...] = ()
    """Any of ``max``, ``mean`` and ``min`` of the days between all events of the two codes."""
    days: tuple[DayLists, ...] = ()
    """One per block; empty without durations."""

    def _cells(
        self,
        columns: NDArray[np.integer[Any]] | Sequence[int],
        sample_mask: NDArray[np.bool_] | None,
        numbers: Sequence[str | None] | None,
    ) -> ColumnBlock:
        """Return the cells of columns of codes and pairs. The count of a pair is 1; its number is its duration, if it has one."""
        wanted = np.asarray(columns, np.int64)
        is_pair = wanted >= self.n_columns
        of_codes = (
            None if numbers is None else [numbers[place] for place in np.flatnonzero(~is_pair).tolist()]
        )
        codes = super()._cells(wanted[~is_pair], sample_mask, of_codes)
        return self._with_pairs(wanted, is_pair, codes, sample_mask, has_counts=numbers is not None)

    def spans(self, codes: NDArray[np.int64], sample_mask: NDArray[np.bool_]) -> CodeSpans:
        """Return the spans of some codes on the masked samples, which are renumbered 0, 1, … in their order."""
        joined = join_spans(self.spans_of_blocks, codes, sample_mask)
        for _, spans in self.spans_of_blocks:
            release_pages(spans.first)
        return joined

    @property
    def n_bands(self) -> int:
        """Number of bands of each pair."""
        return len(self.bands) + 1 if self.bands else 0

    def pair_columns(
        self, first: NDArray[np.int64], then: NDArray[np.int64], *, part: int = 0
    ) -> NDArray[np.int64]:
        """Return the column numbers of pairs of codes."""
        return self.n_columns + (part * self.n_codes + first) * self.n_codes + then

    def _with_pairs(
        self,
        wanted: NDArray[np.int64],
        is_pair: NDArray[np.bool_],
        codes: ColumnBlock,
        sample_mask: NDArray[np.bool_] | None,
        *,
        has_counts: bool,
    ) -> ColumnBlock:
        """Put the columns of codes and of pairs in the requested order."""
        if not is_pair.any():
            return codes
        pairs = self._split(wanted[is_pair] - self.n_columns)
        has_durations = has_counts and bool(self.durations) and bool(pairs[0].any())
        pair_indptr, pair_cells, pair_number = self._pair_cells(*pairs, sample_mask, has_durations)
        starts, n_cells = np.empty(len(wanted), np.int64), np.empty(len(wanted), np.int64)
        starts[~is_pair], n_cells[~is_pair] = codes.indptr[:-1], np.diff(codes.indptr)
        starts[is_pair], n_cells[is_pair] = pair_indptr[:-1] + len(codes.indices), np.diff(pair_indptr)
        indptr = np.concatenate([[0], np.cumsum(n_cells)]).astype(np.int64)
        at = np.repeat(starts - indptr[:-1], n_cells) + np.arange(indptr[-1])
        count, number = codes.count, codes.number
        if has_counts:
            count = np.concatenate([codes.count, np.ones(len(pair_cells), np.int32)])[at]
        if has_durations or number is not None:
            of_codes = np.full(len(codes.indices), np.nan) if number is None else number
            number = np.concatenate([of_codes, pair_number])[at]
        return ColumnBlock(indptr, np.concatenate([codes.indices, pair_cells])[at], count, number)

    def _split(
        self, pairs: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the part and the two codes of pair columns, which are numbered from the first pair column."""
        part_and_first, then = np.divmod(pairs, self.n_codes)
        part, first = np.divmod(part_and_first, self.n_codes)
        return part, first, then

    def _pair_cells(
        self,
        part: NDArray[np.int64],
        first: NDArray[np.int64],
        then: NDArray[np.int64],
        sample_mask: NDArray[np.bool_] | None,
        has_durations: bool,
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
        """Return the samples with each pair, and the pair's number in each; with a mask, only masked samples, renumbered."""
        band = part if self.bands else np.zeros_like(part)
        low = np.array([self.co_occurrence_days, self.co_occurrence_days, *self.bands], np.int64)[band]
        high = np.array([_NO_BOUND, *self.bands, _NO_BOUND], np.int64)[band]
        columns, samples, numbers = [], [], []
        for block, (start, spans) in enumerate(self.spans_of_blocks):
            indptr, cells = pair_samples(spans, first, then, more_than=low, at_most=high)
            columns.append(np.repeat(np.arange(len(part)), np.diff(indptr)))
            samples.append(cells + np.int32(start))
            numbers.append(np.full(len(cells), np.nan))
            if has_durations:
                is_timed = np.repeat(part > 0, np.diff(indptr))
                numbers[-1][is_timed] = self._durations(
                    block, part[part > 0], first[part > 0], then[part > 0]
                )
            release_pages(spans.first)
        column, sample, number = (np.concatenate(parts) for parts in (columns, samples, numbers))
        if sample_mask is not None:
            kept = sample_mask[sample]
            column, number = column[kept], number[kept]
            sample = (np.cumsum(sample_mask) - 1)[sample[kept]].astype(np.int32)
        if len(self.spans_of_blocks) > 1:
            order = np.argsort(column, kind="stable")
            column, sample, number = column[order], sample[order], number[order]
        return np.searchsorted(column, np.arange(len(part) + 1)).astype(np.int64), sample, number

    def _durations(
        self, block: int, part: NDArray[np.int64], first: NDArray[np.int64], then: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return one duration of each pair in each sample that has the pair, in the order of the cells of these columns."""
        lists, numbers = self.days[block], [np.empty(0)]
        for pairs, durations in durations_in_pieces(
            lists, first, then, co_occurrence_days=self.co_occurrence_days
        ):
            by_name = {
                "max": durations.longest,
                "mean": durations.total / durations.count,
                "min": durations.shortest,
            }
            wanted = np.repeat(part[pairs] - 1, np.diff(durations.indptr))
            numbers.append(np.choose(wanted, [by_name[name] for name in self.durations]).astype(np.float64))
        release_pages(lists.days)
        return np.concatenate(numbers)


_NO_BOUND = np.iinfo(np.int64).max


def open_matrix(spec: TrainingSpec, block_paths: Sequence[Path], cohort: Cohort, *, n_codes: int) -> Matrix:
    """Memory-map packed blocks, with columns of pairs if the specification has sequences.

    Raises
    ------
    ArtifactDamaged
        A block is not an array file, or does not match the dictionary and the windows.
    """
    n_windows, sequences = len(spec.windows), spec.features.sequences
    matrix = Matrix.open(block_paths, cohort, n_codes=n_codes, n_windows=n_windows)
    if sequences is None:
        return matrix
    blocks = _open_spans(block_paths, cohort, n_codes=n_codes, n_windows=n_windows, order=sequences.order)
    durations = tuple(sorted(sequences.durations or ()))
    days = (
        tuple(_open_days(path, spans) for path, (_, spans) in zip(block_paths, blocks, strict=True))
        if durations
        else ()
    )
    margin, bands = sequences.co_occurrence_days, sequences.bands or ()
    return SequenceMatrix(
        **vars(matrix),
        n_codes=n_codes,
        co_occurrence_days=margin,
        spans_of_blocks=blocks,
        bands=bands,
        durations=durations,
        days=days,
    )


def day_arrays(
    rows: UsedRows,
    code_starts: NDArray[np.int64],
    windows: SampleWindows,
    n_cells: int,
    *,
    has_all_days: bool,
) -> dict[str, NDArray[Any]]:
    """Compute the first and the last day of each cell of the longest window, and all distinct days if requested.

    Parameters
    ----------
    rows : UsedRows
        Sorted by code, patient and time.
    code_starts : int64, shape (n_codes + 1,)
    windows : SampleWindows
    n_cells : int
        At least the number of cells of the longest window, such as the cells of all windows.
    has_all_days : bool
        Also return the days, ascending within a cell, and the start of each cell.
    """
    arguments = (
        frozen(code_starts),
        frozen(rows.patient),
        frozen(rows.time),
        frozen(windows.starts),
        frozen(windows.upper_us),
        frozen(windows.lower_us[-1]),
    )
    starts = np.zeros(n_cells + 1, np.int64)
    n_filled = _fill_days(*arguments, starts, np.empty(0, np.int32))
    starts = starts[: n_filled + 1]
    days = np.empty(starts[-1], np.int32)
    _fill_days(*arguments, starts, days)
    spans = {FIRST_DAY: days[starts[:-1]], LAST_DAY: days[starts[1:] - 1]}
    return spans | ({DAY_STARTS: starts, DAYS: days} if has_all_days else {})


def _open_days(path: Path, spans: CodeSpans) -> DayLists:
    arrays = read_arrays(path)
    if DAYS not in arrays or len(arrays[DAY_STARTS]) != len(spans.first) + 1:
        raise ArtifactDamaged(
            f"{path.name}: not all days of this dictionary and these windows. Run again to recreate it."
        )
    return DayLists(spans, frozen(arrays[DAY_STARTS]), frozen(arrays[DAYS]))


def _open_spans(
    block_paths: Sequence[Path], cohort: Cohort, *, n_codes: int, n_windows: int, order: str
) -> tuple[tuple[int, CodeSpans], ...]:
    """Memory-map the first sample and the spans of each packed block. With the order ``first``, each span ends on its first day."""
    starts = cohort.sample_starts()
    blocks = []
    for number, path in enumerate(block_paths):
        arrays = read_arrays(path)
        indptr, indices = arrays["indptr"], arrays["indices"]
        n_cells = np.diff(indptr)[n_windows - 1 :: n_windows]
        starts_of_codes = np.concatenate([[0], np.cumsum(n_cells)]).astype(np.int64)
        if (
            FIRST_DAY not in arrays
            or len(starts_of_codes) != n_codes + 1
            or len(arrays[FIRST_DAY]) != starts_of_codes[-1]
        ):
            raise ArtifactDamaged(
                f"{path.name}: no days of this dictionary and these windows. Run again to recreate it."
            )
        samples = indices
        if n_windows > 1:
            at = np.repeat(
                indptr[n_windows - 1 : -1 : n_windows] - starts_of_codes[:-1], n_cells
            ) + np.arange(starts_of_codes[-1])
            samples = indices[at]
        first, stop = (int(starts[patient]) for patient in cohort.block_patients(number))
        ends = arrays[FIRST_DAY if order == "first" else LAST_DAY]
        blocks.append((first, CodeSpans(stop - first, starts_of_codes, samples, arrays[FIRST_DAY], ends)))
    return tuple(blocks)


@njit(cache=True, nogil=True)
def _fill_days(
    code_starts: Any,
    patient: Any,
    time: Any,
    sample_starts: Any,
    upper_us: Any,
    lower_us: Any,
    starts: Any,
    days: Any,
) -> Any:  # pragma: no cover - compiled
    """Write the distinct days of each cell, by code, then sample, and the start of the next cell; return the number of cells.

    With empty days, only write the starts.
    """
    cell, at = 0, 0
    for code in range(code_starts.size - 1):
        start = code_starts[code]
        while start < code_starts[code + 1]:
            p = patient[start]
            stop = start + 1
            while stop < code_starts[code + 1] and patient[stop] == p:
                stop += 1
            for s in range(sample_starts[p], sample_starts[p + 1]):
                before, cell_start = np.int64(0), at
                for i in range(start, stop):
                    t = time[i]
                    if t > upper_us[s] or t <= lower_us[s]:
                        continue
                    day = t // DAY_US
                    if at == cell_start or day != before:
                        if days.size:
                            days[at] = day
                        at += 1
                    before = day
                if at > cell_start:
                    cell += 1
                    starts[cell] = at
            start = stop
    return cell
