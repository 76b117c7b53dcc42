"""Verbal verdicts. They depend on the interval, not on the value alone; an inconclusive interval gives no verdict."""

import math
from dataclasses import dataclass
from typing import Final, Protocol

from mlho.errors import plural
from mlho.method.sample_size import ASSUMED_R2, MARGIN, OPTIMISM, SHRINKAGE, most_parameters, sample_size
from mlho.report.result import Result, Spread

# Minimum number of samples with and without the outcome for a verdict. Collins, Ogundimu and Altman (2016)
# and Van Calster et al. (2016): at least 100 events and non-events to validate a model, at least 200 for its calibration.
MIN_SAMPLES: Final = 100
MIN_FOR_CALIBRATION: Final = 200
CHANCE: Final = 0.5
# A higher AUROC of a clinical model from routine records is more often due to leakage than to a good model.
SUSPICIOUS_AUROC: Final = 0.95
# Between these slopes miscalibration is small; the upper bound is the inverse of the lower.
CLOSE_SLOPES: Final = (0.8, 1.25)
# The same for the observed odds, divided by the predicted ones.
CLOSE_ODDS: Final = CLOSE_SLOPES
_CLOSE: Final = "close to the observed frequencies"
_EXTREME: Final = "too extreme: high probabilities are too high and low ones too low"
_MODERATE: Final = "too moderate: high probabilities are too low and low ones too high"


class Counted(Protocol):
    """Samples and their outcomes, as numbers: the cohort of a run or of an evaluation."""

    @property
    def n_samples(self) -> int:
        """Samples, with and without the outcome."""

    @property
    def n_positive_samples(self) -> int:
        """Samples with the outcome."""


@dataclass(frozen=True)
class Samples:
    """Numbers of samples, all and those with the outcome."""

    n_samples: int
    n_positive_samples: int


def tested_samples(result: Result) -> Counted:
    """Return the number of samples on which the headline figures of a run rest.

    Test sets that are drawn, or are sites, cover the cohort; those by date or given part may be a small part of it. A hidden count,
    as of fewer than ``report.minCell`` samples, is taken as 0.
    """
    if result.split is None or result.split.kind == "site":
        return result.cohort
    sets = result.split.test_sets
    return Samples(
        sum(test_set.n_test_samples or 0 for test_set in sets),
        sum(test_set.n_test_positive_samples or 0 for test_set in sets),
    )


def has_samples(cohort: Counted, n: int) -> bool:
    """Return whether a cohort has at least ``n`` samples with and ``n`` without the outcome."""
    return min(cohort.n_positive_samples, cohort.n_samples - cohort.n_positive_samples) >= n


def few_for_auroc(cohort: Counted) -> str | None:
    """Return why an AUROC is too uncertain to rely on for any interval; None if the cohort has enough samples."""
    return _few(cohort, MIN_SAMPLES)


def few_for_calibration(cohort: Counted) -> str | None:
    """Return why the calibration of a cohort cannot be assessed for any interval; None if it has enough samples."""
    return _few(cohort, MIN_FOR_CALIBRATION)


def _few(cohort: Counted, least: int) -> str | None:
    return None if has_samples(cohort, least) else f"fewer than {least} samples with or without the outcome"


def auroc_caution(auroc: Spread, cohort: Counted) -> str | None:
    """Return a caution for readers of an AUROC; None if it needs none.

    An AUROC is not called good or bad: that depends on the use of the model.
    """
    if few := few_for_auroc(cohort):
        return f"With {few}, this figure is too uncertain to rely on"
    if auroc.mean is None or auroc.low is None or auroc.high is None:
        return "It has no interval, so its uncertainty is unknown"
    if auroc.high < CHANCE:
        return "This is worse than chance: patients with the outcome have lower scores"
    if auroc.low <= CHANCE:
        return "It cannot be distinguished from chance (0.5)"
    if auroc.mean >= SUSPICIOUS_AUROC:
        return "This is suspiciously high: check for leakage first"
    return None


def calibration_verdict(slope: Spread | None, cohort: Counted) -> str | None:
    """Interpret the calibration slope; None without a verdict.

    The interval may lie in one zone (too extreme, close, too moderate) or in two. If it lies in two and excludes 1, the error may be
    small but is certain. An interval from the first to the last zone is inconclusive.
    """
    if slope is None or slope.mean is None or slope.low is None or slope.high is None:
        return None
    if not has_samples(cohort, MIN_FOR_CALIBRATION):
        return None
    may_be_extreme, may_be_moderate = slope.low < CLOSE_SLOPES[0], slope.high > CLOSE_SLOPES[1]
    may_be_close = slope.high >= CLOSE_SLOPES[0] and slope.low <= CLOSE_SLOPES[1]
    if may_be_extreme and may_be_moderate:
        return None
    if not (may_be_extreme or may_be_moderate):
        return _CLOSE
    named = _EXTREME if may_be_extreme else _MODERATE
    if not may_be_close:
        return named
    return f"{_CLOSE}, or {named}" if slope.low <= 1.0 <= slope.high else f"{named}, perhaps only slightly"


