"""The audit by group and period, as numbers: a section of ``result.json`` and of ``evaluation.json``."""

from typing import Annotated, Any

from pydantic import Field

from mlho.report.parts import Estimate, Part
from mlho.spec.types import OMITTED


class Chance(Part):
    """Distribution of a non-negative figure under chance alone."""

    mean: float
    high: float
    """95 % quantile."""


class ContradictedLabels(Part):
    """Samples of a group, each tested by at least three iterations, whose label most of these iterations contradict."""

    n_samples: int | None
    """Samples that at least three iterations tested; ``null`` if the number of samples of the group is ``null``."""
    observed: Estimate
    """Share of these samples with a contradicted label."""
    expected: float
    """The share expected with correct labels and a calibrated model: labels drawn with the mean test probabilities."""


class PeriodBias(Part):
    """A group in one period."""

    period: str
    n_samples: int | None = None
    """For all patients only; ``null`` for a small cell."""
    n_positive: int | None = None
    figures: dict[str, Estimate] = Field(default_factory=dict)
    reason: str | None = None


class GroupBias(Part):
    """Performance in one group, by patients outside the training of the model that predicted them."""

    by: str
    """``all``, the name of a demographic, ``site``, or two names with `` × ``."""
    level: str
    n_samples: int | None
    """``null`` for a small cell, or one from which a small cell could be computed."""
    n_positive: int | None
    figures: dict[str, Estimate] = Field(default_factory=dict)
    """auroc, brier (also by outcome), rmse, error (mean |y − p|, also by outcome), observed_expected, in_the_large, ECE and MCE with
    both binnings, and by alert rule ``youden/sensitivity``, …. Empty with fewer than ``minCell`` patients with or without the outcome."""
    perfect: dict[str, Chance] = Field(default_factory=dict)
    """ECE and MCE of these predictions if they were calibrated perfectly."""
    recalibrated: dict[str, Estimate] = Field(default_factory=dict)
    """Calibration after a recalibration within the group, for patients not used in each fit."""
    contradicted: Annotated[ContradictedLabels | None, OMITTED] = None
    """Absent for evaluations, for a final model on the consensus, and with fewer than three iterations for each sample."""
    periods: list[PeriodBias] = Field(default_factory=list)
    reason: str | None = None


class GroupComparison(Part):
    """A figure of a group compared with that of the reference group, as difference and ratio; bootstrap replicates are paired."""

    by: str
    level: str
    reference: str
    metric: str
    difference: Estimate
    ratio: Estimate
    p_value: float | None
    adjusted: float | None
    """P value adjusted for all comparisons of the audit: of the findings below 0.05, at most 5 in 100 are expected to be false."""


class PatientErrors(Part):
    """|y − p| of the patients of a group against that of the reference group, among those with one outcome."""

    by: str
    level: str
    reference: str
    outcome: int
    delta: Estimate
    """Cliff's delta: above 0 the errors of the group are larger."""
    p_value: float | None
    adjusted: float | None


class AlertGap(Part):
    """The largest difference of a rate between two groups of a column."""

    by: str
    metric: str
    """By rule: ``youden/equal_opportunity`` (sensitivity), ``youden/equalised_odds`` (the larger of sensitivity and specificity),
    ``youden/demographic_parity`` (share with an alert)."""
    value: Estimate
    by_chance: float | None
    """Mean gap expected between groups with equal rates."""


class GroupTrend(Part):
    """Change of a figure of a group per year."""

    by: str
    level: str
    metric: str
    n_periods: int
    per_year: Estimate
    p_value: float | None
    adjusted: float | None


class BiasAudit(Part):
    """Performance by group and period, and comparisons of the groups."""

    unit: str | None
    """Length of a period: ``month``, ``quarter`` or ``year``; ``null`` without periods."""
    rules: list[str]
    groups: list[GroupBias]
    """All patients first, then by column."""
    comparisons: list[GroupComparison]
    errors: list[PatientErrors]
    gaps: list[AlertGap]
    trends: list[GroupTrend]

    @property
    def columns(self) -> list[str]:
        """Names of the columns that make groups."""
        return list(dict.fromkeys(group.by for group in self.groups[1:]))


def without_standard_errors(plain: Any) -> Any:
    """Return plain values without the standard errors of estimates, which results do not hold."""
    if isinstance(plain, dict):
        return {
            name: without_standard_errors(value) for name, value in plain.items() if name != "standard_error"
        }
    if isinstance(plain, list | tuple):
        return [without_standard_errors(item) for item in plain]
    return plain
