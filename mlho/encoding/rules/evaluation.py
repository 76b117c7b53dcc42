"""Evaluate rules: turn histories and persons into samples with index date and label, with an account of each step. Pure.

A *possible sample* is an entry event, or a patient without one. Each becomes a sample or is dropped by exactly one step.
All windows are half-open, like the look-back windows of features: from < time ≤ to.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.arrays import is_new, n_distinct
from mlho.encoding.cohort.calendar import completed_years
from mlho.encoding.cohort.cohort import NO_BOUND, FollowUp
from mlho.encoding.cohort.labels import outcome_of
from mlho.encoding.cohort.persons import NO_DATE
from mlho.encoding.cohort.subgroup import is_of_age
from mlho.encoding.cohort.windows import DAY_US
from mlho.encoding.rules.event_sets import ENTRY, FIRST_COUNT, OUTCOME
from mlho.encoding.rules.history import AFTER_ALL, BEFORE_ALL, Histories, Timeline
from mlho.encoding.rules.periods import Periods
from mlho.encoding.rules.persons import RulePersons
from mlho.errors import DataError, plural
from mlho.spec.cohort import TimeToEvent
from mlho.spec.rules import (
    BY_RULES,
    ENTRY_EVENT,
    NO_PRIOR,
    OBSERVABLE,
    OBSERVED,
    WASHOUT,
    WHICH,
    Age,
    Condition,
    Count,
    Rules,
)

POSSIBLE: Final = "entry events, and patients without one"
#: Returns, for patients and times, the start and end of the observation at each time.
type _Observed = Callable[[NDArray[np.int64], NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.int64]]]
_EPOCH_ORDINAL: Final = 719_163  # 1970-01-01 as a proleptic Gregorian ordinal


@dataclass(frozen=True, eq=False)
class RuleCohort:
    """Samples that the rules produce, and their account."""

    patient: NDArray[np.int64]
    """Position among the patients of the histories; sorted by patient and index date. Shape (n_samples,)."""
    index_us: NDArray[np.int64]
    """Shape (n_samples,)."""
    outcome: NDArray[np.int8]
    """Shape (n_samples,)."""
    dropped: dict[str, int]
    """Possible samples dropped, by step in order. Together with the samples they add up to all possible samples."""
    attrition: tuple[dict[str, Any], ...]
    """Steps as in :class:`mlho.encoding.cohort.cohort.Cohort`; the first one counts all possible samples."""
    warnings: tuple[str, ...] = ()
    follow_up: FollowUp | None = None
    """Follow-up of each sample, if the outcome is a time to an event."""


@dataclass
class _Selection:
    """Entries still included, and the account of those dropped."""

    patient: NDArray[np.int64]
    time_us: NDArray[np.int64]
    attrition: list[dict[str, Any]]
    dropped: dict[str, int] = field(default_factory=dict)

    def keep(self, name: str, is_kept: NDArray[np.bool_]) -> None:
        """Drop the entries that do not pass a step."""
        self.dropped[name] = int((~is_kept).sum())
        self.patient, self.time_us = self.patient[is_kept], self.time_us[is_kept]
        self.note(name)

    def note(self, name: str) -> None:
        """Add an attrition step with the current counts."""
        n_patients = n_distinct(self.patient)
        self.attrition.append({"rule": name, "patients": n_patients, "samples": len(self.patient)})


def apply_rules(
    rules: Rules,
    histories: Histories,
    persons: RulePersons | None,
    periods: Periods | None = None,
    *,
    times: TimeToEvent | None = None,
) -> RuleCohort:
    """Return the samples of a cohort by rule.

    Parameters
    ----------
    histories : Histories
        Extracted with the same rules.
    persons : RulePersons or None
        In the order of the patients of the histories; needed if ``rules.reads_persons``.
    periods : Periods or None
        Numbered by the patients of the histories; needed if the observation is by periods.
    times : TimeToEvent or None
        Given if the outcome is the time to its event. A sample that is not observed to the end of the time at risk is then
        censored, not dropped.

    Raises
    ------
    DataError
        No event is an entry, or no event has a code of the outcome.
    """
    _refuse_empty_sets(rules, histories)
    selection = _entries(rules, histories)
    observed = _lifelong(rules, histories, persons).at if periods is None else periods.at
    _keep_observed(selection, rules, observed)
    _keep_by_criteria(selection, rules, histories, persons)
    outcomes = histories.timeline(OUTCOME)
    index_us = selection.time_us + rules.offset_days * DAY_US
    if rules.outcome.exclude_prior:
        begin = index_us + rules.outcome.from_days * DAY_US
        before = np.full_like(begin, BEFORE_ALL)
        selection.keep(NO_PRIOR, outcomes.count(selection.patient, before, begin) == 0)
    follow_up = None if times is None else _follow_up(selection, rules, histories, observed)
    if follow_up is None or times is None:
        outcome = _label(selection, rules, outcomes, observed)
    else:
        outcome = outcome_of(follow_up, times)
    return RuleCohort(
        selection.patient,
        selection.time_us + rules.offset_days * DAY_US,
        outcome,
        selection.dropped,
        tuple(selection.attrition),
        _warnings(rules, histories, persons),
        follow_up,
    )


def _refuse_empty_sets(rules: Rules, histories: Histories) -> None:
    """Refuse rules whose patterns for entry, outcome or competing event match no code of the events: the patterns are misspelt."""
    competing = [] if rules.competing is None else [(_competing_set(rules), "competing")]
    for number, name in ((ENTRY, "entry"), (OUTCOME, "outcome"), *competing):
        if not histories.seen & (1 << number):
            raise DataError(
                f"{BY_RULES}.{name}",
                "no event has a code that the patterns match",
                expected=f"events of the {name} among those of {plural(len(histories.patient_ids), 'patient')}",
                got="none",
                remedy="Check codes: a pattern is matched against the whole code, in its case; * is any text.",
            )


def _warnings(rules: Rules, histories: Histories, persons: RulePersons | None) -> tuple[str, ...]:
    """Warn about criteria whose patterns or levels match nothing in the data."""
    named = [
        (criterion.name, condition) for criterion in rules.criteria for condition in criterion.conditions
    ]
    counts = [name for name, condition in named if condition.count is not None]
    levels = {*persons.sex} if persons is not None else set()
    return (
        *(
            f"No event has a code of the criterion {name!r}: check its patterns."
            for number, name in enumerate(counts, FIRST_COUNT)
            if not histories.seen & (1 << number)
        ),
        *(
            f"No patient has a sex of the criterion {name!r}: check its levels."
            for name, condition in named
            if condition.sex is not None and not levels & {*condition.sex}
        ),
    )


def _entries(rules: Rules, histories: Histories) -> _Selection:
    """Return the entries that ``which`` and the washout keep."""
    entries = histories.timeline(ENTRY)
    is_distinct = is_new(entries.patient, entries.time_us)
    patient, time_us = entries.patient[is_distinct], entries.time_us[is_distinct]
    n_all = len(histories.patient_ids)
    n_without = n_all - n_distinct(patient)
    first = {"rule": POSSIBLE, "patients": n_all, "samples": len(patient) + n_without}
    selection = _Selection(patient, time_us, [first], {ENTRY_EVENT: n_without})
    selection.note(ENTRY_EVENT)
    if rules.entry.which != "any":
        is_edge = is_new(patient) if rules.entry.which == "first" else is_new(patient[::-1])[::-1]
        selection.keep(WHICH[rules.entry.which], is_edge)
    elif rules.entry.washout_days:
        selection.keep(WASHOUT, np.asarray(_apart(patient, time_us, rules.entry.washout_days * DAY_US)))
    return selection


@njit(cache=True, nogil=True)
def _apart(patient: Any, time_us: Any, least_us: Any) -> Any:  # pragma: no cover - compiled
    """Mark the first entry of each patient, and each later one that is far enough after the last marked one."""
    is_kept = np.zeros(patient.size, np.bool_)
    last = 0
    for i in range(patient.size):
        if i == 0 or patient[i] != patient[last] or time_us[i] - time_us[last] >= least_us:
            is_kept[i] = True
            last = i
    return is_kept


@dataclass(frozen=True, eq=False)
class _Lifelong:
    """One period of observation for each patient; ``NO_DATE`` if unknown."""

    start_us: NDArray[np.int64]
    end_us: NDArray[np.int64]

    def at(
        self, patient: NDArray[np.int64], time_us: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the patient's start and end for each time; the time itself may lie outside."""
        return self.start_us[patient], self.end_us[patient]


