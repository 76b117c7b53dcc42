"""The screen: the number of patients that a column needs."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.errors import DataError, SpecError
from mlho.method.selection.screen import min_patients, screen_by_prevalence


@pytest.mark.parametrize(
    ("n_patients", "min_prevalence", "at_least", "mlho_r"),
    [
        (1168, 0.005, 6, 7),  # 5.84: six are enough; R asks for more than round(5.84)
        (30, 0.1, 3, 4),  # the floating product is 3.0000000000000004
        (1000, 0.003, 3, 4),
        (100, 0.005, 1, 1),  # 0.5: R rounds half to even, to 0
        (300, 0.005, 2, 3),  # 1.5: R rounds half to even, to 2
        (10, 0.0, 0, 1),
        (10, 1.0, 10, 11),
    ],
)
def test_bound_is_the_fewest_patients_that_pass(n_patients, min_prevalence, at_least, mlho_r):
    """The bound is exact for the decimal number that was written."""
    assert min_patients(n_patients, min_prevalence) == at_least
    assert min_patients(n_patients, min_prevalence, rule="mlho-r") == mlho_r


@given(n_patients=st.integers(1, 10**6), thousandths=st.integers(0, 1000))
def test_bound_is_the_ceiling_of_the_exact_product(n_patients, thousandths):
    """The bound is at least n · p, and one patient fewer is below it."""
    bound = min_patients(n_patients, thousandths / 1000)

    assert bound - 1 < n_patients * Fraction(thousandths, 1000) <= bound


def test_screen_keeps_columns_at_the_bound():
    """A column exactly at the bound is kept; the R package drops it."""
    n_patients_by_column = np.array([6, 5, 7, 0, 1168])

    assert screen_by_prevalence(n_patients_by_column, 1168, 0.005).tolist() == [0, 2, 4]
    assert screen_by_prevalence(n_patients_by_column, 1168, 0.005, rule="mlho-r").tolist() == [2, 4]


def test_screen_of_no_columns_keeps_none():
    """An empty dictionary is not an error of the screen."""
    assert screen_by_prevalence([], 10, 0.1).tolist() == []


@pytest.mark.parametrize(
    ("counts", "n_patients", "min_prevalence", "rule", "error", "words"),
    [
        ([1], 10, 5, "at-least", SpecError, "Divide a percentage by 100"),
        ([1], 10, float("nan"), "at-least", SpecError, "between 0 and 1"),
        ([1], 10, 0.1, "more-than", SpecError, "expected one of at-least, mlho-r"),
        ([1], 0, 0.1, "at-least", DataError, "no training patients"),
        ([11], 10, 0.1, "at-least", DataError, "not rows"),
        ([0.5], 10, 0.1, "at-least", DataError, "whole numbers"),
    ],
    ids=["percentage", "nan", "rule", "nobody", "rows", "fractions"],
)
def test_each_mistake_in_a_screen_has_its_own_error(counts, n_patients, min_prevalence, rule, error, words):
    """Each mistake in the arguments of a screen has its own message and error class."""
    with pytest.raises(error, match=words):
        screen_by_prevalence(counts, n_patients, min_prevalence, rule=rule)
