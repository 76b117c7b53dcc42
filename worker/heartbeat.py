"""The worker's heartbeat: renews its leases, detects the end of the execution, and kills tasks that must stop.

One thread renews all leases, in a process that runs no native code and therefore cannot starve it. It never
waits for the store. If a lease is lost, the child is killed at once. The store makes even a late commit harmless.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from mlho.errors import MlhoError
from mlho.log import log
from mlho.processes import RepeatingThread
from mlho.protocol.documents import Execution, is_over
from mlho.protocol.redis_client import QueueUnavailable
from mlho.protocol.scripts import HEARTBEAT_SECONDS, HeartbeatState
from mlho.store.base import Store
from worker.child_processes import Children, Ending
from worker.claims import Claims, Lease

_STORE_EVERY_BEATS: Final = 2  # only every second heartbeat reads the durable flag: a request to the store


class HeartbeatThread(RepeatingThread):
    """Renews the leases of a worker.

    Parameters
    ----------
    on_end : callable
        Called once when the execution is over or cancelled, or the worker drains.
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
        super().__init__("heartbeat", HEARTBEAT_SECONDS, self.beat)
        self._claims = claims
        self._children = children
        self._store = store
        self._execution = execution
        self._worker = worker
        self._slots = slots
        self._on_end = on_end
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._beating = threading.Lock()
        self._n_beats = 0
        self._has_left = False
        self._outage = ""
        self._ending: Ending | None = None
        self._store_check: threading.Thread | None = None
        self.last_answer = time.monotonic()
        self.is_closing = threading.Event()
        """Set when no further task may start in this worker."""

    @contextmanager
    def holding(self, lease: Lease) -> Iterator[None]:
        """Renew a lease while the block runs."""
        with self._lock:
            self._leases[lease.owner] = lease
        try:
            yield
        finally:
            with self._lock:
                self._leases.pop(lease.owner, None)

    def leases(self) -> list[Lease]:
        """Return the leases that are renewed."""
        with self._lock:
            return list(self._leases.values())

    @contextmanager
    def ending(self, lease: Lease) -> Iterator[None]:
        """Send no heartbeat while the block releases a lease, and do not renew it afterwards.

        A heartbeat that reaches Redis after the release would take the lease again, because it cannot tell a
        released lease from one that Redis has lost. No worker could then start the task until it expires.
        """
        with self._beating:
            yield
            with self._lock:
                self._leases.pop(lease.owner, None)

    def leave(self) -> None:
        """Send no more heartbeats, and remove this worker from the set of active workers."""
        with self._beating:
            self._has_left = True
            self._claims.leave(self._worker, self._slots)

    def beat(self) -> None:
        """Send one heartbeat."""
        self._n_beats += 1
        if self._ending is not None:  # for a task that began while the others were killed
            self.end_all(self._ending)
        try:
            with self._beating:
                if self._has_left:
                    return
                reply = self._claims.heartbeat(self._worker, self._slots, self.leases())
        except QueueUnavailable as error:
            self._note_outage(str(error))
            self._check_store(must=False)  # work continues; lost leases are detected when Redis is back
            return
        self._note_outage("")
        self.last_answer = time.monotonic()
        for owner in reply.lost:
            self._children.end(owner, Ending.LEASE_LOST)
        # Only the store decides whether the execution is over, because any client of Redis can set its flags.
        self._check_store(must=reply.beat is not HeartbeatState.GO_ON)

    def _note_outage(self, outage: str) -> None:
        """Log that an outage of Redis begins, has another cause, or ends (empty)."""
        if outage == self._outage:
            return
        self._outage = outage
        if outage:
            log.warning("queue_unavailable", error=outage)
        else:
            log.warning("queue_recovered")

    def end_all(self, ending: Ending) -> None:
        """Start no further task, kill the running ones, and stop the worker."""
        self._ending = self._ending or ending
        if not self.is_closing.is_set():
            self.is_closing.set()
            self._on_end()
        for child in self._children.busy():
            self._children.end(child.owner, ending)

    def _check_store(self, *, must: bool) -> None:
        """Check in another thread whether the execution is over.

        The store may not answer for minutes, and the leases must be renewed meanwhile.
        """
        if not must and self._n_beats % _STORE_EVERY_BEATS:
            return
        if self._store_check is None or not self._store_check.is_alive():
            self._store_check = threading.Thread(target=self._end_if_over, name="store-check", daemon=True)
            self._store_check.start()

    def _end_if_over(self) -> None:
        with suppress(MlhoError, OSError):  # an unavailable store gives no information about the execution
            if is_over(self._store, self._execution):
                self.end_all(Ending.CANCELLED)
