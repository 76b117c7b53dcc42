"""The Celery side of the scheduler: sends signed messages to an execution's queue, by task name."""

import contextlib
import math
import threading
import time
from collections.abc import Sequence
from typing import Any, Final, override

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as redis_transport
from kombu.utils.json import dumps

from mlho.protocol.documents import Execution
from mlho.protocol.messages import ID_SEPARATOR, TASK_NAME, TaskMessage, new_message, signed
from mlho.protocol.names import KEEP_SECONDS, QUEUE, Names
from mlho.protocol.redis_client import QueueUnavailable, answering, lost_words
from mlho.protocol.scripts import MESSAGE_MS
from mlho.protocol.transport import celery_settings
from mlho.steps.proposals import Leader
from scheduler.queue.executor_state import Pending, QueueCounters

_LOST: Final = redis_transport.get_redis_error_classes().connection_errors


class _Channel(redis_transport.Channel):
    """A Kombu channel that uses one client for all commands and one command for many messages.

    A command costs as much as building a message.
    """

    _shared: Any = None

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        self._waiting: list[str] = []

    @override
    def _put(self, queue: str, message: Any, **options: Any) -> None:
        """Buffer a message for :meth:`flush`."""
        self._waiting.append(dumps(message))

    def flush(self, queue: str) -> None:
        """Push the buffered messages and set the TTL in one transaction, so that a crash cannot leave a key
        without a TTL.
        """
        messages, self._waiting = self._waiting, []
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.lpush(queue, *messages)
            pipe.expire(f"{self.global_keyprefix}{queue}", KEEP_SECONDS)
            pipe.execute()

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous)
        if self._shared is None or self._shared.connection_pool is not self.pool:
            self._shared = super()._create_client()
        return self._shared


class _Transport(redis_transport.Transport):
    Channel = _Channel


class Sender:
    """Sends the messages of one execution. Thread-safe."""

    def __init__(self, broker: str, names: Names, *, key: bytes) -> None:
        for scheme in ("redis", "rediss"):
            TRANSPORT_ALIASES[scheme] = lambda: _Transport
        self._app = Celery("mlho", broker=broker, backend=None, set_as_current=False, fixups=[])
        self._app.conf.update(celery_settings(names))
        self._key = key
        self._lock = threading.Lock()
        self._producer: Any = None

    def send(self, messages: Sequence[TaskMessage], *, leader: Leader) -> None:
        """Put messages on the queue in the given order.

        Raise QueueUnavailable if Redis rejects writes, or does not answer: the messages may then have been sent or not.

        Parameters
        ----------
        leader : Leader
            Checked after the messages are built and before any is sent. If it raises, the exception propagates and nothing is
            sent.
        """
        with self._lock:
            try:
                with answering():
                    self._send(messages, leader)
            except (OperationalError, *_LOST) as error:
                raise QueueUnavailable(f"broker: {lost_words(error)}") from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._close()

    def _send(self, messages: Sequence[TaskMessage], leader: Leader) -> None:
        if self._producer is None:
            connection = self._app.connection_for_write()
            connection.connect()
            self._producer = self._app.amqp.Producer(connection, auto_declare=False)
        try:
            for message in messages:
                self._write(message)
            leader.check()  # as late as possible: this process may have been suspended and resumed after another scheduler took over
            self._producer.channel.flush(QUEUE)
        except BaseException:
            self._close()  # discards the buffered messages of its channel
            raise

    def _write(self, message: TaskMessage) -> None:
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
            argsrepr="",  # otherwise Celery writes the arguments a second time, as readable text
            kwargsrepr="",
        )

    def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            # The connection may be broken, which is why it is closed.
            with contextlib.suppress(OSError, OperationalError):
                producer.connection.close()


class Outbox:
    """Sends the messages of tasks in flight, and records when.

    Parameters
    ----------
    leader : Leader
        Checked before each batch.
    """

    def __init__(self, execution: Execution, sender: Sender, leader: Leader, counters: QueueCounters) -> None:
        self._execution = execution
        self._sender = sender
        self._leader = leader
        self._counters = counters
        self._clock_offset_ms = 0.0

    def set_clock(self, redis_ms: int) -> None:
        """Read the clock of Redis, by which messages expire."""
        self._clock_offset_ms = redis_ms - time.monotonic() * 1000

    def send(self, tasks: Sequence[Pending]) -> None:
        """Send a message for each task."""
        if not tasks:
            return
        messages = [self._message(pending) for pending in tasks]
        for pending in tasks:  # before sending: the watcher may handle the answer before this thread goes on
            pending.sent_at = time.monotonic()
        try:
            self._sender.send(messages, leader=self._leader)
        except BaseException:
            for pending in tasks:
                pending.sent_at = None
            raise
        self._counters.sent += len(tasks)

    def send_again(self, pending: Pending) -> None:
        """Send another message for a task at once."""
        pending.send_at(0.0)
        pending.check_again_at, pending.noted = math.inf, {}
        self.send([pending])

    def _message(self, pending: Pending) -> TaskMessage:
        expires = int(time.monotonic() * 1000 + self._clock_offset_ms) + MESSAGE_MS
        message = new_message(
            run=self._execution.run, execution=self._execution.id, task=pending.task, expires=expires
        )
        pending.nonces.add(message.nonce)
        return message
