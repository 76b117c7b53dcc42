"""Levels: features as small non-negative integers by column, the input of contingency tables."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlho.errors import DataError, SpecError

# Rows of a dense matrix are converted in chunks of about 4 M cells, 16 MB.
_CELLS_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class ColumnBlock:
    """Level codes of many columns in sparse form (CSC); entries that are not stored are level 0.

    Raises
    ------
    DataError
        The parts are inconsistent.

    Notes
    -----
    The arrays are stored as read-only views, so that memory-mapped and ordinary arrays use the same compiled code.

    Examples
    --------
    Two columns over three samples; the second holds levels 0, 2, 1.

    >>> block = ColumnBlock(3, np.array([0, 1, 3]), np.array([0, 1, 2], np.int32), np.array([1, 2, 1], np.uint8))
    >>> block.n_columns
    2
    """

    n_samples: int
    """Rows."""
    indptr: NDArray[np.int64]
    """Start of each column's entries. Shape (n_columns + 1,)."""
    indices: NDArray[np.int32]
    """Samples, in [0, n_samples); each at most once per column. Shape (n_stored,)."""
    values: NDArray[np.uint8] | NDArray[np.int32]
    """Non-negative level codes; a stored 0 is level 0. Shape (n_stored,)."""

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        if values.dtype not in (np.dtype(np.uint8), np.dtype(np.int32)):
            raise _misfit("level codes of a different dtype", "uint8 or int32", str(values.dtype))
        object.__setattr__(self, "indptr", frozen(np.asarray(self.indptr), np.int64))
        object.__setattr__(self, "indices", frozen(np.asarray(self.indices), np.int32))
        object.__setattr__(self, "values", frozen(values, values.dtype.type))
        self._check()

    def _check(self) -> None:
        # The compiled code does not check bounds.
        indptr, indices, values = self.indptr, self.indices, self.values
        if indptr.ndim != 1 or indptr.size < 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any():
            raise _misfit("column pointers", "ascending from 0", f"shape {indptr.shape}")
        if indices.shape != (indptr[-1],) or values.shape != indices.shape:
            raise _misfit(
                "entries", f"{indptr[-1]} samples and level codes", f"{indices.shape} and {values.shape}"
            )
        if indices.size and (indices.min() < 0 or indices.max() >= self.n_samples):
            raise _misfit("sample numbers", f"between 0 and {self.n_samples - 1}", "others")
        if values.size and values.dtype.kind == "i" and values.min() < 0:
            raise _misfit("level codes", "0 or more", "negative ones")

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return int(self.indptr.size - 1)


@dataclass(frozen=True, eq=False)
class ColumnBlocks:
    """Columns in several blocks, one after another. Only one block at a time needs to be in memory."""

    n_samples: int
    n_columns: int
    """Shape of all columns together."""
    blocks: Callable[[], Iterable[ColumnBlock]]
    """Returns the blocks in the order of their columns; it may be called more than once."""
    is_binary: bool = False
    """Whether every column is known to have two levels at most."""

    @classmethod
    def of(cls, block: ColumnBlock) -> "ColumnBlocks":
        """Return a single block as one of several."""
        return cls(block.n_samples, block.n_columns, lambda: [block])


def cut_levels(counts: ArrayLike, cut_points: Sequence[int] = (1, 2, 3)) -> NDArray[np.uint8]:
    """Cut counts to levels.

    Parameters
    ----------
    counts : array-like of non-negative numbers, any shape
        Number of events with a code.
    cut_points : sequence of int
        Strictly ascending, at least 1, at most 255 of them. (1, 2, 3) gives the levels 0, 1, 2, and 3 or more.

    Returns
    -------
    ndarray of uint8, same shape
        Number of cut points that the count reaches.

    Raises
    ------
    SpecError
        The cut points are invalid.

    Examples
    --------
    >>> cut_levels([0, 1, 2, 3, 9]).tolist()
    [0, 1, 2, 3, 3]
    """
    points = np.asarray(cut_points)
    is_ascending = points.ndim == 1 and points.dtype.kind in "iu" and bool((np.diff(points) > 0).all())
    if not is_ascending or not 1 <= points.size <= 255 or points[0] < 1:
        raise SpecError(
            "selection.cutPoints: expected between 1 and 255 ascending whole numbers of at least 1; "
            f"got {list(cut_points)}. Use for example [1, 2, 3]."
        )
    return np.searchsorted(points, np.asarray(counts), side="right").astype(np.uint8)


