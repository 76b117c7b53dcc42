"""CEL validation rules of ``gates`` and ``quality``; the models check the same conditions (:mod:`mlho.spec.gates`, :mod:`mlho.spec.checks`)."""

from collections.abc import Iterator
from typing import Final

from mlho.spec.checks import WHOLE
from mlho.spec.checks.subjects import ANY, NAMED, OF_CODES, OF_YEARS, RECORDS, SITE, YEARS
from mlho.spec.gates import AGAINST_CHAMPION, AT_THRESHOLD, GAPS, NOT_COMPARED, OF_GROUPS
from scheduler.api.cel_rule import CelRule

_GATES: Final = "spec.gates"
_OVERRIDES: Final = "spec.quality.overrides"
_ONLY_OF_GROUPS: Final = ["observedExpected", "calibrationInTheLarge", "expectedCalibrationError"]

GATE_RULES: Final = (
    CelRule(
        _GATES,
        "self.all(g, has(g.min) || has(g.max) || has(g.between) || has(g.lower95) || has(g.upper95) || "
        "has(g.minDifference) || has(g.maxDifference))",
        "a gate requires a bound: min, max, between, lower95 or upper95; with a champion minDifference, maxDifference, lower95 or "
        "upper95",
    ),
    CelRule(
        _GATES,
        "self.all(g, (!has(g.lower95) || has(g.lower95.min) || has(g.lower95.max)) && "
        "(!has(g.upper95) || has(g.upper95.min) || has(g.upper95.max)))",
        "lower95 and upper95 require min or max, such as {min: 0.75}",
    ),
    CelRule(
        _GATES,
        "self.all(g, !has(g.between) || g.between[0] <= g.between[1])",
        "between must be the lowest and the highest value, such as [0.8, 1.25]",
    ),
    CelRule(
        _GATES,
        f"self.all(g, has(g.threshold) == (g.metric in {list(AT_THRESHOLD)}))",
        f"threshold is required for {', '.join(AT_THRESHOLD)}, and not allowed for other metrics",
    ),
    CelRule(
        _GATES,
        f"self.all(g, has(g.groupsBy) == (g.metric in {list(GAPS)}))",
        f"groupsBy is required for {', '.join(GAPS)}, and not allowed for other metrics",
    ),
    CelRule(
        _GATES,
        f"self.all(g, has(g.group) || !(has(g.versus) || g.metric in {_ONLY_OF_GROUPS}))",
        f"versus, {', '.join(_ONLY_OF_GROUPS)} require a group, such as group: {{sex: female}}",
    ),
    CelRule(
        _GATES,
        f"self.all(g, !has(g.group) || g.metric in {list(OF_GROUPS)})",
        f"group requires one of the metrics {', '.join(OF_GROUPS)}",
    ),
    CelRule(
        _GATES,
        f"self.all(g, !has(g.versus) || !(g.metric in {list(NOT_COMPARED)}))",
        f"{NOT_COMPARED[0]} is not compared between groups; remove versus",
    ),
    CelRule(
        _GATES,
        "self.all(g, has(g.champion) || !(has(g.minDifference) || has(g.maxDifference)))",
        "minDifference and maxDifference require a champion, such as champion: production",
    ),
    CelRule(
        _GATES,
        "self.all(g, !has(g.champion) || !(has(g.min) || has(g.max) || has(g.between) || has(g.group) || has(g.threshold)))",
        "a champion excludes min, max, between, group and threshold; use minDifference or maxDifference",
    ),
    CelRule(
        _GATES,
        f"self.all(g, !has(g.champion) || g.metric in {list(AGAINST_CHAMPION)})",
        f"champion requires one of the metrics {', '.join(AGAINST_CHAMPION)}",
    ),
)


def _of_whole(subject: str) -> CelRule:
    """Return the rule for overrides of the checks that have only this subject."""
    checks = [check for check, only in WHOLE.items() if only == subject]
    return CelRule(
        _OVERRIDES,
        f"self.all(o, !o.checks.exists(c, c in {checks}) || o.subjects.exists(s, s in {[subject, '*']}))",
        f"quality.overrides: {', '.join(checks)} {'has' if len(checks) == 1 else 'have'} only the subject {subject}; use quality.checks",
    )


def _of_subjects() -> dict[tuple[str, ...], str]:
    """Return the condition of a subject ``s`` for the checks that have it; ``*`` is a subject of every check."""
    whole: dict[tuple[str, ...], str] = {
        tuple(check for check, only in WHOLE.items() if only == subject): f"s == '{subject}'"
        for subject in dict.fromkeys(WHOLE.values())
    }
    named: dict[tuple[str, ...], str] = {
        (check,): f"s in {list(subjects)}" for check, subjects in NAMED.items()
    }
    return {
        **whole,
        **named,
        OF_YEARS: f"s.matches('^{YEARS}$')",
        ("site-months",): f"s.startsWith('{SITE}')",
    }


def _subject_rules() -> Iterator[CelRule]:
    """Yield the rules that each check of an override has one of its subjects, and each subject one of its checks."""
    groups, of_any = _of_subjects(), [*OF_CODES, "missing-by-outcome"]
    for checks, condition in groups.items():
        named = ", ".join(checks)
        if checks[0] not in WHOLE:
            yield CelRule(
                _OVERRIDES,
                f"self.all(o, !o.checks.exists(c, c in {list(checks)}) || o.subjects.exists(s, s == '{ANY}' || {condition}))",
                f"quality.overrides: no pattern in subjects matches a subject of {named}; see docs/data.md",
            )
        yield CelRule(
            _OVERRIDES,
            f"self.all(o, o.checks.exists(c, c in {[*checks, *of_any]}) || !o.subjects.exists(s, {condition}))",
            f"quality.overrides: subjects name one that only {named} can have; correct or remove it",
        )
    conditions = " || ".join([f"s == '{ANY}'", *groups.values()])
    yield CelRule(
        _OVERRIDES,
        f"self.all(o, o.checks.exists(c, c in {of_any}) || o.subjects.all(s, {conditions}))",
        "quality.overrides: subjects name one that no check of the override has; correct or remove it",
    )


QUALITY_RULES: Final = (
    CelRule(
        "spec",
        "!has(self.quality) || self.quality.overrides.all(o, !('missing-by-outcome' in o.checks) || "
        f"o.subjects.exists(s, s in ['{ANY}', '{RECORDS}'] || s in self.features.demographics))",
        f"quality.overrides for missing-by-outcome require {RECORDS}, {ANY} or a name of features.demographics",
    ),
    *_subject_rules(),
    CelRule(
        _OVERRIDES,
        "self.all(o, !('value-range' in o.checks))",
        "quality.overrides must not name value-range; its ranges, shares and actions belong in quality.codes",
    ),
    *(_of_whole(subject) for subject in dict.fromkeys(WHOLE.values())),
    CelRule(
        "spec.quality.codes",
        "self.all(code, self[code].range[0] < self[code].range[1])",
        "range must be the lowest and the highest plausible number, such as [0.1, 30]",
    ),
)