def _lifelong(rules: Rules, histories: Histories, persons: RulePersons | None) -> _Lifelong:
    """Return the first and last microsecond of each patient's observation."""
    start_us, end_us = histories.first_us, histories.last_us
    if persons is not None and persons.start_us is not None:
        start_us = persons.start_us
    if persons is not None and persons.end_us is not None:
        end_us = persons.end_us
    if rules.observation.end_date is not None:
        day = rules.observation.end_date.toordinal() - _EPOCH_ORDINAL
        end_us = np.full_like(end_us, (day + 1) * DAY_US - 1)
    return _Lifelong(start_us, end_us)


def _keep_observed(selection: _Selection, rules: Rules, observed: _Observed) -> None:
    """Keep entries that have enough observation before them and whose index date is observed."""
    start, end = observed(selection.patient, selection.time_us)
    prior = rules.entry.prior_observation_days * DAY_US
    index_us = selection.time_us + rules.offset_days * DAY_US
    is_known = (start != NO_DATE) & (end != NO_DATE)
    selection.keep(OBSERVED, is_known & (start <= selection.time_us - prior) & (index_us <= end))


def _keep_by_criteria(
    selection: _Selection, rules: Rules, histories: Histories, persons: RulePersons | None
) -> None:
    numbers = iter(range(FIRST_COUNT, FIRST_COUNT + len(rules.counts)))
    for criterion in rules.criteria:
        is_met = np.zeros(len(selection.patient), np.bool_)
        for condition in criterion.conditions:
            events = histories.timeline(next(numbers)) if condition.count is not None else None
            is_met |= _is_met(condition, rules, selection, events, persons)
        selection.keep(criterion.name, is_met)


