"""Small cells, and other cells from which they could be computed."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.method.evaluation.suppression import hidden_cells, shown_counts


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ([500, 40, 0], [500, 40, 0]),
        ([500, 40, 3], [500, None, None]),
        ([500, 40, 3, 0], [500, None, None, 0]),
        ([500, 7, 5], [500, None, None]),
        ([500, 6, 5], [None, None, None]),
        ([3, 0], [None, None]),
        ([], []),
    ],
    ids=[
        "nothing small",
        "one small",
        "zeros stay",
        "two small",
        "two that add up to 11",
        "only one",
        "empty",
    ],
)
def test_small_cells_are_hidden_with_the_smallest_others(counts, shown):
    """With a minimum of 11 patients, small cells are hidden, and so are as many of the smallest others as necessary."""
    assert shown_counts(counts, 11) == shown


def test_cells_are_small_by_their_patients():
    """Twenty samples of three patients are a small cell."""
    assert hidden_cells([20, 30, 50], 11, n_patients=[3, 30, 50]) == {0, 1}


@pytest.mark.parametrize("min_cell", [0, 1])
def test_without_a_minimum_nothing_is_hidden(min_cell):
    """A cell of one patient is shown if the specification allows it."""
    assert shown_counts([1, 0, 7], min_cell) == [1, 0, 7]


@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=4), min_cell=st.integers(2, 4))
def test_siblings_and_total_do_not_reveal_a_hidden_cell(counts, min_cell):
    """In all tables with the same shown cells, each hidden cell takes several values, unless all patients together are too few."""
    shown = shown_counts(counts, min_cell)
    hidden = [i for i, n in enumerate(shown) if n is None]

    assert all(i in hidden for i, n in enumerate(counts) if 0 < n < min_cell)
    same = [
        table
        for table in product(range(1, sum(counts) + 1), repeat=len(hidden))
        if sum(table) == sum(counts[i] for i in hidden)
    ]
    hides_all = all(i in hidden for i, n in enumerate(counts) if n)
    for place in range(len(hidden)):
        assert len({table[place] for table in same}) >= min_cell or hides_all
