"""Leadership of a run in compat mode, where the store's compare-and-swap has gaps: Redis holds a lease as well.

The pointer of :class:`~scheduler.queue.executions.Leadership` is kept in both modes. In compat mode it only
helps to detect a second scheduler early. The lease is one key in Redis, set if absent, with an expiry, and
checked before each commit.
"""

import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from mlho.protocol.names import PREFIX
from mlho.protocol.outages import lost_words
from mlho.store.base import Store
from scheduler.engine.outages import StoreHealth
from scheduler.queue.executions import LEASE_SECONDS, AnotherScheduler, Leadership, LeadershipLost
from scheduler.queue.leases import QueueUnavailable, unavailable

_RENEW_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.25
# Take a missing key again: Redis was emptied, or the lease expired while this process was suspended. Delete a
# key of another type, which no scheduler writes.
_HOLD: Final = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'string' then redis.call('DEL', KEYS[1]) end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_LET_GO: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1"

log = structlog.get_logger()


class Fence:
    """The right to drive a run, as a context manager: one key in Redis that expires unless it is renewed.

    Raises
    ------
    AnotherScheduler
        On entering, when another scheduler keeps renewing it.
    QueueUnavailable
        Redis does not answer.
    """

    def __init__(self, broker: str, run: str, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._run = run
        self._lease_seconds = lease_seconds
        self._key = f"{PREFIX}:{run}:leader"
        self._token = secrets.token_hex(16)
        self._redis = redis.Redis.from_url(
            broker,
            decode_responses=True,
            socket_timeout=5,
            socket_connect_timeout=3,
            retry=Retry(NoBackoff(), 0),
        )
        self._hold = self._redis.register_script(_HOLD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew_for_ever, name="fence", daemon=True)

    def __enter__(self) -> Self:
        until = time.monotonic() + self._lease_seconds + 2 * _POLL_SECONDS
        while not self._is_ours():
            if time.monotonic() > until:
                raise AnotherScheduler(
                    f"run {self._run}: another scheduler drives it, as the queue says. Wait for it, or stop it and run again."
                )
            time.sleep(_POLL_SECONDS)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(redis.RedisError):  # the key then expires
            self._redis.eval(_LET_GO, 1, self._key, self._token)
        self._redis.close()

    def check(self) -> None:
        """Return if this scheduler is the leader, and renew the lease.

        Raises
        ------
        LeadershipLost
            Another scheduler is the leader.
        QueueUnavailable
            The leader cannot be determined now.
        """
        if not self._is_ours():
            raise LeadershipLost(
                f"run {self._run}: another scheduler took over. It goes on there; nothing was lost."
            )

    def _is_ours(self) -> bool:
        arguments: list[Any] = [self._token, int(self._lease_seconds * 1000)]
        try:
            return bool(self._hold(keys=[self._key], args=arguments))
        except redis.ResponseError as error:
            raise unavailable(error) from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise QueueUnavailable(f"broker: {lost_words(error)}") from error

    def _renew_for_ever(self) -> None:
        while not self._stop.wait(_RENEW_SECONDS):
            try:
                if not self._is_ours():
                    return
            except QueueUnavailable as error:
                log.info("leadership_not_renewed", error_kind=type(error).__name__)


@contextmanager
def leading(
    store: Store, run: str, broker: str, *, health: StoreHealth | None = None
) -> Iterator[Callable[[], None]]:
    """Hold the right to drive a run. Yield the check whether it is still held.

    Raises
    ------
    AnotherScheduler
        Another scheduler holds it.
    """
    with Leadership(store, run, health=health) as leader:
        if store.has_one_winner:
            yield leader.check
            return
        with Fence(broker, run) as fence:

            def check() -> None:
                leader.check()
                fence.check()

            yield check


def check_with_retry(lead: Callable[[], None], *, seconds: float = math.inf) -> None:
    """Check whether this scheduler is the leader. Wait while Redis is needed for the answer and unavailable."""
    until = time.monotonic() + seconds
    while True:
        try:
            lead()
            return
        except QueueUnavailable:
            if time.monotonic() > until:
                raise
            time.sleep(_POLL_SECONDS)
