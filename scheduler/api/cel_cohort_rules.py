"""CEL validation rules of ``cohort.rules``; the model checks the same conditions (:mod:`mlho.spec.rules`), and those inside ``any``."""

from typing import Final

from mlho.spec.layout import PATIENT
from mlho.spec.rules import BY_RULES, RULE_NAMES
from scheduler.api.cel_rule import CelRule, rules_at

_RULES: Final = "spec.cohort.rules"
_ONE_OF_FOUR: Final = "[has(c.count), has(c.age), has(c.sex), has(c.any)].exists_one(given, given)"
_BY_PERSON: Final = (
    "self.cohort.rules.criteria.all(c, has(c.count) || has(c.any)) && !has(self.cohort.rules.observation.startColumn) "
    "&& !has(self.cohort.rules.observation.endColumn)"
)


def _rises(low: str, high: str) -> str:
    """Return an expression: if both bounds are given, the first does not exceed the second."""
    return f"!has({low}) || !has({high}) || {low} <= {high}"


def _used_as_group(column: str, *, also: str = "") -> str:
    """Return an expression: a column is a feature, a group of the audit or the column of a split."""
    return (
        f"({column} in self.features.demographics || (has(self.bias) && {column} in self.bias.columns) || "
        f"(has(self.validation.splitColumn) && self.validation.splitColumn == {column}){also})"
    )


def _used(column: str) -> str:
    """Return an expression: a column has one of these roles, or groups the patients."""
    return _used_as_group(column, also=f" || (has(self.cohort.groupBy) && self.cohort.groupBy == {column})")


_OF_PATIENTS: Final = f"{{{', '.join(f"'{source}': '{column}'" for source, column in PATIENT.items())}}}"
_TIMES: Final = ("event", "end", "competing")

