"""Cohorts by rule against an oracle that evaluates one patient at a time."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlho.encoding.cohort.calendar import completed_years
from mlho.encoding.cohort.persons import NO_DATE
from mlho.encoding.rules.evaluation import RuleCohort, apply_rules
from mlho.encoding.rules.extraction import extract_events
from mlho.encoding.rules.history import Histories, join_histories
from mlho.encoding.rules.persons import RulePersons
from mlho.errors import DataError
from mlho.spec.cohort import TimeToEvent
from mlho.spec.rules import EventSet, Rules

HALF = dt.timedelta(hours=12)
START = dt.datetime(2020, 1, 1)
EPOCH = dt.datetime(1970, 1, 1)
CODES = ("A", "A1", "B", "C")
YEARS = (1900, 2299)


@dataclass(frozen=True)
class Event:
    """One event; its time is in half days from the start."""

    patient: str
    half_days: int
    code: str
    value: float | None = None

    @property
    def time(self) -> dt.datetime:
        return START + self.half_days * HALF


@dataclass(frozen=True)
class Person:
    """The demographics of a patient."""

    birth: dt.date | None
    sex: str | None
    end: dt.date | None


def batch_of(events: list[Event]) -> Any:
    """Return the events in the form of a source's batch."""
    return pa.RecordBatch.from_pydict(
        {
            "patient": pa.array([event.patient for event in events], pa.string()).dictionary_encode(),
            "time": pa.array([microseconds(event.time) for event in events], pa.int64()),
            "code": pa.array([event.code for event in events], pa.string()).dictionary_encode(),
            "value": pa.array([event.value for event in events], pa.float64()),
        }
    )


def microseconds(time: dt.datetime) -> int:
    return (time - EPOCH) // dt.timedelta(microseconds=1)


def histories_of(rules: Rules, *partitions: list[Event]) -> Histories:
    """Return the joined histories of partitions, each with two batches to test the state between batches."""
    parts = [
        extract_events(
            rules, [batch_of(half) for half in (partition[::2], partition[1::2]) if half], years=YEARS
        )
        for partition in partitions
    ]
    return join_histories(parts)


def persons_of(rules: Rules, ids: list[str], persons: dict[str, Person]) -> RulePersons | None:
    if not rules.reads_persons:
        return None
    known = [persons.get(patient, Person(None, None, None)) for patient in ids]
    ends = [
        NO_DATE if person.end is None else microseconds(dt.datetime.combine(person.end, dt.time.max))
        for person in known
    ]
    return RulePersons(
        birth_us=np.array(
            [NO_DATE if person.birth is None else days(person.birth) * 86_400_000_000 for person in known]
        ),
        age=np.full(len(ids), np.nan),
        sex=tuple(person.sex for person in known),
        end_us=np.array(ends, np.int64) if rules.observation.end_column is not None else None,
    )


def days(date: dt.date) -> int:
    return (date - EPOCH.date()).days


def evaluate(
    rules: Rules, persons: dict[str, Person], *partitions: list[Event]
) -> tuple[RuleCohort, list[Any]]:
    """Return the cohort, and its samples as (patient, index date, label)."""
    histories = histories_of(rules, *partitions)
    ids = histories.patient_ids.to_pylist()
    cohort = apply_rules(rules, histories, persons_of(rules, ids, persons))
    rows = zip(cohort.patient.tolist(), cohort.index_us.tolist(), cohort.outcome.tolist(), strict=True)
    return cohort, [
        (ids[patient], EPOCH + dt.timedelta(microseconds=us), label) for patient, us, label in rows
    ]


# The oracle follows the sentences of the documentation, one patient and one entry at a time.


def oracle(rules: Rules, persons: dict[str, Person], events: list[Event]) -> list[Any]:
    samples = []
    for patient in sorted({event.patient for event in events}):
        own_events = sorted(
            (event for event in events if event.patient == patient), key=lambda event: event.time
        )
        person = persons.get(patient, Person(None, None, None))
        for entry in entries(rules, own_events):
            sample = judge(rules, person, own_events, entry)
            if sample is not None:
                samples.append((patient, *sample))
    return samples


def is_in(event: Event, events: Any) -> bool:
    matches = {
        "A*": event.code in ("A", "A1"),
        "A": event.code == "A",
        "B": event.code == "B",
        "C": event.code == "C",
    }
    if not any(matches[pattern] for pattern in events.codes):
        return False
    if events.low is None and events.high is None:
        return True
    if event.value is None:
        return False
    return (events.low is None or event.value >= events.low) and (
        events.high is None or event.value <= events.high
    )


