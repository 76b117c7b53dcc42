"""Content of the sections on leakage and data quality. Pure functions."""

from typing import Any, Final

from mlho.report import words
from mlho.report.checks import Check, Finding, Leakage, Quality
from mlho.report.page import cells

MAX_FINDINGS: Final = 100  # rows of a table; result.json has all
SHOWN: Final = {"passed": "passed", "allowed": "allowed", "warning": "warning", "blocked": "BLOCKED"}

Rows = list[tuple[str, ...]]


def leakage(own: Leakage | None) -> dict[str, Any] | None:
    """Return the tables of the leakage sentinel; None if it did not run."""
    return (
        None
        if own is None
        else {
            "checks": check_rows(own.checks),
            "findings": finding_rows(own.findings),
            "left_out": max(0, len(own.findings) - MAX_FINDINGS),
            "never_enter": words.plural(own.never_enter, "code"),
        }
    )


def quality(own: Quality | None) -> dict[str, Any] | None:
    """Return the tables of data quality; None if the checks did not run."""
    return None if own is None else {"checks": check_rows(own.checks), "findings": finding_rows(own.findings)}


def check_rows(checks: list[Check]) -> Rows:
    """Return one row for each check: what it looks for, and the verdict with the number of findings."""
    return [
        (
            cells.with_note(own.title, own.note),
            _verdict(own),
        )
        for own in checks
    ]


def _verdict(own: Check) -> str:
    if own.is_absent:
        return "not checked"
    return SHOWN[own.verdict] + (f" ({own.n_findings:,})" if own.n_findings else "")


def finding_rows(findings: list[Finding]) -> Rows:
    """Return one row for each finding: subject, verdict with the reason for it, evidence and remedy."""
    return [
        (
            cells.with_note(own.words or own.subject, own.check),
            cells.with_note(SHOWN[own.verdict], f"Reason given: {own.reason}" if own.reason else ""),
            own.detail[:1].upper() + own.detail[1:],
            own.remedy,
        )
        for own in findings[:MAX_FINDINGS]
    ]
