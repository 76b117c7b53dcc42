"""Findings of the checks before training: the subject, the verdict, the evidence and the remedy."""

from typing import Annotated, Final, Literal

from pydantic import Field

from mlho.report.parts import Part
from mlho.spec.types import OMITTED

NOT_CHECKED: Final = "Not checked"  # begin of a note


def _is_empty(value: list[str]) -> bool:
    return not value


Verdict = Literal["passed", "warning", "allowed", "blocked"]


class Finding(Part):
    """One finding of a check."""

    check: str
    """Identifier of the check, such as ``one-code-auroc``."""
    verdict: Verdict
    """``blocked`` stops the run. ``allowed``: it would, but the specification gives a reason."""
    subject: str
    """Subject of the finding: a code, a table or a column."""
    words: str = ""
    """The subject in words."""
    detail: str
    """The evidence. Counts below the bound for small cells are not given."""
    figures: dict[str, float] = Field(default_factory=dict)
    """The numbers of the evidence, rounded to three decimals."""
    remedy: str = ""
    reason: Annotated[str | None, OMITTED] = None
    """Written reason of the specification for which it is allowed."""


class Check(Part):
    """One check with the worst verdict of its findings."""

    check: str
    title: str
    verdict: Verdict
    n_findings: int
    note: str = ""
    """The checked data, or the reason why the check could not be made."""

    @property
    def is_absent(self) -> bool:
        """Return whether the check was not made."""
        return not self.n_findings and self.note.startswith(NOT_CHECKED)


class Leakage(Part):
    """Findings of the leakage sentinel."""

    checks: list[Check]
    findings: list[Finding]
    never_enter: int
    """Codes of the events that are recorded only outside the windows of the samples, so that no model sees them."""
    notes: list[str] = Field(default_factory=list)


class Series(Part):
    """Counts of used rows over time."""

    name: str
    """Scope of the counts: all events, a site, or a code that begins or ends within the period."""
    at: list[str]
    """Months, or years of a code."""
    rows: list[int | None]
    """``null`` below the bound for small cells."""


class Quality(Part):
    """Findings of the checks of data quality."""

    checks: list[Check]
    findings: list[Finding]
    """At most 20 of a check, the largest first."""
    series: list[Series]
    notes: Annotated[list[str], Field(default_factory=list, exclude_if=_is_empty)]
    """Overrides of the specification that had no effect."""


#: Verdicts by weight.
ORDER: tuple[Verdict, ...] = ("passed", "allowed", "warning", "blocked")


def worst(findings: list[Finding]) -> Verdict:
    """Return the heaviest verdict; ``passed`` without findings."""
    return max((finding.verdict for finding in findings), key=ORDER.index, default="passed")
