"""The section ``cohort.rules`` of a specification: who enters and when, by rules over the events instead of a table of labels."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from mlho.spec.rules.parts import Age as Age
from mlho.spec.rules.parts import Condition as Condition
from mlho.spec.rules.parts import Count as Count
from mlho.spec.rules.parts import Criterion, Entry, Observation, Outcome
from mlho.spec.rules.parts import EventSet as EventSet
from mlho.spec.types import OMITTED, SpecPart, TablePattern, refuse_repeats

#: Placeholder for the index date column and the labels table of a cohort by rule.
BY_RULES: Final = "cohort.rules"
MAX_CRITERIA: Final = 32
#: Sets of events are bits of a 64-bit integer, which also has bits for the entry, the outcome and the competing event.
MAX_COUNTS: Final = 61


class Rules(SpecPart):
    """Entry, index date, criteria, outcome and end of observation. See docs/cohorts.md."""

    entry: Entry
    """The events by which a patient enters."""
    offset_days: Annotated[int, Field(ge=0, le=3650)] = 0
    """Days from the entry to the index date."""
    criteria: Annotated[tuple[Criterion, ...], Field(max_length=MAX_CRITERIA)] = ()
    """Conditions that a sample must meet to stay in the cohort, in the order of the attrition."""
    outcome: Outcome
    """The outcome and the time at risk."""
    competing: Annotated[EventSet | None, OMITTED] = None
    """With ``cohort.timeToEvent``: competing events, after which the outcome cannot occur, such as death. The first one before the
    end of observation ends a sample."""
    observation: Observation = Observation()
    """The period in which a patient is observed."""
    hierarchy: Annotated[TablePattern | None, OMITTED] = None
    """Table of codes and their ancestors, relative to ``data.uri``, for sets with ``descendants``: OMOP's ``concept_ancestor``, or ``code``
    and ``parent``, such as the map of ``features.rollUp``."""
    not_observable: Literal["drop", "negative"] = "drop"
    """Action for a sample without the outcome whose observation ends before the time at risk does: drop it, or count it as a sample
    without the outcome."""

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        names = [criterion.name for criterion in self.criteria]
        refuse_repeats(names, "criteria must have distinct names")
        if taken := sorted(RULE_NAMES & set(names)):
            raise ValueError(
                f"a criterion cannot be named {taken[0]!r}: a step of the attrition has the name"
            )
        return self

    @model_validator(mode="after")
    def _know_nothing_later(self) -> Self:
        if len(self.counts) > MAX_COUNTS:
            raise ValueError(f"at most {MAX_COUNTS} conditions may count events. Got {len(self.counts)}")
        if any(count.to_days > self.offset_days for count in self.counts):
            raise ValueError(
                "a criterion's window ends after the index date: toDays must not be more than offsetDays"
            )
        return self

    @model_validator(mode="after")
    def _descendants_have_a_hierarchy(self) -> Self:
        is_asked = any(event_set.descendants for event_set in self.event_sets)
        if is_asked != (self.hierarchy is not None):
            raise ValueError("descendants and hierarchy require each other. Give both or neither")
        return self

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions of all criteria, in their order."""
        return tuple(condition for criterion in self.criteria for condition in criterion.conditions)

    @property
    def counts(self) -> tuple[Count, ...]:
        """The counts among the conditions, in their order."""
        return tuple(condition.count for condition in self.conditions if condition.count is not None)

    @property
    def event_sets(self) -> tuple[EventSet, ...]:
        """All sets of events: those of the entry, the outcome, the counts in their order, and the competing event."""
        competing = () if self.competing is None else (self.competing,)
        return (self.entry, self.outcome, *self.counts, *competing)

    @property
    def further_tables(self) -> dict[str, str]:
        """Paths of the tables named in the rules, by their name in the manifest."""
        tables = {"hierarchy": self.hierarchy, "periods": self.observation.periods}
        return {name: path for name, path in tables.items() if path is not None}

    @property
    def reads_persons(self) -> bool:
        """Whether the rules need the demographics."""
        by_person = any(condition.count is None for condition in self.conditions)
        observation = self.observation
        return by_person or observation.start_column is not None or observation.end_column is not None


ENTRY_EVENT: Final = "has an entry event"
WHICH: Final = {"first": "first entry", "last": "last entry"}
WASHOUT: Final = "after the washout"
OBSERVED: Final = "observed before the entry and at the index date"
NO_PRIOR: Final = "no outcome before the time at risk"
OBSERVABLE: Final = "outcome observable"
#: Steps of the attrition in addition to the criteria, and the name of a remaining sample in the account.
RULE_NAMES: Final = frozenset((ENTRY_EVENT, *WHICH.values(), WASHOUT, OBSERVED, NO_PRIOR, OBSERVABLE, "used"))
