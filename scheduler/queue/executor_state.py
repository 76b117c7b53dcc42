"""State of the queue's executor: the counters of an execution, and the tasks in flight."""

import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from mlho.errors import MlhoError
from mlho.log import log
from mlho.protocol.documents import Start
from mlho.protocol.failures import INFRASTRUCTURE_SECONDS, Failure
from mlho.protocol.redis_client import QueueUnavailable
from mlho.steps.records import Outcome
from scheduler.engine.progress import Counts
from scheduler.queue.errors import repeated_reason

OTHER_KEY: Final = (
    "Workers reject the messages, because they are signed with another key. Set the scheduler's MLHO_SIGNING_KEY for all workers (chart: the "
    "Secret of signing.existingSecret, the same in each watched namespace)."
)
TAMPERED: Final = (
    "Redis contains items that no program of this run has written. They are dropped, and the state is restored from the store. Check that "
    "all workers have the scheduler's MLHO_SIGNING_KEY (chart: the Secret of signing.existingSecret), and who can write to Redis. It is "
    "expected after the key was replaced during a run."
)
_WINDOW_PER_SLOT: Final = 4
_WINDOW: Final = 64
_TAMPERED_SECONDS: Final = 30.0
_BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


@dataclass
class QueueCounters(Counts):
    """The counters of an execution so far; degraded means that Redis is unavailable."""

    sent: int = 0
    lost: int = 0
    forged: int = 0
    """Messages that workers rejected for their signature since the last task was settled."""
    dropped: int = 0
    """Items in Redis that no program of this execution can have written, and outdated answers. None was acted on."""
    tampered_at: float = -math.inf
    """When such items were last found, by the monotonic clock."""
    outage: str = ""
    """Reason and remedy while Redis is unavailable."""
    repeated: dict[str, Failure] = field(default_factory=dict)
    """The last failure of a disk or of the system, or of a worker of another version, by the key of its task, which is repeated for a
    limited time and not settled yet."""
    memory_exceeded: int = 0
    """Memory in bytes of the largest worker in which a task ran out of memory; 0 if there was none."""

    @property
    def window(self) -> int:
        """Return the maximum number of tasks in flight: enough to keep all workers busy, few enough to track."""
        return _WINDOW_PER_SLOT * self.slots + _WINDOW

    @property
    def repetition(self) -> tuple[str, str] | None:
        """Return reason and message of one of the tasks in :attr:`repeated`."""
        failures = list(self.repeated.values())  # a copy, because another thread changes the dictionary
        if not failures:
            return None
        minutes = f"{INFRASTRUCTURE_SECONDS / 60:.0f} min"
        return repeated_reason(failures[0]), f"A task is repeated for up to {minutes}: {failures[0].message}"

    @property
    def is_tampered(self) -> bool:
        """Return whether foreign items were found recently."""
        return time.monotonic() - self.tampered_at < _TAMPERED_SECONDS

    def note_outage(self, error: QueueUnavailable) -> None:
        """Record that Redis is unavailable, and log the first occurrence. The run continues without it."""
        if not self.is_degraded:
            log.warning("queue_unavailable", error=str(error))
        self.outage, self.is_degraded = str(error), True

    def note_tampering(self, n_items: int) -> None:
        """Count foreign items, and log when tampering begins."""
        if not self.is_tampered:
            log.warning("queue_tampered", n_items=n_items)
        self.dropped += n_items
        self.tampered_at = time.monotonic()


@dataclass
class Pending:
    """A task in flight."""

    task: str
    kind: str
    place: Mapping[str, str | int]
    futures: "list[Future[Outcome]]" = field(default_factory=list)
    sent_at: float | None = None
    """By the monotonic clock; ``None`` if it is still to be sent."""
    due_at: float = 0.0
    """Earliest time to send it, by the monotonic clock."""
    failing_since: dict[bool, float] = field(default_factory=dict)
    """Start of the failures of the infrastructure: of object storage (true) and of everything else (false). Each has its own patience."""
    n_waits: int = 0
    last_failure: Failure | None = None
    nonces: set[str] = field(default_factory=set)
    """Nonces of the messages that were sent for it and are not yet answered."""
    check_again_at: float = math.inf
    """When to check again whether its attempts are used up, by the monotonic clock."""
    noted: Mapping[str, Start] = field(default_factory=dict)
    """The records of its attempts at the first check of the store."""

    def send_at(self, due_at: float) -> None:
        """Schedule another message, at this time of the monotonic clock."""
        self.sent_at, self.due_at = None, due_at

    def postpone(self, now: float, patience: float, *, is_outage: bool) -> bool:
        """Schedule a retry with backoff. Return false if the task has been failing in this way for longer than ``patience``."""
        if now - self.failing_since.setdefault(is_outage, now) > patience:
            return False
        self.send_at(now + _BACKOFF_SECONDS[min(self.n_waits, len(_BACKOFF_SECONDS) - 1)])
        self.n_waits += 1
        return True

    def spent(self, noted: Mapping[str, Start]) -> int:
        """Return the number of failed attempts.

        It counts the first attempt, which has no record, the attempts that are over, and those whose records
        were not renewed.
        """
        is_silent_for_long = time.monotonic() >= self.check_again_at
        return 1 + sum(
            start.is_over or (is_silent_for_long and self.noted.get(nonce) == start)
            for nonce, start in noted.items()
        )


class InFlight:
    """The tasks in flight of one execution. Thread-safe."""

    def __init__(self, counters: QueueCounters) -> None:
        self.counters = counters
        self._tasks: dict[str, Pending] = {}
        self._lock = threading.Lock()
        self._failed: MlhoError | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def add(
        self, key: str, kind: str, place: Mapping[str, str | int]
    ) -> "tuple[Future[Outcome], Pending | None]":
        """Return a future of a task, and its entry if it was not in flight. The caller sends it."""
        future: Future[Outcome] = Future()
        with self._lock:
            if self._failed is not None:
                future.set_exception(self._failed)
                return future, None
            pending = self._tasks.setdefault(key, Pending(key, kind, place, due_at=math.inf))
            pending.futures.append(future)
            return future, pending if len(pending.futures) == 1 else None

    def get(self, key: str) -> Pending | None:
        """Return the entry of a task, if it is in flight."""
        return self._tasks.get(key)

    def all(self) -> list[Pending]:
        """Return all entries."""
        with self._lock:
            return list(self._tasks.values())

    def due(self, now: float) -> list[Pending]:
        """Return the tasks to send."""
        return [pending for pending in self.all() if pending.sent_at is None and pending.due_at <= now]

    def suspects(self, now: float) -> list[Pending]:
        """Return the tasks to check again, because their attempts may be used up."""
        return [pending for pending in self.all() if pending.check_again_at <= now]

    def settle(self, pending: Pending, outcome: Outcome) -> None:
        """Give the futures of a task its outcome."""
        self.counters.forged = 0
        for future in self.pop(pending):
            future.set_result(outcome)

    def fail(self, pending: Pending, error: MlhoError) -> None:
        """Fail the futures of a task."""
        for future in self.pop(pending):
            future.set_exception(error)

    def fail_all(self, error: MlhoError) -> None:
        """Fail all futures, and each one that is requested later."""
        with self._lock:
            self._failed = error
        for pending in self.all():
            self.fail(pending, error)

    def pop(self, pending: Pending) -> "list[Future[Outcome]]":
        """Remove a task. Return its futures."""
        self.counters.health.served(pending.task)
        self.counters.repeated.pop(pending.task, None)
        with self._lock:
            in_flight = self._tasks.pop(pending.task, None)
            return in_flight.futures if in_flight is not None else []
