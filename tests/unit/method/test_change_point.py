"""Change points against least squares, and on series with a known change."""

import numpy as np
import pytest

from mlho.method.change_point import at_common_odds, change_of_effect, change_of_rate

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


def with_odds_ratio(odds, n_series):
    """Return cases of 1,000 patients a period, 10 % of those without the code; its share rises from 10 % to 30 %."""
    random, n = np.random.default_rng(7), np.full(N_PERIODS, 1000.0)
    exposed = random.binomial(1000, np.linspace(0.1, 0.3, N_PERIODS), (n_series, N_PERIODS))
    risk = 0.1 * odds / (0.9 + 0.1 * odds)
    cases = random.binomial(exposed, risk), random.binomial(1000 - exposed, 0.1)
    for at in range(n_series):
        code = [values[at : at + 1].astype(float) for values in (cases[0], exposed)]
        yield at_common_odds(*code, (cases[0] + cases[1])[at].astype(float), n), code[0]


def test_the_expectation_has_the_common_odds_ratio():
    """The expected cells of each period have the odds ratio of the series, and as many exposed cases as observed."""
    exposed, cases = np.array([[40.0, 60.0, 0.0]]), np.array([40.0, 30.0, 20.0])
    log_odds, expected, variance = at_common_odds(
        np.array([[30.0, 25.0, 0.0]]), exposed, cases, np.full(3, 100.0)
    )
    a, e, c = expected[0, :2], exposed[0, :2], cases[:2]

    assert a * (100 - e - c + a) / ((e - a) * (c - a)) == pytest.approx(np.exp(log_odds[0]))
    assert expected.sum() == pytest.approx(55)
    assert variance[0, :2] == pytest.approx(
        100 / 99 / (1 / a + 1 / (e - a) + 1 / (c - a) + 1 / (100 - e - c + a))
    )
    assert (expected[0, 2], variance[0, 2]) == (0, 0)


def test_a_large_effect_does_not_change_because_the_code_becomes_more_frequent():
    """An odds ratio of 7.4 is constant in 200 codes; against no effect, 99 % of them seemed to change."""
    found = [
        change_of_effect(observed, expected, variance).is_significant(N_PERIODS).any()
        for (_, expected, variance), observed in with_odds_ratio(np.exp(2.0), 200)
    ]

    assert sum(found) <= 20  # each with a probability of 0.05


def test_a_change_of_a_large_effect_has_both_odds_ratios():
    """An odds ratio falls from 4 to 2 while the code becomes more frequent."""
    odds = np.where(np.arange(N_PERIODS) < 30, 4.0, 2.0)
    (log_odds, expected, variance), observed = next(with_odds_ratio(odds, 1))
    found = change_of_effect(observed, expected, variance)

    assert found.is_significant(N_PERIODS).all()
    assert abs(found.period[0] - 30) <= 2
    assert np.exp(found.before + log_odds) == pytest.approx([4.0], rel=0.15)
    assert np.exp(found.after + log_odds) == pytest.approx([2.0], rel=0.1)


def test_without_information_there_is_no_change():
    """A code without any record and a series that is too short have no change."""
    nothing = np.zeros((1, N_PERIODS))
    found = change_of_effect(nothing, nothing, nothing)
    short = change_of_rate(np.ones((1, 4)), np.ones(4), np.ones(1))

    assert (found.period.tolist(), found.statistic.tolist()) == ([-1], [0.0])
    assert short.period.tolist() == [-1]
    assert not found.is_significant(N_PERIODS).any()
