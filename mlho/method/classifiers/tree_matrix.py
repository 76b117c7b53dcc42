"""The matrix of trees: CSR of float32 whose stored cells are what is known of each sample.

A column is of one of two kinds. In a column of values (a laboratory value, an age) every known number is stored, zero
included, and a cell that is not stored says "not known". In every other column (presence, levels, counts, indicators)
only numbers other than zero are stored, and a cell that is not stored says "absent". Trees learn for each split to which
side cells that are not stored go, so that nothing is imputed.

Dense input says "not known" with NaN in a column of values, and "absent" with 0 in any other.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mlho.errors import DataError
from mlho.method.classifiers.design_matrix import Floats, Matrix, dense_floats, refuse_other_width

#: What a cell says that is not stored: the number zero, or that nothing is known.
Absent = Literal["zero", "missing"]
ABSENT: Final[tuple[Absent, ...]] = ("zero", "missing")

_LARGEST: Final = float(np.finfo(np.float32).max)
_N_NAMED = 5  # columns that an error names


def tree_matrix(
    X: Any,
    is_value: NDArray[np.bool_],
    *,
    where: str = "feature matrix",
    names: Sequence[str] | None = None,
) -> Any:
    """Return X as the matrix of trees.

    Parameters
    ----------
    X : array-like or SciPy sparse, shape (n_samples, n_features)
        Numbers or booleans. Not changed. Dense: NaN in a column of values is a number that is not known. Sparse: so is a
        cell that is not stored there, and a stored zero is the number zero.
    is_value : bool, shape (n_features,)
        The columns of values.
    where : str
        What an error calls this matrix.
    names : sequence of str, length n_features, optional
        What an error calls the columns.

    Returns
    -------
    scipy.sparse.csr_array of float32
        Columns rise within a row, none twice. Equal cells give equal arrays, whatever the form of X.

    Raises
    ------
    DataError
        Not a matrix of numbers, another number of columns, an infinite number, NaN outside the columns of values, or a
        number beyond float32.

    Examples
    --------
    >>> age_and_code = tree_matrix([[0.0, 0.0], [np.nan, 1.0]], np.array([True, False]))
    >>> age_and_code.indptr.tolist(), age_and_code.indices.tolist(), age_and_code.data.tolist()
    ([0, 1, 2], [0, 1], [0.0, 1.0])
    """
    given: Matrix = _canonical_csr(X) if sp.issparse(X) else dense_floats(X, where)
    refuse_other_width(given, is_value.size, where)
    column = given.indices if sp.issparse(given) else np.arange(is_value.size)
    stored = given.data if sp.issparse(given) else given
    of_value = is_value[column]
    _check(stored, of_value, column, where, names)
    numbers = stored.astype(np.float32, copy=False)
    is_known = np.where(of_value, ~np.isnan(numbers), numbers != 0)
    return _known_cells(given, numbers, is_known)


def dense_rows(matrix: Matrix, empty_row: Floats) -> Floats:
    """Return rows dense as :func:`tree_matrix` takes them, cells that are not stored as ``empty_row`` has them."""
    by_row = sp.csr_array(matrix)
    dense = np.tile(empty_row, (by_row.shape[0], 1))
    row_of = np.repeat(np.arange(by_row.shape[0]), np.diff(by_row.indptr))
    dense[row_of, by_row.indices] = by_row.data
    return dense


def _canonical_csr(X: Any) -> Any:
    given = sp.csr_array(X)
    if given.has_canonical_format:
        return given
    given = given.astype(np.float64, copy=True)
    given.sum_duplicates()  # sorts the columns within a row as well
    return given


def _known_cells(given: Any, numbers: Any, is_known: NDArray[np.bool_]) -> Any:
    """Return the known cells as CSR: a sparse matrix loses those that are not, a dense one keeps those that are."""
    if sp.issparse(given):
        if is_known.all():
            return sp.csr_array((numbers, given.indices, given.indptr), shape=given.shape)
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_known)])
        indptr = before[given.indptr].astype(given.indptr.dtype)
        return sp.csr_array((numbers[is_known], given.indices[is_known], indptr), shape=given.shape)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_known.sum(axis=1))])
    index_type = np.int32 if indptr[-1] <= np.iinfo(np.int32).max else np.int64
    _, columns = np.nonzero(is_known)
    cells = (numbers[is_known], columns.astype(index_type), indptr.astype(index_type))
    return sp.csr_array(cells, shape=given.shape)


def _check(
    stored: Any, of_value: NDArray[np.bool_], column: Any, where: str, names: Sequence[str] | None
) -> None:
    size = np.abs(stored.astype(np.float64, copy=False))
    is_bad = np.isinf(size) | (np.isnan(size) & ~of_value)
    if is_bad.any():
        raise DataError(
            where,
            "values that are not finite",
            expected="a finite number in every cell, or NaN in a column of values",
            got=f"{np.count_nonzero(is_bad)} NaN or infinite values in {_named(is_bad, column, names)}",
            remedy="Write 0 where a sample does not have a feature, and NaN where a value is not known.",
        )
    is_too_large = size > _LARGEST
    if is_too_large.any():
        raise DataError(
            where,
            "values beyond float32, in which trees compute",
            expected=f"at most {_LARGEST:.3g} in size",
            got=f"{np.count_nonzero(is_too_large)} larger values in {_named(is_too_large, column, names)}",
            remedy="Correct them, use a larger unit for that code, or leave it out.",
        )


def _named(is_bad: NDArray[np.bool_], column: Any, names: Sequence[str] | None) -> str:
    """Return the columns of the bad cells, the first few of them."""
    found = np.unique(np.broadcast_to(column, is_bad.shape)[is_bad]).tolist()
    shown = [repr(names[number]) if names is not None else f"column {number}" for number in found[:_N_NAMED]]
    return ", ".join(shown) + (f" and {len(found) - _N_NAMED} more" if len(found) > _N_NAMED else "")
