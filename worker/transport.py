"""The worker's Kombu transport for Redis: it validates incoming items and keeps no second copy of them.

Kombu writes each received message to Redis again until it is acknowledged, and redelivers it after hours.
Here the scheduler resends a task within seconds if it is neither queued nor leased nor committed
(docs/decisions/0009-no-redelivery.md).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any, Final, override

import kombu
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as redis_transport
from kombu.transport.virtual import QoS

from mlho.log import log
from mlho.protocol.names import QUEUE
from mlho.protocol.redis_client import outage_of
from worker.task_handler import TaskHandler

_PAUSE_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = {"interval_start": 1, "interval_step": 1, "interval_max": 2}


def use_transport(handler: TaskHandler) -> None:
    """Use the strict transport with this task handler for every connection of this process."""
    transport = type("HandlerTransport", (_Transport,), {"handler": handler})
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = lambda: transport


class _Received(QoS):
    """Received messages that are not yet acknowledged, known to this worker only.

    A new connection does not know the messages of the previous one. The task handler does. It thus keeps a busy
    worker from taking a message that another worker could run.
    """

    restore_at_shutdown = False  # the task handler returns messages that it cannot start

    @override
    def can_consume(self) -> bool:
        return bool(super().can_consume()) and self.channel.connection.handler.has_room


class _Channel(redis_transport.Channel):
    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        self.QoS = _Received  # Kombu sets its own here

    @override
    def _brpop_read(self, **options: Any) -> bool:
        """Take one item from the queue.

        Kombu's own method parses it with decoders that a hostile item can cause to raise any exception.
        """
        client = self.client
        try:
            with self._refusal_is_a_lost_connection():
                item = client.parse_response(client.connection, "BRPOP", **options)
            if not item:
                raise Empty
            self.connection._deliver(item[1], QUEUE)
            return True
        except self.connection_errors:
            client.connection.disconnect()  # the next poll reconnects
            raise
        finally:
            self._in_poll = None

    @override
    def _queue_bind(self, *positional: Any, **named: Any) -> None:
        """Write nothing: the queue is read by its name."""

    @override
    def _size(self, queue: str) -> int:
        """Return 0 without a request: Celery declares its queue on connecting, and a key of a different type
        would terminate it.
        """
        return 0

    @contextmanager
    def _refusal_is_a_lost_connection(self) -> Iterator[None]:
        """Turn a rejected command into a lost connection, so that Celery reconnects once a second
        instead of exiting.
        """
        try:
            yield
        except self.connection_errors:
            raise
        except self.ResponseError as error:
            self.connection.handler.mend()
            log.warning("queue_unavailable", error=f"broker: {outage_of(error) or 'refuses a command.'}")
            time.sleep(_PAUSE_SECONDS)
            raise ConnectionResetError("closed, because the server refuses a command") from error


class Connection(kombu.Connection):
    """A connection that retries every few seconds, however long Redis is unavailable.

    Celery's own backoff grows to half a minute.
    """

    @override
    def ensure_connection(self, *positional: Any, **named: Any) -> Any:
        return super().ensure_connection(*positional, **{**named, **_RETRY_SECONDS})


class _Poller(redis_transport.MultiChannelPoller):
    @override
    def on_readable(self, fileno: int) -> None:
        """Read every pending answer, even an unexpected one.

        Kombu's own method leaves it unread, so that the loop spins until a slot is free.
        """
        channel, kind = self._fd_to_chan[fileno]
        if not channel._in_poll:
            raise ConnectionResetError("closed by the server")
        channel.handlers[kind]()


class _Transport(redis_transport.Transport):
    Channel = _Channel
    handler: TaskHandler

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        self.cycle = _Poller()

    def _deliver(self, message: bytes, queue: str) -> None:
        envelope = self.handler.admit(message)
        if envelope is not None:
            super()._deliver(envelope, queue)
