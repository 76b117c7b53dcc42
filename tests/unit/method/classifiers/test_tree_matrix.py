"""The matrix for trees stores exactly the known cells, for every form of the input."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlho.errors import DataError
from mlho.method.classifiers.tree_matrix import dense_rows, tree_matrix

SODIUM_AND_CODE = np.array([True, False])


def cells(matrix):
    return matrix.indptr.tolist(), matrix.indices.tolist(), matrix.data.tolist()


def test_zero_is_a_value_where_values_are_and_absent_elsewhere():
    """A sodium of 0 is stored and an unknown sodium is not; an absent code is never stored, neither as 0 nor as missing."""
    rows = [[0.0, 0.0], [np.nan, 1.0], [140.0, 2.0], [np.nan, 0.0]]

    matrix = tree_matrix(rows, SODIUM_AND_CODE)

    assert (matrix.format, matrix.dtype, matrix.shape) == ("csr", np.float32, (4, 2))
    assert cells(matrix) == ([0, 1, 2, 4, 4], [0, 1, 0, 1], [0.0, 1.0, 140.0, 2.0])


def test_stored_zeros_of_a_sparse_matrix_are_values_only_where_values_are():
    """In a sparse matrix, an unstored cell of a value column is unknown, and so is a stored NaN."""
    rows, columns = [0, 0, 1, 2, 2], [0, 1, 0, 1, 0]
    matrix = sp.coo_array(([0.0, 0.0, np.nan, 3.0, 5.0], (rows, columns)), shape=(3, 2))

    for form in (matrix.tocsr(), matrix.tocsc(), matrix):
        assert cells(tree_matrix(form, SODIUM_AND_CODE)) == ([0, 1, 1, 3], [0, 0, 1], [0.0, 5.0, 3.0])


numbers = st.one_of(st.just(0.0), st.floats(-1e6, 1e6, width=32))


@given(hnp.arrays(np.float64, (5, 4), elements=numbers), hnp.arrays(np.bool_, 4), st.randoms())
def test_every_form_gives_the_same_arrays(X, is_value, random):
    """Dense rows, CSC and CSR of the known cells, the matrix itself, and each row alone give the same cells to the bit."""
    X[:, is_value] = np.where(X[:, is_value] > 1e5, np.nan, X[:, is_value])
    matrix = tree_matrix(X, is_value)
    empty_row = np.where(is_value, np.nan, 0.0)

    assert cells(tree_matrix(matrix, is_value)) == cells(matrix)
    assert cells(tree_matrix(matrix.tocsc(), is_value)) == cells(matrix)
    assert cells(sp.vstack([tree_matrix(row[None], is_value) for row in X], format="csr")) == cells(matrix)
    assert np.array_equal(dense_rows(matrix, empty_row), X.astype(np.float32), equal_nan=True)
    assert np.isfinite(matrix.data).all()


def test_a_matrix_that_is_right_is_not_copied():
    """A valid matrix is checked and used without a copy."""
    matrix = tree_matrix([[1.0, 0.0], [0.0, 2.0]], SODIUM_AND_CODE)

    assert np.shares_memory(tree_matrix(matrix, SODIUM_AND_CODE).data, matrix.data)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array, sp.csc_array])
def test_numbers_beyond_float32_name_their_column(form):
    """1e39 is finite as float64 and infinite as float32. It is refused, and the error names the column and not the value."""
    X = np.array([[1e39, 1.0], [2.0, 0.0], [-1e39, 0.0]])

    with pytest.raises(DataError, match=r"beyond float32.*got 2 larger values in 'NA\|all\|last'") as caught:
        tree_matrix(form(X), SODIUM_AND_CODE, names=["NA|all|last", "I10|all|presence"])
    assert "e+39" not in str(caught.value)
    with pytest.raises(DataError, match="larger values in column 0"):
        tree_matrix(form(X), SODIUM_AND_CODE)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_infinite_and_misplaced_missing_cells_are_refused_with_their_column(form):
    """Infinity in any column, and NaN in the column of a code, are refused, and the error names both columns."""
    X = np.array([[np.inf, np.nan], [np.nan, 1.0]])

    with pytest.raises(DataError, match="got 2 NaN or infinite values in 'NA', 'I10'"):
        tree_matrix(form(X), SODIUM_AND_CODE, names=["NA", "I10"])


def test_another_width_is_refused():
    """A matrix with another number of columns is refused."""
    with pytest.raises(DataError, match=r"2 columns.*got 3"):
        tree_matrix(np.zeros((1, 3)), SODIUM_AND_CODE)
