"""What the queue's executor keeps of an execution: figures, and the tasks under way."""

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
    """What an execution has come to so far."""

    sent: int = 0
    retried: int = 0
    quarantined: int = 0
    lost: int = 0
    forged: int = 0
    """Messages that workers refused for their signature, as long as tasks are not done for it."""
    dropped: int = 0
    """Items in Redis that no program of this execution can have written, and old answers: none was acted on."""
    tampered_at: float = -math.inf
    """When such items were last found, by the monotonic clock."""
    is_degraded: bool = False
    """Redis does not serve."""
    outage: str = ""
    """What is wrong with it then, and what helps."""
    slots: int = 0
    health: StoreHealth = field(default_factory=StoreHealth)
    """Whether the store serves."""
    memory_exceeded: int = 0
    """Bytes of the largest worker in which a task ran out of memory; 0: none did."""

    @property
    def is_tampered(self) -> bool:
        """Whether items were found a short while ago that somebody else must have written."""
        return time.monotonic() - self.tampered_at < _TAMPERED_SECONDS

    def note_tampering(self, n_items: int) -> None:
        """Count items that somebody else must have written, and say so when it begins."""
        if not self.is_tampered:
            log.warning("queue_tampered", n_items=n_items)
        self.dropped += n_items
        self.tampered_at = time.monotonic()


@dataclass
class Pending:
    """A task under way."""

    task: str
    kind: str
    place: Mapping[str, str | int]
    futures: "list[Future[Outcome]]" = field(default_factory=list)
    sent_at: float | None = None
    """By the monotonic clock; ``None``: to be sent."""
    due_at: float = 0.0
    """Not before."""
    failing_since: float | None = None
    n_waits: int = 0
    last_failure: Failure | None = None
    nonces: set[str] = field(default_factory=set)
    """Of the messages that were sent for it and have no answer yet."""
    judged_at: float = math.inf
    """When the store is asked again whether its starts are used up."""
    noted: Mapping[str, Start] = field(default_factory=dict)
    """The records of its starts when the store was asked first."""

    def postpone(self, now: float, patience: float) -> bool:
        """Have it sent later, each time after a longer pause; tell whether that may still be, or it has failed for longer than this."""
        self.failing_since = self.failing_since or now
        if now - self.failing_since > patience:
            return False
        self.sent_at = None
        self.due_at = now + _BACKOFF_SECONDS[min(self.n_waits, len(_BACKOFF_SECONDS) - 1)]
        self.n_waits += 1
        return True

    def spent(self, noted: Mapping[str, Start]) -> int:
        """How many starts have come to nothing: the first, which has no record, those that are over, and those that nobody has renewed since."""
        is_silent_for_long = time.monotonic() >= self.judged_at
        return 1 + sum(
            start.is_over or (is_silent_for_long and self.noted.get(nonce) == start)
            for nonce, start in noted.items()
        )