def entries(rules: Rules, events: list[Event]) -> list[dt.datetime]:
    times = sorted({event.time for event in events if is_in(event, rules.entry)})
    if rules.entry.which == "first":
        return times[:1]
    if rules.entry.which == "last":
        return times[-1:]
    kept: list[dt.datetime] = []
    for time in times:
        if not kept or time - kept[-1] >= dt.timedelta(days=rules.entry.washout_days):
            kept.append(time)
    return kept


def judge(rules: Rules, person: Person, events: list[Event], entry: dt.datetime) -> tuple[Any, int] | None:
    def day(n: int) -> dt.timedelta:
        return dt.timedelta(days=n)

    index = entry + day(rules.offset_days)
    end = events[-1].time
    if rules.observation.end_column is not None:
        if person.end is None:
            return None
        end = dt.datetime.combine(person.end, dt.time.max)
    if rules.observation.end_date is not None:
        end = dt.datetime.combine(rules.observation.end_date, dt.time.max)
    if events[0].time > entry - day(rules.entry.prior_observation_days) or index > end:
        return None
    for criterion in rules.criteria:
        alternatives = [criterion] if criterion.any is None else criterion.any
        if not any(meets(alternative, person, events, entry, index) for alternative in alternatives):
            return None
    outcomes = [event.time for event in events if is_in(event, rules.outcome)]
    begin, until = index + day(rules.outcome.from_days), index + day(rules.outcome.to_days)
    if rules.outcome.exclude_prior and any(time <= begin for time in outcomes):
        return None
    if any(begin < time <= min(until, end) for time in outcomes):
        return index, 1
    if end >= until or rules.not_observable == "negative":
        return index, 0
    return None


def meets(
    criterion: Any, person: Person, events: list[Event], entry: dt.datetime, index: dt.datetime
) -> bool:
    if criterion.count is not None:
        begin = (
            None
            if criterion.count.from_days is None
            else entry + dt.timedelta(days=criterion.count.from_days)
        )
        end = entry + dt.timedelta(days=criterion.count.to_days)
        times = [event.time for event in events if is_in(event, criterion.count)]
        found = [time for time in times if (begin is None or time > begin) and time <= end]
        n = len({time.date() for time in found}) if criterion.count.distinct_days else len(found)
        return n >= (criterion.count.at_least or 0) and (
            criterion.count.at_most is None or n <= criterion.count.at_most
        )
    if criterion.sex is not None:
        return person.sex in criterion.sex
    if person.birth is None:
        return False
    years = index.year - person.birth.year
    years -= (index.month, index.day) < (person.birth.month, person.birth.day)
    return (
        (criterion.age.at_least or 0)
        <= years
        <= (200 if criterion.age.at_most is None else criterion.age.at_most)
    )


def sets() -> Any:
    codes = st.lists(st.sampled_from(["A*", "A", "B", "C"]), min_size=1, max_size=2, unique=True)
    ranges = st.sampled_from([{}, {}, {"low": 2.0}, {"high": 3.0}, {"low": 1.0, "high": 2.0}])
    return st.builds(lambda codes_of_set, bounds: {"codes": tuple(codes_of_set), **bounds}, codes, ranges)


@st.composite
def criteria(draw: Any, number: int, offset: int) -> dict[str, Any]:
    kind = draw(st.sampled_from(["count", "count", "age", "sex", "any", "any"]))
    if kind == "any":
        alternatives = [draw(conditions(number, offset)) for _ in range(draw(st.integers(2, 3)))]
        plain = [
            {name: field for name, field in alternative.items() if name != "name"}
            for alternative in alternatives
        ]
        return {"name": f"any {number}", "any": tuple(plain)}
    return draw(conditions(number, offset))


@st.composite
def conditions(draw: Any, number: int, offset: int) -> dict[str, Any]:
    kind = draw(st.sampled_from(["count", "count", "age", "sex"]))
    if kind == "age":
        return {"name": f"age {number}", "age": draw(st.sampled_from([{"atLeast": 18}, {"atMost": 17}]))}
    if kind == "sex":
        return {"name": f"sex {number}", "sex": ("F",)}
    to_days = draw(st.integers(-3, offset))
    window = draw(st.sampled_from([{}, {"fromDays": to_days - draw(st.integers(1, 5))}]))
    bound = draw(
        st.sampled_from([{"atLeast": 1}, {"atMost": 0}, {"atLeast": 2}, {"atLeast": 1, "atMost": 2}])
    )
    by_day = draw(st.sampled_from([{}, {"distinctDays": True}]))
    return {
        "name": f"count {number}",
        "count": {**draw(sets()), "toDays": to_days, **window, **bound, **by_day},
    }


