"""The matrix of trees: CSR of float32 whose stored cells are the known values of each sample.

There are two kinds of columns. In a value column (a laboratory value, an age) every known number is stored, including
zero, and an absent cell means "unknown". In any other column (presence, levels, counts, indicators)
only non-zeros are stored, and an absent cell means "absent". Trees learn for each split the side of the absent cells, so nothing is
imputed.

In dense input, NaN in a value column means "unknown", and 0 in any other column means "absent".
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mlho.errors import DataError
from mlho.method.classifiers.design_matrix import Floats, Matrix, dense_floats, refuse_other_width

#: Meaning of an absent cell: the number zero, or a missing value.
Absent = Literal["zero", "missing"]
ABSENT: Final[tuple[Absent, ...]] = ("zero", "missing")

_LARGEST: Final = float(np.finfo(np.float32).max)
_N_NAMED = 5  # number of columns named in an error


def tree_matrix(
    X: Any,
    is_value: NDArray[np.bool_],
    *,
    where: str = "feature matrix",
    names: Sequence[str] | None = None,
) -> Any:
    """Convert X to the matrix of trees.

    Parameters
    ----------
    X : array-like or SciPy sparse, shape (n_samples, n_features)
        Numbers or booleans. Not modified. Dense: NaN in a value column is an unknown number. Sparse: an absent cell there
        is an unknown number, and a stored zero is the number zero.
    is_value : bool, shape (n_features,)
        Mask of the value columns.
    where : str
        Name of this matrix in errors.
    names : sequence of str, length n_features, optional
        Column names in errors.

    Returns
    -------
    scipy.sparse.csr_array of float32
        Column numbers increase within a row. Equal cells give equal arrays for any form of X.

    Raises
    ------
    DataError
        Not a numeric matrix, a different number of columns, an infinite number, NaN outside the value columns, or a
        number beyond float32.

    Examples
    --------
    >>> age_and_code = tree_matrix([[0.0, 0.0], [np.nan, 1.0]], np.array([True, False]))
    >>> age_and_code.indptr.tolist(), age_and_code.indices.tolist(), age_and_code.data.tolist()
    ([0, 1, 2], [0, 1], [0.0, 1.0])
    """
    matrix: Matrix = _canonical_csr(X) if sp.issparse(X) else dense_floats(X, where)
    refuse_other_width(matrix, is_value.size, where)
    column = matrix.indices if sp.issparse(matrix) else np.arange(is_value.size)
    stored = matrix.data if sp.issparse(matrix) else matrix
    of_value = is_value[column]
    _check(stored, of_value, column, where, names)
    numbers = stored.astype(np.float32, copy=False)
    is_known = np.where(of_value, ~np.isnan(numbers), numbers != 0)
    return _known_cells(matrix, numbers, is_known)


def dense_rows(matrix: Matrix, empty_row: Floats) -> Floats:
    """Return dense rows in the input format of :func:`tree_matrix`, with absent cells as in ``empty_row``."""
    by_row = sp.csr_array(matrix)
    dense = np.tile(empty_row, (by_row.shape[0], 1))
    row_of = np.repeat(np.arange(by_row.shape[0]), np.diff(by_row.indptr))
    dense[row_of, by_row.indices] = by_row.data
    return dense


def _canonical_csr(X: Any) -> Any:
    rows = sp.csr_array(X)
    if rows.has_canonical_format:
        return rows
    rows = rows.astype(np.float64, copy=True)
    rows.sum_duplicates()  # also sorts the columns within a row
    return rows


def _known_cells(matrix: Any, numbers: Any, is_known: NDArray[np.bool_]) -> Any:
    """Return the known cells as CSR, from a sparse or a dense matrix."""
    if sp.issparse(matrix):
        if is_known.all():
            return sp.csr_array((numbers, matrix.indices, matrix.indptr), shape=matrix.shape)
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_known)])
        indptr = before[matrix.indptr].astype(matrix.indptr.dtype)
        return sp.csr_array((numbers[is_known], matrix.indices[is_known], indptr), shape=matrix.shape)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_known.sum(axis=1))])
    index_type = np.int32 if indptr[-1] <= np.iinfo(np.int32).max else np.int64
    _, columns = np.nonzero(is_known)
    cells = (numbers[is_known], columns.astype(index_type), indptr.astype(index_type))
    return sp.csr_array(cells, shape=matrix.shape)


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
            "values beyond float32, the number type of the trees",
            expected=f"at most {_LARGEST:.3g} in size",
            got=f"{np.count_nonzero(is_too_large)} larger values in {_named(is_too_large, column, names)}",
            remedy="Correct them, use a larger unit for that code, or leave it out.",
        )


def _named(is_bad: NDArray[np.bool_], column: Any, names: Sequence[str] | None) -> str:
    """Return the names of the first few columns with bad cells."""
    found = np.unique(np.broadcast_to(column, is_bad.shape)[is_bad]).tolist()
    shown = [repr(names[number]) if names is not None else f"column {number}" for number in found[:_N_NAMED]]
    return ", ".join(shown) + (f" and {len(found) - _N_NAMED} more" if len(found) > _N_NAMED else "")
