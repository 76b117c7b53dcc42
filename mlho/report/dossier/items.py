"""Items of a checklist, and the sources from which they are answered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from mlho.report.result import Result

type State = Literal["answered", "partly answered", "open", "not applicable"]

METADATA: Final = "metadata."
STATEMENTS: Final = "metadata.statements."


@dataclass(frozen=True)
class Facts:
    """Known facts about a run."""

    result: Result
    statements: Mapping[str, str]
    """Statements of the author by the field's name in the specification."""


@dataclass(frozen=True)
class Answer:
    """A part of an answer, and where its figures can be checked."""

    text: str
    evidence: str
    """Place in ``result.json`` or field of the specification."""
    section: str = ""
    """Section of the report that shows the same; empty if there is none."""


@dataclass(frozen=True)
class Gap:
    """A part of an answer that is missing, and the field of the specification that would give it."""

    field: str


type Source = Callable[[Facts], Answer | Gap]


@dataclass(frozen=True)
class Item:
    """An item of a checklist."""

    id: str
    """Number in the checklist, such as ``5a``."""
    title: str
    """The question, in our words."""
    sources: tuple[Source, ...] = ()
    """Sources of the parts of the answer. Empty if the item cannot apply to runs of this product; ``reason`` explains why."""
    reason: str = ""


@dataclass(frozen=True)
class Checklist:
    """A checklist with its source."""

    id: str
    title: str
    reference: str
    items: tuple[Item, ...]


def statement(field: str) -> Source:
    """Return the source that is a statement of the author."""

    def source(facts: Facts) -> Answer | Gap:
        text = facts.statements.get(field)
        return Gap(STATEMENTS + field) if text is None else Answer(text, STATEMENTS + field)

    return source


def state_of(item: Item, parts: list[Answer | Gap]) -> State:
    """Return how far an item is answered."""
    if not item.sources:
        return "not applicable"
    n_answers = sum(isinstance(part, Answer) for part in parts)
    if n_answers == len(parts):
        return "answered"
    return "partly answered" if n_answers else "open"
