"""The section ``cohort`` of a specification: who is studied, when, and for which outcome."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from mlho.spec.rules import BY_RULES, Age, Rules
from mlho.spec.types import OMITTED, ColumnName, Day, ShortName, SpecPart, Yes, refuse_repeats


class Index(SpecPart):
    """The index date, up to and including which data may be used. Set exactly one of the three fields."""

    column: ColumnName | None = None
    """A column of the labels. A date includes its whole day; a timestamp means up to and including that instant."""
    date: Day | None = None
    """One date for all patients. The whole day is included."""
    none: Yes | None = None
    """Use all events of each patient. In a file, ``index: none`` is short for ``{none: true}``."""

    @model_validator(mode="before")
    @classmethod
    def _read_shorthand(cls, value: Any) -> Any:
        return {"none": True} if value == "none" else value

    @model_serializer(mode="wrap")
    def _only_what_is_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    @model_validator(mode="after")
    def _say_one(self) -> Self:
        if sum(value is not None for value in (self.column, self.date, self.none)) != 1:
            raise ValueError("give exactly one: {column: index_date}, {date: 2020-01-01}, or none")
        return self


_Level = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Window = Annotated[tuple[Annotated[int, Field(ge=0, le=36_525)], ...], Field(min_length=2, max_length=2)]


#: Classifiers for a time to an event; the first is the default candidate.
OF_TIMES: Final = ("cox", "xgboostAft", "discreteTime")


class TimeToEvent(SpecPart):
    """The outcome as a censored time to an event, defined by dates in the labels or by ``cohort.rules``."""

    event: Annotated[ColumnName | None, OMITTED] = None
    """Column with the date of the event; empty if no event was observed. Required without ``rules``, whose outcome is the event."""
    end: Annotated[ColumnName | None, OMITTED] = None
    """Column with the date on which observation ends. A sample without an event by that date is censored on it. The date may be
    empty if there is an event or a competing event. Required without ``rules``; with ``rules``, their observation and time at risk
    determine the end."""
    competing: Annotated[ColumnName | None, OMITTED] = None
    """Column with the date of a competing event, after which the event cannot occur, such as death; empty if none was observed."""
    horizon_days: Annotated[
        tuple[Annotated[int, Field(ge=1, le=36525)], ...], Field(min_length=1, max_length=10)
    ]
    """Days after the index date up to which the risk is predicted, ascending. The predicted probability is the risk up to the first
    one, which also defines the outcome for screen, ranking, consensus, thresholds and the figures of ``headline``."""

    @model_validator(mode="after")
    def _horizons_ascend(self) -> Self:
        if list(self.horizon_days) != sorted(set(self.horizon_days)):
            raise ValueError("horizonDays must be ascending, without duplicates, such as [365, 730]")
        refuse_repeats(self.columns, "event, end and competing must be different columns")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The date columns of the labels; empty with rules."""
        return tuple(name for name in (self.event, self.end, self.competing) if name is not None)

    def check_columns(self, rules: Rules | None, *, by_rules: bool) -> None:
        """Refuse columns together with rules, missing columns without rules, and horizons beyond the time at risk of the rules."""
        if by_rules and self.columns:
            raise ValueError(
                "timeToEvent: event, end and competing are columns of the labels, but rules create the labels. Remove them; a competing event "
                "belongs in rules.competing, such as {codes: [DEATH]}"
            )
        if not by_rules and (self.event is None or self.end is None):
            raise ValueError("timeToEvent requires event and end, the columns of dates in the labels")
        if rules is None:
            return
        if self.horizon_days[-1] > rules.outcome.to_days:
            raise ValueError(
                f"timeToEvent: horizonDays extend beyond the time at risk. Set rules.outcome.toDays to {self.horizon_days[-1]} or more"
            )
        if rules.not_observable != "drop":
            raise ValueError(
                "timeToEvent and rules.notObservable exclude each other: a sample is censored where its observation ends"
            )


