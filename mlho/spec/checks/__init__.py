"""The sections ``leakage`` and ``quality`` of a specification: the checks before training, and the findings that stop a run."""

from collections.abc import Collection, Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from mlho.spec.checks.subjects import RECORDS, can_match, subjects_in_words, unmatched_demographics
from mlho.spec.types import SpecPart

SubjectPattern = Annotated[str, Field(min_length=1, max_length=256)]
Reason = Annotated[str, Field(min_length=10, max_length=1000)]


class Leakage(SpecPart):
    """The leakage sentinel: codes and labels that reveal the outcome instead of predicting it."""

    action: Literal["block", "warn"] = "block"
    """``block``: a finding stops the run before training. ``warn``: the report states the finding. Without the section ``leakage``,
    a run with ``features.after`` only warns, because it describes and does not predict."""
    max_auroc: Annotated[float, Field(ge=0.7, le=1)] = 0.9
    """Minimum AUROC at which a single code becomes a finding, by presence, count, value or recency."""
    max_share: Annotated[float, Field(ge=0.8, le=1)] = 0.98
    """Minimum share at which a code becomes a finding: of samples with the outcome among those with the code, of samples with the
    code among those with the outcome, or of the code's rows in patients with the outcome that are dated on or after it (with
    ``cohort.outcomeDate``)."""
    min_patients: Annotated[int, Field(ge=11, le=1_000_000)] = 11
    """Minimum number of patients with a code; rarer codes are not checked."""
    allow: Annotated[dict[str, Reason], Field(max_length=1000)] = Field(default_factory=dict)
    """Findings that do not stop the run. Each key is a code, ``outcome-dates`` or ``near-duplicates``; its value is a reason of at
    least 10 characters, which the report prints."""

    @model_validator(mode="after")
    def _allow_is_needed(self) -> Self:
        if self.allow and self.action == "warn":
            raise ValueError(
                "leakage.allow requires leakage.action: block; with warn no finding stops the run"
            )
        return self


CheckName = Literal[
    "unusable-rows",
    "code-form",
    "code-variants",
    "units",
    "value-range",
    "unknown-patients",
    "empty-samples",
    "values-missing",
    "months",
    "site-months",
    "missing-by-outcome",
    "implausible-dates",
    "late-index",
    "duplicates",
    "placeholder-values",
    "negative-values",
    "two-scales",
    "value-jumps",
    "copy-forward",
    "code-churn",
    "one-site",
    "midnight",
    "first-of-month",
    "hours",
    "weekdays",
]
Action = Literal["block", "warn", "off"]
#: Checks with a single figure for all rows or samples, and the subject of that figure. Such a check has only one bound.
WHOLE: Final[Mapping[CheckName, str]] = {
    "units": "events",
    "unknown-patients": "events",
    "months": "events",
    "duplicates": "events",
    "code-churn": "events",
    "one-site": "events",
    "midnight": "events",
    "first-of-month": "events",
    "code-variants": "codes",
    "empty-samples": "samples",
    "late-index": "samples",
}


class Bound(SpecPart):
    """The bound of one check of data quality, and the action for a figure above it."""

    max: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    """Largest figure that is not a finding. Default: see docs/method.md."""
    action: Action = "warn"
    """``block``: a finding stops the run before training. ``warn``: the report states the finding. ``off``: the check is
    skipped."""


class CodeBounds(SpecPart):
    """The plausible values of one code."""

    range: Annotated[tuple[float, ...], Field(min_length=2, max_length=2)]
    """Lowest and highest plausible number, in the unit of the code. A number that is outside by more than a fifth always counts;
    one closer to the range may not."""
    max_share: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Largest share of the code's numbers outside the range that is not a finding."""
    action: Literal["block", "warn"] = "warn"
    """Action for a larger share."""

    @model_validator(mode="after")
    def _range_rises(self) -> Self:
        if self.range[0] >= self.range[1]:
            raise ValueError("range must be the lowest and the highest plausible number, such as [0.1, 30]")
        return self


class Override(SpecPart):
    """A different bound or action for some codes, tables or sites."""

    checks: Annotated[tuple[CheckName, ...], Field(min_length=1, max_length=32)]
    """Checks to which the override applies."""
    subjects: Annotated[tuple[SubjectPattern, ...], Field(min_length=1, max_length=100)]
    """Patterns of the subjects of findings: a code, which in OMOP begins with its table (``measurement:*``), ``site NAME``, a demographic, a
    year, or a rule of the ledger. ``*`` is any text, ``?`` one character; only codes, years and names of sites have wildcards, and a single ``*`` is
    any subject. A check with one figure for all rows, such as
    ``duplicates``, has only the subject ``events``, not a code or table; see docs/data.md."""
    max: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    """Largest figure that is not a finding. Default: that of the check."""
    action: Action = "warn"
    """As in ``quality.checks``; ``off``: no finding for these subjects."""

    @model_validator(mode="after")
    def _subjects_can_match(self) -> Self:
        if "value-range" in self.checks:
            raise ValueError(
                "the ranges, shares and actions of value-range belong in quality.codes. Remove value-range from overrides"
            )
        for check in self.checks:
            subject = WHOLE.get(check)
            if subject is not None and not {subject, "*"} & {*self.subjects}:
                raise ValueError(
                    f"{check} has a single figure, with the subject {subject}, and no separate bound for a code, table or site. "
                    f"Set quality.checks.{check}, or leave the check out of this override"
                )
            if subject is None and not any(can_match(pattern, check) for pattern in self.subjects):
                raise ValueError(
                    f"no pattern in subjects matches a subject of {check}. Expected {subjects_in_words(check)}. Correct the subjects, or leave the check out "
                    "of this override"
                )
        for pattern in self.subjects:
            if not any(can_match(pattern, check, WHOLE.get(check)) for check in self.checks):
                raise ValueError(
                    f"no check of this override has the subject {pattern!r}. Correct or remove it; {self.checks[0]} has the subjects "
                    f"{WHOLE.get(self.checks[0]) or subjects_in_words(self.checks[0])}"
                )
        return self


class Quality(SpecPart):
    """Checks of data quality before training."""

    checks: Annotated[dict[CheckName, Bound], Field(max_length=32)] = Field(default_factory=dict)
    """Bounds and actions by check. Checks that are not named warn at their default bound."""
    overrides: Annotated[tuple[Override, ...], Field(max_length=100)] = ()
    """Bounds and actions for some subjects. They take precedence over ``checks``; the first match applies."""
    codes: Annotated[dict[str, CodeBounds], Field(max_length=1000)] = Field(default_factory=dict)
    """Plausible values by code, for the check ``value-range``. Requires an aggregate of values."""

    def check_demographics(self, known: Collection[str]) -> None:
        """Refuse overrides of ``missing-by-outcome`` for demographics that the model does not use."""
        for override in self.overrides:
            if "missing-by-outcome" in override.checks and unmatched_demographics(override.subjects, known):
                raise ValueError(
                    "quality.overrides for missing-by-outcome match no demographic of the model. Expected "
                    f"{', '.join((RECORDS, *known))}. Correct the subjects, or add the demographic to features.demographics"
                )
