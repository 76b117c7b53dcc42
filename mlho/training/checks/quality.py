"""Data quality before training: each check is one figure for each of its subjects, compared with a bound."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, get_args

import numpy as np

from mlho.encoding.events.code_patterns import matches
from mlho.errors import DataError, listed
from mlho.report.checks import Check, Finding, Quality, worst
from mlho.spec.checks import Action, Bound, CheckName
from mlho.spec.checks import Quality as Asked
from mlho.training.checks import conformance, numbers, over_time, plausibility
from mlho.training.checks.evidence import Evidence, Measure

_NAMED: Final = 5
_MOST_SUBJECTS: Final = 20  # findings of one check; the others are counted

#: Title, category (Kahn et al. 2016) and default bound of each check.
CHECKS: Final[Mapping[CheckName, tuple[str, str, float]]] = {
    "unusable-rows": ("Rows without a patient, a usable code or a readable time", "conformance", 0.05),
    "code-form": (
        "Rows whose code is a placeholder (NA, null) or was converted to a number (250.0)",
        "conformance",
        0.001,
    ),
    "code-variants": (
        "Rows of codes that differ from a more frequent code only in case or blanks",
        "conformance",
        0.01,
    ),
    "units": ("Rows with a different unit from most rows of their code", "conformance", 0.01),
    "value-range": ("Numbers outside the range given in the specification", "conformance", 0.01),
    "unknown-patients": ("Rows of patients who are not in the cohort", "completeness", 0.5),
    "empty-samples": ("Samples without a used row", "completeness", 0.5),
    "values-missing": ("Rows without a number for codes that usually have one", "completeness", 0.2),
    "months": ("Months with fewer than a third of the usual rows", "completeness", 0.0),
    "site-months": ("Months with fewer than a third of the usual rows, by site", "completeness", 0.0),
    "missing-by-outcome": (
        "Difference of missing data between samples with and without the outcome",
        "completeness",
        0.1,
    ),
    "implausible-dates": ("Rows with an implausible date", "plausibility", 0.01),
    "late-index": ("Samples with an index date after the end of the events", "plausibility", 0.001),
    "duplicates": ("Rows that repeat patient, code, time and number of another row", "plausibility", 0.1),
    "placeholder-values": ("Placeholder numbers for missing values (-999, 9999)", "plausibility", 0.01),
    "negative-values": ("Numbers with the less frequent sign", "plausibility", 0.01),
    "two-scales": ("Numbers of one code on two scales, as if in two units", "plausibility", 0.02),
    "value-jumps": (
        "Months in which the numbers of a code jump, in doublings of the typical number",
        "plausibility",
        0.5,
    ),
    "copy-forward": ("Numbers that repeat the patient's previous number", "plausibility", 0.4),
    "code-churn": ("Rows of codes that begin or end within the period", "plausibility", 0.2),
    "one-site": ("Rows of frequent codes that only one site records", "plausibility", 0.2),
    "midnight": ("Rows at 00:00 among rows with a time of day", "plausibility", 0.3),
    "first-of-month": ("Rows on the first day of a month", "plausibility", 0.1),
    "hours": ("Shift of the mean hour of a year, in hours", "plausibility", 2.0),
    "weekdays": ("Change in the distribution over days of the week in a year", "plausibility", 0.15),
}
assert set(CHECKS) == set(get_args(CheckName))

_MEASURES: Final[tuple[Callable[[Evidence], Iterator[Measure]], ...]] = (
    conformance.measure,
    plausibility.measure,
    numbers.measure,
    over_time.measure,
)


def check_quality(evidence: Evidence) -> Quality:
    """Return the verdict of each check with its findings."""
    asked = evidence.problem.spec.quality or Asked()
    measures: dict[str, list[Measure]] = {name: [] for name in CHECKS}
    notes: dict[str, str] = {}
    for measures_of in _MEASURES:
        for measure in measures_of(evidence):
            if measure.figure is None:
                notes[measure.check] = f"Not checked: {measure.detail}."
            else:
                measures[measure.check].append(measure)
    findings: list[Finding] = []
    checks: list[Check] = []
    for name, (title, category, default) in CHECKS.items():
        bound = asked.checks.get(name, Bound())
        if bound.action == "off" and not any(name in override.checks for override in asked.overrides):
            notes[name] = "Not checked: off in the specification."
            measures[name] = []
        found = [*_findings(name, measures[name], asked, default)]
        findings += found[:_MOST_SUBJECTS]
        checks.append(
            Check(
                check=name,
                title=f"{title} ({category})",
                verdict=worst(found),
                n_findings=len(found),
                note=notes.get(name, ""),
            )
        )
    notes_of_overrides = unused_overrides(
        asked, {name: [measure.subject for measure in found] for name, found in measures.items()}, notes
    )
    return Quality(
        checks=checks, findings=findings, series=over_time.series(evidence), notes=notes_of_overrides
    )


def unused_overrides(
    asked: Asked, subjects: Mapping[str, Sequence[str]], reasons: Mapping[str, str]
) -> list[str]:
    """Return a sentence for each subject of an override that had no effect.

    Parameters
    ----------
    subjects : mapping of check to sequence of str
        Subjects that have a figure in this run.
    reasons : mapping of check to str
        Why a check was not carried out.
    """
    held: set[tuple[str, str]] = set()  # check and subject to which an earlier override applies
    sentences = []
    for override in asked.overrides:
        measured = [(check, subject) for check in override.checks for subject in subjects.get(check, ())]
        names = [subject for _, subject in measured]
        matched: set[tuple[str, str]] = set()
        for pattern in override.subjects:
            of_pattern = {measured[place] for place in np.flatnonzero(matches([pattern], names)).tolist()}
            matched |= of_pattern
            if not of_pattern:
                why = " ".join(dict.fromkeys(reasons[check] for check in override.checks if check in reasons))
                sentences.append(
                    f"quality.overrides names {pattern!r}, for which {' and '.join(override.checks)} had no figure, so it had no effect. "
                    f"{why or 'Correct or remove it.'}"
                )
            elif of_pattern <= held:
                sentences.append(
                    f"quality.overrides names {pattern!r} for {' and '.join(override.checks)} after an override that applies to the same "
                    "subjects, so it had no effect. Put it first, or remove it."
                )
        held |= matched
    return sentences


def _findings(name: CheckName, measures: list[Measure], asked: Asked, default: float) -> Iterator[Finding]:
    for measure in sorted(measures, key=lambda measure: (-(measure.figure or 0), measure.subject)):
        assert measure.figure is not None
        limit, action = _limit(name, measure.subject, asked, default)
        if action == "off" or measure.figure <= limit:
            continue
        yield Finding(
            check=name,
            verdict="blocked" if action == "block" else "warning",
            subject=measure.subject,
            words=measure.words or measure.subject,
            detail=f"{measure.detail} (bound {limit:g})",
            figures={"figure": round(measure.figure, 4)},
            remedy=measure.remedy,
        )


def _limit(name: CheckName, subject: str, asked: Asked, default: float) -> tuple[float, Action]:
    """Return the bound and the action for a subject: those of its code, of the first override that matches, or of the check."""
    if name == "value-range" and subject in asked.codes:
        return asked.codes[subject].max_share, asked.codes[subject].action
    bound = asked.checks.get(name, Bound())
    limit = default if bound.max is None else bound.max
    for override in asked.overrides:
        if name in override.checks and matches(override.subjects, [subject])[0]:
            return limit if override.max is None else override.max, override.action
    return limit, bound.action


def refuse_quality(found: Quality) -> None:
    """Raise the error that stops the run if a finding blocks it."""
    blocked = [finding for finding in found.findings if finding.verdict == "blocked"]
    if not blocked:
        return
    named = [f"{finding.check}: {finding.words}: {finding.detail}" for finding in blocked]
    raise DataError(
        "quality",
        "the data do not meet the bounds of quality.checks",
        expected="figures within the bounds",
        got=listed(named, _NAMED, "; "),
        remedy=f"{blocked[0].remedy} Or raise the bound, or set its action to warn.",
    )


def quality_warnings(found: Quality) -> list[str]:
    """Return one sentence for each check with findings that did not stop the run, and for each override without effect."""
    sentences = []
    for check in found.checks:
        findings = [
            finding
            for finding in found.findings
            if finding.check == check.check and finding.verdict == "warning"
        ]
        if findings:
            more = f" ({check.n_findings} findings)" if check.n_findings > 1 else ""
            sentences.append(
                f"Data quality, {check.check}: {findings[0].words}: {findings[0].detail}{more}. {findings[0].remedy}"
            )
    return [*sentences, *found.notes]
