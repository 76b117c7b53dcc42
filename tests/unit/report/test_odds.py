"""Odds ratios per unit, or per standard deviation if a unit is too small."""

import math

import pytest

from mlho.report.odds import ShownOdds, odds_in_words, shown_odds
from mlho.report.result import OddsRatio


def odds_of(per_unit, sd, half=0.02):
    """Return an odds ratio with a profile interval of ± half on the logarithm, and the same per standard deviation."""
    log = math.log(per_unit)
    ends = {"low": log - half * abs(log), "high": log + half * abs(log)}
    return OddsRatio(
        per_unit=per_unit,
        **{f"profile_{end}": math.exp(value) for end, value in ends.items()},
        sd=sd,
        per_sd=per_unit**sd,
        **{f"per_sd_{end}": math.exp(value * sd) for end, value in ends.items()},
    )


def test_an_odds_ratio_that_says_something_is_per_unit():
    """The odds ratio of an age in years is shown per unit."""
    odds = odds_of(1.03, 12.0)

    assert shown_odds(odds) == ShownOdds(1.03, odds.profile_low, odds.profile_high, "")


def test_an_odds_ratio_of_a_small_unit_is_per_standard_deviation():
    """For platelets per microlitre, 1.000004 per unit is 1.42 per standard deviation of 85,000."""
    odds = odds_of(math.exp(0.35 / 85_000), 85_000.0)

    shown = shown_odds(odds)

    assert shown.value == pytest.approx(math.exp(0.35))
    assert (shown.low, shown.high) == (odds.per_sd_low, odds.per_sd_high)
    assert shown.unit == "per SD of 85,000"


@pytest.mark.parametrize("sd", [None, 0.4])
def test_a_standard_deviation_below_a_unit_says_no_more(sd):
    """An odds ratio of 1.001 for presence is shown per unit."""
    odds = OddsRatio(per_unit=1.001, wald_low=0.9, wald_high=1.1, per_sd=1.0004, sd=sd)

    assert shown_odds(odds) == ShownOdds(1.001, 0.9, 1.1, "")


def test_an_absent_odds_ratio_is_not_shown():
    """A column that was dropped from the regression has no odds ratio to show."""
    assert shown_odds(OddsRatio(per_unit=None, reason="constant")) is None


def test_a_coefficient_in_words_is_per_unit_or_per_standard_deviation():
    """In the model card, a huge odds ratio is "over 1,000" and does not overflow."""
    assert odds_in_words(0.7, 0.3) == "2.01"
    assert odds_in_words(0.35 / 85_000, 85_000.0) == "1.42 per SD of 85,000"
    assert odds_in_words(0.0, 85_000.0) == "1.00"
    assert odds_in_words(5000.0, 1.0) == "over 1,000"
