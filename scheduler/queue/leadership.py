"""Leadership of a run: leases that a scheduler holds and renews, and checks before it sends or writes anything.

A scheduler leads as long as it renews its pointer in the store. A rival watches the pointer by its own clock,
because clocks of different hosts may differ, and takes over if the pointer is unchanged for ``LEASE_SECONDS``. A
scheduler that was suspended in the meantime detects this, because it must renew first.

In compat mode the store's compare-and-swap has gaps, so that the pointer only helps to detect a second scheduler
early, and a key in Redis with an expiry is held as well.
"""

import json
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar, Final, Self, override

from mlho.errors import MlhoError, StoreOutage, StoreUnavailable
from mlho.log import log
from mlho.processes import RepeatingThread
from mlho.protocol.documents import Committer, committer_of, leader_key
from mlho.protocol.names import PREFIX
from mlho.protocol.redis_client import QueueUnavailable, answering, connect
from mlho.spec.training import canonical_json
from mlho.steps.proposals import Leader
from mlho.store.base import Store, get_if_present
from scheduler.engine.outages import StoreHealth

LEASE_SECONDS: Final = 10.0
# Shares of a lease.
_RENEW_SHARE: Final = 0.2  # between two renewals
_TRUST_SHARE: Final = 0.4  # maximum age of a renewal that is trusted without another request
_SAFE_SHARE: Final = 0.8  # maximum age of the renewal just made, because this process may have been suspended during the request
_POLL_SECONDS: Final = 0.5
_REDIS_POLL_SECONDS: Final = 0.25
_LEADER: Final = "leader"
_NOBODY: Final = canonical_json({"token": ""})

# Take a missing key again: Redis was emptied, or the lease expired while this process was suspended. Delete a
# key of a different type, which no scheduler writes.
_HOLD: Final = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'string' then redis.call('DEL', KEYS[1]) end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_LET_GO: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1"


class AnotherScheduler(MlhoError):  # noqa: N818 - states a condition
    """Another scheduler leads this run: wait for it, or stop it."""


class LeadershipLost(MlhoError):  # noqa: N818 - names the event, not an error
    """Another scheduler took over while this one was suspended, or the run was deleted."""

    run_state: ClassVar[str] = "stopped"


class _Lease(Leader):
    """A lease of a run, which :meth:`check` renews if necessary.

    :meth:`check` raises LeadershipLost if another scheduler is the leader or the run was deleted, and StoreUnavailable or QueueUnavailable if the leader
    cannot be determined now.
    """

    @override
    def wait(self, *, seconds: float = math.inf, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Check whether the lease is held. Wait while Redis is needed for the answer and unavailable."""
        until = time.monotonic() + seconds
        while True:
            try:
                self.check()
                return
            except QueueUnavailable:
                if time.monotonic() > until:
                    raise
                meanwhile()
                time.sleep(_REDIS_POLL_SECONDS)


class StoreLease(_Lease):
    """The lease of a run in the store: a pointer that is renewed by compare-and-swap.

    On entering, raise AnotherScheduler if another scheduler holds and renews it.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        *,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        health: StoreHealth | None = None,
    ) -> None:
        self._health = health or StoreHealth()
        self._store = store
        self._run = run
        self._key = leader_key(run)
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._identity: dict[str, Any] = {
            "token": secrets.token_hex(16),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _start_of(os.getpid()),
        }
        self._renewals = 0
        self._current = b""
        self._renewed_at = 0.0
        self._loss: LeadershipLost | None = None
        self._lock = threading.Lock()
        self._thread = RepeatingThread("leader", _RENEW_SHARE * lease_seconds, self._renew_in_background)

    def __enter__(self) -> Self:
        self._acquire()
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._thread.stop()
        if self._health.outage is not None:
            return  # the lease expires: each request could take longer than a pod may take to end
        self._thread.join()
        # A new outage of the store must not hide why the run ended.
        with self._lock, suppress(StoreUnavailable):
            if self._loss is None:
                self._swap(_NOBODY)

    @override
    def check(self) -> None:
        oldest = _TRUST_SHARE * self._lease_seconds
        while self._loss is not None or self._clock() - self._renewed_at > oldest:
            self._renew()
            oldest = _SAFE_SHARE * self._lease_seconds

    def _acquire(self) -> None:
        seen, since = self._read(), self._clock()
        while not self._is_free(seen):
            if self._clock() - since >= self._lease_seconds:
                break
            time.sleep(_POLL_SECONDS)
            content = self._read()
            if content != seen and not self._is_free(content):
                raise AnotherScheduler(
                    f"run {self._run}: another scheduler leads it ({_holder_in_words(content)}). Wait for it, or stop it and run again."
                )
            seen = content
        asked_at, mine = self._clock(), self._next_record()
        if not self._store.compare_and_swap(self._key, mine, expected=seen):
            raise AnotherScheduler(
                f"run {self._run}: another scheduler has just taken it. Wait for it, or stop it and run again."
            )
        self._current, self._renewed_at = mine, asked_at

    def _is_free(self, content: bytes | None) -> bool:
        if content is None:
            return True
        holder = _parsed(content)
        if not holder:
            return False  # damaged: its writer may be alive, so wait for its lease to expire
        if not holder["token"]:
            return True
        # Do not wait for the lease of a scheduler that crashed on this host.
        if holder["host"] != self._identity["host"] or holder["started"] is None:
            return False
        return bool(_start_of(holder["pid"]) != holder["started"] or holder["pid"] == os.getpid())

    def _renew_in_background(self) -> None:
        try:
            self._renew()
            self._health.served(_LEADER)
        except LeadershipLost:
            self._thread.stop()
        except StoreOutage as error:
            self._health.failed(_LEADER, error)
        except (StoreUnavailable, OSError) as error:
            log.warning("leadership_not_renewed", error_kind=type(error).__name__)

    def _renew(self) -> None:
        with self._lock:
            if self._loss is not None:
                raise self._loss
            asked_at, mine = self._clock(), self._next_record()
            if not self._swap(mine):
                self._loss = _lost(self._run) if self._read() is not None else _deleted(self._run)
                raise self._loss
            self._current, self._renewed_at = mine, asked_at

    def _swap(self, record: bytes) -> bool:
        """Replace our record. Return false if the pointer is no longer ours.

        If the reply to an earlier write was lost, our own record looks like another scheduler's. Finding it does not
        count as a renewal: a rival has watched it since it was written.
        """
        if self._store.compare_and_swap(self._key, record, expected=self._current):
            return True
        content = self._read()
        is_own = content is not None and _parsed(content).get("token") == self._identity["token"]
        return is_own and self._store.compare_and_swap(self._key, record, expected=content)

    def _next_record(self) -> bytes:
        self._renewals += 1
        return canonical_json({**self._identity, "renewal": self._renewals})

    def _read(self) -> bytes | None:
        return get_if_present(self._store, self._key)


