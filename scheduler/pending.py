"""What the queue's executor keeps of an execution: figures, and the tasks under way."""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from mlho.protocol.failures import Failure
from mlho.steps.base import Outcome
from scheduler.outages import StoreHealth


@dataclass
class Figures:
    """What an execution has come to so far."""

    sent: int = 0
    retried: int = 0
    quarantined: int = 0
    lost: int = 0
    forged: int = 0
    """Messages that workers refused for their signature, as long as tasks are not done for it."""
    is_degraded: bool = False
    """Redis does not serve."""
    outage: str = ""
    """What is wrong with it then, and what helps."""
    slots: int = 0
    health: StoreHealth = field(default_factory=StoreHealth)
    """Whether the store serves."""
    memory_exceeded: int = 0
    """Bytes of the largest worker in which a task ran out of memory; 0: none did."""


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
