"""Verdicts depend on the interval."""

import pytest

from mlho.report.result import CohortSummary, Spread
from mlho.report.verdicts import auroc_caution, calibration_verdict, sample_size_verdict, why_not_judged


def cohort_of(n_positive, n_negative):
    n = n_positive + n_negative
    return CohortSummary(
        n_patients=n,
        n_samples=n,
        n_positive_patients=n_positive,
        n_positive_samples=n_positive,
        attrition=[],
        label_ledger={},
    )


LARGE = cohort_of(1000, 9000)


@pytest.mark.parametrize(
    ("mean", "low", "high", "beginning"),
    [
        (0.75, 0.72, 0.78, None),
        (0.52, 0.51, 0.53, None),
        (0.55, 0.48, 0.62, "It cannot be distinguished from chance"),
        (0.37, 0.30, 0.44, "This is worse than chance"),
        (0.37, 0.10, 0.64, "It cannot be distinguished from chance"),
        (0.987, 0.98, 0.994, "This is suspiciously high: check for leakage"),
        (0.75, None, None, "It has no interval"),
    ],
)
def test_an_auroc_has_a_caution_and_no_grade(mean, low, high, beginning):
    """An AUROC is called neither good nor poor, but the caution mentions chance or leakage."""
    caution = auroc_caution(Spread(mean=mean, low=low, high=high), LARGE)

    assert caution is None if beginning is None else caution.startswith(beginning)


@pytest.mark.parametrize(("n_positive", "n_negative"), [(99, 5000), (5000, 99)])
def test_few_samples_of_one_outcome_are_a_caution(n_positive, n_negative):
    """At least 100 samples with and without the outcome are needed for any interval, and 200 for calibration."""
    narrow = Spread(mean=0.75, low=0.74, high=0.76)

    assert "fewer than 100" in auroc_caution(narrow, cohort_of(n_positive, n_negative))
    assert auroc_caution(narrow, cohort_of(100, 100)) is None
    slope = Spread(mean=1.0, low=0.95, high=1.05)
    assert calibration_verdict(slope, cohort_of(n_positive + 100, n_negative + 100)) is None
    assert calibration_verdict(slope, cohort_of(200, 200)) == "close to the observed frequencies"


@pytest.mark.parametrize(
    ("mean", "low", "high", "beginning"),
    [
        (1.03, 0.86, 1.20, "close to the observed frequencies"),
        (0.60, 0.45, 0.75, "too extreme: high probabilities are too high"),
        (0.85, 0.70, 1.00, "close to the observed frequencies, or too extreme"),
        (
            0.56,
            0.24,
            0.88,
            "too extreme: high probabilities are too high and low ones too low, perhaps only slightly",
        ),
        (
            1.33,
            1.18,
            1.48,
            "too moderate: high probabilities are too low and low ones too high, perhaps only slightly",
        ),
        (1.60, 1.40, 1.80, "too moderate"),
        (1.20, 1.00, 1.40, "close to the observed frequencies, or too moderate"),
    ],
)
def test_calibration_is_called_by_the_interval_of_its_slope(mean, low, high, beginning):
    """The verdict on calibration is the zone that contains the interval of the slope, or two neighbouring ones."""
    verdict = calibration_verdict(Spread(mean=mean, low=low, high=high), LARGE)

    assert verdict.startswith(beginning)


@pytest.mark.parametrize(
    ("slope", "cohort", "reason"),
    [
        (Spread(mean=1.11, low=-5.4, high=7.7), LARGE, "the interval is too wide"),
        (Spread(mean=1.0), LARGE, "there is no interval"),
        (Spread(mean=None), LARGE, "there is no calibration slope"),
        (None, LARGE, "there is no calibration slope"),
        (
            Spread(mean=1.0, low=0.9, high=1.1),
            cohort_of(199, 5000),
            "fewer than 200 samples with or without the outcome",
        ),
    ],
)
def test_calibration_that_cannot_be_judged_says_why(slope, cohort, reason):
    """A slope of 1.11 with an interval from −5.4 to 7.7 is compatible with every verdict."""
    assert calibration_verdict(slope, cohort) is None
    assert why_not_judged(slope, cohort) == reason


def test_a_sample_too_small_only_for_the_overall_risk_is_not_told_to_use_fewer_features():
    """With one candidate feature, 300 patients miss the margin of the overall risk, and no number of features helps."""
    verdict = sample_size_verdict(1, 300, 90, min_cell=11)

    assert verdict.sentences.endswith("The sample is too small to estimate the overall risk so precisely.")
    assert verdict.is_too_small
