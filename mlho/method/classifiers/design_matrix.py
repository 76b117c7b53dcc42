"""The feature matrix and the labels: validation of a classifier's input, and the moments of its columns.

A matrix is a dense float64 array or a SciPy CSC array of shape (n_samples, n_features). Both forms of the
same numbers give bit-identical results everywhere: training kernels read the non-zeros column by column, prediction
kernels read the features of a row in index order.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import NDArray

from mlho.errors import DataError, plural

Floats = NDArray[np.float64]
#: Dense float64 array or ``scipy.sparse.csc_array``, shape (n_samples, n_features). SciPy is not typed.
Matrix = Any


@dataclass(frozen=True, eq=False)
class Moments:
    """Centre and spread of each column."""

    mean: Floats
    """Arithmetic mean over all rows, including implicit zeros. Shape (n_features,)."""
    sd: Floats
    """Standard deviation with ddof 1; exactly 0 for a constant column. Shape (n_features,)."""
    is_constant: NDArray[np.bool_]
    """Whether all rows have the same value. Shape (n_features,)."""


def checked_matrix(X: Any, *, n_features: int | None = None, where: str = "feature matrix") -> Matrix:
    """Return X as a dense float64 array or a canonical CSC array (sorted rows, no duplicates, no stored zeros).

    Parameters
    ----------
    X : array-like or SciPy sparse, shape (n_samples, n_features)
        Numbers or booleans. Not modified.
    n_features : int, optional
        Number of columns in training.
    where : str
        Name of this matrix in errors.

    Raises
    ------
    DataError
        Not two-dimensional, not numeric, a different number of columns, or a value that is not finite.
    """
    matrix: Matrix = _canonical_csc(X) if sp.issparse(X) else dense_floats(X, where)
    if n_features is not None:
        refuse_other_width(matrix, n_features, where)
    stored: Floats = matrix.data if sp.issparse(matrix) else matrix
    n_bad = int(stored.size - np.count_nonzero(np.isfinite(stored)))
    if n_bad:
        raise DataError(
            where,
            "values that are not finite",
            expected="a finite number in every cell",
            got=f"{n_bad} NaN or infinite values",
            remedy="Impute missing numbers first (training median and an indicator).",
        )
    return matrix


def _canonical_csc(X: Any) -> Any:
    columns = sp.csc_array(X)
    is_canonical = columns.dtype == np.float64 and columns.has_canonical_format and columns.data.all()
    if is_canonical:
        return columns
    matrix = columns.astype(np.float64, copy=True)
    matrix.sum_duplicates()  # also sorts the rows within a column
    matrix.eliminate_zeros()
    return matrix


def refuse_other_width(matrix: Matrix, n_features: int, where: str) -> None:
    """Refuse a matrix with a different number of columns."""
    if matrix.shape[1] != n_features:
        raise DataError(
            where,
            "wrong number of columns",
            expected=f"{plural(n_features, 'column')}, in the order of training",
            got=str(matrix.shape[1]),
            remedy="Pass the columns that the model was fitted with.",
        )


def dense_floats(X: Any, where: str) -> Floats:
    """Return a dense matrix as float64 in C order. Raise DataError if it is not a numeric matrix."""
    try:
        dense = np.asarray(X, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise DataError(
            where,
            "cells that are not numbers",
            expected="numbers in every cell",
            got=f"an array of dtype {np.asarray(X).dtype}",
            remedy="Encode text as indicator columns first.",
        ) from error
    if dense.ndim != 2:
        raise DataError(
            where,
            "not a matrix",
            expected="two dimensions (samples, features)",
            got=f"{plural(dense.ndim, 'dimension')}",
            remedy="Reshape a single sample with X.reshape(1, -1).",
        )
    return dense


def checked_labels(y: Any, n_samples: int) -> NDArray[np.int8]:
    """Return y as int8 of 0 and 1, shape (n_samples,), with both classes present.

    Raises
    ------
    DataError
        A different length or dimension, a value other than 0 and 1, or a single class.
    """
    where = "labels"
    labels = np.asarray(y)
    if labels.shape != (n_samples,):
        raise DataError(
            where,
            "not one label per sample",
            expected=f"shape ({n_samples},)",
            got=f"shape {labels.shape}",
            remedy="Pass one 0 or 1 for each row of the matrix.",
        )
    is_positive, is_negative = labels == 1, labels == 0
    n_other = n_samples - int(np.count_nonzero(is_positive)) - int(np.count_nonzero(is_negative))
    if n_other:
        raise DataError(
            where,
            "labels other than 0 and 1",
            expected="0 or 1",
            got=f"{plural(n_other, 'other value')}",
            remedy="Code the outcome as 0 (absent) and 1 (present).",
        )
    n_positive = int(np.count_nonzero(is_positive))
    if n_positive in (0, n_samples):
        raise DataError(
            where,
            "one class only",
            expected="samples with and without the outcome",
            got=f"{n_positive} of {n_samples} positive",
            remedy="Use fewer folds or a stratified split, or widen the cohort.",
        )
    coded: NDArray[np.int8] = is_positive.astype(np.int8)
    return coded


def as_csc(matrix: Matrix) -> Any:
    """Return the matrix as a canonical CSC array; for a dense matrix only the non-zeros are kept."""
    return matrix if sp.issparse(matrix) else sp.csc_array(matrix)


def moments(columns: Any) -> Moments:
    """Return mean, standard deviation (ddof 1) and constancy of each column of a CSC array.

    Two passes over the non-zeros in a fixed order; zeros are handled in closed form. With fewer than two
    rows, every column is constant.
    """
    mean, sd = _moments(columns.data, columns.indptr, columns.shape[0])
    return Moments(mean, sd, sd == 0.0)


class Columns(NamedTuple):
    """Compressed columns, and the constants with which compiled code standardises them implicitly."""

    data: Floats
    indices: NDArray[np.integer[Any]]
    indptr: NDArray[np.integer[Any]]
    """Stored cells without zeros, as in a CSC array; a column without zeros is centred."""
    mean: Floats
    """Means still to be subtracted. Shape (n_features,)."""
    sd: Floats
    """Standard deviations (ddof 1). Shape (n_features,)."""


def columns_of(matrix: Matrix) -> tuple[Columns, Moments]:
    """Return the columns for compiled code, and their moments before centring.

    A column with a large mean and a small spread (a year, a weight in grams) would lose precision in Σxu −
    mean·Σu. A column with zeros does not have this problem, and stays sparse.
    """
    stored = as_csc(matrix)
    spread = moments(stored)
    n_stored = np.diff(stored.indptr)
    is_full = n_stored == stored.shape[0]
    data, mean = stored.data, spread.mean
    if is_full.any():
        data = data - np.repeat(np.where(is_full, mean, 0.0), n_stored)
        mean = np.where(is_full, 0.0, mean)
    return Columns(data, stored.indices, stored.indptr, mean, spread.sd), spread


def per_unit(standardised: Floats, sd: Floats) -> Floats:
    """Return coefficients per unit of a column from those per standard deviation; 0 for a constant column."""
    coefficients = np.zeros(standardised.size)
    np.divide(standardised, sd, out=coefficients, where=sd > 0)
    return coefficients


@njit(cache=True, nogil=True)
def _moments(data: Any, indptr: Any, n_rows: int) -> Any:  # pragma: no cover - compiled
    n_columns = indptr.size - 1
    mean = np.zeros(n_columns)
    sd = np.zeros(n_columns)
    for j in range(n_columns):
        start, stop = indptr[j], indptr[j + 1]
        n_stored = stop - start
        total = 0.0
        # Detect a constant by its extremes: the computed mean of n equal numbers may differ from that number.
        low = 0.0 if n_stored < n_rows else data[start]
        high = low
        for k in range(start, stop):
            total += data[k]
            low = min(low, data[k])
            high = max(high, data[k])
        if low == high:
            mean[j] = low
            continue
        centre = total / n_rows
        squares = (n_rows - n_stored) * centre * centre
        for k in range(start, stop):
            squares += (data[k] - centre) * (data[k] - centre)
        mean[j] = centre
        sd[j] = np.sqrt(squares / (n_rows - 1))
    return mean, sd
