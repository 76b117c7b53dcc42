"""What a worker tells of its attempts to a collector of traces: one span each, from the claim until it has said what became of it."""

import time
from typing import Final

from mlho.errors import MlhoError
from mlho.protocol.documents import read_task
from mlho.protocol.tracing import RUN, Span, Traces, step_part
from mlho.store.base import Store
from worker.claims import Lease

_GOOD: Final = ("committed", "released")
_PLACES: Final = ("iteration", "fold", "block")  # numbers that tell a task from its siblings


class AttemptTraces:
    """Tells of attempts, if anybody wants to know.

    Parameters
    ----------
    traces : Traces
    store : Store
        Where the documents of tasks are: a message names none of what they say.
    """

    def __init__(self, traces: Traces, store: Store) -> None:
        self._traces = traces
        self._store = store

    def add(self, lease: Lease, outcome: str) -> None:
        """Tell of an attempt that has ended now."""
        if not self._traces.is_on:
            return
        ended = time.time_ns()
        fields: dict[str, str | int] = {"task": lease.task[:12], "attempt": lease.attempt, "outcome": outcome}
        name, within = "task", RUN
        try:
            task = read_task(self._store, lease.task)
        except (MlhoError, OSError):
            pass  # the store does not serve, which is why the attempt failed
        else:
            name, within = f"task {task.kind}", step_part(task.kind)
            fields["step"] = task.kind
            fields |= {place: int(task.params[place]) for place in _PLACES if place in task.params}
        self._traces.add(
            Span(name, lease.since, ended, fields, within=within, is_failure=outcome not in _GOOD)
        )

    def close(self) -> None:
        """Send what is not sent."""
        self._traces.close()
