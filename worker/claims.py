"""The worker's Redis client: claim, heartbeat, complete, release. Each is one script on the server."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

from mlho.log import log
from mlho.protocol.failures import QueueError
from mlho.protocol.messages import TaskMessage
from mlho.protocol.names import KEEP_SECONDS, Names
from mlho.protocol.redis_client import (
    QueueAccessDenied,
    QueueUnavailable,
    answering,
    check_server,
    connect,
    is_rejected,
)
from mlho.protocol.scripts import (
    CLAIM,
    COMPLETE,
    HEARTBEAT,
    LEASE_MS,
    MEND_LUA,
    RELEASE,
    WRONG_TYPE,
    ClaimVerdict,
    HeartbeatState,
    Script,
    mend_arguments,
)

_PAUSE_SECONDS: Final = 0.25
_MENDED: Final = "mended"


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

    verdict: ClaimVerdict
    attempt: int


@dataclass(frozen=True)
class HeartbeatReply:
    """Result of a heartbeat."""

    beat: HeartbeatState
    lost: frozenset[str]
    """Owners whose lease is now held by another worker."""


class Claims:
    """Claims of one worker on the tasks of one execution.

    Every method raises QueueUnavailable while Redis does not answer; :meth:`until_answered` waits.
    """

    def __init__(self, url: str, names: Names, *, lease_ms: int = LEASE_MS) -> None:
        self.names = names
        self._lease_ms = lease_ms
        self._redis = connect(url)
        self._scripts: dict[Script, Any] = {
            script: self._redis.register_script(script.lua)
            for script in (CLAIM, HEARTBEAT, COMPLETE, RELEASE)
        }
        self._mend = self._redis.register_script(MEND_LUA)

    def check(self) -> bool:
        """Return true if Redis answers, accepts writes, and does not evict keys.

        Raise QueueError if Redis rejects the password, or evicts keys.
        """
        try:
            check_server(self._redis, self.names)  # the scheduler reports a policy that is unknown
        except QueueAccessDenied as error:
            raise QueueError(str(error)) from error
        return True

    def claim(self, message: TaskMessage, owner: str) -> Claim:
        """Request the lease of a task. The script also counts the attempt."""
        arguments = [message.task, owner, self._lease_ms, message.nonce, message.expires]
        verdict, attempt = cast(tuple[str, int], self._call(CLAIM, arguments))
        return Claim(ClaimVerdict(verdict), int(attempt))

    def heartbeat(self, worker: str, slots: int, leases: Iterable[Lease]) -> HeartbeatReply:
        """Renew leases. Return the lost ones and the state of the execution."""
        arguments: list[str | int] = [self._lease_ms, f"{worker}/{slots}"]
        for lease in leases:
            arguments += [lease.task, lease.owner, lease.attempt]
        beat, *lost = cast(list[str], self._call(HEARTBEAT, arguments))
        return HeartbeatReply(HeartbeatState(beat), frozenset(lost))

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
        with self._mending():
            self._count(name, number)

    def mend(self) -> None:
        """Delete keys of the wrong type. The scheduler rebuilds their content from the store."""
        with answering():
            n_mended = int(cast(int, self._mend(keys=self.names.lasting, args=mend_arguments())))
            if n_mended:
                self._count(_MENDED, n_mended)
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
            except QueueUnavailable:
                if give_up():
                    return None
                time.sleep(_PAUSE_SECONDS)

    def _count(self, name: str, number: int) -> None:
        with self._redis.pipeline() as pipe:
            pipe.hincrby(self.names.counters, name, number)
            pipe.expire(self.names.counters, KEEP_SECONDS)
            pipe.execute()

    def _call(self, script: Script, arguments: list[Any]) -> Any:
        with self._mending():
            return self._scripts[script](keys=script.keys_of(self.names), args=arguments)

    @contextmanager
    def _mending(self) -> Iterator[None]:
        """Delete the keys of the wrong type if the call met one. The caller has to repeat the call."""
        try:
            with answering():
                yield
        except QueueUnavailable as error:
            if is_rejected(error):
                log.warning("queue_refuses", error_kind=type(error.__cause__).__name__)
            if WRONG_TYPE in str(error.__cause__):
                self.mend()
            raise
