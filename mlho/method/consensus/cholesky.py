"""Solution of positive definite systems of a few dozen equations, with our own loops.

LAPACK is not faster at this size, and the last bits of its results depend on the CPU; these do not.
"""

import math

import numpy as np
import numpy.typing as npt
from numba import njit

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# A pivot below this fraction of its diagonal is rounding error: the Gram matrix resolves 1 - R² to about 1e-13.
_ALIAS_TOLERANCE = 1e-10
_SINGULAR_TOLERANCE = 1e-14


def invert(matrix: FloatArray) -> FloatArray | None:
    """Compute the inverse of a positive definite matrix; ``None`` if it is numerically singular."""
    lower, is_definite = factor(matrix)
    return invert_factored(lower) if is_definite else None


def solve(matrix: FloatArray, right: FloatArray) -> FloatArray | None:
    """Solve a positive definite system; ``None`` if it is numerically singular."""
    lower, is_definite = factor(matrix)
    return _solve(lower, right) if is_definite else None


@njit(cache=True, nogil=True)
def dot(a: FloatArray, b: FloatArray) -> float:
    """Sum the products in order, so that the result does not depend on a BLAS kernel."""
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True)
def factor(matrix: FloatArray) -> tuple[FloatArray, bool]:
    """Compute the lower Cholesky factor from the lower triangle; a partial factor and false if a pivot is rounding error."""
    n = matrix.shape[0]
    lower = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            if i > j:
                lower[i, j] = total / lower[j, j]
            elif total > _SINGULAR_TOLERANCE * matrix[i, i]:
                lower[i, i] = math.sqrt(total)
            else:
                return lower, False
    return lower, True


@njit(cache=True, nogil=True)
def _solve(lower: FloatArray, right: FloatArray) -> FloatArray:
    n = lower.shape[0]
    x = right.copy()
    for i in range(n):
        for k in range(i):
            x[i] -= lower[i, k] * x[k]
        x[i] /= lower[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            x[i] -= lower[k, i] * x[k]
        x[i] /= lower[i, i]
    return x


@njit(cache=True, nogil=True)
def invert_factored(lower: FloatArray) -> FloatArray:
    """Compute the exactly symmetric inverse of the matrix with this lower factor."""
    n = lower.shape[0]
    inverse = np.zeros((n, n))
    for j in range(n):
        unit = np.zeros(n)
        unit[j] = 1.0
        inverse[:, j] = _solve(lower, unit)
    # The computed triangles differ in the last bit; make the covariance symmetric.
    for i in range(n):
        for j in range(i):
            inverse[j, i] = inverse[i, j]
    return inverse


@njit(cache=True, nogil=True)
def find_dependent(gram: FloatArray) -> BoolArray:
    """Mark the columns of a Gram matrix that are linear combinations of earlier ones, up to rounding.

    A Cholesky factorization in column order that skips columns without a significant pivot.
    """
    n = gram.shape[0]
    lower = np.zeros((n, n))
    dependent = np.zeros(n, dtype=np.bool_)
    for i in range(n):
        left = gram[i, i]
        for j in range(i):
            if dependent[j]:
                continue
            total = gram[i, j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            lower[i, j] = total / lower[j, j]
            left -= lower[i, j] * lower[i, j]
        if left > _ALIAS_TOLERANCE * gram[i, i]:
            lower[i, i] = math.sqrt(left)
        else:
            dependent[i] = True
            lower[i, :] = 0.0
    return dependent
