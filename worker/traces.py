"""Traces of a worker's attempts for a collector: one span each, from the claim until the outcome is reported."""

import time
from typing import Final

from mlho.protocol.documents import place_of
from mlho.protocol.tracing import RUN, Span, Traces, step_part
from mlho.store.base import Store
from worker.claims import Lease

_GOOD: Final = ("committed", "released")


class AttemptTraces:
    """Sends spans of attempts, if traces are on.

    Parameters
    ----------
    store : Store
        Store with the task documents, because a message does not contain the place of its task.
    """

    def __init__(self, traces: Traces, store: Store) -> None:
        self._traces = traces
        self._store = store

    def add(self, lease: Lease, outcome: str) -> None:
        """Add the span of an attempt that has just ended."""
        if not self._traces.is_on:
            return
        ended = time.time_ns()
        fields: dict[str, str | int] = {"task": lease.task[:12], "attempt": lease.attempt, "outcome": outcome}
        name, within = "task", RUN
        place = place_of(self._store, lease.task)
        if place:  # otherwise the store is unavailable, which is why the attempt failed
            name, within = f"task {place['step']}", step_part(str(place["step"]))
            fields |= place
        self._traces.add(
            Span(name, lease.since, ended, fields, within=within, is_failure=outcome not in _GOOD)
        )

    def close(self) -> None:
        """Send the remaining spans."""
        self._traces.close()
