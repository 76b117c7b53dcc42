"""The worker's heart: renews its leases, hears of the end of the execution, and ends what must not go on.

One thread does this for all leases, in a process that runs no native code: it cannot starve. If a lease is lost, the child is killed at
once; the store is what makes even a late commit harmless.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog

from mlho.errors import MlhoError
from mlho.protocol.documents import Execution, is_over
from mlho.protocol.scripts import HEARTBEAT_SECONDS, Beat
from mlho.store.base import Store
from worker.child_processes import Children, Ending
from worker.claims import Claims, Lease, Unavailable

_STORE_EVERY_BEATS: Final = 2  # the durable flag is read at half the pace: it costs a request to the store

log = structlog.get_logger()


class Heart(threading.Thread):
    """Keeps the leases of a worker.

    Parameters
    ----------
    claims, children, store
        The worker's own.
    execution : Execution
        What it serves.
    worker : str
        Its name.
    slots : int
        Its slots.
    on_end : callable
        Called once when there is nothing left to do here: the execution is over or cancelled.
    """

    def __init__(
        self,
        claims: Claims,
        children: Children,
        store: Store,
        execution: Execution,
        *,
        worker: str,
        slots: int,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(name="heart", daemon=True)
        self._claims = claims
        self._children = children
        self._store = store
        self._execution = execution
        self._worker = worker
        self._slots = slots
        self._on_end = on_end
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._stop_event = threading.Event()
        self._n_beats = 0
        self.last_answer = time.monotonic()
        self.is_closing = threading.Event()
        """Set from the moment at which nothing may start here any more."""

    @contextmanager
    def holding(self, lease: Lease) -> Iterator[None]:
        """Renew a lease as long as the block runs."""
        with self._lock:
            self._leases[lease.owner] = lease
        try:
            yield
        finally:
            with self._lock:
                del self._leases[lease.owner]

    def run(self) -> None:
        """Beat until told to stop."""
        while not self._stop_event.wait(HEARTBEAT_SECONDS):
            self.beat()

    def stop(self) -> None:
        """Beat no more."""
        self._stop_event.set()

    def beat(self) -> None:
        """Beat once."""
        with self._lock:
            leases = list(self._leases.values())
        self._n_beats += 1
        try:
            pulse = self._claims.heartbeat(self._worker, self._slots, leases)
        except Unavailable:
            self._look_at_store(must=False)  # work goes on; leases are judged again when Redis is back
            return
        self.last_answer = time.monotonic()
        for owner in pulse.lost:
            self._children.end(owner, Ending.LEASE_LOST)
        # Whether the execution is over is for the store to say: anybody who can write to Redis can raise its flags.
        self._look_at_store(must=pulse.beat is not Beat.GO_ON)

    def end_all(self, ending: Ending) -> None:
        """Start nothing more, end what runs, and let the worker go."""
        if not self.is_closing.is_set():
            self.is_closing.set()
            self._on_end()
        for child in self._children.busy():
            self._children.end(child.owner, ending)

    def _look_at_store(self, *, must: bool) -> None:
        if not must and self._n_beats % _STORE_EVERY_BEATS:
            return
        with suppress(MlhoError, OSError):  # a store that does not answer says nothing about the execution
            if is_over(self._store, self._execution):
                self.end_all(Ending.CANCELLED)
