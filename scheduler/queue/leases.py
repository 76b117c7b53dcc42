"""The scheduler's Redis client: declare an execution, read events, expire leases, take snapshots, clean up."""

import json
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final, cast

from mlho.log import log
from mlho.protocol.events import Event, read_event
from mlho.protocol.messages import MessageRefused, Refusal
from mlho.protocol.names import KEEP_SECONDS, Names
from mlho.protocol.redis_client import answering, check_server, connect
from mlho.protocol.scripts import LEASE_MS, MEND_LUA, REAP, TELL, mend_arguments
from scheduler.engine.progress import StageProgress, Stages

_EVENTS_AT_ONCE: Final = 500
_REAPED_AT_ONCE: Final = 1_000
_ROOM_SECONDS: Final = 10
_MOST_SLOTS: Final = 4_096  # of all workers together; a larger number is not plausible
_WORKER: Final = re.compile(r".{1,300}/([1-9][0-9]{0,3})")
_MAX_COUNT: Final = 2**53
_MAX_NAME: Final = 64
_HOSTILE: Final = [
    refusal.counter
    for refusal in (
        Refusal.FORGED,
        Refusal.FOREIGN,
        Refusal.MALFORMED,
        Refusal.OVERSIZED,
        Refusal.UNKNOWN,
    )
]
"""Counters of items that no scheduler of this run can have sent."""


@dataclass(frozen=True)
class Reaped:
    """A task whose lease has expired, and the number of its attempts."""

    task: str
    attempts: int


@dataclass(frozen=True)
class QueueState:
    """A snapshot of an execution's state in Redis."""

    now_ms: int
    """By the clock of Redis."""
    is_declared: bool
    """False: Redis was emptied."""
    has_flags: bool
    """Whether Redis marks the execution as cancelled or done. Only the store can confirm it."""
    leased: frozenset[str]
    slots: int
    """Slots of all active workers."""
    n_refused: int
    """Items of the queue that workers have rejected and that no scheduler of this run can have sent."""