COHORT_RULES: Final = (
    *rules_at(
        "spec",
        (
            f"['patient_id', {_OF_PATIENTS}[self.data.source]].all(c, !{_used_as_group('c')})",
            "features.demographics, bias.columns and validation.splitColumn must not name the column of the patients",
        ),
        (
            "!has(self.data.columns) || !has(self.data.columns.labels) || "
            f"!{_used_as_group('self.data.columns.labels.patient_id')}",
            "features.demographics, bias.columns and validation.splitColumn must not name the column of the patients in data.columns.labels",
        ),
        (
            f"!has(self.cohort.outcomeDate) || !{_used('self.cohort.outcomeDate')}",
            "features.demographics, bias.columns, validation.splitColumn and cohort.groupBy must not name cohort.outcomeDate",
        ),
        (
            "!has(self.cohort.timeToEvent) || has(self.cohort.rules) || !("
            + " || ".join(
                f"(has(self.cohort.timeToEvent.{name}) && {_used(f'self.cohort.timeToEvent.{name}')})"
                for name in _TIMES
            )
            + ")",
            "features.demographics, bias.columns, validation.splitColumn and cohort.groupBy must not name a date of cohort.timeToEvent",
        ),
        (
            "!has(self.cohort.index) || !has(self.cohort.index.date) || "
            "(self.cohort.index.date.getFullYear() >= self.data.plausibleYears[0] && "
            "self.cohort.index.date.getFullYear() <= self.data.plausibleYears[1])",
            "cohort.index.date must be within data.plausibleYears",
        ),
        (
            f"has(self.cohort.rules) || !{_used('self.cohort.outcome')}",
            "features.demographics, bias.columns, validation.splitColumn and cohort.groupBy must not name the column of the outcome",
        ),
        (
            "!has(self.bias) || !((has(self.cohort.groupBy) && self.cohort.groupBy in self.bias.columns) || "
            "(has(self.cohort.index) && has(self.cohort.index.column) && self.cohort.index.column in self.bias.columns))",
            "bias.columns must not name the column of cohort.groupBy or the index date; bias.periods gives figures by time",
        ),
        (
            "has(self.data.tables.labels) != has(self.cohort.rules)",
            "give exactly one of data.tables.labels and cohort.rules",
        ),
        (
            f"!has(self.cohort.rules) || has(self.data.tables.demographics) || ({_BY_PERSON})",
            "cohort.rules with age, sex or a column of the observation requires data.tables.demographics",
        ),
    ),
    *rules_at(
        "spec.cohort",
        ("has(self.rules) || has(self.index)", "give index, such as {column: index_date}, or rules"),
        (
            f"!has(self.rules) || !has(self.index) || (has(self.index.column) && self.index.column == '{BY_RULES}')",
            "rules and index exclude each other: rules give the index date; remove one of them",
        ),
        (
            "!has(self.timeToEvent) || has(self.rules) || (has(self.timeToEvent.event) && has(self.timeToEvent.end))",
            "timeToEvent requires event and end, the columns of dates in the labels; or give rules",
        ),
        (
            "!has(self.timeToEvent) || !has(self.rules) || (!has(self.timeToEvent.event) && !has(self.timeToEvent.end) && "
            "!has(self.timeToEvent.competing))",
            "event, end and competing of timeToEvent are columns of the labels, but rules create the labels; remove them, and use rules.competing",
        ),
        (
            "!has(self.timeToEvent) || !has(self.rules) || (self.rules.notObservable == 'drop' && "
            "self.timeToEvent.horizonDays.all(d, d <= self.rules.outcome.toDays))",
            "with timeToEvent, rules.outcome.toDays must not be less than the last of horizonDays, and notObservable must be drop",
        ),
        (
            "!has(self.timeToEvent) || (!has(self.outcomeDate) && !has(self.shareEncoding) && !has(self.followUpDays) && "
            "self.conflictingLabels == 'error' && (!has(self.index) || !has(self.index.none)))",
            "timeToEvent excludes outcomeDate, shareEncoding, followUpDays, conflictingLabels and index: none",
        ),
        (
            "!has(self.outcomeDate) || (!has(self.rules) && !has(self.shareEncoding))",
            "outcomeDate is a column of the labels of one outcome: it excludes rules and shareEncoding",
        ),
        (
            "!has(self.rules) || !has(self.rules.competing) || has(self.timeToEvent)",
            "rules.competing requires timeToEvent; add it, or add the codes to rules.outcome",
        ),
    ),
    *rules_at(
        f"{_RULES}.entry",
        (
            "self.which == 'any' || self.washoutDays == 0",
            "washoutDays requires which: any; with first or last a patient has one entry",
        ),
        (_rises("self.low", "self.high"), "low of the entry must not be more than high"),
    ),
    *rules_at(
        f"{_RULES}.outcome",
        (_rises("self.low", "self.high"), "low of the outcome must not be more than high"),
        ("self.fromDays < self.toDays", "fromDays of the outcome must be less than toDays"),
    ),
    CelRule(
        f"{_RULES}.competing",
        _rises("self.low", "self.high"),
        "low of the competing event must not be more than high",
    ),
    CelRule(
        f"{_RULES}.observation",
        "!has(self.endColumn) || !has(self.endDate)",
        "endColumn and endDate exclude each other; remove one of them",
    ),
    *rules_at(
        f"{_RULES}.criteria",
        (f"self.all(c, {_ONE_OF_FOUR})", "each criterion must have exactly one of count, age, sex and any"),
        ("self.all(a, self.exists_one(b, b.name == a.name))", "criteria must have distinct names"),
        (
            f"self.all(c, !(c.name in {sorted(RULE_NAMES)}))",
            "a criterion cannot have the name of another step of the attrition",
        ),
        (
            "self.all(c, !has(c.count) || has(c.count.atLeast) || has(c.count.atMost))",
            "each count must have atLeast, atMost or both",
        ),
        (
            f"self.all(c, !has(c.count) || {_rises('c.count.atLeast', 'c.count.atMost')})",
            "atLeast of a count must not be more than atMost",
        ),
        (
            f"self.all(c, !has(c.count) || {_rises('c.count.low', 'c.count.high')})",
            "low of a count must not be more than high",
        ),
        (
            "self.all(c, !has(c.count) || !has(c.count.fromDays) || c.count.fromDays < c.count.toDays)",
            "fromDays of a count must be less than toDays",
        ),
        (
            "self.all(c, !has(c.age) || has(c.age.atLeast) || has(c.age.atMost))",
            "each age must have atLeast, atMost or both",
        ),
        (
            f"self.all(c, !has(c.age) || {_rises('c.age.atLeast', 'c.age.atMost')})",
            "atLeast of an age must not be more than atMost",
        ),
    ),
    CelRule(
        _RULES,
        "self.criteria.all(c, !has(c.count) || c.count.toDays <= self.offsetDays)",
        "a criterion's window ends after the index date: toDays must not be more than offsetDays",
    ),
)
