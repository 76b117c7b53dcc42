"""Kombu's transport for Redis as a worker uses it: strict about what comes in, and with no second copy of it.

Kombu writes each message that it takes to Redis once more until it is acknowledged, and delivers it again after hours. Here the scheduler sends
again what is neither queued nor leased nor committed, within seconds (docs/decisions/0009-no-redelivery.md).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any, Final, override

import kombu
import structlog
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as redis_transport
from kombu.transport.virtual import QoS

from mlho.protocol.names import QUEUE
from mlho.protocol.outages import outage_of
from worker.task_handler import Desk

_PAUSE_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = {"interval_start": 1, "interval_step": 1, "interval_max": 2}

log = structlog.get_logger()


def use_transport(desk: Desk) -> None:
    """Have every connection of this process made by the strict transport, with this desk at its end."""
    transport = type("DeskTransport", (_Transport,), {"desk": desk})
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = lambda: transport


class _Received(QoS):
    """What was received and is not acknowledged, known to this worker alone.

    A connection that is made anew knows nothing of what the last one brought: the desk does, so that a busy worker takes nothing that another could run.
    """

    restore_at_shutdown = False  # the desk gives back what it cannot start

    @override
    def can_consume(self) -> bool:
        return bool(super().can_consume()) and self.channel.connection.desk.has_room


class _Channel(redis_transport.Channel):
    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        self.QoS = _Received  # Kombu sets its own here

    @override
    def _brpop_read(self, **options: Any) -> bool:
        """Take one item from the queue. Kombu's own parses it with decoders that a hostile item can make raise anything."""
        client = self.client
        try:
            with self._refusal_is_a_lost_connection():
                found = client.parse_response(client.connection, "BRPOP", **options)
            if not found:
                raise Empty
            self.connection._deliver(found[1], QUEUE)
            return True
        except self.connection_errors:
            client.connection.disconnect()  # connected again by the next look
            raise
        finally:
            self._in_poll = None

    @override
    def _queue_bind(self, *positional: Any, **named: Any) -> None:
        """Nothing is written: the queue is read by its name."""

    @override
    def _size(self, queue: str) -> int:
        """Nothing is asked: Celery declares its queue when it connects, and a key of another type would end it there."""
        return 0

    @contextmanager
    def _refusal_is_a_lost_connection(self) -> Iterator[None]:
        """Have Celery connect again, once a second, to a Redis that refuses its command: its main loop would end by the answer."""
        try:
            yield
        except self.connection_errors:
            raise
        except self.ResponseError as error:
            self.connection.desk.mend()
            log.warning("queue_unavailable", error=f"broker: {outage_of(error) or 'refuses a command.'}")
            time.sleep(_PAUSE_SECONDS)
            raise ConnectionResetError("closed, because the server refuses a command") from error


class Connection(kombu.Connection):
    """A connection that is tried again every few seconds, however long Redis is away: Celery waits up to half a minute in the end."""

    @override
    def ensure_connection(self, *positional: Any, **named: Any) -> Any:
        return super().ensure_connection(*positional, **{**named, **_RETRY_SECONDS})


class _Poller(redis_transport.MultiChannelPoller):
    @override
    def on_readable(self, fileno: int) -> None:
        """Read what was asked for, wanted or not: Kombu's own leaves it, and a loop that is woken by it spins until a slot is free."""
        channel, kind = self._fd_to_chan[fileno]
        if not channel._in_poll:
            raise ConnectionResetError("closed by the server")
        channel.handlers[kind]()


class _Transport(redis_transport.Transport):
    Channel = _Channel
    desk: Desk

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        self.cycle = _Poller()

    def _deliver(self, message: bytes, queue: str) -> None:
        envelope = self.desk.admit(message)
        if envelope is not None:
            super()._deliver(envelope, queue)
