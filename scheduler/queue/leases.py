"""The scheduler's door to Redis: declare an execution, read events, end expired leases, look around, clean up."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from mlho.protocol.events import Event, read_event
from mlho.protocol.eviction import eviction_words
from mlho.protocol.failures import QueueError
from mlho.protocol.messages import MessageRefused
from mlho.protocol.messages import Refusal as MessageRefusal
from mlho.protocol.names import KEEP_SECONDS, Names
from mlho.protocol.outages import lost_words, outage_of
from mlho.protocol.scripts import LEASE_MS, MEND_LUA, REAP, TELL, mend_arguments

_EVENTS_AT_ONCE: Final = 500
_REAPED_AT_ONCE: Final = 1_000
_ROOM_SECONDS: Final = 10
_MOST_SLOTS: Final = 4_096  # of all workers together: what is more, nobody can have
_WORKER: Final = re.compile(r".{1,300}/([1-9][0-9]{0,3})")
_MAX_COUNT: Final = 2**53
_MAX_NAME: Final = 64
_HOSTILE: Final = [
    refusal.counter
    for refusal in (
        MessageRefusal.FORGED,
        MessageRefusal.FOREIGN,
        MessageRefusal.MALFORMED,
        MessageRefusal.OVERSIZED,
        MessageRefusal.UNKNOWN,
    )
]
"""Counts of items that no scheduler of ours can have sent."""

log = structlog.get_logger()


class QueueUnavailable(QueueError, ConnectionError):  # noqa: N818 - reads as the state
    """Redis does not answer, or takes nothing: try again; a run that is under way waits."""


Refusal = redis.ResponseError
"""What a command raises that Redis does not carry out."""


def unavailable(error: redis.ResponseError) -> QueueUnavailable:
    """The error of a Redis that refuses a command."""
    words = outage_of(error) or "refuses a command, as a key is not what it must be."
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
    has_flags: bool
    """Whether it says that the execution is cancelled or done, which only the store can know."""
    leased: frozenset[str]
    slots: int
    """Slots of all workers that are there."""
    n_refused: int
    """Items of the queue that workers have refused, and no scheduler of ours can have sent."""


class Leases:
    """What a scheduler does in Redis for one execution. All that it finds there is checked: anybody may have written it.

    Parameters
    ----------
    url : str
        Address of Redis.
    names : Names
        Keys of the execution.
    key : bytes
        The signing key; without it, no event is read.

    Raises
    ------
    QueueUnavailable
        From every method, while Redis does not answer.
    """

    def __init__(self, url: str, names: Names, *, key: bytes = b"", lease_ms: int = LEASE_MS) -> None:
        self.names = names
        self.n_dropped = 0
        """What was found here, was not ours, and was dropped: events, keys, leases, flags."""
        self._n_refused = 0
        self._key = key
        self._lease_ms = lease_ms
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
        self._mend = self._redis.register_script(MEND_LUA)

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

    def wait_for_events(self, seconds: float) -> list[Event]:
        """Events since the last call, at once if there are any, else the first that comes."""
        with _answering():
            found = cast(list[str] | None, self._redis.lpop(self.names.events, _EVENTS_AT_ONCE))
            if not found:
                first = cast(Sequence[str] | None, self._redis.blpop([self.names.events], timeout=seconds))
                if first is None:
                    return []
                more = cast(list[str] | None, self._redis.lpop(self.names.events, _EVENTS_AT_ONCE))
                found = [first[1], *(more or ())]
        events = [event for event in map(self._event, found) if event is not None]
        if len(events) < len(found):
            self.n_dropped += len(found) - len(events)
            log.warning("events_refused", n_items=len(found) - len(events))
        return events

    def _event(self, text: str) -> Event | None:
        """What a worker said; ``None`` if no worker can have said it."""
        try:
            return read_event(text, key=self._key, execution=self.names.execution)
        except MessageRefused:
            return None

    def mend(self, most: int | None = None) -> int:
        """Delete keys that have another type than they must, or more items than this; return how many. Their content is derived again from the store."""
        with _answering():
            n_deleted = int(cast(int, self._mend(keys=self.names.lasting, args=mend_arguments(most))))
        if n_deleted:
            self.n_dropped += n_deleted
            log.warning("queue_mended", n_keys=n_deleted)
        return n_deleted

    def take_dropped(self, standing: Standing) -> int:
        """How many items that are not ours were dropped since the last call, here and by workers."""
        n_new = self.n_dropped + max(0, standing.n_refused - self._n_refused)
        self.n_dropped, self._n_refused = 0, standing.n_refused
        return n_new

    def lower_flags(self) -> None:
        """Take back the flags that say that the execution is over, which it is not."""
        with _answering():
            self.n_dropped += int(cast(int, self._redis.delete(self.names.cancelled, self.names.done)))

    def reap(self) -> list[Reaped]:
        """End the leases that have expired."""
        with _answering():
            answer = cast(
                list[Any],
                self._reap(keys=REAP.keys_of(self.names), args=[_REAPED_AT_ONCE, 2 * self._lease_ms]),
            )
        n_long, *rest = answer
        self.n_dropped += int(n_long)
        pairs = zip(rest[::2], rest[1::2], strict=True)
        return [Reaped(str(task), int(attempts)) for task, attempts in pairs]

    def look(self) -> Standing:
        """What stands in Redis now, in one round trip; a sign of life, for which the execution's keys are kept."""
        with _answering():
            pipe = self._redis.pipeline(transaction=False)
            pipe.set(self.names.room, 1, ex=_ROOM_SECONDS)
            pipe.time()
            pipe.exists(self.names.epoch)
            pipe.exists(self.names.cancelled, self.names.done)
            pipe.zrange(self.names.leases, 0, -1)
            pipe.zrange(self.names.workers, 0, -1, withscores=True)
            pipe.hmget(self.names.counters, _HOSTILE)
            for key in self.names.lasting:
                pipe.expire(key, KEEP_SECONDS)
            _, (seconds, micros), epoch, flags, leased, workers, counts, *_ = pipe.execute()
        now = int(seconds) * 1000 + int(micros) // 1000
        n_refused = sum(_count(text) for text in counts if text is not None)
        return Standing(
            now, bool(epoch), bool(flags), frozenset(leased), self._slots(workers, now), n_refused
        )

    def _slots(self, workers: Sequence[tuple[str, float]], now: int) -> int:
        """Slots of the workers that beat a short while ago, by the clock of Redis, and do not say that they will in an hour."""
        last = now + 4 * self._lease_ms
        present = [_WORKER.fullmatch(name) for name, until in workers if now < until <= last]
        return min(sum(int(found[1]) for found in present if found), _MOST_SLOTS)

    def queued(self) -> list[str]:
        """Ids of the messages in the queue, as they were given when sent."""
        with _answering():
            messages = cast(list[str], self._redis.lrange(self.names.queue, 0, -1))
        return [found for found in map(_message_id, messages) if found]

    def counters(self) -> dict[str, int]:
        """What workers counted."""
        with _answering():
            found = cast(dict[str, str], self._redis.hgetall(self.names.counters))
        return {name[:_MAX_NAME]: _count(number) for name, number in found.items()}

    def tell_progress(self, stages: Sequence[tuple[str, int, int]]) -> None:
        """Leave word of how far the run is, where it is declared: stage, tasks done, tasks in all."""
        with _answering():
            self._tell(keys=TELL.keys_of(self.names), args=[json.dumps(stages)])

    def progress(self) -> list[tuple[str, int, int]]:
        """How far the scheduler last said the run to be; empty if it has not, or Redis was emptied."""
        with _answering():
            found = cast(str | None, self._redis.get(self.names.progress))
        return _stages(found or "[]")

    def cancel(self) -> None:
        """Raise the cancel flag, which workers read at each claim and heartbeat."""
        with _answering():
            self._redis.set(self.names.cancelled, 1, ex=KEEP_SECONDS)

    def finish(self) -> None:
        """Raise the flag that nothing is left to do."""
        with _answering():
            self._redis.set(self.names.done, 1, ex=KEEP_SECONDS)

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


def _count(text: str) -> int:
    """A count; 0 if it is none."""
    return min(int(text), _MAX_COUNT) if text.isdecimal() and len(text) <= len(str(_MAX_COUNT)) else 0


def _stages(text: str) -> list[tuple[str, int, int]]:
    """Stages as a scheduler told them; none if no scheduler can have told them so."""
    try:
        stages = [(name, done, total) for name, done, total in json.loads(text)]
    except (RecursionError, TypeError, ValueError):
        return []
    is_told = all(
        isinstance(name, str) and type(done) is type(total) is int and 0 <= done <= total
        for name, done, total in stages
    )
    return stages if is_told else []


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
        raise QueueUnavailable(
            "broker: refuses this password or user. Set MLHO_BROKER to redis://USER:PASSWORD@HOST:PORT/0."
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise QueueUnavailable(
            "broker: this user may not do what is needed. Allow it its keys (~mlho:*) and commands."
        ) from error
    except redis.ResponseError as error:
        raise unavailable(error) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise QueueUnavailable(f"broker: {lost_words(error)}") from error
