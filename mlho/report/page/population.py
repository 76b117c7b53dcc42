"""Content of the sections on the population: cohort, ledger, and the performance in groups. Pure functions."""

from itertools import pairwise
from typing import Any

from mlho.report import words
from mlho.report.result import Characteristic, CohortSummary, LedgerSummary
from mlho.report.words import DASH

Rows = list[tuple[str, ...]]


def attrition(cohort: CohortSummary) -> list[dict[str, Any]]:
    """Return the boxes of the attrition diagram, with the numbers excluded before each."""
    steps = cohort.attrition
    boxes: list[dict[str, Any]] = [
        {
            "is_first": i == 0,
            "rule": step.rule,
            "patients": _counted(step.patients, "patient"),
            "samples": _counted(step.samples, "sample"),
        }
        for i, step in enumerate(steps)
    ]
    for box, (before, after) in zip(boxes[1:], pairwise(steps), strict=True):
        box["patients_out"] = _counted(_difference(before.patients, after.patients), "patient")
        box["samples_out"] = _counted(_difference(before.samples, after.samples), "sample")
    return boxes


def with_outcome(cohort: CohortSummary) -> tuple[str, str]:
    """Return the last box of the attrition diagram: patients with the outcome, and their samples."""
    patients = words.plural(cohort.n_positive_patients, "patient")
    samples = words.plural(cohort.n_positive_samples, "sample")
    return (
        f"{patients} with the outcome",
        f"({words.share(cohort.n_positive_patients, cohort.n_patients)}), {samples} "
        f"({words.share(cohort.n_positive_samples, cohort.n_samples)})",
    )


def _counted(n: int | None, noun: str) -> str:
    return f"{noun}s {words.HIDDEN}" if n is None else words.plural(n, noun)


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else before - after


def characteristics(cohort: CohortSummary) -> Rows:
    """Return the table of baseline characteristics."""
    return [
        (
            _characteristic_name(characteristic),
            words.characteristic(characteristic.without_outcome),
            words.characteristic(characteristic.with_outcome),
            DASH if characteristic.difference is None else words.number(characteristic.difference),
        )
        for characteristic in cohort.characteristics
    ]


def _characteristic_name(characteristic: Characteristic) -> str:
    if characteristic.level is None:
        return f"{characteristic.name}, median (quartiles)"
    return f"{characteristic.name}: {words.UNKNOWN if characteristic.is_missing else characteristic.level}"


def label_ledger(cohort: CohortSummary) -> Rows:
    """Return the label rows by rule, most frequent first; hidden counts precede rules without rows."""
    ordered = sorted(
        cohort.label_ledger.items(), key=lambda item: (-(0.5 if item[1] is None else item[1]), item[0])
    )
    return [(name, words.counted(n)) for name, n in ordered]


def ledger(summary: LedgerSummary) -> dict[str, Any]:
    """Return the ledger of event rows with shares, bars and the total."""
    total = sum(rule.rows for rule in summary.rules) + summary.rows_used
    lines = [
        ("used", "", summary.rows_used),
        *((rule.rule, rule.meaning, rule.rows) for rule in summary.rules),
    ]
    adds_up = total == summary.rows_in
    notes = [f"{name}: {words.count(n)}" for name, n in sorted(summary.notes.items())]
    return {
        "rows": [
            {
                "name": name.replace("_", " "),
                "meaning": meaning,
                "n": words.count(n),
                "share": words.share(n, summary.rows_in),
                "width": f"{100 * n / summary.rows_in if summary.rows_in else 0:.2f}",
            }
            for name, meaning, n in lines
        ],
        "total": words.count(summary.rows_in),
        "total_share": words.percent(1, 0) if summary.rows_in else words.ABSENT,
        "check": "adds up" if adds_up else f"does NOT add up: the parts sum to {words.count(total)}",
        "notes": "; ".join(notes),
    }
