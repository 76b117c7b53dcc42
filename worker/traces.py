"""What a worker tells of its attempts to a collector of traces: one span each, from the claim until it has said what became of it."""

import time
from typing import Final

from mlho.protocol.documents import place_of
from mlho.protocol.tracing import RUN, Span, Traces, step_part
from mlho.store.base import Store
from worker.claims import Lease

_GOOD: Final = ("committed", "released")


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
        place = place_of(self._store, lease.task)
        if place:  # else the store does not serve, which is why the attempt failed
            name, within = f"task {place['step']}", step_part(str(place["step"]))
            fields |= place
        self._traces.add(
            Span(name, lease.since, ended, fields, within=within, is_failure=outcome not in _GOOD)
        )

    def close(self) -> None:
        """Send what is not sent."""
        self._traces.close()
