"""Contingency tables of one selected feature with all others, reduced to the sums needed for mutual information.

With h(c) = c · ln c, mutual information is a difference of sums of h over the cells of a table. For n samples
I((X,W);Y) = [Σ h(n_xwy) − Σ h(n_xw) − Σ h(n_y) + h(n)] / n, and similarly I(X;W). All counts and sums are integers
(``bits.entropy_table``), so the result does not depend on the order of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.method.selection import bits as bitwise
from mlho.method.selection.bits import SampleLayout
from mlho.method.selection.levels import ColumnBlock, ColumnBlocks, frozen

# Above this, level codes are renumbered first, because the counting sort of a column scans up to its largest code.
_LARGEST_CODE = 1 << 16


@dataclass(frozen=True, eq=False)
class BitColumns:
    """Columns with two levels."""

    layout: SampleLayout
    """Bit positions of the samples."""
    bits: NDArray[np.uint64]
    """One row per column. Shape (n_columns, n_words)."""
    ones: NDArray[np.int64]
    """Number of samples of class 0 and class 1 with the feature. Shape (n_columns, 2)."""

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return int(self.bits.shape[0])

    def n_with_feature(self) -> NDArray[np.int64]:
        """Return the number of masked samples with each feature: int64, shape (n_columns,)."""
        return self.ones.sum(axis=1)

    def single_sums(self, table: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return Σ h over the tables of (X, Y) and of X alone, for each column: int64, shape (n_columns, 2)."""
        absent = self.layout.n_by_class - self.ones
        of_class = table[self.ones].sum(axis=1) + table[absent].sum(axis=1)
        of_column = table[self.ones.sum(axis=1)] + table[absent.sum(axis=1)]
        return np.stack([of_class, of_column], axis=1)

    def pair_sums(self, pick: int, columns: NDArray[np.int32], table: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return Σ h over the tables of (X, W, Y) and of (X, W), for X in ``columns`` and W = ``pick``."""
        sums = np.empty((columns.size, 2), dtype=np.int64)
        layout = self.layout
        bitwise.bit_pair_sums(
            self.bits, self.ones, columns, pick, layout.n_positive_words, layout.n_by_class, table, sums
        )
        return sums


@dataclass(frozen=True, eq=False)
class LevelColumns:
    """Columns with any number of levels; those with two are also stored as bits."""

    layout: SampleLayout
    """Positions of the samples."""
    positions: NDArray[np.int32]
    """Positions of the samples above level 0, by column and within a column by level. Shape (n_stored,)."""
    group_start: NDArray[np.int64]
    """Start of each level of each column in ``positions``; level 0 has no group. Shape (n_groups + 1,)."""
    group_ptr: NDArray[np.int64]
    """Start of each column's levels in ``group_start``. Shape (n_columns + 1,)."""
    bit_row: NDArray[np.int32]
    """Row of the column in ``binary``; −1 with more than two levels. Shape (n_columns,)."""
    binary: BitColumns
    """Columns with two levels."""

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return int(self.bit_row.size)

    def n_with_feature(self) -> NDArray[np.int64]:
        """Return the number of masked samples above level 0 in each column: int64, shape (n_columns,)."""
        return np.diff(self.group_start[self.group_ptr])

    def n_levels(self) -> NDArray[np.int64]:
        """Return the number of levels of each column under the mask, including level 0: int64, shape (n_columns,)."""
        has_absent = self.n_with_feature() < self.layout.n_samples
        return np.diff(self.group_ptr) + has_absent

    def single_sums(self, table: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return Σ h over the tables of (X, Y) and of X alone, for each column: int64, shape (n_columns, 2)."""
        # A selected feature with one level, equal for all samples, does not change a table.
        return self._sums_with(0, 0, -1, np.arange(self.n_columns, dtype=np.int32), table)

    def pair_sums(self, pick: int, columns: NDArray[np.int32], table: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return Σ h over the tables of (X, W, Y) and of (X, W), for X in ``columns`` and W = ``pick``."""
        groups = int(self.group_ptr[pick]), int(self.group_ptr[pick + 1])
        return self._sums_with(*groups, int(self.bit_row[pick]), columns, table)

    def _sums_with(
        self,
        first_group: int,
        last_group: int,
        row: int,
        columns: NDArray[np.int32],
        table: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Return the sums with the feature of these groups, whose bits are in ``row`` unless it is −1."""
        sums = np.empty((columns.size, 2), dtype=np.int64)
        layout, binary = self.layout, self.binary
        _pair_sums(
            first_group,
            last_group,
            row,
            columns,
            self.positions,
            self.group_start,
            self.group_ptr,
            self.bit_row,
            binary.bits,
            binary.ones,
            layout.n_positive_words,
            layout.n_by_class,
            layout.base_codes(),
            table,
            sums,
        )
        return sums


def bit_columns_from_block(columns: ColumnBlock, layout: SampleLayout) -> BitColumns:
    """Return columns as bits, set where the level code is not 0."""
    packed = np.zeros((columns.n_columns, layout.n_words), dtype=np.uint64)
    _pack_block(columns, layout, packed)
    return _with_ones(packed, layout)


def _pack_block(columns: ColumnBlock, layout: SampleLayout, packed: NDArray[np.uint64]) -> None:
    # Bytes are used directly: any non-zero byte sets the bit.
    values = columns.values
    is_set: NDArray[np.uint8] = frozen(values if values.dtype == np.uint8 else values != 0, np.uint8)
    bitwise.pack_columns(columns.indptr, columns.indices, is_set, layout.position, packed)


def _with_ones(packed: NDArray[np.uint64], layout: SampleLayout) -> BitColumns:
    """Return packed rows with their counts by class."""
    ones = np.zeros((packed.shape[0], 2), dtype=np.int64)
    bitwise.count_ones(packed, layout.n_positive_words, ones)
    return BitColumns(layout, packed, ones)


def level_columns_from_block(columns: ColumnBlock, layout: SampleLayout) -> LevelColumns | BitColumns:
    """Return columns grouped by level under the mask, or only as bits if no column has more than two levels."""
    values = _small_codes(columns)
    largest = int(values.max(initial=0))
    n_columns = columns.n_columns
    n_kept, n_groups = np.zeros(n_columns, dtype=np.int64), np.zeros(n_columns, dtype=np.int64)
    stored = (columns.indptr, columns.indices, values, layout.position)
    _count_groups(*stored, largest, n_kept, n_groups)
    if (n_groups <= 1).all():
        return bit_columns_from_block(columns, layout)
    first = np.concatenate([[0], np.cumsum(n_kept)]).astype(np.int64)
    group_ptr = np.concatenate([[0], np.cumsum(n_groups)]).astype(np.int64)
    positions = np.empty(first[-1], dtype=np.int32)
    group_start = np.full(group_ptr[-1] + 1, first[-1], dtype=np.int64)
    _group_by_level(*stored, largest, first, group_ptr, positions, group_start)
    bit_row, binary = _bits_of_binary(first, n_groups <= 1, positions, layout)
    return LevelColumns(layout, positions, group_start, group_ptr, bit_row, binary)


def pack_blocks(parts: Sequence[ColumnBlocks], layout: SampleLayout) -> LevelColumns | BitColumns:
    """Return the columns of all parts, one after another; binary ones are packed block by block."""
    if not all(part.is_binary for part in parts):
        return level_columns_from_block(_side_by_side(parts), layout)
    packed = np.zeros((sum(part.n_columns for part in parts), layout.n_words), dtype=np.uint64)
    n_packed = 0
    for part in parts:
        for block in part.blocks():
            _pack_block(block, layout, packed[n_packed : n_packed + block.n_columns])
            n_packed += block.n_columns
    return _with_ones(packed, layout)


def _side_by_side(parts: Sequence[ColumnBlocks]) -> ColumnBlock:
    blocks = [block for part in parts for block in part.blocks()]
    if len(blocks) == 1:
        return blocks[0]
    n_cells = np.cumsum([0, *(block.indptr[-1] for block in blocks)])
    starts = [first + block.indptr[1:] for first, block in zip(n_cells, blocks, strict=False)]
    return ColumnBlock(
        blocks[0].n_samples,
        np.concatenate([[0], *starts]).astype(np.int64),
        np.concatenate([block.indices for block in blocks]),
        np.concatenate([block.values for block in blocks]),
    )


def _bits_of_binary(
    first: NDArray[np.int64],
    is_binary: NDArray[np.bool_],
    positions: NDArray[np.int32],
    layout: SampleLayout,
) -> tuple[NDArray[np.int32], BitColumns]:
    bit_row = np.full(is_binary.size, -1, dtype=np.int32)
    bit_row[is_binary] = np.arange(is_binary.sum())
    packed = np.zeros((int(is_binary.sum()), layout.n_words), dtype=np.uint64)
    bitwise.pack_positions(first[:-1][is_binary], first[1:][is_binary], positions, packed)
    return bit_row, _with_ones(packed, layout)


def _small_codes(columns: ColumnBlock) -> NDArray[np.int32]:
    """Return level codes as int32, renumbered in order if they are large."""
    values = columns.values
    if values.size and int(values.max()) >= _LARGEST_CODE:
        distinct, codes = np.unique(values, return_inverse=True)
        # Level 0 keeps its code even if no 0 is stored.
        return frozen(codes + (0 if distinct[0] == 0 else 1), np.int32)
    return frozen(values, np.int32)


@njit(cache=True, nogil=True)
def _count_groups(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.int32],
    position: NDArray[np.int32],
    largest: int,
    n_kept: NDArray[np.int64],
    n_groups: NDArray[np.int64],
) -> None:
    """Count for each column the masked entries above level 0, and their distinct levels."""
    last_seen_in = np.full(largest + 1, -1, np.int64)
    for j in range(indptr.size - 1):
        for p in range(indptr[j], indptr[j + 1]):
            code = values[p]
            if code > 0 and position[indices[p]] >= 0:
                n_kept[j] += 1
                if last_seen_in[code] != j:
                    last_seen_in[code] = j
                    n_groups[j] += 1


@njit(cache=True, nogil=True)
def _group_by_level(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.int32],
    position: NDArray[np.int32],
    largest: int,
    first: NDArray[np.int64],
    group_ptr: NDArray[np.int64],
    positions: NDArray[np.int32],
    group_start: NDArray[np.int64],
) -> None:
    """Sort each column's entries by level (a counting sort)."""
    slot = np.zeros(largest + 1, np.int64)
    for j in range(indptr.size - 1):
        top = 0
        for p in range(indptr[j], indptr[j + 1]):
            code = values[p]
            if code > 0 and position[indices[p]] >= 0:
                slot[code] += 1
                top = max(top, code)
        free, group = first[j], group_ptr[j]
        for code in range(1, top + 1):
            size = slot[code]
            if size > 0:
                group_start[group] = free
                group += 1
                slot[code] = free
                free += size
        for p in range(indptr[j], indptr[j + 1]):
            code, at = values[p], position[indices[p]]
            if code > 0 and at >= 0:
                positions[slot[code]] = at
                slot[code] += 1
        slot[: top + 1] = 0


@njit(cache=True, nogil=True)
def _pair_sums(
    first_group: int,
    last_group: int,
    row: int,
    columns: NDArray[np.int32],
    positions: NDArray[np.int32],
    group_start: NDArray[np.int64],
    group_ptr: NDArray[np.int64],
    bit_row: NDArray[np.int32],
    bits: NDArray[np.uint64],
    ones: NDArray[np.int64],
    n_positive_words: int,
    n_by_class: NDArray[np.int64],
    codes: NDArray[np.int32],
    table: NDArray[np.int64],
    sums: NDArray[np.int64],
) -> None:
    """Write Σ h over the tables of (X, W, Y) and of (X, W) for X in ``columns``, from bits where both have them.

    W has the levels ``first_group`` to ``last_group``, and its bits in ``row``. ``codes`` holds the class at every position and becomes 2 · level of W + class.
    """
    margins = np.zeros(2 * (last_group - first_group + 1), np.int64)
    margins[0], margins[1] = n_by_class[0], n_by_class[1]
    for group in range(first_group, last_group):
        level = 2 * (group - first_group + 1)
        for p in range(group_start[group], group_start[group + 1]):
            at = positions[p]
            margins[codes[at]] -= 1
            codes[at] += level
            margins[codes[at]] += 1
    cells, rest = np.zeros(margins.size, np.int64), np.empty(margins.size, np.int64)
    for i in range(columns.size):
        column = columns[i]
        if row >= 0 and bit_row[column] >= 0:
            sums[i, 0], sums[i, 1] = bitwise.bit_pair(
                bits, ones, bit_row[column], row, n_positive_words, n_by_class, table
            )
        else:
            sums[i, 0], sums[i, 1] = _level_pair(
                column, positions, group_start, group_ptr, codes, margins, table, cells, rest
            )


@njit(cache=True, nogil=True)
def _level_pair(
    column: int,
    positions: NDArray[np.int32],
    group_start: NDArray[np.int64],
    group_ptr: NDArray[np.int64],
    codes: NDArray[np.int32],
    margins: NDArray[np.int64],
    table: NDArray[np.int64],
    cells: NDArray[np.int64],
    rest: NDArray[np.int64],
) -> tuple[np.int64, np.int64]:
    """Return Σ h over the tables of (X, W, Y) and of (X, W).

    For each level of X, the codes (2 · level of W + class) of its samples are counted, and the counts subtracted
    from the margins of W. The remaining margins are level 0 of X, whose samples are never visited. ``cells`` holds
    zeros before and after; ``rest`` is scratch.
    """
    n_codes = margins.size
    rest[:] = margins
    of_three, of_two = np.int64(0), np.int64(0)
    for group in range(group_ptr[column], group_ptr[column + 1]):
        first, last = group_start[group], group_start[group + 1]
        for p in range(first, last):
            cells[codes[positions[p]]] += 1
        # Read the counts by sample if there are fewer samples than levels, otherwise by level.
        n_reads = min(last - first, n_codes // 2)
        by_sample = n_reads == last - first
        for k in range(n_reads):
            c = (codes[positions[first + k]] >> 1) << 1 if by_sample else 2 * k
            n0, n1 = cells[c], cells[c + 1]
            if n0 + n1 > 0:
                of_three += table[n0] + table[n1]
                of_two += table[n0 + n1]
                rest[c] -= n0
                rest[c + 1] -= n1
                cells[c] = 0
                cells[c + 1] = 0
    for c in range(0, n_codes, 2):
        of_three += table[rest[c]] + table[rest[c + 1]]
        of_two += table[rest[c] + rest[c + 1]]
    return of_three, of_two
