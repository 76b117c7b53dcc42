"""Parts of ``cohort.rules``: sets of events, the entry, criteria, the outcome and the observation."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from mlho.spec.types import (
    OMITTED,
    ColumnName,
    Day,
    SpecPart,
    TablePattern,
    Yes,
    refuse_bounds,
    refuse_several,
)

_Pattern = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Patterns = Annotated[tuple[_Pattern, ...], Field(min_length=1, max_length=1000)]
_Days = Annotated[int, Field(ge=0, le=36525)]
_Level = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Years = Annotated[Annotated[int, Field(ge=0, le=150)] | None, OMITTED]
_MaybeNumber = Annotated[float | None, OMITTED]


class EventSet(SpecPart):
    """A set of events, by code and optionally by numeric value."""

    codes: _Patterns
    """Patterns of codes, such as ``["ICD10:I21*"]``: ``*`` is any text, ``?`` one character, all else is literal."""
    descendants: Annotated[Yes | None, OMITTED] = None
    """Also all codes below ``codes`` in ``hierarchy``. The codes are then literal, without ``*`` and ``?``."""
    low: _MaybeNumber = None
    """Only events with a numeric value of at least this, in the unit of the code."""
    high: _MaybeNumber = None
    """Only events with a numeric value of at most this."""

    @model_validator(mode="after")
    def _range_rises(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("low must not be more than high")
        return self

    @model_validator(mode="after")
    def _ancestors_are_literal(self) -> Self:
        if self.descendants and any("*" in code or "?" in code for code in self.codes):
            raise ValueError("descendants requires literal codes, without * and ?. Name the ancestors")
        return self

    @property
    def has_range(self) -> bool:
        """Whether events are selected by numeric value."""
        return self.low is not None or self.high is not None


class Entry(EventSet):
    """The events by which a patient enters."""

    which: Literal["first", "any", "last"] = "first"
    """Which of a patient's entry events count: the first, any (each is a sample), or the last. Simultaneous events count as one."""
    washout_days: _Days = 0
    """Minimum number of days between two entries of a patient; an entry closer to the last kept one is dropped. Requires ``which:
    any``."""
    prior_observation_days: _Days = 0
    """Minimum number of days of observation before the entry."""

    @model_validator(mode="after")
    def _washout_needs_any(self) -> Self:
        if self.washout_days and self.which != "any":
            raise ValueError("washoutDays requires which: any; with first or last a patient has one entry")
        return self


class Count(EventSet):
    """A condition on the number of events of a set in a window relative to the entry: entry + fromDays < time ≤ entry + toDays."""

    from_days: Annotated[Annotated[int, Field(ge=-36525, le=3650)] | None, OMITTED] = None
    """Start of the window in days from the entry (negative: before the entry), exclusive. Default: all history."""
    to_days: Annotated[int, Field(ge=-36525, le=3650)] = 0
    """End of the window in days from the entry, inclusive; not after the index date. Default: the entry itself."""
    at_least: Annotated[Annotated[int, Field(ge=1, le=100_000)] | None, OMITTED] = None
    """Minimum number of events."""
    at_most: Annotated[Annotated[int, Field(ge=0, le=100_000)] | None, OMITTED] = None
    """Maximum number of events; 0 excludes patients with any such event."""
    distinct_days: Annotated[Yes | None, OMITTED] = None
    """Count days (UTC) with an event instead of events."""

    @model_validator(mode="after")
    def _window_and_bounds(self) -> Self:
        if self.from_days is not None and self.from_days >= self.to_days:
            raise ValueError("fromDays must be less than toDays")
        refuse_bounds(self.at_least, self.at_most)
        return self


class Age(SpecPart):
    """Age in completed years at the index date."""

    at_least: _Years = None
    """Youngest age."""
    at_most: _Years = None
    """Oldest age; 17 includes patients up to the day before their 18th birthday."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        refuse_bounds(self.at_least, self.at_most)
        return self


class Condition(SpecPart):
    """One condition: exactly one of count, age and sex."""

    count: Annotated[Count | None, OMITTED] = None
    """Events of a set in a window relative to the entry."""
    age: Annotated[Age | None, OMITTED] = None
    """Age at the index date, from ``birth_date``, or else ``age``, of the demographics. An unknown age does not meet the
    condition."""
    sex: Annotated[Annotated[tuple[_Level, ...], Field(min_length=1, max_length=16)] | None, OMITTED] = None
    """Accepted levels of the column ``sex``, or else ``gender``, of the demographics. A missing value does not meet the
    condition."""

    @property
    def _given(self) -> tuple[object, ...]:
        return (self.count, self.age, self.sex)

    @model_validator(mode="after")
    def _say_one(self) -> Self:
        if sum(value is not None for value in self._given) != 1:
            raise ValueError("give exactly one of count, age and sex, or, in a criterion, any")
        return self


class Criterion(Condition):
    """A condition that a sample must meet to stay in the cohort: exactly one of count, age, sex and any."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    """Name of the criterion in the attrition, as a description of the remaining samples: ``no earlier infarction``."""
    any: Annotated[Annotated[tuple[Condition, ...], Field(min_length=2, max_length=8)] | None, OMITTED] = None
    """Alternatives, at least one of which must be met: ``[{count: …}, {age: …}]``."""

    @property
    def _given(self) -> tuple[object, ...]:
        return (*super()._given, self.any)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The alternatives, or the criterion itself."""
        return (self,) if self.any is None else self.any


class Outcome(EventSet):
    """The outcome: an event of a set in the time at risk, index date + fromDays < time ≤ index date + toDays."""

    from_days: Annotated[int, Field(ge=0, le=36525)] = 0
    """Start of the time at risk in days after the index date, exclusive."""
    to_days: Annotated[int, Field(ge=1, le=36525)]
    """End of the time at risk in days after the index date, inclusive."""
    exclude_prior: Annotated[Yes | None, OMITTED] = None
    """Drop samples with an outcome event at any time before the time at risk begins."""

    @model_validator(mode="after")
    def _time_at_risk(self) -> Self:
        if self.from_days >= self.to_days:
            raise ValueError("fromDays must be less than toDays")
        return self


class Observation(SpecPart):
    """The period in which a patient is observed. Default: from the first to the last event of any code."""

    start_column: Annotated[ColumnName | None, OMITTED] = None
    """A column of the demographics with the first day of observation."""
    end_column: Annotated[ColumnName | None, OMITTED] = None
    """A column of the demographics with the last day of observation."""
    periods: Annotated[TablePattern | None, OMITTED] = None
    """Table of periods, relative to ``data.uri``: OMOP's ``observation_period``, or ``patient_id``, ``start_date`` and
    ``end_date``. The observation of an entry is the period that contains it. Excludes the other fields."""
    end_date: Annotated[Day | None, OMITTED] = None
    """The last day on which every patient is observed, such as the day of the export."""

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        ends = {"endColumn": self.end_column, "endDate": self.end_date}
        refuse_several(ends)
        if self.periods is not None:
            refuse_several({"periods": self.periods, "startColumn": self.start_column, **ends})
        return self