class Only(SpecPart):
    """A subgroup by sex and age, which must be in ``features.demographics``. A sample with an unknown value is not in the subgroup."""

    sex: Annotated[Annotated[tuple[_Level, ...], Field(min_length=1, max_length=16)] | None, OMITTED] = None
    """Accepted levels of the column ``sex``, or else ``gender``."""
    age: Annotated[Age | None, OMITTED] = None
    """Bounds of the age in completed years at the index date."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.sex is None and self.age is None:
            raise ValueError("give sex, age or both")
        return self


class Group(Only):
    """A named subgroup."""

    name: ShortName
    """Suffix of the names of its runs."""

    @property
    def only(self) -> Only:
        """The subgroup without its name."""
        return Only(sex=self.sex, age=self.age)


class Evolution(SpecPart):
    """Evolving phenotypes: which new codes follow the index date, in one window after another, for everyone and by group."""

    windows: Annotated[tuple[_Window, ...], Field(min_length=1, max_length=24)]
    """Start and end of each window in days after the index date: ``[[0, 90], [90, 180]]``."""
    past_days: Annotated[Annotated[int, Field(ge=1, le=36_525)] | None, OMITTED] = None
    """Days up to and including the index date. A code recorded in them is not new. Default: all history."""
    groups: Annotated[tuple[Group, ...], Field(max_length=12)] = ()
    """Subgroups, each with its own runs in addition to those of all samples: ``{name: women-65, sex: [female], age: {atLeast: 65}}``."""

    @model_validator(mode="after")
    def _windows_and_names(self) -> Self:
        if any(begin >= end for begin, end in self.windows):
            raise ValueError("each of windows must start before it ends")
        if list(self.windows) != sorted(set(self.windows)):
            raise ValueError("windows must be ascending, without duplicates")
        refuse_repeats([group.name for group in self.groups], "groups must not repeat a name")
        return self


class Cohort(SpecPart):
    """Patients, index dates and outcome."""

    outcome: ColumnName = "label"
    """Outcome: a column of the labels that contains 0 and 1. With ``rules``: its name in reports."""
    outcomes: Annotated[
        Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=100)] | None, OMITTED
    ] = None
    """Several outcomes instead of one: the ``mlho`` command creates one run for each, ``NAME-OUTCOME``, from a shared encoding. A
    custom resource has one outcome; write one resource for each, with ``shareEncoding``."""
    outcome_date: Annotated[ColumnName | None, OMITTED] = None
    """Column of the labels with the date of the outcome, empty without the outcome. The leakage sentinel compares it with the index
    date and with the events. It is not a feature."""
    share_encoding: Annotated[Yes | None, OMITTED] = None
    """Encode the events without the outcome. Runs on the same samples that differ only in the outcome then share the encoding. Set
    by ``outcomes``. It changes the run id but no figure.
    """
    index: Index = Field(default_factory=lambda: Index(column=BY_RULES))
    """The index date, up to and including which data may be used: ``{column: index_date}``, ``{date: 2020-01-01}``, or
    ``none``, stated explicitly. With ``none`` all events of a patient are used, and every report states "not
    predictive: association only". Required without ``rules``, which give the index date themselves.
    """
    rules: Annotated[Rules | None, OMITTED] = None
    """Cohort by rule, instead of ``index`` and ``data.tables.labels``: the events determine entry, criteria, index date, outcome
    and end of observation. See docs/cohorts.md.
    """
    only: Annotated[Only | None, OMITTED] = None
    """Keep only a subgroup of the samples, such as ``{sex: [female], age: {atLeast: 65}}``."""
    look_back_days: Annotated[int, Field(ge=1, le=36525)] | None = None
    """Days of history before the index date. Default: all history."""
    gap_days: Annotated[int, Field(ge=0, le=3650)] = 0
    """Days before the index date that features ignore, so that diagnostics for the outcome cannot leak."""
    time_to_event: Annotated[TimeToEvent | None, OMITTED] = None
    """A censored time to an event as the outcome, instead of a column of 0 and 1. ``outcome`` is then its name in reports, and the
    candidates are ``cox``, ``xgboostAft`` and ``discreteTime``."""
    follow_up_days: Annotated[Annotated[int, Field(ge=1, le=36525)] | None, OMITTED] = None
    """Days after the index date in which the outcome is counted. A split by date excludes from training the samples whose outcome
    window extends into the test period. Without this field, such a split uses only the index date and warns. The field has no other
    effect. Default with ``rules``: ``rules.outcome.toDays``."""
    group_by: Annotated[ColumnName | None, OMITTED] = None
    """Column of the labels, or else of the demographics, that names the person behind several patient ids. Splits, folds, intervals
    and small cells are then based on persons."""
    conflicting_labels: Literal["error", "drop", "any"] = "error"
    """Action for a sample that has both outcomes, 0 and 1: fail, drop the sample, or count it as positive."""
    unknown_patients: Literal["error", "keep", "drop"] = "error"
    """Action for a labelled patient without demographics: fail, keep with unknown demographics, or drop. Without a demographics
    table all labelled patients are kept, including those without events.
    """

    @property
    def has_index(self) -> bool:
        """Whether there is an index date, which makes the run a prediction."""
        return self.index.none is None

    @model_validator(mode="after")
    def _rules_or_index(self) -> Self:
        if self.rules is None:
            if "index" not in self.model_fields_set:
                raise ValueError(
                    "index is missing. Write, for example, index: {column: index_date}; or give rules"
                )
            return self
        if self.index.column != BY_RULES:
            raise ValueError(
                "rules and index exclude each other: rules give the index date. Remove one of them"
            )
        if self.follow_up_days is not None and self.follow_up_days < self.rules.outcome.to_days:
            raise ValueError(
                "followUpDays is less than rules.outcome.toDays, the end of the time at risk. Remove followUpDays: toDays is used instead"
            )
        if self.rules.competing is not None and self.time_to_event is None:
            raise ValueError(
                "rules.competing requires timeToEvent. Add timeToEvent: {horizonDays: [365]}, or add the codes to rules.outcome"
            )
        if self.outcomes is not None:
            raise ValueError(
                "rules and outcomes exclude each other: rules define one outcome. Remove one of them"
            )
        return self

    def check_tables(self, *, labels: str | None, demographics: str | None) -> None:
        """Refuse a labels table together with rules, the absence of both, and rules that lack a table of demographics."""
        if self.rules is None and labels is None:
            raise ValueError(
                "data.tables.labels is missing. Give a table of labels, or cohort.rules in its place"
            )
        if self.rules is not None and labels is not None:
            raise ValueError("data.tables.labels and cohort.rules exclude each other. Remove one of them")
        if self.rules is not None and self.rules.reads_persons and demographics is None:
            raise ValueError(
                "cohort.rules with age, sex or a column of the observation requires data.tables.demographics"
            )

    @model_validator(mode="after")
    def _dates_need_a_table(self) -> Self:
        if self.outcome_date is not None and (self.rules is not None or self.outcomes is not None):
            raise ValueError(
                "outcomeDate requires a table of labels with one outcome. Remove outcomeDate, rules or outcomes"
            )
        if self.outcome_date is not None and self.share_encoding:
            raise ValueError("outcomeDate and shareEncoding exclude each other. Remove one of them")
        return self

    @model_validator(mode="after")
    def _time_to_event_alone(self) -> Self:
        if self.time_to_event is None:
            return self
        excluded = {
            "outcomeDate": self.outcome_date is not None,
            "outcomes": self.outcomes is not None,
            "shareEncoding": self.share_encoding is not None,
            "followUpDays": self.follow_up_days is not None,
            "conflictingLabels": self.conflicting_labels != "error",
            "index: none": not self.has_index,
        }
        if named := [name for name, is_given in excluded.items() if is_given]:
            raise ValueError(f"timeToEvent and {named[0]} exclude each other. Remove one of them")
        self.time_to_event.check_columns(self.rules, by_rules=self.index.column == BY_RULES)
        return self

    def check_times(self, spec: Any) -> None:
        """Refuse candidates for the other kind of outcome, and fields that cannot be combined with a time to an event."""
        times = self.time_to_event is not None
        if any((candidate.classifier in OF_TIMES) != times for candidate in spec.candidates):
            rule = "requires the candidates" if times else "is required by the candidates"
            raise ValueError(f"cohort.timeToEvent {rule} {', '.join(OF_TIMES)}, and excludes others")
        is_other = spec.final.features == "consensus" or spec.features.monotone or spec.evolution
        if times and (spec.validation.temporal_check or is_other):
            raise ValueError(
                "cohort.timeToEvent excludes validation.temporalCheck, final.features: consensus, features.monotone and evolution"
            )

    def check_uses(self, spec: Any) -> None:
        """Refuse outcome and patient columns in other roles, and persons and dates as groups of the audit.

        Such a column cannot be a feature, a person, a split column or a group. With the outcome as a feature, the model would know
        its own target. A patient, person or date is too small to be a group: all would count as ``other``.
        """
        dates = () if self.time_to_event is None else self.time_to_event.columns
        of_outcome = {*(self.outcomes or (self.outcome,)), self.outcome_date, *dates} - {None}
        columns = () if spec.bias is None else spec.bias.columns
        uses = {
            "features.demographics": spec.features.demographics,
            "bias.columns": columns,
            "validation.splitColumn": (spec.validation.split_column,),
            "cohort.groupBy": (self.group_by,),
        }
        for field, names in uses.items():
            given = [name for name in names if name is not None]
            if self.rules is None and (shared := [name for name in given if name in of_outcome]):
                raise ValueError(f"{field} must not name a column of the outcome. Remove {shared[0]!r}")
            is_of_patients = field != "cohort.groupBy"  # a run splits by patient anyway
            if is_of_patients and (shared := [name for name in given if name in spec.data.patient_columns]):
                raise ValueError(f"{field} must not name the column of the patients. Remove {shared[0]!r}")
        if self.group_by in columns:
            raise ValueError(
                f"bias.columns must not name the column of cohort.groupBy: a person is not a group. Remove {self.group_by!r}"
            )
        if self.index.column in columns:
            raise ValueError(
                f"bias.columns must not name the index date. Remove {self.index.column!r}; bias.periods gives figures by month, quarter or year"
            )

    @property
    def outcome_days(self) -> int | None:
        """Days after the index date until the outcome is known, as far as specified."""
        return None if self.outcome_window is None else self.outcome_window[0]

    @property
    def outcome_window(self) -> tuple[int, str] | None:
        """Days after the index date until the outcome is known, and the field that defines it."""
        if self.time_to_event is not None:
            return self.time_to_event.horizon_days[-1], "cohort.timeToEvent.horizonDays"
        if self.follow_up_days is not None:
            return self.follow_up_days, "cohort.followUpDays"
        return None if self.rules is None else (self.rules.outcome.to_days, "cohort.rules.outcome.toDays")

    @property
    def without_rules(self) -> Self:
        """The cohort for later steps, with the index dates and outcomes of the table that the rules created."""
        return self if self.rules is None else self.model_copy(update={"index": self.index, "rules": None})

    @model_validator(mode="after")
    def _outcome_or_outcomes(self) -> Self:
        if self.outcomes is None:
            return self
        if "outcome" in self.model_fields_set:
            raise ValueError("outcome and outcomes exclude each other. Remove one of them")
        refuse_repeats(self.outcomes, "outcomes must not contain duplicates")
        return self

    @model_validator(mode="after")
    def _windows_need_an_index(self) -> Self:
        if not self.has_index and (self.look_back_days is not None or self.gap_days):
            raise ValueError(
                "lookBackDays and gapDays require an index date, but index is none. Remove them, or give an index"
            )
        if not self.has_index and self.follow_up_days is not None:
            raise ValueError(
                "followUpDays requires an index date, but index is none. Remove it, or give an index"
            )
        if self.look_back_days is not None and self.gap_days >= self.look_back_days:
            raise ValueError(
                f"gapDays must be less than lookBackDays. Got {self.gap_days} and {self.look_back_days}"
            )
        return self