def level_verdict(in_the_large: Spread | None, cohort: Counted) -> str | None:
    """State that the probabilities are too low or too high on average; None unless it is certain and not small.

    A good slope does not exclude it: the slope describes differences between patients, not their mean.
    """
    if in_the_large is None or in_the_large.mean is None or not has_samples(cohort, MIN_FOR_CALIBRATION):
        return None
    if in_the_large.low is not None and in_the_large.low > 0 and in_the_large.mean > math.log(CLOSE_ODDS[1]):
        return "too low on average: the outcome was more frequent than predicted"
    if (
        in_the_large.high is not None
        and in_the_large.high < 0
        and in_the_large.mean < math.log(CLOSE_ODDS[0])
    ):
        return "too high on average: the outcome was less frequent than predicted"
    return None


def why_not_judged(slope: Spread | None, cohort: Counted) -> str:
    """Explain why there is no verdict on calibration."""
    if slope is None or slope.mean is None:
        return "there is no calibration slope"
    if few := few_for_calibration(cohort):
        return few
    return "there is no interval" if slope.low is None else "the interval is too wide"


@dataclass(frozen=True)
class SampleVerdict:
    """Whether a training run has enough patients, in sentences."""

    sentences: str
    is_too_small: bool
    """False if there are too few patients for an assessment."""


def sample_size_verdict(
    n_parameters: int, n_patients: int, n_positive: int, *, min_cell: int
) -> SampleVerdict:
    """Assess a sample by the criteria of Riley et al. (``mlho/method/sample_size.py``).

    Parameters
    ----------
    n_parameters : int
        At most ``selection.nFeatures``, and the demographics.
    n_patients, n_positive : int
        Patients of the cohort, and those with the outcome.
    min_cell : int
        With fewer patients with, or without, the outcome there is no assessment.
    """
    n_rare = min(n_positive, n_patients - n_positive)
    if n_rare < max(1, min_cell):
        return SampleVerdict(
            "Sample size: too few patients with, or without, the outcome for an assessment.", False
        )
    share = n_positive / n_patients
    required = sample_size(n_parameters, share)
    facts = (
        f"Sample size: {plural(n_patients, 'patient')}, {n_positive:,} with the outcome ({100 * share:.1f} %): {n_rare / n_parameters:.1f} events "
        f"per candidate feature ({n_parameters:,}: at most selection.nFeatures, and the demographics). "
        f"Riley et al. (2019, 2020) ask for {required.needed:,} patients: {required.shrinkage:,} for a shrinkage of at least "
        f"{SHRINKAGE:g}, {required.optimism:,} for an optimism of at most {OPTIMISM:g}, {required.intercept:,} for the overall risk to "
        f"within {MARGIN:g}, if the model explains {100 * ASSUMED_R2:.0f} % of what can be explained (Nagelkerke R²)."
    )
    if n_patients >= required.needed:
        return SampleVerdict(
            f"{facts} The sample is large enough for features chosen beforehand; the run chooses them by the outcome, which needs more patients.",
            False,
        )
    most = most_parameters(n_patients, share)
    if most >= n_parameters:
        return SampleVerdict(
            f"{facts} The sample is too small to estimate the overall risk so precisely.", True
        )
    few = (
        f"This sample supports {plural(most, 'candidate feature')}, including the demographics: lower selection.nFeatures, or expect"
        if most
        else "This sample supports no model: expect"
    )
    return SampleVerdict(
        f"{facts} The sample is too small. {few} calibration and odds ratios to be overfitted; the report measures by how much.",
        True,
    )


def sample_size_of(result: Result) -> SampleVerdict:
    """Return whether the sample of a finished run was large enough for the features that its iterations selected."""
    spec, cohort = result.lineage.spec, result.cohort
    n_selected = [iteration.n_selected for iteration in result.iterations]
    return sample_size_verdict(
        max(n_selected, default=spec["selection"]["nFeatures"]) + len(spec["features"]["demographics"]),
        cohort.n_patients,
        cohort.n_positive_patients,
        min_cell=spec["report"]["minCell"],
    )
