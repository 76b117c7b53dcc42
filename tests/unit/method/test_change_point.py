"""Change points against least squares, and on series with a known change."""

import numpy as np
import pytest

from mlho.method.change_point import change_of_effect, change_of_rate

N_PERIODS = 60


def counts_of(rate, totals, seed):
    """Return Poisson counts of one series."""
    return np.random.default_rng(seed).poisson(rate * totals).astype(float)[np.newaxis]


def test_the_statistic_is_that_of_weighted_least_squares():
    """The oracle is the step's residual from a regression on a constant and time, with the variance of its score at the rates of the trend."""
    random = np.random.default_rng(3)
    totals = random.integers(50, 500, N_PERIODS).astype(float)
    counts = counts_of(np.where(np.arange(N_PERIODS) < 25, 0.1, 0.14), totals, 4)
    found = change_of_rate(counts, totals, np.array([1.5]))
    rate, time = counts[0] / totals, np.arange(N_PERIODS)

    best = {}
    for period in range(3, N_PERIODS - 2):
        trend = np.column_stack([np.ones(N_PERIODS), time])
        gram = trend.T @ (totals[:, np.newaxis] * trend)

        def fit(values, gram=gram, trend=trend):
            return trend @ np.linalg.solve(gram, trend.T @ (totals * values))

        step = (time >= period) - fit((time >= period).astype(float))
        expected = totals * np.maximum(fit(rate), counts.sum() / totals.sum())
        best[period] = (step @ counts[0]) ** 2 / (step**2 @ expected) / 1.5
    period = max(best, key=best.__getitem__)

    assert found.period[0] == period
    assert found.statistic[0] == pytest.approx(best[period])
    assert abs(period - 25) <= 2
    interval = slice(period, period + 12)
    assert found.after[0] == pytest.approx(counts[0, interval].sum() / totals[interval].sum())


def test_a_linear_trend_and_a_constant_rate_are_no_changes():
    """For 200 series of each kind, none has a significant step at a family-wise error of 0.05."""
    totals = np.full(N_PERIODS, 1000.0)
    for rate in (np.full(N_PERIODS, 0.05), np.linspace(0.02, 0.1, N_PERIODS)):
        counts = np.concatenate([counts_of(rate, totals, seed) for seed in range(200)])
        assert not change_of_rate(counts, totals, np.ones(200)).is_significant(N_PERIODS).any()


def test_a_code_that_begins_is_dated_exactly():
    """A code without records before period 40, and with a few in each later one, is dated exactly."""
    rate = np.where(np.arange(N_PERIODS) < 40, 0.0, 0.01)
    found = change_of_rate(
        counts_of(rate, np.full(N_PERIODS, 2000.0), 8), np.full(N_PERIODS, 2000.0), np.ones(1)
    )

    assert found.period.tolist() == [40]
    assert found.before.tolist() == [0.0]
    assert found.is_significant(N_PERIODS).all()


def test_an_effect_that_vanishes_is_dated_and_a_constant_one_is_not():
    """If a code has twice as many exposed cases as expected until period 30 only, the change is found; if it always has twice as many, there is none."""
    expected = np.full((2, N_PERIODS), 12.0)
    means = np.stack([np.where(np.arange(N_PERIODS) < 30, 24.0, 12.0), np.full(N_PERIODS, 24.0)])
    observed = np.random.default_rng(6).poisson(means).astype(float)
    found = change_of_effect(observed, expected, 0.9 * expected)

    assert found.is_significant(N_PERIODS).tolist() == [True, False]
    assert abs(found.period[0] - 30) <= 2
    assert found.before[0] == pytest.approx(1 / 0.9, abs=0.15)
    assert abs(found.after[0]) < 0.15


def test_without_information_there_is_no_change():
    """A code without any record and a series that is too short have no change."""
    nothing = np.zeros((1, N_PERIODS))
    found = change_of_effect(nothing, nothing, nothing)
    short = change_of_rate(np.ones((1, 4)), np.ones(4), np.ones(1))

    assert (found.period.tolist(), found.statistic.tolist()) == ([-1], [0.0])
    assert short.period.tolist() == [-1]
    assert not found.is_significant(N_PERIODS).any()
