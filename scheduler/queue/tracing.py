"""Traces of a run for a collector: one span for the run, and one for each kind of step."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Self

from mlho.protocol.documents import State
from mlho.protocol.tracing import RUN, Span, Traces, step_part
from mlho.steps.base import Task
from mlho.steps.records import Outcome
from scheduler.engine.loop import Executor


@dataclass
class _Step:
    """Time from the dispatch of the first task of a kind to the end of the last one."""

    began: int
    ended: int
    n_tasks: int = 0


class RunTrace:
    """Traces a run, as a context manager. Its spans are sent when the run ends.

    A run that only stops sends none: the scheduler that continues it sends them.

    Parameters
    ----------
    state_after : callable
        Returns the state in which the run ends for an exception or ``None``; ``None`` if the run only stops.
    """

    def __init__(self, traces: Traces, state_after: Callable[[BaseException | None], State | None]) -> None:
        self._traces = traces
        self._state_after = state_after
        self._began = time.time_ns()
        self._steps: dict[str, _Step] = {}
        self._lock = threading.Lock()

    def following(self, executor: Executor) -> Executor:
        """Return the executor, wrapped for tracing if traces are on."""
        return _Followed(executor, self) if self._traces.is_on else executor

    def task_began(self, kind: str, began: int) -> None:
        """Record that a task was handed out at this time, in nanoseconds since 1970."""
        with self._lock:
            self._steps.setdefault(kind, _Step(began, began)).n_tasks += 1

    def task_ended(self, kind: str) -> None:
        """Record that a task has ended, with any outcome."""
        with self._lock:
            self._steps[kind].ended = time.time_ns()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        state = self._state_after(error)
        if state is not None:
            self._send(state)

    def _send(self, state: State) -> None:
        for kind, step in self._steps.items():
            fields: dict[str, str | int] = {"step": kind, "n_tasks": step.n_tasks}
            self._traces.add(Span(f"step {kind}", step.began, step.ended, fields, part=step_part(kind)))
        n_tasks = sum(step.n_tasks for step in self._steps.values())
        self._traces.add(
            Span(
                RUN,
                self._began,
                time.time_ns(),
                {"outcome": state.value, "n_tasks": n_tasks},
                part=RUN,
                within="",
                is_failure=state is State.FAILED,
            )
        )


@dataclass(frozen=True)
class _Followed:
    """An executor whose tasks are traced."""

    executor: Executor
    trace: RunTrace

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        """Start tasks. Tasks that an outage of the store prevents from starting are submitted again, and do not count."""
        began = time.time_ns()
        futures = self.executor.submit_all(tasks)
        for task, future in zip(tasks, futures, strict=True):
            self.trace.task_began(task.kind, began)
            future.add_done_callback(lambda _, kind=task.kind: self.trace.task_ended(kind))  # type: ignore[misc]
        return futures
