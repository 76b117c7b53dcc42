"""State of the queue's executor: the counters of an execution, and the tasks in flight."""

import math
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import structlog

from mlho.protocol.documents import Start
from mlho.protocol.failures import Failure
from mlho.steps.records import Outcome
from scheduler.engine.outages import StoreHealth

OTHER_KEY: Final = "Workers refuse the messages, as they are signed with another key. Give all workers the scheduler's MLHO_SIGNING_KEY."
TAMPERED: Final = (
    "Redis holds items that no program of this run has written. They are dropped, and what they replaced is derived again from the store. See who "
    "can write to Redis."
)
_TAMPERED_SECONDS: Final = 30.0
_BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)

log = structlog.get_logger()


@dataclass
class Figures:
    """The counters of an execution so far."""

    sent: int = 0
    retried: int = 0
    quarantined: int = 0
    lost: int = 0
    forged: int = 0
    """Messages that workers rejected for their signature since the last task was settled."""
    dropped: int = 0
    """Items in Redis that no program of this execution can have written, and outdated answers. None was acted on."""
    tampered_at: float = -math.inf
    """When such items were last found, by the monotonic clock."""
    is_degraded: bool = False
    """Redis is unavailable."""
    outage: str = ""
    """Reason and remedy while Redis is unavailable."""
    slots: int = 0
    health: StoreHealth = field(default_factory=StoreHealth)
    """Health of the store."""
    memory_exceeded: int = 0
    """Memory in bytes of the largest worker in which a task ran out of memory; 0 if there was none."""

    @property
    def is_tampered(self) -> bool:
        """Return whether foreign items were found recently."""
        return time.monotonic() - self.tampered_at < _TAMPERED_SECONDS

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
    failing_since: float | None = None
    n_waits: int = 0
    last_failure: Failure | None = None
    nonces: set[str] = field(default_factory=set)
    """Nonces of the messages that were sent for it and are not yet answered."""
    judged_at: float = math.inf
    """When to check again whether its attempts are used up, by the monotonic clock."""
    noted: Mapping[str, Start] = field(default_factory=dict)
    """The records of its attempts at the first check of the store."""

    def postpone(self, now: float, patience: float) -> bool:
        """Schedule a retry with backoff. Return false if the task has been failing for longer than ``patience``."""
        self.failing_since = self.failing_since or now
        if now - self.failing_since > patience:
            return False
        self.sent_at = None
        self.due_at = now + _BACKOFF_SECONDS[min(self.n_waits, len(_BACKOFF_SECONDS) - 1)]
        self.n_waits += 1
        return True

    def spent(self, noted: Mapping[str, Start]) -> int:
        """Return the number of failed attempts.

        It counts the first attempt, which has no record, the attempts that are over, and those whose records
        were not renewed.
        """
        is_silent_for_long = time.monotonic() >= self.judged_at
        return 1 + sum(
            start.is_over or (is_silent_for_long and self.noted.get(nonce) == start)
            for nonce, start in noted.items()
        )
