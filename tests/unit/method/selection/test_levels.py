"""Levels: counts and values as small whole numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.errors import DataError, SpecError
from mlho.method.selection.levels import (
    ColumnBlock,
    columns_from_dense,
    cut_at_terciles,
    cut_levels,
    tercile_edges,
)

NAN = float("nan")


def test_counts_are_cut_where_the_spec_says():
    """The level is the number of cut points that a count reaches."""
    assert cut_levels([0, 1, 2, 3, 4, 900]).tolist() == [0, 1, 2, 3, 3, 3]
    assert cut_levels([0, 1, 4, 5, 9], (1, 5)).tolist() == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("cut_points", [(), (0, 1), (2, 2), (3, 1), (1.5,)], ids=str)
def test_cut_points_must_ascend_from_one(cut_points):
    """Cut points must be ascending whole numbers from 1; others are an error of the specification."""
    with pytest.raises(SpecError, match=r"selection\.cutPoints"):
        cut_levels([0, 1], cut_points)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([3, 2, 1], [3, 2, 1]),
        ([1, 2, 3, 4, 5, 6], [1, 1, 2, 2, 3, 3]),
        ([1, 2, 3, 4], [1, 1, 2, 3]),  # terciles: values number 2 and 3
        ([5, 5, 5, 9], [1, 1, 1, 2]),  # equal values are never split
        ([1, 9, 9, 9], [1, 1, 1, 1]),
        ([7, 7, 7], [1, 1, 1]),
        ([-2.5], [1]),
        ([], []),
    ],
    ids=str,
)
def test_values_are_cut_at_observed_terciles(values, levels):
    """Levels are 1 to 3 without gaps, and equal values share a level."""
    assert cut_at_terciles(values).tolist() == levels


@given(st.lists(st.integers(-5, 5).map(float), max_size=60))
def test_levels_of_values_follow_their_order_without_gaps(values):
    """Equal values share a level, larger values never have a lower one, and no level is empty."""
    numbers = np.array(values)
    levels = cut_at_terciles(numbers)

    assert sorted(set(levels)) == list(range(1, len(set(levels)) + 1))
    assert len(set(levels)) <= 3
    by_value = np.argsort(numbers, kind="stable")
    assert (np.diff(levels[by_value].astype(int)) >= 0).all()
    for value in set(values):
        assert len(set(levels[numbers == value])) == 1


@given(st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=60))
def test_terciles_are_those_of_r(values):
    """Tercile edges are R's quantile(type = 1), the inverse of the empirical distribution, as computed by numpy."""
    expected = np.unique(np.quantile(values, [1 / 3, 2 / 3], method="inverted_cdf"))

    assert tercile_edges(values).tolist() == expected[expected < max(values)].tolist()


@given(data=st.data(), n_samples=st.integers(0, 12), n_columns=st.integers(1, 5))
def test_dense_matrix_comes_back_from_its_columns(data, n_samples, n_columns):
    """A dense matrix of any memory layout is recovered exactly from its columns."""
    X = np.array(
        data.draw(
            st.lists(
                st.lists(st.integers(0, 3), min_size=n_columns, max_size=n_columns),
                min_size=n_samples,
                max_size=n_samples,
            )
        )
    ).reshape(n_samples, n_columns)

    for layout in (X, np.asfortranarray(X), X.astype(np.uint8)):
        block = columns_from_dense(layout)
        back = np.zeros_like(X)
        columns = np.repeat(np.arange(n_columns), np.diff(block.indptr))
        back[block.indices, columns] = block.values
        assert (back == X).all()


def test_dense_matrix_of_several_pieces_comes_back(monkeypatch):
    """Rows are converted in pieces, and the result does not depend on the pieces."""
    monkeypatch.setattr("mlho.method.selection.levels._CELLS_AT_ONCE", 12)
    X = np.random.default_rng(3).integers(0, 3, size=(50, 5))

    block = columns_from_dense(X)

    for j in range(5):
        part = slice(block.indptr[j], block.indptr[j + 1])
        assert block.indices[part].tolist() == np.flatnonzero(X[:, j]).tolist()
        assert block.values[part].tolist() == X[X[:, j] > 0, j].tolist()


@pytest.mark.parametrize(
    ("indptr", "indices", "values", "words"),
    [
        ([0, 2], [0], [1], "entries"),
        ([0, 1], [3], [1], "sample numbers"),
        ([0, 1], [-1], [1], "sample numbers"),
        ([1, 1], [], [], "column pointers"),
        ([0, 1, 0], [], [], "column pointers"),
        ([0, 1], [0], [-1], "level codes"),
    ],
    ids=["lengths", "beyond", "below", "start", "descending", "negative"],
)
def test_columns_that_do_not_fit_are_refused(indptr, indices, values, words):
    """Compiled code reads the arrays without a bounds check, so they are checked first."""
    with pytest.raises(DataError, match=words):
        ColumnBlock(3, np.array(indptr), np.array(indices, dtype=np.int32), np.array(values, dtype=np.int32))


def test_columns_of_another_dtype_are_refused():
    """Level codes must be bytes or 32-bit whole numbers."""
    with pytest.raises(DataError, match="uint8 or int32"):
        ColumnBlock(3, np.array([0, 1]), np.array([0], dtype=np.int32), np.array([1.0]))