@st.composite
def rules_of(draw: Any) -> Rules:
    offset = draw(st.integers(0, 2))
    which = draw(st.sampled_from(["first", "any", "last"]))
    washout = {"washoutDays": draw(st.integers(0, 4))} if which == "any" else {}
    begin = draw(st.integers(0, 2))
    observation = draw(
        st.sampled_from([{}, {}, {"endColumn": "end"}, {"endDate": START.date() + dt.timedelta(days=8)}])
    )
    return Rules.model_validate(
        {
            "entry": {
                **draw(sets()), "which": which, **washout, "priorObservationDays": draw(st.integers(0, 2)),
            },
            "offsetDays": offset,
            "criteria": tuple(draw(criteria(number, offset)) for number in range(draw(st.integers(0, 3)))),
            "outcome": {
                **draw(sets()),
                "fromDays": begin,
                "toDays": begin + draw(st.integers(1, 6)),
                **draw(st.sampled_from([{}, {"excludePrior": True}])),
            },
            "observation": observation,
            "notObservable": draw(st.sampled_from(["drop", "negative"])),
        }
    )  # fmt: skip


EVENTS = st.lists(
    st.builds(
        Event,
        st.sampled_from(["p1", "p2", "p3", "é"]),
        st.integers(0, 24),
        st.sampled_from(CODES),
        st.sampled_from([None, 1.0, 2.0, 3.5]),
    ),
    min_size=1,
    max_size=40,
)
PERSONS = st.dictionaries(
    st.sampled_from(["p1", "p2", "p3"]),
    st.builds(
        Person,
        st.sampled_from([None, dt.date(2002, 1, 5), dt.date(1950, 6, 1), dt.date(2010, 1, 1)]),
        st.sampled_from([None, "F", "M"]),
        st.sampled_from([None, START.date() + dt.timedelta(days=6), START.date() + dt.timedelta(days=20)]),
    ),
)


@settings(max_examples=150, deadline=None)
@given(rules_of(), EVENTS, PERSONS, st.randoms(use_true_random=False))
def test_samples_are_those_of_the_oracle_for_any_partitions(rules, events, persons, random):
    """Patients, index dates and labels equal those of an evaluation of one entry at a time, for any partitions and row order."""
    shuffled = random.sample(events, len(events))
    cut = random.randint(0, len(events))
    has = {
        number
        for number, event_set in enumerate((rules.entry, rules.outcome))
        if any(is_code_in(e, event_set) for e in events)
    }
    if has != {0, 1}:
        with pytest.raises(DataError, match="no event has a code that the patterns match"):
            evaluate(rules, persons, shuffled[:cut], shuffled[cut:])
        return

    cohort, samples = evaluate(rules, persons, shuffled[:cut], shuffled[cut:])

    assert samples == oracle(rules, persons, events)
    n_candidates = cohort.attrition[0]["samples"]
    assert n_candidates == sum(cohort.dropped.values()) + len(samples)
    assert [step["rule"] for step in cohort.attrition[1:]] == list(cohort.dropped)
    assert cohort.attrition[-1]["samples"] == len(samples)
    assert cohort.attrition[-1]["patients"] == len({sample[0] for sample in samples})


@settings(max_examples=100, deadline=None)
@given(rules_of(), EVENTS, PERSONS, st.sampled_from([None, {"codes": ["C"]}, {"codes": ["B"], "high": 1.5}]))
def test_times_are_those_of_the_oracle(rules, events, persons, competing):
    """Every sample that the other rules keep has a time: until its first outcome or competing event, the end of its observation, or the end of
    its time at risk. A competing event before the index date has a time that is not after it.
    """
    other = None if competing is None else EventSet.model_validate(competing)
    rules = rules.model_copy(update={"not_observable": "drop", "competing": other})
    if any(not any(is_code_in(e, event_set) for e in events) for event_set in rules.event_sets[:2]):
        return
    if other is not None and not any(is_code_in(e, other) for e in events):
        with pytest.raises(DataError, match=r"cohort.rules.competing"):
            apply_rules(rules, histories_of(rules, events), None)
        return
    histories = histories_of(rules, events)
    ids = histories.patient_ids.to_pylist()
    time_to_event = TimeToEvent(horizon_days=(1,))

    cohort = apply_rules(rules, histories, persons_of(rules, ids, persons), times=time_to_event)

    samples = oracle(rules.model_copy(update={"not_observable": "negative"}), persons, events)
    assert len(cohort.patient) == len(samples)
    for place, (patient, index, is_positive) in enumerate(samples):
        own_events = [event for event in events if event.patient == patient]
        begin, until = (
            index + dt.timedelta(days=day) for day in (rules.outcome.from_days, rules.outcome.to_days)
        )
        end = max(event.time for event in own_events)
        if rules.observation.end_column is not None:
            end = dt.datetime.combine(persons[patient].end, dt.time.max)
        if rules.observation.end_date is not None:
            end = dt.datetime.combine(rules.observation.end_date, dt.time.max)
        until = min(until, end)
        times = [
            event.time for event in own_events if is_in(event, rules.outcome) and begin < event.time <= until
        ]
        others = [event.time for event in own_events if other and is_in(event, other) and event.time <= until]
        first = min(times + others, default=until)
        expected, is_event = (first - index) / dt.timedelta(days=1), first in times
        assert is_positive == bool(times)
        assert cohort.follow_up.days[place] == pytest.approx(expected, abs=1e-9)
        assert cohort.follow_up.status[place] == (1 if is_event else 2 if others else 0)
        assert cohort.outcome[place] == (is_event and expected <= 1)


