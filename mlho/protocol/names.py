"""Key names in Redis. All keys of an execution share one prefix and are deleted together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "mlho"
QUEUE: Final = "tasks"
KEEP_SECONDS: Final = 30
"""TTL of an execution's keys after the last sign of life of its scheduler and workers. If all of them are gone, the keys expire.
"""


class _Key:
    """A key of an execution, with its required type. Any client of Redis can replace it with a key of another type."""

    def __init__(self, type_: str, name: str = "") -> None:
        self.type = type_
        self._name = name

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = self._name or name

    def __get__(self, names: "Names", _owner: type) -> str:
        return names.prefix + self._name


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

    @property
    def lasting(self) -> tuple[str, ...]:
        """Return all keys that are kept while a scheduler or worker is alive."""
        return tuple(getattr(self, name) for name in LASTING)

    epoch = _Key("string")
    """The epoch under which the scheduler declared this execution. A missing key means that Redis was emptied."""
    cancelled = _Key("string")
    """Present if the execution is cancelled."""
    done = _Key("string")
    """Present if no tasks are left; workers then exit."""
    committed = _Key("set")
    """Keys of committed tasks: a hint that saves work; the store is the source of truth."""
    attempts = _Key("hash")
    """Task key to counted attempts; a hint, because the records in the store decide."""
    leases = _Key("zset")
    """Task key by the millisecond at which its lease expires."""
    owners = _Key("hash")
    """Task key to the holder of its lease."""
    nonces = _Key("zset")
    """Used nonces by the millisecond at which their message expires."""
    events = _Key("list")
    """Events from workers, which wake the scheduler."""
    workers = _Key("zset")
    """``worker/slots`` by the millisecond until which the worker counts as alive."""
    counters = _Key("hash")
    """Rejections by reason, and other counters."""
    progress = _Key("string")
    """Progress of the run as last published by the scheduler."""
    queue = _Key("list", QUEUE)
    """Celery's queue."""
    room = _Key("string")
    """Written at intervals, because a full Redis still answers but rejects writes. It has its own TTL."""


TYPES: Final[Mapping[str, str]] = {
    name: key.type for name, key in vars(Names).items() if isinstance(key, _Key) and name != "room"
}
"""The required type of each key that lasts."""
LASTING: Final = tuple(TYPES)
