"""Names in Redis. All that an execution owns there begins with one prefix, and is deleted with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "mlho"
QUEUE: Final = "tasks"
KEEP_SECONDS: Final = 30
"""A key of an execution lasts this long after the last sign of life of its scheduler and workers: none of them may be there to delete it."""
TYPES: Final[Mapping[str, str]] = {
    "epoch": "string",
    "cancelled": "string",
    "done": "string",
    "committed": "set",
    "attempts": "hash",
    "leases": "zset",
    "owners": "hash",
    "nonces": "zset",
    "events": "list",
    "workers": "zset",
    "counters": "hash",
    "progress": "string",
    "queue": "list",
}
"""What each key must be; anybody who can write to Redis can make it something else."""
LASTING: Final = tuple(TYPES)


@dataclass(frozen=True)
class Names:
    """Keys of one execution.

    Examples
    --------
    >>> Names("0123456789abcdef-1").leases
    'mlho:0123456789abcdef-1:leases'
    """

    execution: str

    @property
    def prefix(self) -> str:
        """What every key of this execution begins with, those that Celery makes included."""
        return f"{PREFIX}:{self.execution}:"

    def _own(self, name: str) -> str:
        return self.prefix + name

    @property
    def epoch(self) -> str:
        """String: how many times the scheduler has declared this execution in Redis. Absent: Redis was emptied."""
        return self._own("epoch")

    @property
    def cancelled(self) -> str:
        """String: present once the execution is cancelled."""
        return self._own("cancelled")

    @property
    def done(self) -> str:
        """String: present once there is nothing left to do; workers end."""
        return self._own("done")

    @property
    def committed(self) -> str:
        """Set of task keys: a hint that saves work, since the store has the truth."""
        return self._own("committed")

    @property
    def attempts(self) -> str:
        """Hash: task key to counted starts; a hint, since the store has the records that decide."""
        return self._own("attempts")

    @property
    def leases(self) -> str:
        """Sorted set: task key by the millisecond at which its lease expires."""
        return self._own("leases")

    @property
    def owners(self) -> str:
        """Hash: task key to who holds its lease."""
        return self._own("owners")

    @property
    def nonces(self) -> str:
        """Sorted set: used nonces by the millisecond at which their message expires."""
        return self._own("nonces")

    @property
    def events(self) -> str:
        """List: what workers tell the scheduler, to wake it."""
        return self._own("events")

    @property
    def workers(self) -> str:
        """Sorted set: ``worker/slots`` by the millisecond until which the worker counts as there."""
        return self._own("workers")

    @property
    def counters(self) -> str:
        """Hash: refusals by kind, and what else is worth a count."""
        return self._own("counters")

    @property
    def progress(self) -> str:
        """String: how far the run is, as the scheduler last said it, for whoever asks."""
        return self._own("progress")

    @property
    def room(self) -> str:
        """String: written now and then, because a Redis that is full still answers and takes nothing."""
        return self._own("room")

    @property
    def queue(self) -> str:
        """List: Celery's queue."""
        return self._own(QUEUE)

    @property
    def lasting(self) -> tuple[str, ...]:
        """All keys that are kept as long as anybody lives."""
        return tuple(getattr(self, name) for name in LASTING)
