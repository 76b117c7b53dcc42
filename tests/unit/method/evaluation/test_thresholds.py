"""Thresholds and the performance at a threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.method.evaluation.thresholds import (
    Threshold,
    at_threshold,
    fixed_alert_rate,
    fixed_sensitivity,
    youden,
)

SAMPLES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10)), min_size=1, max_size=40)


def test_youden_of_a_worked_example():
    """Youden's threshold is 0.6, where both positives and no negative are alerted."""

    assert youden([0, 0, 1, 1], [0.1, 0.3, 0.6, 0.9]) == Threshold("youden", 0.6)


def test_youden_takes_the_lowest_of_equal_maxima():
    """J is 1/2 at 0.4 and at 0.8; the more sensitive threshold is taken."""

    assert youden([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8]).value == 0.4


@given(SAMPLES)
def test_youden_is_the_best_of_all_thresholds(samples):
    """No other prediction has a larger Youden's J as threshold."""
    y, p = [s[0] for s in samples], [s[1] / 10 for s in samples]
    if len(set(y)) < 2:
        return

    def j(t):
        result = at_threshold(y, p, t)
        return result.sensitivity + result.specificity - 1

    assert j(youden(y, p).value) == pytest.approx(max(j(t) for t in p), abs=1e-12)


def test_one_class_has_no_youden_threshold():
    """With one class, the threshold is absent with the reason."""
    threshold = youden([1, 1], [0.1, 0.2])

    assert threshold.value is None
    assert threshold.reason == "one class only: 2 of 2 samples are positive"


@pytest.mark.parametrize(
    ("rate", "threshold"), [(0.1, 0.91), (0.29, 0.72), (0.295, 0.72), (0.3, 0.71), (1.0, 0.01)]
)
def test_alert_rate_is_not_exceeded(rate, threshold):
    """At most this share of the predictions 0.01 … 1.00 is alerted; 0.29 · 100 = 28.999… counts as 29."""
    p = np.arange(1, 101) / 100

    assert fixed_alert_rate(p, rate).value == threshold


def test_alert_rate_that_ties_exceed_says_so():
    """If four of five samples share the highest prediction, the reason states the rate of 0.8 instead of 0.2."""

    assert fixed_alert_rate([0.1, 0.5, 0.5, 0.5, 0.5], 0.2) == Threshold(
        "fixed-alert-rate:0.2", 0.5, "ties at the highest prediction: the alert rate is 0.8"
    )


@given(SAMPLES, st.sampled_from([0.1, 0.5, 0.7, 0.9, 1.0]))
def test_sensitivity_is_reached_by_the_highest_threshold(samples, sensitivity):
    """The threshold reaches the sensitivity, and no higher prediction does."""
    y, p = [s[0] for s in samples], [s[1] / 10 for s in samples]
    if not any(y):
        return
    value = fixed_sensitivity(y, p, sensitivity).value
    higher = [t for t in p if t > value]

    assert at_threshold(y, p, value).sensitivity >= sensitivity - 1e-9
    assert all(at_threshold(y, p, t).sensitivity < sensitivity for t in higher)


def test_no_positive_has_no_sensitivity_threshold():
    """Without a positive, the threshold for a fixed sensitivity is absent."""

    assert fixed_sensitivity([0, 0], [0.1, 0.2], 0.9).value is None


def test_performance_of_a_worked_example():
    """With two of three positives found and one false alarm among five, all figures agree with those by hand."""
    result = at_threshold([1, 1, 1, 0, 0, 0, 0, 0], [0.9, 0.5, 0.4, 0.8, 0.1, 0.1, 0.2, 0.3], 0.5)

    assert (result.n_true_positive, result.n_false_positive) == (2, 1)
    assert (result.n_false_negative, result.n_true_negative) == (1, 4)
    assert result.sensitivity == pytest.approx(2 / 3)
    assert result.specificity == 0.8
    assert result.ppv == pytest.approx(2 / 3)
    assert result.npv == 0.8
    assert result.accuracy == 0.75
    assert result.alerts_per_100 == 37.5
    assert result.number_needed_to_evaluate == 1.5
    assert result.reasons == {}


def test_figures_that_do_not_exist_say_why():
    """Without an alert there is no ppv, and without a negative no specificity. Each has a reason."""
    result = at_threshold([1, 1], [0.1, 0.2], 0.5)

    assert (result.ppv, result.number_needed_to_evaluate, result.specificity) == (None, None, None)
    assert result.reasons == {
        "ppv": "no sample is flagged",
        "specificity": "no sample is negative",
        "number_needed_to_evaluate": "no alert is a true positive",
    }
