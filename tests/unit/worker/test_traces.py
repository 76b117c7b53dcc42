"""The trace span of an attempt: the numbers that locate its task in the run, and its outcome."""

from dataclasses import dataclass, field

import pytest

from mlho.protocol.documents import write_task
from mlho.protocol.tracing import RUN, Span
from mlho.steps.base import Task
from mlho.store.memory import MemoryStore
from worker.claims import Lease
from worker.traces import AttemptTraces


@dataclass
class Kept:
    """An exporter that keeps the spans."""

    is_on: bool = True
    spans: list[Span] = field(default_factory=list)

    def add(self, span: Span) -> None:
        self.spans.append(span)

    def close(self) -> None:
        pass


FOLD = Task(kind="run_fold", params={"iteration": 4, "fold": 2, "classifier": "glmboost"})


def told(outcome: str, *, is_known: bool = True) -> Span:
    """Return the span of an attempt at a fold."""
    store, kept = MemoryStore(), Kept()
    if is_known:
        write_task(store, FOLD, FOLD.key)
    AttemptTraces(kept, store).add(Lease(FOLD.key, "owner", 2, since=5), outcome)
    (span,) = kept.spans
    return span


def test_the_span_of_an_attempt_has_its_place_in_the_run():
    """A span has step, iteration and fold from the task's document, because the message does not name them."""
    span = told("committed")

    assert span.fields == {
        "task": FOLD.key[:12],
        "step": "run_fold",
        "iteration": 4,
        "fold": 2,
        "attempt": 2,
        "outcome": "committed",
    }
    assert (span.name, span.within, span.began) == ("task run_fold", "step run_fold", 5)
    assert span.ended > span.began


@pytest.mark.parametrize(
    ("outcome", "is_failure"),
    [("committed", False), ("released", False), ("lease_lost", True), ("poison", True)],
)
def test_a_failed_attempt_is_an_error_and_a_released_one_is_not(outcome, is_failure):
    """A failed attempt is marked as an error, and one that was released because its worker exits is not."""
    assert told(outcome).is_failure == is_failure


def test_an_attempt_has_a_span_even_if_its_document_is_unreadable():
    """If the task's document cannot be read, the span has no step and its parent is the run."""
    span = told("infrastructure", is_known=False)

    assert (span.name, span.within) == ("task", RUN)
    assert "step" not in span.fields


def test_without_a_collector_no_document_is_read():
    """Without a collector, no document is read from the store."""
    kept = Kept(is_on=False)
    AttemptTraces(kept, MemoryStore()).add(Lease("0" * 64, "owner", 1), "committed")

    assert kept.spans == []
