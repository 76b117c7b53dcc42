"""Log-odds of a linear model, summed in a fixed order, and the probabilities reported by all classifiers.

The log-odds of a row are ``(Σ_j coefficient_j · (x_j − mean_j)) + base``, summed over the features in index
order, one addition at a time. BLAS is not used: the last bits of its results vary with the batch and the
processor. A row therefore has the same bits alone, in any batch, sparse or dense. Features with coefficient
zero are skipped: adding ±0.0 changes only the sign of a zero sum, and the exponential discards that sign.
"""

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numba import njit

from mlho.method.classifiers.design_matrix import Floats, Matrix

#: Log-odds are clipped to ±36: 36 is the largest integer at which float64 distinguishes 1 / (1 + exp(−36)) from 1, so
#: that every probability lies strictly inside (0, 1) and its logit is finite.
LOG_ODDS_LIMIT = 36.0


def log_odds(matrix: Matrix, coefficients: Floats, mean: Floats, base: float) -> Floats:
    """Return the log-odds of each row, shape (n_samples,); base is the log-odds at the mean."""
    total = np.zeros(matrix.shape[0])
    active = np.flatnonzero(coefficients)
    if sp.issparse(matrix):
        _add_sparse(matrix.data, matrix.indices, matrix.indptr, active, coefficients, mean, total)
    else:
        _add_dense(matrix, active, coefficients, mean, total)
    total += base
    return total


def contributions(matrix: Matrix, coefficients: Floats, mean: Floats, base: float) -> Floats:
    """Return coefficient · (x − mean) by feature and the base in the last column, shape (n_samples, n_features + 1).

    Summed from left to right, a row gives its log-odds to the last bit.
    """
    dense = matrix.toarray() if sp.issparse(matrix) else matrix
    parts = np.empty((dense.shape[0], dense.shape[1] + 1))
    np.subtract(dense, mean, out=parts[:, :-1])
    parts[:, :-1] *= coefficients
    parts[:, -1] = base
    return parts


def probabilities(log_odds_by_row: Floats) -> Floats:
    """Return 1 / (1 + exp(−log-odds)), float64, strictly inside (0, 1); the log-odds are clipped to ±36."""
    result: Floats = _probabilities(np.ascontiguousarray(log_odds_by_row, dtype=np.float64), LOG_ODDS_LIMIT)
    return result


@njit(cache=True, nogil=True)
def _probabilities(z: Any, limit: float) -> Any:  # pragma: no cover - compiled
    # A scalar exp per row: NumPy's vector exp may round the tail of an array differently from its body.
    p = np.empty(z.size)
    for i in range(z.size):
        p[i] = 1.0 / (1.0 + math.exp(-min(max(z[i], -limit), limit)))
    return p


@njit(cache=True, nogil=True)
def _add_dense(X: Any, active: Any, beta: Any, mean: Any, total: Any) -> None:  # pragma: no cover - compiled
    for i in range(total.size):
        z = 0.0
        for j in active:
            z += beta[j] * (X[i, j] - mean[j])
        total[i] = z


@njit(cache=True, nogil=True)
def _add_sparse(
    data: Any, indices: Any, indptr: Any, active: Any, beta: Any, mean: Any, total: Any
) -> None:  # pragma: no cover - compiled
    column = np.zeros(total.size)
    for j in active:
        for k in range(indptr[j], indptr[j + 1]):
            column[indices[k]] = data[k]
        for i in range(total.size):
            total[i] += beta[j] * (column[i] - mean[j])
        for k in range(indptr[j], indptr[j + 1]):
            column[indices[k]] = 0.0
