"""The scheduler's door to Redis: declare an execution, read events, end expired leases, look around, clean up."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from mlho.protocol.eviction import eviction_words
from mlho.protocol.failures import Failure, QueueError
from mlho.protocol.names import KEEP_SECONDS, Names
from mlho.protocol.outages import lost_words, outage_of
from mlho.protocol.scripts import REAP, TELL

_EVENTS_AT_ONCE: Final = 500
_REAPED_AT_ONCE: Final = 1_000
_ROOM_SECONDS: Final = 10
_NEEDED: Final = {"failed": ("attempt", "failure"), "exhausted": ("attempt",)}

log = structlog.get_logger()


class QueueUnavailable(QueueError, ConnectionError):  # noqa: N818 - reads as the state
    """Redis does not answer, or takes nothing: try again; a run that is under way waits."""


Refusal = redis.ResponseError
"""What a command raises that Redis does not carry out."""


def unavailable(error: redis.ResponseError) -> QueueUnavailable:
    """The error of a Redis that refuses for a reason that may pass; raises any other as it is."""
    words = outage_of(error)
    if words is None:
        raise error
    return QueueUnavailable(f"broker: {words} A run that is under way goes on then.")


@dataclass(frozen=True)
class Reaped:
    """A task whose lease has expired, and how often it was started."""

    task: str
    attempts: int


@dataclass(frozen=True)
class Standing:
    """What stands in Redis now."""

    now_ms: int
    """By the clock of Redis."""
    is_declared: bool
    """False: Redis was emptied."""
    is_cancelled: bool
    leased: frozenset[str]
    slots: int
    """Slots of all workers that are there."""


class Leases:
    """What a scheduler does in Redis for one execution.

    Raises
    ------
    QueueUnavailable
        From every method, while Redis does not answer.
    """

    def __init__(self, url: str, names: Names) -> None:
        self.names = names
        try:
            self._redis = redis.Redis.from_url(
                url,
                decode_responses=True,
                encoding_errors="replace",  # what is no text is no message and no event
                socket_timeout=5,
                socket_connect_timeout=3,
                socket_keepalive=True,
                health_check_interval=10,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError:
            raise QueueError(
                "broker: not an address. Write redis://HOST:PORT/0, rediss:// for TLS, or embedded."
            ) from None
        self._reap = self._redis.register_script(REAP.lua)
        self._tell = self._redis.register_script(TELL.lua)

    def check(self) -> None:
        """Refuse a Redis that does not answer, does not let us in, or throws keys away.

        Raises
        ------
        QueueError
            With the remedy.
        """
        with _answering():
            self._redis.set(self.names.room, 1, ex=_ROOM_SECONDS)
            self._redis.delete(self.names.room)
            try:
                memory = cast(dict[str, object], self._redis.info("memory"))
            except redis.ResponseError:  # this user may not ask
                log.warning("queue_policy_unknown")
                return
        words = eviction_words(memory)
        if words is not None:
            raise QueueError(f"broker: {words}")

    def declare(self, epoch: int) -> None:
        """Say that this execution is on, unless that stands.

        Parameters
        ----------
        epoch : int
            1 when nothing of it can have run yet; more tells workers to ask the store how often a task was started,
            because what Redis knew of it is lost.
        """
        with _answering():
            self._redis.set(self.names.epoch, epoch, nx=True, ex=KEEP_SECONDS)

    def forget(self, task: str) -> None:
        """Take back the mark that a task is committed: its commit record is not in the store."""
        with _answering():
            self._redis.srem(self.names.committed, task)

    def wait_for_events(self, seconds: float) -> list[dict[str, Any]]:
        """Events since the last call, at once if there are any, else the first that comes."""
        with _answering():
            found = cast(list[str] | None, self._redis.lpop(self.names.events, _EVENTS_AT_ONCE))
            if not found:
                first = cast(Sequence[str] | None, self._redis.blpop([self.names.events], timeout=seconds))
                if first is None:
                    return []
                more = cast(list[str] | None, self._redis.lpop(self.names.events, _EVENTS_AT_ONCE))
                found = [first[1], *(more or ())]
        return [event for event in map(_event, found) if event is not None]

    def reap(self) -> list[Reaped]:
        """End the leases that have expired."""
        with _answering():
            answer = cast(list[Any], self._reap(keys=REAP.keys_of(self.names), args=[_REAPED_AT_ONCE]))
        pairs = zip(answer[::2], answer[1::2], strict=True)
        return [Reaped(str(task), int(attempts)) for task, attempts in pairs]

    def look(self) -> Standing:
        """What stands in Redis now, in one round trip; a sign of life, for which the execution's keys are kept."""
        with _answering():
            pipe = self._redis.pipeline(transaction=False)
            pipe.set(self.names.room, 1, ex=_ROOM_SECONDS)
            pipe.time()
            pipe.exists(self.names.epoch)
            pipe.exists(self.names.cancelled)
            pipe.zrange(self.names.leases, 0, -1)
            pipe.zrange(self.names.workers, 0, -1, withscores=True)
            for key in self.names.lasting:
                pipe.expire(key, KEEP_SECONDS)
            _, (seconds, micros), epoch, cancelled, leased, workers, *_ = pipe.execute()
        now = int(seconds) * 1000 + int(micros) // 1000
        slots = sum(int(name.rsplit("/", 1)[1]) for name, until in workers if until > now)
        return Standing(now, bool(epoch), bool(cancelled), frozenset(leased), slots)

    def queued(self) -> list[str]:
        """Ids of the messages in the queue, as they were given when sent."""
        with _answering():
            messages = cast(list[str], self._redis.lrange(self.names.queue, 0, -1))
        return [found for found in map(_message_id, messages) if found]

    def counters(self) -> dict[str, int]:
        """What workers counted."""
        with _answering():
            found = cast(dict[str, str], self._redis.hgetall(self.names.counters))
        return {name: int(number) for name, number in found.items()}

    def tell_progress(self, stages: Sequence[tuple[str, int, int]]) -> None:
        """Leave word of how far the run is, where it is declared: stage, tasks done, tasks in all."""
        with _answering():
            self._tell(keys=TELL.keys_of(self.names), args=[json.dumps(stages)])

    def progress(self) -> list[tuple[str, int, int]]:
        """How far the scheduler last said the run to be; empty if it has not, or Redis was emptied."""
        with _answering():
            found = cast(str | None, self._redis.get(self.names.progress))
        return [(str(stage), int(done), int(total)) for stage, done, total in json.loads(found or "[]")]

    def cancel(self) -> None:
        """Raise the cancel flag, which workers read at each claim and heartbeat."""
        with _answering():
            self._redis.set(self.names.cancelled, 1, ex=KEEP_SECONDS)

    def finish(self) -> None:
        """Raise the flag that nothing is left to do."""
        with _answering():
            self._redis.set(self.names.done, 1, ex=KEEP_SECONDS)

    def clear_quarantine(self, tasks: Iterable[str]) -> None:
        """Give tasks a new budget."""
        names = list(tasks)
        if names:
            with _answering():
                self._redis.hdel(self.names.quarantine, *names)
                self._redis.hdel(self.names.attempts, *names)

    def remove_keys(self) -> int:
        """Delete all that this execution has in Redis; return how many keys that were."""
        removed = 0
        with _answering():
            for key in self._redis.scan_iter(match=f"{self.names.prefix}*", count=500):
                removed += int(cast(int, self._redis.unlink(key)))
        return removed

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def _event(text: str) -> dict[str, Any] | None:
    """What a worker said; ``None`` if no worker can have said it, as anybody who can write to Redis can put anything there."""
    try:
        event = json.loads(text)
        is_event = (
            all(type(event[name]) is str for name in ("event", "task"))
            and all(type(event.get(name, 0)) is int for name in ("attempt", "memory"))
            and all(name in event for name in _NEEDED.get(event["event"], ()))
        )
        if "failure" in event:
            Failure.from_plain(event["failure"])
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None
    return event if is_event else None


def _message_id(text: str) -> str | None:
    try:
        return str(json.loads(text)["headers"]["id"])
    except (KeyError, RecursionError, TypeError, ValueError):
        return None


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except redis.exceptions.AuthenticationError as error:
        raise QueueError(
            "broker: refuses this password or user. Set MLHO_BROKER to redis://USER:PASSWORD@HOST:PORT/0."
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise QueueError(
            "broker: this user may not do what is needed. Allow it its keys (~mlho:*) and commands."
        ) from error
    except redis.ResponseError as error:
        raise unavailable(error) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise QueueUnavailable(f"broker: {lost_words(error)}") from error
