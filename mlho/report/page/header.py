"""The head of the report: purpose, outcome, and dates of the data."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from mlho.report import words
from mlho.report.result import Period, Result

NOT_STATED: Final = "not stated"
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_CODES_NAMED: Final = 5
_NEARLY_ALL: Final = 0.005  # share of the event rows before, and after, the years that are shown


def heading(result: Result) -> str:
    """Return the author's title, or a title made from the outcome."""
    kind = "Prediction" if result.predictive else "Association"
    return result.about.title or f"{kind} of “{result.outcome}”"


def eyebrow(result: Result) -> str:
    """Return the line above the title: kind of document, name of the run, date and version."""
    version = result.lineage.versions.get("mlho-batch", "")
    parts = ["Training report", result.about.name or "", run_date(result), f"MLHO {version}".strip()]
    return " · ".join(part for part in parts if part)


def run_date(result: Result) -> str:
    """Return the date of the run: ``26 November 2026``; empty if unknown."""
    if result.made_at is None:
        return ""
    day = dt.datetime.fromisoformat(result.made_at).date()
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def about(result: Result) -> list[tuple[str, str]]:
    """Return the facts of the head: outcome, use, dates."""
    metadata, cohort = result.about, result.cohort
    rules = rules_of(result)
    column = f"column “{result.outcome}” of the labels is 1" if rules is None else _outcome_by_rule(rules)
    if (time_to_event := result.lineage.spec.get("cohort", {}).get("timeToEvent")) is not None:
        days = f"within {time_to_event['horizonDays'][0]:,} days of the index date"
        event_column = time_to_event.get("event")
        column = (
            f"column “{event_column}” of the labels is a date {days}"
            if rules is None
            else f"{column}, {days}"
        )
    definition = (
        f"{metadata.outcome_definition.rstrip('.')} ({column})" if metadata.outcome_definition else column
    )
    follow_up = f"{NOT_STATED} (metadata.followUp)" if rules is None else _time_at_risk(rules)
    if time_to_event is not None and rules is None:
        follow_up = f"until column “{time_to_event['end']}” of the labels"
    return [
        ("Outcome", definition[:1].upper() + definition[1:]),
        ("Intended use", metadata.intended_use or f"{NOT_STATED} (metadata.intendedUse)"),
        ("Not for", _not_for(result)),
        ("Index dates", _index_dates(result)),
        ("Data after them" if words.after_of(result) else "Data before them", words.window(result)),
        ("Events used", _years(cohort.event_years, result.ledger.rows_used)),
        ("Follow-up", metadata.follow_up or follow_up),
        ("Computed on", run_date(result) or words.ABSENT),
    ]


def rules_of(result: Result) -> Mapping[str, Any] | None:
    """Return the rules of the cohort as in the specification; None if a table gave the labels."""
    rules: Mapping[str, Any] | None = result.lineage.spec.get("cohort", {}).get("rules")
    return rules


def _outcome_by_rule(rules: Mapping[str, Any]) -> str:
    codes = rules["outcome"]["codes"]
    more = f" and {len(codes) - _CODES_NAMED:,} more patterns" if len(codes) > _CODES_NAMED else ""
    return f"an event of {', '.join(codes[:_CODES_NAMED])}{more} in the time at risk"


def _time_at_risk(rules: Mapping[str, Any]) -> str:
    outcome = rules["outcome"]
    begin, end = outcome["fromDays"], words.plural(outcome["toDays"], "day")
    after = f"more than {words.plural(begin, 'day')} and " if begin else ""
    return f"{after}up to {end} after the index date"


def _not_for(result: Result) -> str:
    """Return the uses that the author excludes, and those that are excluded for every model, as the README states them."""
    prediction = "" if result.predictive else "prediction; "
    stated = "" if result.about.out_of_scope is None else f"{result.about.out_of_scope.rstrip('. ')}; "
    return f"{stated}{prediction}decisions about a patient without human judgement. The model is not a medical device."


def _index_dates(result: Result) -> str:
    if not result.predictive and not words.after_of(result):
        return "none: all records of a patient count"
    dates = result.cohort.index_dates
    return words.HIDDEN if dates is None else period(dates)


def period(dates: Period) -> str:
    """Return ``March 2014 to May 2018``."""
    first, last = (_month(day) for day in (dates.first, dates.last))
    return first if first == last else f"{first} to {last}"


def _month(text: str) -> str:
    year, _, month = text.partition("-")
    return f"{_MONTHS[int(month) - 1]} {year}"


def _years(rows: dict[str, int], n_used: int) -> str:
    """Return the years of nearly all event rows, so that a few wrong dates do not stretch the period."""
    total = sum(rows.values())
    if not total:
        return words.ABSENT
    kept, before = [], 0
    for year, n in sorted(rows.items(), key=lambda item: int(item[0])):
        if before + n > _NEARLY_ALL * total and before < (1 - _NEARLY_ALL) * total:
            kept.append(year)
        before += n
    years = kept[0] if kept[0] == kept[-1] else f"{kept[0]} to {kept[-1]}"
    share = "" if len(kept) == len([year for year, n in rows.items() if n]) else "99 % of them "
    return f"{words.plural(n_used, 'row')}, {share}from {years}"
