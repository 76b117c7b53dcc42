"""Leadership of a run and its executions: two pointers in the store, updated by compare-and-swap.

A scheduler leads as long as it renews its pointer. A rival watches the pointer by its own clock, because
clocks of different hosts may differ, and takes over if the pointer is unchanged for ``LEASE_SECONDS``. A
scheduler that was suspended in the meantime detects this before it sends or publishes anything, because it
must renew first.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog

from mlho.errors import ArtifactNotFound, MlhoError, StoreOutage, StoreUnavailable
from mlho.protocol.documents import (
    Execution,
    State,
    cancel_key,
    committer_of,
    execution_key,
    leader_key,
    quarantine_key,
    read_execution,
)
from mlho.protocol.failures import Failure
from mlho.spec.training import canonical_json
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.engine.outages import StoreHealth

LEASE_SECONDS: Final = 10.0
_RENEW_SECONDS: Final = 2.0
_TRUST_SECONDS: Final = 4.0  # maximum age of a renewal that is trusted without another request
_SAFE_SHARE: Final = 0.8  # of a lease: maximum age of the renewal just made, because this process may have been suspended during the request
_POLL_SECONDS: Final = 0.5
_LEADER: Final = "leader"
_NOBODY: Final = canonical_json({"token": ""})

log = structlog.get_logger()


class AnotherScheduler(MlhoError):  # noqa: N818 - says what is the case
    """Another scheduler leads this run: wait for it, or stop it."""


class LeadershipLost(MlhoError):  # noqa: N818 - says what happened
    """Another scheduler took over while this one was suspended. The run continues there; no action is needed."""


class RunCancelled(MlhoError):  # noqa: N818 - says what happened
    """The run was cancelled: run the same command to continue."""


class Leadership:
    """The right to drive a run, as a context manager.

    Raises
    ------
    AnotherScheduler
        On entering, when another scheduler holds and renews it.
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
        self._is_lost = False
        self._lock = threading.Lock()
        self._stop_event = threading.Event()
        self._thread = threading.Thread(target=self._renew_for_ever, name="leader", daemon=True)

    def __enter__(self) -> Self:
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_event.set()
        self._thread.join()
        # An outage of the store must not hide why the run ended. The lease expires in that case.
        with self._lock, suppress(StoreUnavailable):
            if not self._is_lost:
                self._store.compare_and_swap(self._key, _NOBODY, expected=self._current)

    def check(self) -> None:
        """Return if this scheduler is still the leader.

        Raises
        ------
        LeadershipLost
            Another scheduler is the leader.
        StoreUnavailable
            The leader cannot be determined now.
        """
        oldest = _TRUST_SECONDS
        while self._is_lost or self._clock() - self._renewed_at > oldest:
            self._renew()
            oldest = _SAFE_SHARE * self._lease_seconds

    def _take(self) -> None:
        seen, since = self._read(), self._clock()
        while not self._is_free(seen):
            if self._clock() - since >= self._lease_seconds:
                break
            time.sleep(_POLL_SECONDS)
            found = self._read()
            if found != seen and not self._is_free(found):
                raise AnotherScheduler(
                    f"run {self._run}: another scheduler drives it ({_whose(found)}). Wait for it, or stop it and run again."
                )
            seen = found
        asked_at, mine = self._clock(), self._next()
        if not self._store.compare_and_swap(self._key, mine, expected=seen):
            raise AnotherScheduler(
                f"run {self._run}: another scheduler has just taken it. Wait for it, or stop it and run again."
            )
        self._current, self._renewed_at = mine, asked_at

    def _is_free(self, found: bytes | None) -> bool:
        if found is None:
            return True
        holder = json.loads(found)
        if not holder["token"]:
            return True
        # Do not wait for the lease of a scheduler that crashed on this host.
        if holder["host"] != self._identity["host"] or holder["started"] is None:
            return False
        return bool(_start_of(holder["pid"]) != holder["started"] or holder["pid"] == os.getpid())

    def _renew_for_ever(self) -> None:
        while not self._stop_event.wait(_RENEW_SECONDS):
            try:
                self._renew()
                self._health.served(_LEADER)
            except LeadershipLost:
                return
            except StoreOutage as error:
                self._health.failed(_LEADER, error)
            except (StoreUnavailable, OSError) as error:
                log.warning("leadership_not_renewed", error_kind=type(error).__name__)

    def _renew(self) -> None:
        with self._lock:
            if self._is_lost:
                raise _leadership_lost(self._run)
            asked_at, mine = self._clock(), self._next()
            if not self._store.compare_and_swap(self._key, mine, expected=self._current):
                found = self._read()
                # If the reply was lost, our own write looks like another scheduler's.
                if found is None or json.loads(found)["token"] != self._identity["token"]:
                    self._is_lost = True
                    raise _leadership_lost(self._run)
                mine = found
            self._current, self._renewed_at = mine, asked_at

    def _next(self) -> bytes:
        self._renewals += 1
        return canonical_json({**self._identity, "renewal": self._renewals})

    def _read(self) -> bytes | None:
        try:
            return self._store.get(self._key)
        except ArtifactNotFound:
            return None