def tercile_edges(values: ArrayLike) -> NDArray[np.float64]:
    """Return the two terciles of the values, as observed values.

    Parameters
    ----------
    values : array-like of float, shape (n,)
        Present values only: no NaN.

    Returns
    -------
    ndarray of float64, shape (up to 2,)
        The k-th tercile of n sorted values is number ⌈k·n/3⌉ (R's ``quantile(type = 1)``): an observed value without
        interpolation. Equal terciles appear once. A tercile equal to the largest value is omitted, because nothing is
        above it. Empty without values.

    Examples
    --------
    >>> tercile_edges([1.0, 2.0, 3.0]).tolist()
    [1.0, 2.0]
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.size == 0:
        return ordered
    ranks = -(-np.arange(1, 3) * ordered.size // 3) - 1
    edges = np.unique(ordered[ranks])
    return np.asarray(edges[edges < ordered[-1]], dtype=np.float64)


def cut_at_terciles(values: ArrayLike) -> NDArray[np.uint8]:
    """Cut present values to levels at their terciles.

    Parameters
    ----------
    values : array-like of float, shape (n,)
        Present values of the training samples only: no NaN.

    Returns
    -------
    ndarray of uint8, shape (n,)
        1 + the number of terciles below the value: 1 up to and including the first tercile, and so on to 3; level 0 is
        reserved for absent. Equal values have equal levels; fewer distinct values give fewer levels, without gaps.

    Examples
    --------
    >>> cut_at_terciles([1.0, 2.0, 3.0]).tolist()
    [1, 2, 3]
    >>> cut_at_terciles([5.0, 5.0, 5.0, 9.0]).tolist()
    [1, 1, 1, 2]
    """
    numbers = np.asarray(values, dtype=np.float64)
    levels: NDArray[np.uint8] = np.searchsorted(tercile_edges(numbers), numbers).astype(np.uint8) + np.uint8(
        1
    )
    return levels


def columns_from_dense(X: NDArray[Any]) -> ColumnBlock:
    """Convert a dense matrix of non-negative integers to columns.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        Values from 0 to 2³¹ − 1 of any numeric dtype, validated by the caller.

    Returns
    -------
    ColumnBlock
        Its values are int32. Apart from the result, about 16 MB are needed for any size of ``X``.
    """
    n_samples, n_columns = X.shape
    n_rows = max(1, _CELLS_AT_ONCE // max(1, n_columns))
    starts = range(0, n_samples, n_rows)
    n_stored = np.zeros(n_columns, dtype=np.int64)
    for start in starts:
        n_stored += np.count_nonzero(X[start : start + n_rows], axis=0)
    indptr = np.concatenate([[0], np.cumsum(n_stored)]).astype(np.int64)
    indices = np.empty(indptr[-1], dtype=np.int32)
    values = np.empty(indptr[-1], dtype=np.int32)
    free = indptr[:-1].copy()
    for start in starts:
        # Rows are processed in chunks, column by column; within a column the rows ascend.
        block = np.ascontiguousarray(X[start : start + n_rows].T).astype(np.int32, copy=False)
        columns, rows = np.nonzero(block)
        counts = np.bincount(columns, minlength=n_columns)
        before = np.concatenate([[0], np.cumsum(counts)[:-1]])
        slots = np.repeat(free - before, counts) + np.arange(columns.size)
        indices[slots] = rows + start
        values[slots] = block[columns, rows]
        free += counts
    return ColumnBlock(n_samples, indptr, indices, values)


def frozen(array: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
    """Return a read-only, contiguous view (a copy only if dtype or layout differ)."""
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def _misfit(rule: str, expected: str, got: str) -> DataError:
    return DataError("columns", rule, expected=expected, got=got, remedy="Build the columns again.")