def is_code_in(event: Event, events: Any) -> bool:
    return is_in(event, events.model_copy(update={"low": None, "high": None}))


def test_nothing_after_the_index_date_changes_who_enters():
    """Events after an index date only decide its label. A sample that the rules accept stays with or without them."""
    rules = Rules.model_validate(
        {
            "entry": {"codes": ("A",)},
            "criteria": ({"name": "with B", "count": {"codes": ("B",), "atLeast": 1}},),
            "outcome": {"codes": ("C",), "toDays": 5},
            "notObservable": "negative",
        }
    )
    before = [Event("p1", 0, "B"), Event("p1", 2, "A"), Event("p2", 2, "A"), Event("p2", 3, "B")]
    other = [Event("p3", 0, "C")]

    _, samples = evaluate(rules, {}, [*before, *other])
    _, later = evaluate(rules, {}, [*before, *other, Event("p1", 4, "C"), Event("p2", 4, "C")])

    assert samples == [("p1", START + 2 * HALF, 0)]
    assert later == [("p1", START + 2 * HALF, 1)]


def test_an_id_that_is_a_number_in_one_partition_and_text_in_another_is_one_patient():
    """Patients are identified by the text of their id."""
    rules = Rules.model_validate({"entry": {"codes": ("A",)}, "outcome": {"codes": ("B",), "toDays": 5}})
    numbers = batch_of([Event("17", 0, "A")]).set_column(0, "patient", pa.array([17], pa.int64()))
    parts = [
        extract_events(rules, [numbers], years=YEARS),
        extract_events(rules, [batch_of([Event("17", 4, "B")])], years=YEARS),
    ]

    histories = join_histories(parts)

    assert histories.patient_ids.to_pylist() == ["17"]
    assert apply_rules(rules, histories, None).outcome.tolist() == [1]


def test_rows_that_the_ledger_drops_are_no_history():
    """Rows without patient, code or time, or of an implausible year, are neither an entry nor an observation."""
    rules = Rules.model_validate({"entry": {"codes": ("A",)}, "outcome": {"codes": ("B",), "toDays": 5}})
    batch = pa.RecordBatch.from_pydict(
        {
            "patient": pa.array([None, "p", "p", "p", "q"], pa.string()).dictionary_encode(),
            "time": pa.array([0, 0, None, microseconds(dt.datetime(1800, 1, 1)), 0], pa.int64()),
            "code": pa.array(["A", None, "A", "A", "A"], pa.string()).dictionary_encode(),
        }
    )

    events = extract_events(rules, [batch], years=YEARS)

    assert (events.patient_ids, events.time_us.tolist()) == (("q",), [0])


def test_a_criterion_without_a_matching_code_is_a_warning():
    """With a misspelt pattern, a criterion with ``atMost: 0`` would silently exclude no patient."""
    rules = Rules.model_validate(
        {
            "entry": {"codes": ("A",)},
            "criteria": ({"name": "no c", "count": {"codes": ("c",), "atMost": 0}},),
            "outcome": {"codes": ("B",), "toDays": 5},
        }
    )

    cohort, _ = evaluate_without_oracle(rules, [Event("p", 0, "A"), Event("p", 1, "B")])

    assert cohort.warnings == ("No event has a code of the criterion 'no c': check its patterns.",)


def evaluate_without_oracle(rules: Rules, events: list[Event]) -> tuple[RuleCohort, list[Any]]:
    return evaluate(rules, {}, events)


@pytest.mark.parametrize(
    ("born", "day", "years"),
    [
        ("2000-03-15", "2018-03-14", 17),
        ("2000-03-15", "2018-03-15", 18),
        ("2000-02-29", "2001-02-28", 0),
        ("2000-02-29", "2001-03-01", 1),
        ("1960-12-31", "1960-12-31", 0),
        ("1960-12-31", "2019-01-01", 58),
    ],
)
def test_years_are_completed_on_the_birthday(born, day, years):
    """Completed years follow from the calendar and not from a number of days."""
    times = [np.array([microseconds(dt.datetime.fromisoformat(date))]) for date in (born, day)]

    assert completed_years(*times).tolist() == [years]