class RedisLease(_Lease):
    """The lease of a run in Redis: one key that expires unless it is renewed.

    On entering, raise AnotherScheduler if another scheduler keeps renewing it.
    """

    def __init__(self, broker: str, run: str, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._run = run
        self._lease_seconds = lease_seconds
        self._key = f"{PREFIX}:{run}:leader"
        self._token = secrets.token_hex(16)
        self._redis = connect(broker)
        self._hold = self._redis.register_script(_HOLD)
        self._thread = RepeatingThread("redis-lease", _RENEW_SHARE * lease_seconds, self._renew_in_background)

    def __enter__(self) -> Self:
        until = time.monotonic() + self._lease_seconds + 2 * _REDIS_POLL_SECONDS
        try:
            while not self._is_ours():
                if time.monotonic() > until:
                    raise AnotherScheduler(
                        f"run {self._run}: another scheduler leads it according to the queue. Wait for it, or stop it and run again."
                    )
                time.sleep(_REDIS_POLL_SECONDS)
        except BaseException:
            self._redis.close()
            raise
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._thread.stop()
        self._thread.join()
        with suppress(QueueUnavailable), answering():  # the key then expires
            self._redis.eval(_LET_GO, 1, self._key, self._token)
        self._redis.close()

    @override
    def check(self) -> None:
        if not self._is_ours():
            raise _lost(self._run)

    def _is_ours(self) -> bool:
        arguments: list[Any] = [self._token, int(self._lease_seconds * 1000)]
        with answering():
            return bool(self._hold(keys=[self._key], args=arguments))

    def _renew_in_background(self) -> None:
        try:
            if not self._is_ours():
                self._thread.stop()
        except QueueUnavailable as error:
            log.info("leadership_not_renewed", error_kind=type(error).__name__)


class Leadership(_Lease):
    """The leadership of a run, as a context manager: all leases that the store's mode requires.

    On entering, raise AnotherScheduler if another scheduler holds it.
    """

    def __init__(self, store: Store, run: str, broker: str, *, health: StoreHealth | None = None) -> None:
        self._leases: list[StoreLease | RedisLease] = [StoreLease(store, run, health=health)]
        if committer_of(store) is Committer.SCHEDULER:
            self._leases.append(RedisLease(broker, run))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for lease in self._leases:
                stack.enter_context(lease)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._stack.close()

    @override
    def check(self) -> None:
        for lease in self._leases:
            lease.check()


def _lost(run: str) -> LeadershipLost:
    return LeadershipLost(
        f"run {run}: another scheduler took over and continues the run. No action is needed."
    )


def _deleted(run: str) -> LeadershipLost:
    return LeadershipLost(
        f"run {run}: its record of the leading scheduler is gone, so the run, the bucket or the folder was deleted. To continue, run the "
        "same command again; it computes again what is missing."
    )


def _parsed(content: bytes | None) -> dict[str, Any]:
    """Return the record of a leader; an empty one if there is none or its bytes are damaged."""
    try:
        holder: dict[str, Any] = json.loads(content or b"{}")
    except ValueError:
        return {}
    return holder


def _holder_in_words(content: bytes | None) -> str:
    holder = _parsed(content)
    return f"process {holder.get('pid')} on {holder.get('host')}"


def _start_of(pid: int) -> int | None:
    """Return the start time of a process in ticks since boot, or ``None`` if it does not exist or cannot be read."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rsplit(")", 1)[1].split()[19])
