"""The mean over iterations with its spread."""

import math

import numpy as np
import pytest

from mlho.method.stability.spread import Spread, mean_with_spread


def test_spread_of_a_worked_example():
    """For 0.7, 0.8, 0.9 with 30 % test, the sd is 0.1, and the half width is t₂ · 0.1 · √(1/3 + 3/7) = 0.3756."""
    spread = mean_with_spread([0.7, 0.8, 0.9], test_fraction=0.3)
    half = 4.302652729749464 * 0.1 * math.sqrt(1 / 3 + 3 / 7)

    assert (spread.mean, spread.sd) == pytest.approx((0.8, 0.1))
    assert (spread.low, spread.high) == pytest.approx((0.8 - half, 0.8 + half), abs=1e-12)
    assert (spread.minimum, spread.maximum, spread.n, spread.n_absent) == (0.7, 0.9, 3, 0)
    assert spread.reason is None


def test_more_iterations_do_not_make_more_patients():
    """Even with a thousand iterations, the half width of the interval is more than √(3/7) · 1.96 sd."""
    spread = mean_with_spread([0.7, 0.9] * 500, test_fraction=0.3)

    assert spread.high - spread.mean > 1.96 * 0.1 * math.sqrt(3 / 7)


def test_absent_values_are_counted():
    """Absent values are counted and do not enter the mean."""
    spread = mean_with_spread([0.7, None, 0.9], test_fraction=0.3)

    assert (spread.mean, spread.n, spread.n_absent) == (pytest.approx(0.8), 2, 1)


def test_nothing_to_average_is_absent():
    """Without any value, all figures are None with the reason."""

    assert mean_with_spread([None, None]) == Spread(
        None, None, None, None, None, None, 0, 2, "no iteration has a value"
    )


def test_one_iteration_has_no_interval():
    """With one iteration, the mean is its value, and the figures of spread are None."""
    spread = mean_with_spread([0.8], test_fraction=0.3)

    assert (spread.mean, spread.sd, spread.low) == (0.8, None, None)
    assert spread.reason == "no interval: only one iteration has a value"


def test_equal_values_have_no_interval():
    """Two equal values do not make a figure exactly known, so there is no interval."""
    spread = mean_with_spread([0.8, 0.8], test_fraction=0.3)

    assert (spread.mean, spread.sd, spread.low, spread.high) == (0.8, 0.0, None, None)
    assert spread.reason == "no interval: all values are equal"


def test_without_test_fraction_there_is_no_interval():
    """Without the test fraction, the overlap of the training sets is unknown."""

    assert mean_with_spread([0.7, 0.8]).reason == "no interval: the test fraction was not given"


@pytest.mark.parametrize(("is_stratified", "least", "most"), [(False, 0.85, 1.0), (True, 0.3, 0.8)])
def test_intervals_of_a_figure_of_the_outcome_rate_hold_for_random_test_sets_only(is_stratified, least, most):
    """Stratified test sets all have the share with the outcome of the cohort: the interval of the Brier score does not reflect its sampling."""
    rng, n, n_test, n_rounds = np.random.default_rng(0), 500, 150, 200
    true_brier, n_covered = 0.15 * 0.85 * 10 / 11, 0  # mean of p · (1 − p)
    for _ in range(n_rounds):
        p = rng.beta(1.5, 8.5, n)  # mean 0.15
        y = rng.random(n) < p
        error = np.square(y - p)
        groups = [np.flatnonzero(y), np.flatnonzero(~y)] if is_stratified else [np.arange(n)]
        values = []
        for _ in range(10):
            parts = [rng.permutation(group)[: round(n_test / n * len(group))] for group in groups]
            values.append(float(error[np.concatenate(parts)].mean()))
        spread = mean_with_spread(values, test_fraction=n_test / n)
        n_covered += spread.low <= true_brier <= spread.high

    assert least <= n_covered / n_rounds <= most
