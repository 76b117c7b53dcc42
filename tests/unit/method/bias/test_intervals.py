"""Intervals of rates, and p-values for many comparisons."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from mlho.method.bias.intervals import adjusted_p_values, group_estimate, p_of_rates


def test_interval_of_a_rate_is_wilsons_where_patients_are_independent():
    """For 45 of 50 and replicates of the binomial variance, the limits are those of Wilson's interval, 0.786 to 0.957."""
    rng = np.random.default_rng(1)
    drawn = rng.binomial(50, 0.9, 200_000) / 50

    estimate = group_estimate("youden/sensitivity", 0.9, drawn, n_patients=50)

    assert (estimate.low, estimate.high) == pytest.approx((0.786, 0.957), abs=2e-3)


def test_a_rate_of_one_has_an_interval():
    """If all 30 of 30 patients are found, the lower limit is 0.886 and not 1."""
    estimate = group_estimate("youden/sensitivity", 1.0, np.ones(100), n_patients=30)

    assert (estimate.low, estimate.high) == pytest.approx((0.8865, 1.0), abs=1e-3)


@pytest.mark.parametrize(("n_found", "of"), [(0, 60), (1, 60), (6, 60), (14, 60)])
def test_p_value_of_rates_is_the_larger_one_of_two_chi_square_tests(n_found, of):
    """Against 100 of 1,000: with 1 of 60, chi-square gives p = 0.03 and 0.05; the standard error of 1 of 60 alone would give 1e-5."""
    rng = np.random.default_rng(1)
    rates = (n_found / of, 0.1)
    drawn = tuple(rng.binomial(n, rate, 50_000) / n for n, rate in zip((of, 1000), rates, strict=True))
    drawn = (
        drawn[0] + rng.normal(0, 0.01, 50_000) * (n_found == 0),
        drawn[1],
    )  # as the audit scatters a rate of 0
    table = [[n_found, of - n_found], [100, 900]]
    expected = max(chi2_contingency(table, correction=False, lambda_=kind).pvalue for kind in (1, 0))

    n_patients = (of if n_found == 0 else 0, 0)
    assert p_of_rates("youden/sensitivity", rates, drawn, n_patients) == pytest.approx(expected, rel=0.05)


def test_p_value_of_rates_uses_the_correlation_of_shared_patients():
    """Replicates of two rates that rise and fall together leave less variance to the difference, so its p value is smaller."""
    rng = np.random.default_rng(1)
    shared, own = rng.normal(0, 0.04, 1000), rng.normal(0, 0.02, (3, 1000))
    alone = rng.normal(0, np.hypot(0.04, 0.02), 1000)

    together = p_of_rates("auroc", (0.8, 0.75), (0.8 + shared + own[0], 0.75 + shared + own[1]), (0, 0))
    apart = p_of_rates("auroc", (0.8, 0.75), (0.8 + alone, 0.75 + shared + own[2]), (0, 0))
    assert together < 0.12 < 0.35 < apart


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg():
    """The adjusted value of 0.039, the third of five, is 0.039 · 5 / 3 = 0.065, limited by that of the fourth, 0.041 · 5 / 4."""
    found = adjusted_p_values([0.041, 0.6, 0.001, None, 0.039, 0.008])

    assert [None if value is None else round(value, 5) for value in found] == [
        0.05125,
        0.6,
        0.005,
        None,
        0.05125,
        0.02,
    ]