def begin_execution(
    store: Store, run: str, data: Path | str, *, lead: Callable[[], None] = lambda: None
) -> tuple[Execution, bool]:
    """Open the run's next execution, or continue the open one. Return it and whether it is new."""
    latest = read_execution(store, run)
    expected = latest.to_bytes() if latest is not None else None
    # Do not continue an execution whose workers were given another committer.
    committer = committer_of(store)
    goes_on = (
        latest is not None
        and latest.state is State.OPEN
        and latest.committer is committer
        and not store.exists(cancel_key(latest))
    )
    number = latest.number if latest is not None and goes_on else (latest.number if latest else 0) + 1
    execution = Execution(run=run, number=number, state=State.OPEN, data=str(data), committer=committer)
    lead()  # between the read and the swap: an update by another leader since then makes the swap fail
    if execution != latest and not store.compare_and_swap(
        execution_key(run), execution.to_bytes(), expected=expected
    ):
        raise AnotherScheduler(f"run {run}: another scheduler has just begun it. Wait for it, or run again.")
    return execution, not goes_on


def end_execution(store: Store, execution: Execution, state: State) -> None:
    """Close an execution. Its workers exit."""
    closed = execution.model_copy(update={"state": state})
    store.compare_and_swap(execution_key(execution.run), closed.to_bytes(), expected=execution.to_bytes())


def cancel_execution(store: Store, execution: Execution) -> None:
    """Write the durable flag that stops all further tasks of an execution."""
    store.put_if_absent(cancel_key(execution), b"{}")


def quarantined_tasks(store: Store, run: str) -> list[str]:
    """Return the keys of the quarantined tasks of a run."""
    return [key.rsplit("/", 1)[1] for key in store.keys(run_key(run, "quarantine/"))]


def quarantine_task(
    store: Store, run: str, task_key: str, failure: Failure, *, step: str, attempts: int
) -> None:
    """Record that a task used up its attempts, and why. The record stays until :func:`release_quarantine`."""
    record = {"attempts": attempts, "step": step, **failure.plain()}
    store.put_if_absent(quarantine_key(run, task_key), canonical_json(record))


def quarantined_for(store: Store, run: str, task_key: str) -> tuple[Failure, int] | None:
    """Return why a task is quarantined and after how many attempts, or ``None`` if it is not quarantined."""
    try:
        record = json.loads(store.get(quarantine_key(run, task_key)))
    except ArtifactNotFound:
        return None
    return Failure.from_plain(record), int(record["attempts"])


def release_quarantine(store: Store, run: str) -> int:
    """Give every quarantined task of a run new attempts. Return the number of tasks."""
    tasks = quarantined_tasks(store, run)
    for task_key in tasks:
        store.delete(quarantine_key(run, task_key))
    return len(tasks)


def _leadership_lost(run: str) -> LeadershipLost:
    return LeadershipLost(f"run {run}: another scheduler took over. It goes on there; nothing was lost.")


def _whose(found: bytes | None) -> str:
    holder = json.loads(found) if found else {}
    return f"process {holder.get('pid')} on {holder.get('host')}"


def _start_of(pid: int) -> int | None:
    """Return the start time of a process in ticks since boot, or ``None`` if it does not exist or cannot be read."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rsplit(")", 1)[1].split()[19])
