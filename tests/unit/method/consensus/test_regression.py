"""The consensus model: closed forms of the 2 × 2 table, planted truth, separation, brute-force profiles, and invalid input."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mlho.errors import DataError
from mlho.method.consensus.regression import (
    fit_logistic,
    odds_ratios,
    profile_intervals,
    wald_intervals,
)

# Quantile of the chi-square distribution with one degree of freedom at 95 %.
CHI2_95 = 3.841458820694124


def make_table(exposed_cases, exposed_controls, cases, controls):
    """Return samples of a 2 × 2 table, the exposed ones first."""
    counts = [exposed_cases, exposed_controls, cases, controls]
    return np.repeat([[1.0], [1.0], [0.0], [0.0]], counts, axis=0), np.repeat([1, 0, 1, 0], counts)


def make_planted(n=20_000, seed=0):
    """Return four binary features, a count and an age, with known coefficients."""
    rng = np.random.default_rng(seed)
    binary = (rng.random((n, 4)) < [0.3, 0.1, 0.05, 0.5]).astype(float)
    X = np.column_stack([binary, rng.poisson(0.5, n), rng.integers(20, 90, n)])
    coef = np.array([0.8, 1.5, -1.0, 0.0, 0.3, 0.02])
    y = (rng.random(n) < 1 / (1 + np.exp(-(X @ coef - 2.5)))).astype(int)
    return X, y, coef


@given(st.lists(st.integers(1, 200), min_size=4, max_size=4))
@settings(max_examples=50, deadline=None)
def test_two_by_two_table_has_its_closed_form(cells):
    """For any table without an empty cell, OR = ad/bc, and its variance on the log scale is the sum of 1/n."""
    a, b, c, d = cells
    X, y = make_table(a, b, c, d)

    fit = fit_logistic(X, y)

    assert fit.converged
    assert not fit.separated
    assert fit.coef[0] == pytest.approx(math.log(a * d / (b * c)), abs=1e-9)
    assert fit.intercept == pytest.approx(math.log(c / d), abs=1e-9)
    assert fit.standard_errors[0] == pytest.approx(math.sqrt(sum(1 / n for n in cells)), rel=1e-8)


def test_wald_interval_of_a_table_by_hand():
    """For the table 12, 5, 7, 9 the OR is 108/35, with 95 % limits at ± 1.959964 sqrt(1/12 + 1/5 + 1/7 + 1/9) on the log scale."""
    fit = fit_logistic(*make_table(12, 5, 7, 9), names=["I10"])

    (interval,) = wald_intervals(fit)

    half_width = 1.959963984540054 * math.sqrt(1 / 12 + 1 / 5 + 1 / 7 + 1 / 9)
    assert interval.name == "I10"
    assert interval.low == pytest.approx(math.log(108 / 35) - half_width, abs=1e-9)
    assert interval.high == pytest.approx(math.log(108 / 35) + half_width, abs=1e-9)


@pytest.mark.parametrize(
    "cells", [(6, 0, 4, 10), (6, 0, 0, 10), (0, 8, 3, 9)], ids=["quasi", "complete", "no case"]
)
def test_separated_table_gets_firths_estimate_which_adds_half_a_case_to_each_cell(cells):
    """For the saturated table, Firth's estimate is the odds ratio with ½ added to each cell (Heinze and Schemper 2002)."""
    a, b, c, d = (n + 0.5 for n in cells)

    fit = fit_logistic(*make_table(*cells))

    assert (fit.separated, fit.penalty, fit.converged) == (True, "firth", True)
    assert fit.method == "Firth's penalised likelihood, because the labels are separated"
    assert fit.coef[0] == pytest.approx(math.log(a * d / (b * c)), abs=1e-6)


