"""The Celery side of the scheduler: puts signed messages on an execution's queue, by name."""

import contextlib
import threading
from typing import Any, Final, override

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as redis_transport
from kombu.utils.json import dumps

from mlho.protocol.messages import TASK_NAME, TaskMessage, signed
from mlho.protocol.names import KEEP_SECONDS, QUEUE, Names
from mlho.protocol.transport import celery_settings
from scheduler.leases import QueueUnavailable, Refusal, unavailable

ID_SEPARATOR: Final = "."


class _Channel(redis_transport.Channel):
    """Kombu's channel with one client for all commands: it makes one for each, which costs as much as the command."""

    _shared: Any = None

    @override
    def _put(self, queue: str, message: Any, **options: Any) -> None:
        """Put a message on the queue; a list that was not there before is given its time, which the watcher's looks lengthen."""
        with self.conn_or_acquire() as client:
            if client.lpush(queue, dumps(message)) == 1:
                client.expire(f"{self.global_keyprefix}{queue}", KEEP_SECONDS)

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous)
        if self._shared is None or self._shared.connection_pool is not self.pool:
            self._shared = super()._create_client()
        return self._shared


class _Transport(redis_transport.Transport):
    Channel = _Channel


class Sender:
    """Sends messages of one execution; safe to use from several threads."""

    def __init__(self, broker: str, names: Names, *, key: bytes) -> None:
        for scheme in ("redis", "rediss"):
            TRANSPORT_ALIASES[scheme] = lambda: _Transport
        self._app = Celery("mlho", broker=broker, backend=None, set_as_current=False, fixups=[])
        self._app.conf.update(celery_settings(names))
        self._key = key
        self._lock = threading.Lock()
        self._producer: Any = None

    def send(self, message: TaskMessage) -> None:
        """Put a message on the queue.

        Raises
        ------
        QueueUnavailable
            Redis does not answer, and the message may or may not be there; or it takes nothing now.
        """
        with self._lock:
            try:
                self._send(message)
            except Refusal as error:
                self._close()
                raise unavailable(error) from error
            except (OperationalError, OSError) as error:
                self._close()
                raise QueueUnavailable(
                    "broker: does not answer. Check its address, and that it runs."
                ) from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._close()

    def _send(self, message: TaskMessage) -> None:
        if self._producer is None:
            connection = self._app.connection_for_write()
            connection.connect()
            self._producer = self._app.amqp.Producer(connection, auto_declare=False)
        self._app.send_task(
            TASK_NAME,
            kwargs=signed(message, key=self._key),
            task_id=f"{message.task}{ID_SEPARATOR}{message.nonce}",
            producer=self._producer,
            exchange="",
            routing_key=QUEUE,
            declare=[],
            retry=False,
            ignore_result=True,
            argsrepr="",  # else Celery writes the arguments once more, for people to read
            kwargsrepr="",
        )

    def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(
                OSError, OperationalError
            ):  # it may be broken, which is why it is closed
                producer.connection.close()
