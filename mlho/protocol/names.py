"""Key names in Redis. All keys of an execution share one prefix and are deleted together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "mlho"
QUEUE: Final = "tasks"
KEEP_SECONDS: Final = 30
"""TTL of an execution's keys after the last sign of life of its scheduler and workers, which may all be gone
and unable to delete them.
"""
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
"""The required type of each key. Any client of Redis can replace a key by one of a different type."""
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
        """Return the prefix of every key of this execution, including those that Celery creates."""
        return f"{PREFIX}:{self.execution}:"

    def _key(self, name: str) -> str:
        return self.prefix + name

    @property
    def epoch(self) -> str:
        """String: the epoch under which the scheduler declared this execution.

        A missing key means that Redis was emptied.
        """
        return self._key("epoch")

    @property
    def cancelled(self) -> str:
        """String: present if the execution is cancelled."""
        return self._key("cancelled")

    @property
    def done(self) -> str:
        """String: present if no tasks are left; workers then exit."""
        return self._key("done")

    @property
    def committed(self) -> str:
        """Set of task keys: a hint that saves work; the store is the source of truth."""
        return self._key("committed")

    @property
    def attempts(self) -> str:
        """Hash: task key to counted attempts; a hint, because the records in the store decide."""
        return self._key("attempts")

    @property
    def leases(self) -> str:
        """Sorted set: task key by the millisecond at which its lease expires."""
        return self._key("leases")

    @property
    def owners(self) -> str:
        """Hash: task key to the holder of its lease."""
        return self._key("owners")

    @property
    def nonces(self) -> str:
        """Sorted set: used nonces by the millisecond at which their message expires."""
        return self._key("nonces")

    @property
    def events(self) -> str:
        """List: events from workers, which wake the scheduler."""
        return self._key("events")

    @property
    def workers(self) -> str:
        """Sorted set: ``worker/slots`` by the millisecond until which the worker counts as alive."""
        return self._key("workers")

    @property
    def counters(self) -> str:
        """Hash: rejections by reason, and other counters."""
        return self._key("counters")

    @property
    def progress(self) -> str:
        """String: progress of the run as last published by the scheduler."""
        return self._key("progress")

    @property
    def room(self) -> str:
        """String: written at intervals, because a full Redis still answers but rejects writes."""
        return self._key("room")

    @property
    def queue(self) -> str:
        """List: Celery's queue."""
        return self._key(QUEUE)

    @property
    def lasting(self) -> tuple[str, ...]:
        """Return all keys that are kept as long as a scheduler or worker is alive."""
        return tuple(getattr(self, name) for name in LASTING)
