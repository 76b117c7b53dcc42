"""What a scheduler tells of a run to a collector of traces: one span for the run, and one for each kind of step in it."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from mlho.protocol.documents import State
from mlho.protocol.tracing import RUN, Span, Traces, step_part
from mlho.steps.base import Task
from mlho.steps.records import Outcome
from scheduler.engine.loop import Executor


@dataclass
class _Step:
    """From the first task of a kind that was handed out to the last one that came home."""

    began: int
    ended: int
    n_tasks: int = 0


class RunTrace:
    """A run as a context; its spans are sent when it ends, unless it only stops: whoever goes on with it sends them then.

    Parameters
    ----------
    traces : Traces
    state_after : callable
        The state in which the run ends by an exception, or by none; ``None``: it only stops.
    """

    def __init__(self, traces: Traces, state_after: Callable[[BaseException | None], State | None]) -> None:
        self._traces = traces
        self._state_after = state_after
        self._began = time.time_ns()
        self._steps: dict[str, _Step] = {}
        self._lock = threading.Lock()

    def following(self, executor: Executor) -> Executor:
        """The executor, followed if anybody wants to know."""
        return _Followed(executor, self) if self._traces.is_on else executor

    def task_began(self, kind: str) -> None:
        """Take in that a task is handed out."""
        now = time.time_ns()
        with self._lock:
            self._steps.setdefault(kind, _Step(now, now)).n_tasks += 1

    def task_ended(self, kind: str) -> None:
        """Take in that a task is home, whatever became of it."""
        with self._lock:
            self._steps[kind].ended = time.time_ns()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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


class _Followed:
    """An executor of whose tasks a trace is kept."""

    def __init__(self, executor: Executor, trace: RunTrace) -> None:
        self._executor = executor
        self._trace = trace

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        """Start tasks."""
        for task in tasks:
            self._trace.task_began(task.kind)
        futures = self._executor.submit_all(tasks)
        for task, future in zip(tasks, futures, strict=True):
            future.add_done_callback(lambda _, kind=task.kind: self._trace.task_ended(kind))  # type: ignore[misc]
        return futures