class Leases:
    """Redis operations of a scheduler for one execution.

    All content is validated, because any client may have written it. Every method raises QueueUnavailable while Redis does not
    answer.

    Parameters
    ----------
    key : bytes
        The signing key; without it, no event is read.
    """

    def __init__(self, url: str, names: Names, *, key: bytes = b"", lease_ms: int = LEASE_MS) -> None:
        self.names = names
        self.n_dropped = 0
        """Foreign items that were found and dropped: events, keys, leases, flags."""
        self._n_refused = 0
        self._key = key
        self._lease_ms = lease_ms
        self._redis = connect(url)
        self._reap = self._redis.register_script(REAP.lua)
        self._tell = self._redis.register_script(TELL.lua)
        self._mend = self._redis.register_script(MEND_LUA)

    def check(self) -> None:
        """Check that Redis answers, accepts the credentials, and does not evict keys. Raise QueueError with the remedy."""
        if not check_server(self._redis, self.names):
            log.warning("queue_policy_unknown")
        with answering():
            self._redis.delete(self.names.room)

    def declare(self, epoch: int) -> None:
        """Declare this execution as active, unless it already is.

        Parameters
        ----------
        epoch : int
            1 if no task of it can have run yet. A higher number tells workers to read the number of attempts from the store,
            because the counts in Redis are lost.
        """
        with answering():
            self._redis.set(self.names.epoch, epoch, nx=True, ex=KEEP_SECONDS)

    def forget(self, task: str) -> None:
        """Remove the mark that a task is committed, because its commit record is missing from the store."""
        with answering():
            self._redis.srem(self.names.committed, task)

    def wait_for_events(self, seconds: float) -> list[Event]:
        """Return the events since the last call. If there are none, wait for the first."""
        with answering():
            items = cast(list[str] | None, self._redis.lpop(self.names.events, _EVENTS_AT_ONCE))
            if not items:
                first = cast(Sequence[str] | None, self._redis.blpop([self.names.events], timeout=seconds))
                if first is None:
                    return []
                more = cast(list[str] | None, self._redis.lpop(self.names.events, _EVENTS_AT_ONCE))
                items = [first[1], *(more or ())]
        events = [event for event in map(self._event, items) if event is not None]
        if len(events) < len(items):
            self.n_dropped += len(items) - len(events)
            log.warning("events_refused", n_items=len(items) - len(events))
        return events

    def _event(self, text: str) -> Event | None:
        """Return the parsed event, or ``None`` if no worker can have sent it."""
        try:
            return read_event(text, key=self._key, execution=self.names.execution)
        except MessageRefused:
            return None

    def mend(self, most: int | None = None) -> int:
        """Delete keys of the wrong type or with more items than ``most``. Return the number of deleted keys.

        Their content is rebuilt from the store.
        """
        with answering():
            n_deleted = int(cast(int, self._mend(keys=self.names.lasting, args=mend_arguments(most))))
        if n_deleted:
            self.n_dropped += n_deleted
            log.warning("queue_mended", n_keys=n_deleted)
        return n_deleted

    def take_dropped(self, queue_state: QueueState) -> int:
        """Return the number of foreign items dropped since the last call, here and by workers."""
        n_new = self.n_dropped + max(0, queue_state.n_refused - self._n_refused)
        self.n_dropped, self._n_refused = 0, queue_state.n_refused
        return n_new

    def lower_flags(self) -> None:
        """Delete the flags that mark the execution as over while it is open."""
        with answering():
            self.n_dropped += int(cast(int, self._redis.delete(self.names.cancelled, self.names.done)))

    def reap(self) -> list[Reaped]:
        """Expire the leases that are overdue."""
        with answering():
            answer = cast(
                list[Any],
                self._reap(keys=REAP.keys_of(self.names), args=[_REAPED_AT_ONCE, 2 * self._lease_ms]),
            )
        n_long, *rest = answer
        self.n_dropped += int(n_long)
        pairs = zip(rest[::2], rest[1::2], strict=True)
        return [Reaped(str(task), int(attempts)) for task, attempts in pairs]

    def look(self) -> QueueState:
        """Return a snapshot of Redis in one round trip, and extend the TTL of the execution's keys as a
        sign of life.
        """
        with answering():
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
        return QueueState(
            now, bool(epoch), bool(flags), frozenset(leased), self._slots(workers, now), n_refused
        )

    def _slots(self, workers: Sequence[tuple[str, float]], now: int) -> int:
        """Return the slots of the workers with a recent heartbeat, by the clock of Redis.

        Heartbeats that expire implausibly late are ignored.
        """
        last = now + 4 * self._lease_ms
        present = [_WORKER.fullmatch(name) for name, until in workers if now < until <= last]
        return min(sum(int(slots[1]) for slots in present if slots), _MOST_SLOTS)

    def queued(self) -> list[str]:
        """Return the ids of the messages in the queue, as assigned when they were sent."""
        with answering():
            messages = cast(list[str], self._redis.lrange(self.names.queue, 0, -1))
        return [message for message in map(_message_id, messages) if message]

    def counters(self) -> dict[str, int]:
        """Return the counters of the workers."""
        with answering():
            counters = cast(dict[str, str], self._redis.hgetall(self.names.counters))
        return {name[:_MAX_NAME]: _count(number) for name, number in counters.items()}

    def publish_progress(self, stages: Stages) -> None:
        """Publish the progress of a declared execution."""
        with answering():
            self._tell(keys=TELL.keys_of(self.names), args=[json.dumps([astuple(stage) for stage in stages])])

    def progress(self) -> Stages:
        """Return the last published progress, or nothing if there is none or Redis was emptied."""
        with answering():
            text = cast(str | None, self._redis.get(self.names.progress))
        return _stages(text or "[]")

    def cancel(self) -> None:
        """Set the cancel flag, which workers read at each claim and heartbeat."""
        with answering():
            self._redis.set(self.names.cancelled, 1, ex=KEEP_SECONDS)

    def finish(self) -> None:
        """Set the flag that no tasks are left."""
        with answering():
            self._redis.set(self.names.done, 1, ex=KEEP_SECONDS)

    def remove_keys(self) -> int:
        """Delete all keys of this execution in Redis. Return their number."""
        removed = 0
        with answering():
            for key in self._redis.scan_iter(match=f"{self.names.prefix}*", count=500):
                removed += int(cast(int, self._redis.unlink(key)))
        return removed

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def _count(text: str) -> int:
    """Return a parsed count, or 0 if the text is not a count."""
    return min(int(text), _MAX_COUNT) if text.isdecimal() and len(text) <= len(str(_MAX_COUNT)) else 0


def _stages(text: str) -> Stages:
    """Return the published stages, or nothing if no scheduler can have written the text."""
    try:
        stages = tuple(StageProgress(name, done, total) for name, done, total in json.loads(text))
    except (RecursionError, TypeError, ValueError):
        return ()
    is_told = all(
        isinstance(stage.name, str)
        and type(stage.done) is type(stage.total) is int
        and 0 <= stage.done <= stage.total
        for stage in stages
    )
    return stages if is_told else ()


def _message_id(text: str) -> str | None:
    try:
        return str(json.loads(text)["headers"]["id"])
    except (KeyError, RecursionError, TypeError, ValueError):
        return None
