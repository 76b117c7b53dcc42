"""Content of the sections on leakage and data quality. Pure functions."""

from typing import Any, Final

from mlho.report import words
from mlho.report.checks import Check, Finding, Leakage, Quality
from mlho.report.page import cells

MAX_FINDINGS: Final = 100  # rows of a table; result.json has all
SHOWN: Final = {"passed": "passed", "allowed": "allowed", "warning": "warning", "blocked": "BLOCKED"}

Rows = list[tuple[str, ...]]


def leakage(sentinel: Leakage) -> dict[str, Any]:
    """Return the tables of the leakage sentinel."""
    return {
        "checks": check_rows(sentinel.checks),
        "findings": finding_rows(sentinel.findings),
        "left_out": max(0, len(sentinel.findings) - MAX_FINDINGS),
        "never_enter": words.plural(sentinel.never_enter, "code"),
    }


def quality(checked: Quality) -> dict[str, Any]:
    """Return the tables of data quality."""
    return {"checks": check_rows(checked.checks), "findings": finding_rows(checked.findings)}


def check_rows(checks: list[Check]) -> Rows:
    """Return one row for each check: its subject, and the verdict with the number of findings."""
    return [(cells.with_note(check.title, check.note), _verdict(check)) for check in checks]


def _verdict(check: Check) -> str:
    if check.is_absent:
        return "not checked"
    return SHOWN[check.verdict] + (f" ({check.n_findings:,})" if check.n_findings else "")


def finding_rows(findings: list[Finding]) -> Rows:
    """Return one row for each finding: subject, verdict with the reason for it, evidence and remedy."""
    return [
        (
            cells.with_note(finding.words or finding.subject, finding.check),
            cells.with_note(
                SHOWN[finding.verdict], f"Reason given: {finding.reason}" if finding.reason else ""
            ),
            finding.detail[:1].upper() + finding.detail[1:],
            finding.remedy,
        )
        for finding in findings[:MAX_FINDINGS]
    ]