def _is_met(
    condition: Condition,
    rules: Rules,
    selection: _Selection,
    events: Timeline | None,
    persons: RulePersons | None,
) -> NDArray[np.bool_]:
    """Return which entries meet a condition; ``events`` are the events that the condition counts."""
    if condition.count is not None:
        assert events is not None
        return _is_counted(condition.count, events, selection)
    assert persons is not None, "the reader of the demographics sees the same rules"
    if condition.age is not None:
        index_us = selection.time_us + rules.offset_days * DAY_US
        return _is_of_age(condition.age, persons, selection.patient, index_us)
    accepted = {*(condition.sex or ())}
    is_of_sex = np.array([level in accepted for level in persons.sex], np.bool_)
    return np.asarray(is_of_sex[selection.patient])


def _is_counted(count: Count, events: Timeline, selection: _Selection) -> NDArray[np.bool_]:
    after = np.full_like(selection.time_us, BEFORE_ALL)
    if count.from_days is not None:
        after = selection.time_us + count.from_days * DAY_US
    until = selection.time_us + count.to_days * DAY_US
    n_in: Callable[..., NDArray[np.int64]] = events.count_days if count.distinct_days else events.count
    n = n_in(selection.patient, after, until)
    return (n >= (count.at_least or 0)) & (n <= (NO_BOUND if count.at_most is None else count.at_most))


def _is_of_age(
    age: Age, persons: RulePersons, patient: NDArray[np.int64], index_us: NDArray[np.int64]
) -> NDArray[np.bool_]:
    births = persons.birth_us[patient]
    is_born = births != NO_DATE
    years = np.where(
        is_born, completed_years(np.where(is_born, births, 0), index_us), np.floor(persons.age[patient])
    )
    return is_of_age(age, years)


def _label(selection: _Selection, rules: Rules, outcomes: Timeline, observed: _Observed) -> NDArray[np.int8]:
    """Return the outcomes. Drop samples without the outcome whose observation ends before the time at risk does."""
    index_us = selection.time_us + rules.offset_days * DAY_US
    after = index_us + rules.outcome.from_days * DAY_US
    until = index_us + rules.outcome.to_days * DAY_US
    _, end = observed(selection.patient, selection.time_us)
    is_positive = outcomes.count(selection.patient, after, np.minimum(until, end)) > 0
    is_observable = is_positive | (end >= until)
    if rules.not_observable == "drop":
        selection.keep(OBSERVABLE, is_observable)
        is_positive = is_positive[is_observable]
    return is_positive.astype(np.int8)


def _competing_set(rules: Rules) -> int:
    return len(rules.event_sets) - 1


def _follow_up(selection: _Selection, rules: Rules, histories: Histories, observed: _Observed) -> FollowUp:
    """Return the days to the first outcome event in the time at risk, a competing event, or the end of what is observed of it.

    If an event and a competing one have the same time, the event counts. A competing event may lie before the index date; the
    sample is then not at risk.
    """
    index_us = selection.time_us + rules.offset_days * DAY_US
    after = index_us + rules.outcome.from_days * DAY_US
    _, end = observed(selection.patient, selection.time_us)
    until = np.minimum(index_us + rules.outcome.to_days * DAY_US, end)
    event = histories.timeline(OUTCOME).first_in(selection.patient, after, until)
    competing = np.full_like(event, AFTER_ALL)
    if rules.competing is not None:
        others = histories.timeline(_competing_set(rules))
        competing = others.first_in(selection.patient, np.full_like(after, BEFORE_ALL), until)
    first = np.minimum(np.minimum(event, competing), until)
    status = np.where(event == first, 1, np.where(competing == first, 2, 0)).astype(np.uint8)
    return FollowUp((first - index_us) / DAY_US, status)
