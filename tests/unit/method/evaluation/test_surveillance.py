"""Surveillance of the AUROC: a lasting loss is found early; chance and a small error of the reference rarely cause an alarm."""

import math

import numpy as np
import pytest

from mlho.method.evaluation.surveillance import watch_auroc

ERROR = 0.0103  # of the AUROC of 6,000 samples, 10 % with the outcome, at 0.75 (benchmarks/simulated_year.py)


def watched(values, **changes):
    settings = {"reference": 0.75, "periods_a_year": 365, **changes}
    return watch_auroc(values, [ERROR] * len(values), **settings)


def test_a_loss_of_five_points_is_found_within_three_nights():
    """In 1,000 years with a loss on night 31, at least 98 % of the losses are found within three nights, and at most one alarm is earlier."""
    rng = np.random.default_rng(3)
    found = before = 0
    for _ in range(1000):
        nights = rng.normal(0.75, ERROR, 33)
        nights[30:] -= 0.05
        alarms = watched(nights).alarms
        before += any(place < 30 for place in alarms)
        found += any(place >= 30 for place in alarms)

    assert found >= 980
    assert before <= 1


@pytest.mark.parametrize(("off", "most"), [(0.0, 3), (0.005, 20)])
def test_years_without_a_loss_have_few_alarms(off, most):
    """100 years without a loss have few alarms, also if the reference is half a point too high."""
    rng = np.random.default_rng(4)

    assert (
        sum(len(watched(rng.normal(0.75, ERROR, 365), reference=0.75 + off).alarms) for _ in range(100))
        <= most
    )


def test_the_evidence_is_the_log_likelihood_ratio_of_two_normal_distributions():
    value = 0.72
    ratio = ((value - 0.75) ** 2 - (value - 0.70) ** 2) / (2 * ERROR**2)

    assert watched([value]).evidence[0] == pytest.approx(ratio)
    assert watched([0.75]).limit == pytest.approx(math.log(3650))


def test_an_alarm_ends_soon_after_the_loss_and_names_its_first_night():
    nights = [0.75] * 10 + [0.70] * 100 + [0.75] * 5
    during, after = watched(nights[:110]), watched(nights)

    assert during.is_alarmed
    assert during.began == 10
    assert (after.is_alarmed, after.began) == (False, None)
    assert after.alarms == during.alarms == (10,) or after.alarms == (11,)
