"""Golden rows reveal nothing about patients, and cover every column."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csc_array

from mlho.errors import BundleError
from mlho.method.classifiers.tree_matrix import tree_matrix
from mlho.model.golden import (
    MAX_EDGES,
    ColumnStatistics,
    GoldenRows,
    column_statistics,
    draw_rows,
    golden_inputs,
)


def test_statistics_are_of_patients_and_coarse():
    """For 100 patients with two samples each, of whom 30 have the column, the prevalence is 0.3, and quantiles have two digits."""
    values = np.repeat(np.concatenate([np.linspace(1.234, 9.876, 30), np.zeros(70)]), 2)
    [statistics] = column_statistics(csc_array(values[:, None]), np.repeat(np.arange(100), 2), min_cell=11)

    assert statistics == ColumnStatistics(0.3, (5.4,))  # of 30 patients only the median has 11 on either side


@pytest.mark.parametrize(("n_with", "prevalence"), [(0, 0.11), (3, 0.11), (11, 0.11), (12, 0.12)])
def test_small_cells_are_indistinguishable(n_with, prevalence):
    """Fewer patients than the smallest cell are reported as the smallest cell, and their values are not used."""
    values = np.where(np.arange(100) < n_with, 123.456, 0.0)
    [statistics] = column_statistics(csc_array(values[:, None]), np.arange(100), min_cell=11)

    assert statistics == ColumnStatistics(prevalence, (1.0,))


@given(st.integers(0, 40), st.integers(1, 15), st.integers(0, 2**32))
def test_no_quantile_rests_on_fewer_patients_than_the_smallest_cell(n_with, min_cell, seed):
    """At least that many patients are on both sides of every stored quantile."""
    numbers = np.random.Generator(np.random.PCG64(seed)).integers(1, 99, n_with).astype(float)
    values = np.concatenate([numbers, np.zeros(60 - n_with)])
    [statistics] = column_statistics(csc_array(values[:, None]), np.arange(60), min_cell=min_cell)

    for quantile in statistics.quantiles if statistics.quantiles != (1.0,) else ():
        assert np.count_nonzero(numbers <= quantile) >= min_cell
        assert np.count_nonzero(numbers >= quantile) >= min_cell


def test_rows_are_drawn_zero_and_edges():
    """There are 32 drawn rows, the row of zeros, and each column alone at its lowest and highest value."""
    statistics = [ColumnStatistics(0.5, (2.0, 4.0)), ColumnStatistics(0.01)]
    kinds, X = golden_inputs(statistics, empty_row=np.zeros(2), seed=3)

    assert kinds == ("drawn",) * 32 + ("zero",) + ("edge",) * 3
    assert X[32:].tolist() == [[0, 0], [2, 0], [4, 0], [0, 1]]
    assert X[:32, 1].sum() > 3  # rare columns are exercised as well
    assert set(X[:32, 0]) == {0.0, 2.0, 4.0}


def test_the_same_seed_draws_the_same_rows():
    """The same seed draws the same rows, and another seed draws others."""
    statistics = [ColumnStatistics(0.3, (1.0, 2.0, 3.0))] * 20

    first, again, other = (draw_rows(statistics, 8, empty_row=np.zeros(20), seed=seed) for seed in (1, 1, 2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_many_columns_keep_the_bundle_small():
    """With many columns, only the first ones have edge rows, which keeps the bundle small."""
    n = MAX_EDGES + 50
    kinds, _ = golden_inputs([ColumnStatistics(0.1)] * n, empty_row=np.zeros(n), seed=0)

    assert kinds.count("edge") == MAX_EDGES


@pytest.mark.parametrize(
    ("X", "empty_row"),
    [([[0, 0], [0.1, -3e-7]], [0, 0]), ([[np.nan, 0], [0.0, 1.0]], [np.nan, 0])],
    ids=["absent is zero", "zero is a value, NaN is not known"],
)
def test_rows_survive_the_way_through_json(X, empty_row):
    """Inputs and scores are equal to the bit after a round trip through JSON."""
    rows = GoldenRows(
        ("zero", "drawn"),
        np.array(X, dtype=float),
        np.array(empty_row, dtype=float),
        np.array([0.1, 1 / 3]),
        np.array([0.2, 2 / 3]),
    )

    found = GoldenRows.from_json(json.dumps(rows.to_json()).encode(), empty_row=rows.empty_row)

    assert found.kinds == rows.kinds
    assert np.array_equal(found.X, rows.X, equal_nan=True)
    assert found.probability.tolist() == rows.probability.tolist()
    assert found.calibrated.tolist() == rows.calibrated.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other"},
        {"nColumns": 3},
        {"rows": [{"kind": "drawn"}]},
        {"rows": [{"kind": "drawn", "columns": [2], "numbers": [1], "probability": 0.5, "calibrated": 0.5}]},
        {"rows": [{"kind": "drawn", "columns": [-1], "numbers": [1], "probability": 0.5, "calibrated": 0.5}]},
        {
            "rows": [
                {"kind": "drawn", "columns": [1, 0], "numbers": [1, 2], "probability": 0.5, "calibrated": 0.5}
            ]
        },
        {
            "rows": [
                {"kind": "drawn", "columns": [0], "numbers": ["x"], "probability": 0.5, "calibrated": 0.5}
            ]
        },
        {"rows": 5},
    ],
)
def test_rows_that_do_not_fit_are_refused(change):
    """Another schema, another width and unknown columns are refused."""
    rows = GoldenRows(("zero",), np.zeros((1, 2)), np.zeros(2), np.array([0.1]), np.array([0.2]))

    with pytest.raises(BundleError, match=r"tests/golden\.json"):
        GoldenRows.from_json(json.dumps({**rows.to_json(), **change}).encode(), empty_row=np.zeros(2))


def test_rows_for_trees_draw_zeros_and_mark_unknown_values():
    """If a quarter of a column's known values are 0, its rows have 0, 5 and NaN; a column that is not of values has 0 and 1."""
    values = np.concatenate([np.zeros(20), np.full(60, 5.0), np.full(20, np.nan)])
    design = tree_matrix(np.column_stack([values, np.ones(100)]), np.array([True, False]))
    statistics = column_statistics(design, np.arange(100), min_cell=11)

    _, X = golden_inputs(statistics, empty_row=np.array([np.nan, 0.0]), seed=1)

    assert statistics == (ColumnStatistics(0.8, (0.0, 5.0)), ColumnStatistics(1.0, (1.0,)))
    assert {repr(number) for number in X[:, 0].tolist()} == {"0.0", "5.0", "nan"}
    assert set(X[:, 1].tolist()) == {0.0, 1.0}
