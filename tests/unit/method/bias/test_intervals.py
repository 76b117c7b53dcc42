"""Intervals of rates, and p-values for many comparisons."""

import numpy as np
import pytest

from mlho.method.bias.intervals import adjusted_p_values, group_estimate


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