def test_firth_on_request_says_that_nothing_was_separated():
    """If the penalty is requested for labels that are not separated, the description of the method does not mention separation."""
    fit = fit_logistic(*make_table(12, 5, 7, 9), penalty="firth")

    assert (fit.separated, fit.method) == (False, "Firth's penalised likelihood")
    assert fit.coef[0] == pytest.approx(math.log(12.5 * 9.5 / (5.5 * 7.5)), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_planted_coefficients_come_back(seed):
    """Every planted coefficient lies within four standard errors of its estimate, and at least four 95 % intervals contain it."""
    X, y, coef = make_planted(seed=seed)

    fit = fit_logistic(X, y)

    assert np.all(np.abs(fit.coef - coef) < 4 * fit.standard_errors)
    assert sum(i.low <= truth <= i.high for i, truth in zip(wald_intervals(fit), coef, strict=True)) >= 4


def test_score_is_zero_at_the_estimate():
    """At the maximum of the likelihood, the residuals are orthogonal to the intercept and to every column."""
    X, y, _ = make_planted(n=3000)

    fit = fit_logistic(X, y)

    residual = y - 1 / (1 + np.exp(-(fit.intercept + X @ fit.coef)))
    assert np.abs(np.column_stack([np.ones(3000), X]).T @ residual).max() < 1e-6


@pytest.mark.parametrize("penalty", ["none", "firth"])
def test_order_of_samples_cannot_show(penalty):
    """Shuffled samples give the same bits in coefficients, covariance and profile limits."""
    X, y, _ = make_planted(n=2000)
    order = np.random.default_rng(1).permutation(2000)

    first, second = fit_logistic(X, y, penalty=penalty), fit_logistic(X[order], y[order], penalty=penalty)

    assert first.coef.tobytes() == second.coef.tobytes()
    assert first.covariance.tobytes() == second.covariance.tobytes()
    assert profile_intervals(first, X, y) == profile_intervals(second, X[order], y[order])


def test_unit_of_a_column_scales_its_coefficient_only():
    """With a column in another unit, the likelihood is the same and the coefficient is scaled by the factor."""
    X, y, _ = make_planted(n=2000)
    factors = np.array([1, 1, 1, 1, 1e6, 1e-6])

    fit, scaled = fit_logistic(X, y), fit_logistic(X * factors, y)

    assert scaled.converged
    assert scaled.log_likelihood == pytest.approx(fit.log_likelihood, rel=1e-12)
    np.testing.assert_allclose(scaled.coef * factors, fit.coef, rtol=1e-6)


@pytest.mark.parametrize("penalty", ["none", "firth"])
def test_profile_limits_are_where_brute_force_finds_them(penalty):
    """At each limit, an independent optimiser over the other coefficients loses half the chi-square quantile."""
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(4)
    X = np.column_stack([rng.random((60, 2)) < [0.3, 0.5], rng.normal(5, 2, 60)]).astype(float)
    y = (rng.random(60) < 1 / (1 + np.exp(-(X @ [1.2, -0.5, 0.2] - 1)))).astype(int)
    design = np.column_stack([np.ones(60), X])

    def lost(beta):
        eta = design @ beta
        p = 1 / (1 + np.exp(-eta))
        penalty_term = np.linalg.slogdet(design.T @ (design * (p * (1 - p))[:, None]))[1] / 2
        return np.sum(np.logaddexp(0, eta)) - y @ eta - (penalty_term if penalty == "firth" else 0.0)

    def profiled(column, value, start):
        free = [at for at in range(4) if at != column]

        def held(others):
            beta = np.empty(4)
            beta[free], beta[column] = others, value
            return lost(beta)

        return optimize.minimize(
            held, start[free], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
        ).fun

    fit = fit_logistic(X, y, penalty=penalty)
    best = np.array([fit.intercept, *fit.coef])
    half_log_information = -np.linalg.slogdet(fit.covariance)[1] / 2
    top = fit.log_likelihood + (half_log_information if penalty == "firth" else 0.0)
    assert top == pytest.approx(-lost(best), abs=1e-10)
    for column, interval in enumerate(profile_intervals(fit, X, y), start=1):
        for limit in (interval.low, interval.high):
            assert 2 * (profiled(column, limit, best) - lost(best)) == pytest.approx(CHI2_95, abs=1e-6)
        statistic = 2 * (profiled(column, 0.0, best) - lost(best))
        assert interval.p_value == pytest.approx(scipy.stats.chi2.sf(statistic, 1), rel=1e-5)
        assert interval.low < best[column] < interval.high


def test_profile_of_a_table_matches_a_grid():
    """For one binary feature, a profile on a grid of 0.001, with its intercept by bisection, crosses the bound at the limits."""
    X, y = make_table(12, 5, 7, 9)
    fit = fit_logistic(X, y)
    (interval,) = profile_intervals(fit, X, y)

    def height(slope):
        low, high = -20.0, 20.0
        for _ in range(80):
            middle = (low + high) / 2
            expected = 17 / (1 + math.exp(-middle - slope)) + 16 / (1 + math.exp(-middle))
            low, high = (middle, high) if expected < 19 else (low, middle)
        return (
            12 * (low + slope)
            - 17 * math.log1p(math.exp(low + slope))
            + 7 * low
            - 16 * math.log1p(math.exp(low))
        )

    grid = np.arange(-1000, 4000) / 1000
    inside = [2 * (fit.log_likelihood - height(slope)) <= CHI2_95 for slope in grid]
    crossings = [grid[at] for at, (one, other) in enumerate(pairwise(inside)) if one != other]
    assert len(crossings) == 2
    assert crossings[0] <= interval.low <= crossings[0] + 0.001
    assert crossings[1] <= interval.high <= crossings[1] + 0.001


def test_separated_labels_have_finite_profile_limits_by_firth():
    """With quasi-complete separation, the penalised profile falls on both sides, as Heinze and Schemper show."""
    X, y = make_table(6, 0, 4, 10)
    fit = fit_logistic(X, y)

    (interval,) = profile_intervals(fit, X, y)

    assert interval.low is not None
    assert interval.high is not None
    assert 0 < interval.low < fit.coef[0] < interval.high
    assert interval.p_value < 0.05


@pytest.mark.parametrize("n_controls", [100, 10_000, 1_000_000])
def test_one_exception_is_not_separation(n_controls):
    """A single exposed case among many exposed controls has very small odds, but the likelihood has a maximum."""
    weights = np.array([1, n_controls, 50, 50])
    X, y = make_table(*weights)

    fit = fit_logistic(X, y)

    assert (fit.separated, fit.converged) == (False, True)
    assert fit.coef[0] == pytest.approx(math.log(1 / n_controls), rel=1e-8)


def test_separation_by_a_combination_of_columns_is_found():
    """Neither column alone separates the labels, but their difference does."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(200, 2))
    y = (X[:, 0] - X[:, 1] > 0).astype(int)

    fit = fit_logistic(X, y)

    assert fit.separated
    assert fit.converged
    assert np.all(np.isfinite(fit.coef))


@pytest.mark.parametrize("seed", range(60))
def test_separation_is_found_exactly_where_a_linear_programme_finds_it(seed):
    """In small cohorts of binary codes and an age, the oracle is a linear programme that maximises the sum of the margins in a box."""
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(seed)
    n = int(rng.integers(10, 80))
    X = np.column_stack([rng.random((n, 3)) < 0.2, rng.integers(18, 90, n)]).astype(float)
    eta = X @ rng.normal(0, 1, 4)
    y = (rng.random(n) < 1 / (1 + np.exp(eta.mean() - eta))).astype(int)
    y[:2] = [0, 1]

    fit = fit_logistic(X, y)

    margins = np.where(y[:, None] == 1, 1, -1) * np.column_stack([np.ones(n), X[:, fit.kept]])
    best = optimize.linprog(
        -margins.sum(axis=0), A_ub=-margins, b_ub=np.zeros(n), bounds=[(-1, 1)] * margins.shape[1]
    )
    assert fit.separated == (-best.fun > 1e-7)
    assert fit.converged


def test_nearly_separated_labels_have_their_limits():
    """Standard errors are so large that Wald's limits lie where the likelihood is flat. The profile limits are found and are asymmetric."""
    X = np.arange(40.0)[:, None] / 10
    y = (X[:, 0] >= 2).astype(int)
    y[[19, 20]] = y[[20, 19]]
    fit = fit_logistic(X, y)

    (interval,) = profile_intervals(fit, X, y)

    assert fit.standard_errors[0] > 5
    assert 0 < interval.low < fit.coef[0] < interval.high
    assert interval.high - fit.coef[0] > fit.coef[0] - interval.low


def test_a_fit_that_has_not_converged_has_no_intervals():
    """A fit that has not converged has no limit or p-value, neither by Wald nor by profile."""
    X, y = make_table(12, 5, 7, 9)
    fit = replace(fit_logistic(X, y), converged=False)

    profile = profile_intervals(fit, X, y)
    (row,) = odds_ratios(fit, [0.5], profile=profile)

    assert (profile[0].low, profile[0].high, profile[0].p_value) == (None, None, None)
    assert (row.wald_low, row.wald_high_per_sd, row.p_wald, row.p_lr) == (None, None, None, None)


def test_overlap_of_one_pair_is_no_separation():
    """If one pair is swapped across the boundary, the likelihood has a maximum without a penalty."""
    X = np.arange(40.0)[:, None]
    y = (X[:, 0] >= 20).astype(int)
    y[[19, 20]] = y[[20, 19]]

    fit = fit_logistic(X, y)

    assert (fit.separated, fit.converged) == (False, True)


def test_aliased_and_constant_columns_are_reported():
    """The later of two aliased columns is dropped, as in R, and the other coefficients equal those of a fit without it."""
    X, y, _ = make_planted(n=2000)
    wide = np.column_stack(
        [np.full(2000, 3.0), X[:, 0], 1 - X[:, 0], X[:, 1], X[:, 0] + 2 * X[:, 1], X[:, 2:]]
    )
    names = ["site", "a", "not a", "b", "a + 2b", "c", "d", "e", "f"]

    fit = fit_logistic(wide, y, names=names)

    assert [(column.name, column.reason) for column in fit.dropped] == [
        ("site", "constant"),
        ("not a", "a linear combination of earlier columns"),
        ("a + 2b", "a linear combination of earlier columns"),
    ]
    assert fit.names == ("a", "b", "c", "d", "e", "f")
    np.testing.assert_array_equal(fit.coef, fit_logistic(X, y).coef)


def test_no_columns_leave_the_intercept():
    """Without columns, the intercept is log(3/2), with variance 1/3 + 1/2."""
    fit = fit_logistic(np.empty((5, 0)), [1, 1, 1, 0, 0])

    assert fit.intercept == pytest.approx(math.log(1.5), abs=1e-12)
    assert fit.covariance[0, 0] == pytest.approx(5 / 6, rel=1e-9)
    assert profile_intervals(fit, np.empty((5, 0)), [1, 1, 1, 0, 0]) == ()


def test_table_of_odds_ratios_is_per_unit_and_per_standard_deviation():
    """The table has exp(coef) and exp(coef · sd) with their limits, and skips dropped columns."""
    X, y, _ = make_planted(n=2000)
    wide = np.column_stack([np.ones(2000), X])
    sd = wide.std(axis=0, ddof=1)
    fit = fit_logistic(wide, y)

    rows = odds_ratios(fit, sd, profile=profile_intervals(fit, wide, y)[-1:])

    assert [row.name for row in rows] == ["x1", "x2", "x3", "x4", "x5", "x6"]
    age = rows[-1]
    assert age.odds_ratio == pytest.approx(math.exp(fit.coef[5]))
    assert age.odds_ratio_per_sd == pytest.approx(math.exp(fit.coef[5] * sd[6]))
    assert age.profile_low < age.odds_ratio < age.profile_high
    assert age.profile_high_per_sd == pytest.approx(age.profile_high ** sd[6])
    assert age.p_wald == pytest.approx(math.erfc(abs(fit.coef[5] / fit.standard_errors[5]) / math.sqrt(2)))
    assert age.p_lr == pytest.approx(age.p_wald, rel=0.1)
    assert (rows[0].profile_low, rows[0].p_lr) == (None, None)


def test_p_value_of_a_known_z():
    """The two-sided p-value agrees with erfc for a balanced table whose z is known."""
    fit = fit_logistic(*make_table(30, 20, 20, 30))

    (row,) = odds_ratios(fit, [0.5])

    z = 2 * math.log(1.5) / math.sqrt(2 / 30 + 2 / 20)
    assert row.p_wald == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-9)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        pytest.param([[1.0], [2.0]], [1, 1], "both present", id="one class"),
        pytest.param([[1.0], [2.0]], [1, 2], "1 others", id="third label"),
        pytest.param([[1.0], [float("nan")]], [1, 0], "finite", id="missing value"),
    ],
)
def test_unusable_data_are_refused(X, y, message):
    """The error for unusable data names the broken rule, with counts and without values."""
    with pytest.raises(DataError, match=message):
        fit_logistic(X, y)
