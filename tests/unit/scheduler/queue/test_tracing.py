"""The span of a step counts the tasks that were handed out."""

from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from mlho.errors import StoreOutage
from mlho.protocol.documents import State
from mlho.protocol.tracing import Span
from mlho.steps.base import Task
from mlho.steps.records import Commit, Outcome
from scheduler.queue.tracing import RunTrace

TASKS = [Task(kind="run_fold", params={"fold": fold}) for fold in range(3)]


class Spans:
    """Traces that keep their spans."""

    is_on = True

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def add(self, span: Span) -> None:
        self.spans.append(span)

    def close(self) -> None:
        """Do nothing."""


class Interrupted:
    """An executor that an outage of the store keeps from starting tasks at the first call."""

    def __init__(self) -> None:
        self._calls = 0

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        self._calls += 1
        if self._calls == 1:
            raise StoreOutage("the store does not answer.")
        futures: list[Future[Outcome]] = [Future() for _ in tasks]
        for future in futures:
            future.set_result(Outcome(Commit(task="", kind="", files={}, seconds=0.0), is_new=True))
        return futures


def test_task_that_an_outage_kept_from_starting_counts_once() -> None:
    """The loop hands out the tasks again after an outage of the store."""
    traces = Spans()
    with RunTrace(traces, lambda _: State.FINISHED) as trace:
        executor = trace.following(Interrupted())
        with pytest.raises(StoreOutage):
            executor.submit_all(TASKS)
        executor.submit_all(TASKS)

    assert [span.fields["n_tasks"] for span in traces.spans] == [3, 3]
