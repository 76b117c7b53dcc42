"""The worker's Redis client: claim, heartbeat, complete, release. Each is one script on the server."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from mlho.protocol.eviction import eviction_words
from mlho.protocol.failures import QueueError
from mlho.protocol.messages import TaskMessage
from mlho.protocol.names import KEEP_SECONDS, Names
from mlho.protocol.outages import lost_words, outage_of
from mlho.protocol.scripts import (
    CLAIM,
    COMPLETE,
    HEARTBEAT,
    LEASE_MS,
    MEND_LUA,
    RELEASE,
    WRONG_TYPE,
    Beat,
    Script,
    Verdict,
    mend_arguments,
)

_PAUSE_SECONDS: Final = 0.25
_ROOM_SECONDS: Final = 10
_MENDED: Final = "mended"
_REFUSED: Final = "refuses this password or user. Set MLHO_BROKER to redis://USER:PASSWORD@HOST:PORT/0."

log = structlog.get_logger()


class Unavailable(Exception):  # noqa: N818 - reads as the state
    """Redis does not answer, or rejects writes. The state may be temporary. The message gives the cause and the remedy."""


@dataclass(frozen=True)
class Lease:
    """The right to run a task, as long as it is renewed."""

    task: str
    owner: str
    attempt: int
    nonce: str = ""
    """Nonce of the message that requested it."""
    since: int = field(default_factory=time.time_ns, compare=False)
    """Start of the lease in nanoseconds since 1970, by the clock of this machine; used for traces only."""


@dataclass(frozen=True)
class Claim:
    """Result of a claim, and the number of this attempt as far as Redis knows; 0 if unknown."""

    verdict: Verdict
    attempt: int


@dataclass(frozen=True)
class Pulse:
    """Result of a heartbeat."""

    beat: Beat
    lost: frozenset[str]
    """Owners whose lease is now held by another worker."""


class Claims:
    """Claims of one worker on the tasks of one execution.

    Raises
    ------
    Unavailable
        From every method, while Redis does not answer; :meth:`until_answered` waits.
    """

    def __init__(self, url: str, names: Names, *, lease_ms: int = LEASE_MS) -> None:
        self.names = names
        self._lease_ms = lease_ms
        # No retries in the client: each caller decides how long to continue.
        self._redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            encoding_errors="replace",
            socket_timeout=5,
            socket_connect_timeout=3,
            socket_keepalive=True,
            health_check_interval=10,
            retry=Retry(NoBackoff(), 0),
        )
        self._scripts: dict[Script, Any] = {
            script: self._redis.register_script(script.lua)
            for script in (CLAIM, HEARTBEAT, COMPLETE, RELEASE)
        }
        self._mend = self._redis.register_script(MEND_LUA)

    def check(self) -> bool:
        """Return true if Redis answers, accepts writes, and does not evict keys.

        Raises
        ------
        QueueError
            Redis rejects the password, or evicts keys.
        """
        with _answering(at_start=True):
            self._redis.set(self.names.room, 1, ex=_ROOM_SECONDS)
            try:
                memory = cast(dict[str, object], self._redis.info("memory"))
            except redis.ResponseError:  # this user lacks the permission; the scheduler's user may have it
                return True
        words = eviction_words(memory)
        if words is not None:
            raise QueueError(f"broker: {words}")
        return True

    def claim(self, message: TaskMessage, owner: str) -> Claim:
        """Request the lease of a task. The script also counts the attempt."""
        arguments = [message.task, owner, self._lease_ms, message.nonce, message.expires]
        verdict, attempt = cast(tuple[str, int], self._call(CLAIM, arguments))
        return Claim(Verdict(verdict), int(attempt))

    def heartbeat(self, worker: str, slots: int, leases: Iterable[Lease]) -> Pulse:
        """Renew leases. Return the lost ones and the state of the execution."""
        arguments: list[str | int] = [self._lease_ms, f"{worker}/{slots}"]
        for lease in leases:
            arguments += [lease.task, lease.owner, lease.attempt]
        beat, *lost = cast(list[str], self._call(HEARTBEAT, arguments))
        return Pulse(Beat(beat), frozenset(lost))

    def complete(self, lease: Lease, event: str) -> None:
        """Mark a task as committed, and send the event for the scheduler."""
        self._call(COMPLETE, [lease.task, lease.owner, event])

    def release(self, lease: Lease, event: str, *, counts: bool) -> bool:
        """Release a lease, and send the event with the reason. Return whether the lease was still ours."""
        return bool(self._call(RELEASE, [lease.task, lease.owner, int(counts), event]))

    def tell(self, event: str) -> None:
        """Send the scheduler an event about a task without a lease of this worker."""
        with self._mending(), self._redis.pipeline() as pipe:
            pipe.rpush(self.names.events, event)
            pipe.expire(self.names.events, KEEP_SECONDS)
            pipe.execute()

    def count(self, name: str, number: int = 1) -> None:
        """Increment a counter that the scheduler shows."""
        with self._mending(), self._redis.pipeline() as pipe:
            pipe.hincrby(self.names.counters, name, number)
            pipe.expire(self.names.counters, KEEP_SECONDS)
            pipe.execute()

    def mend(self) -> None:
        """Delete keys of the wrong type. The scheduler rebuilds their content from the store."""
        with _answering():
            n_mended = int(cast(int, self._mend(keys=self.names.lasting, args=mend_arguments())))
            if n_mended:
                self._redis.hincrby(self.names.counters, _MENDED, n_mended)
        if n_mended:
            log.warning("queue_mended", n_keys=n_mended)

    def leave(self, worker: str, slots: int) -> None:
        """Remove this worker from the set of active workers."""
        with self._mending():
            self._redis.zrem(self.names.workers, f"{worker}/{slots}")

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def until_answered[T](self, ask: Callable[[], T], *, give_up: Callable[[], bool]) -> T | None:
        """Retry a call until Redis answers. Return ``None`` if ``give_up`` returns true first."""
        while True:
            try:
                return ask()
            except Unavailable:
                if give_up():
                    return None
                time.sleep(_PAUSE_SECONDS)

    def _call(self, script: Script, arguments: list[Any]) -> Any:
        with self._mending():
            return self._scripts[script](keys=script.keys_of(self.names), args=arguments)

    @contextmanager
    def _mending(self) -> Iterator[None]:
        """Delete the keys of the wrong type if the call met one. The caller has to repeat the call."""
        try:
            with _answering():
                yield
        except Unavailable as error:
            if WRONG_TYPE in str(error.__cause__):
                self.mend()
            raise


@contextmanager
def _answering(*, at_start: bool = False) -> Iterator[None]:
    """Translate errors of Redis into :class:`Unavailable`, or a wrong password at the start into ``QueueError``."""
    try:
        yield
    except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        if not at_start:
            raise Unavailable(_REFUSED) from error
        raise QueueError(f"broker: {_REFUSED}") from error
    except redis.ResponseError as error:
        outage = outage_of(error)
        if outage is None:
            log.warning("queue_refuses", error_kind=type(error).__name__)
        raise Unavailable(outage or "refuses a command. Check its version.") from error
    except (redis.ConnectionError, redis.TimeoutError) as error:  # also while Redis loads its file
        raise Unavailable(lost_words(error)) from error
