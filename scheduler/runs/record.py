"""The record of a run: its latest start, its outcome with the reason, and the tasks that it uses.

The record is a pointer in the run's folder, replaced by compare-and-swap and renewed while the run is carried out. It is
not part of any digest or key. The tasks are listed separately, so that retention keeps their artifacts, including
those of earlier runs.
"""

import datetime as dt
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from mlho.errors import MlhoError
from mlho.processes import RepeatingThread, is_interrupt
from mlho.spec.training import canonical_json
from mlho.steps.proposals import SOLE_LEADER, Leader
from mlho.store.base import Store, get_if_present
from mlho.store.keys import run_key, uses_prefix

RECORD: Final = "record.json"
RENEW_SECONDS: Final = 30.0
STALE_SECONDS: Final = 300.0  # without a renewal, a run counts as stopped: its process was killed
_MAX_REASON: Final = 1000
_MAX_WRITES: Final = 8
_LEADER_SECONDS: Final = 60.0  # for the leader to be confirmed, after which the run stops


class RunState(StrEnum):
    """State of a run."""

    RUNNING = "running"
    STOPPED = "stopped"
    """Ended without a result and without a failure: the same command continues it."""
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETING = "deleting"
    """Its deletion has begun and is not complete."""


class RunCost(BaseModel):
    """The cost of a run. Tasks that another run had already completed count as if this run had completed them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cpu_seconds: float
    """Elapsed time of all tasks, each of which takes one core: core seconds, not CPU time."""
    read_bytes: int
    """Size of the tables."""
    stored_bytes: int
    """Size of all files that the tasks left in the store."""


class RunRecord(BaseModel):
    """The record of a run."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: RunState
    started: dt.datetime
    """Time of the latest start."""
    ended: dt.datetime | None = None
    seconds: float = 0.0
    """Duration, summed over all starts. A start that finds everything done adds nothing."""
    reason: str | None = None
    """Why the run failed."""
    cost: RunCost | None = None
    """Cost of a finished run; ``None`` if an earlier version of this program wrote the record."""
    token: str = ""
    renewal: int = 0

    def to_bytes(self) -> bytes:
        """Return canonical JSON."""
        return canonical_json(self.model_dump(mode="json"))


def read_record(store: Store, run: str) -> RunRecord | None:
    """Return the record of a run; ``None`` if there is none, or if a different version wrote it."""
    return _parsed(get_if_present(store, run_key(run, RECORD)))


def swap_record(store: Store, run: str, change: Callable[[RunRecord | None], RunRecord]) -> RunRecord:
    """Replace the record of a run by the result of ``change``.

    Raise MlhoError if other processes keep replacing it at the same time.
    """
    key = run_key(run, RECORD)
    for _ in range(_MAX_WRITES):
        content = get_if_present(store, key)
        record = change(_parsed(content))
        if store.compare_and_swap(key, record.to_bytes(), expected=content):
            return record
    raise MlhoError(f"run {run}: another process is changing its record. Run the same command again.")


def used_tasks(store: Store, run: str) -> set[str]:
    """Return the keys of the tasks that a run has listed."""
    keys = list(store.keys(uses_prefix(run)))
    return {line for content in store.each(store.get, keys) for line in content.decode().split()}


class Recording:
    """Keeps the record of a run while it is carried out, as a context manager.

    Parameters
    ----------
    leader : Leader
        Confirms that this scheduler leads the run when it begins.
    is_away : callable
        Returns whether the store is known to be unavailable.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        *,
        leader: Leader = SOLE_LEADER,
        is_away: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._run = run
        self._leader = leader
        self._is_away = is_away
        self._token = secrets.token_hex(8)
        self._record: RunRecord | None = None
        self._before = 0.0
        self._clock = time.monotonic()
        self._drain: Callable[[], list[str]] = list
        self._listed: set[str] = set()
        self._unlisted: list[str] = []
        self._n_lists = 0
        self._lock = threading.Lock()
        self._thread = RepeatingThread("record", RENEW_SECONDS, self._renew)

    def __enter__(self) -> Self:
        return self

    def begin(self, drain: Callable[[], list[str]]) -> None:
        """Record that the run has started.

        Raise MlhoError if the run is being deleted, or another scheduler leads it.

        Parameters
        ----------
        drain : callable
            Returns the keys of the tasks that the run uses, each once, since its last call.
        """
        self._drain = drain
        self._listed = used_tasks(self._store, self._run)
        self._record = swap_record(self._store, self._run, self._started)
        self._before, self._clock = self._record.seconds, time.monotonic()
        self._thread.start()

    def list_tasks(self) -> None:
        """List the tasks that the run uses and has not listed yet. Called before anything is published."""
        with self._lock:
            self._unlisted += [key for key in self._drain() if key not in self._listed]
            if not self._unlisted:
                return
            key = f"{uses_prefix(self._run)}{self._token}-{self._n_lists:06d}"
            # A write that seems to fail may have succeeded: the next list has another name.
            self._n_lists += 1
            self._store.put_if_absent(key, "".join(f"{task}\n" for task in self._unlisted).encode())
            self._unlisted = []

    def check_not_deleted(self) -> None:
        """Raise an error if the run was deleted while it was carried out.

        Raise MlhoError if its record does not exist, or its deletion has begun.
        """
        record = read_record(self._store, self._run)
        if self._record is not None and (record is None or record.state is RunState.DELETING):
            raise MlhoError(
                f"run {self._run}: was deleted while it was carried out, which is possible after five minutes without "
                "access to the store. Nothing is published. Run the same command again."
            )

    def finish(self, *, n_new: int, cost: RunCost) -> None:
        """Record that the run is finished, its cost, and that this start computed ``n_new`` tasks."""
        seconds = self._seconds() if n_new or not self._before else self._before
        self._end(RunState.FINISHED, seconds=seconds, cost=cost)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._stop_renewing()
            return
        state = state_after(error)
        if state is RunState.STOPPED and self._is_away():
            self._thread.stop()  # without a request, which may take longer than a pod has to exit: the record is no longer renewed
            return
        self._stop_renewing()
        if self._record is None:
            return
        if state is RunState.STOPPED and isinstance(error, MlhoError):
            return  # an outage, or another scheduler took over: the run continues, or its record is no longer renewed
        with suppress(MlhoError, OSError):  # the reason why the run ended takes precedence
            self.list_tasks()
            reason = _reason(error) if state is RunState.FAILED else None
            self._end(state, seconds=self._seconds(), reason=reason)

    def _started(self, record: RunRecord | None) -> RunRecord:
        if record is not None and record.state is RunState.DELETING:
            raise MlhoError(
                f"run {self._run}: its deletion is incomplete. Complete it with: mlho delete {self._run}. Then run the same command again."
            )
        seconds = record.seconds if record is not None else 0.0
        # Between the read and the swap: a scheduler that was suspended here must not replace the record of its successor.
        self._leader.wait(seconds=_LEADER_SECONDS)
        started = dt.datetime.now(dt.UTC)
        return RunRecord(state=RunState.RUNNING, started=started, seconds=seconds, token=self._token)

    def _seconds(self) -> float:
        return round(self._before + time.monotonic() - self._clock, 3)

    def _end(
        self, state: RunState, *, seconds: float, reason: str | None = None, cost: RunCost | None = None
    ) -> None:
        self._stop_renewing()  # a renewal in progress would overwrite the final duration
        self._swap(state=state, ended=dt.datetime.now(dt.UTC), seconds=seconds, reason=reason, cost=cost)

    def _swap(self, **update: object) -> bool:
        """Replace our record. Return whether it was still ours: another scheduler may have taken over."""
        with self._lock:
            assert self._record is not None
            new = self._record.model_copy(update=update)
            for _ in range(_MAX_WRITES):
                content = get_if_present(self._store, run_key(self._run, RECORD))
                current = _parsed(content)
                if current is None or current.token != self._token:
                    return False
                # A swap whose reply was lost fails when the store's client repeats it: it is still ours.
                if current == new or self._store.compare_and_swap(
                    run_key(self._run, RECORD), new.to_bytes(), expected=content
                ):
                    self._record = new
                    return True
            return True

    def _renew(self) -> None:
        # The next renewal tries again; the run loop reports the outage.
        with suppress(MlhoError, OSError):
            assert self._record is not None
            if self._swap(renewal=self._record.renewal + 1, seconds=self._seconds()):
                self.list_tasks()
            else:  # another scheduler has taken over, and lists the tasks of the run
                self._thread.stop()

    def _stop_renewing(self) -> None:
        self._thread.stop()
        if self._thread.is_alive():
            self._thread.join()


def state_after(error: BaseException) -> RunState:
    """Return the state of a run that an exception ended.

    An error of the program means failure. Any other exception, such as Ctrl-C, stops the run. The attribute
    ``run_state`` of an error takes precedence.
    """
    named = getattr(error, "run_state", None)
    if named is not None:
        return RunState(named)
    is_failure = isinstance(error, MlhoError) or (isinstance(error, Exception) and not is_interrupt(error))
    return RunState.FAILED if is_failure else RunState.STOPPED


def _reason(error: BaseException) -> str:
    words = (
        str(error) if isinstance(error, MlhoError) else f"{type(error).__name__}. Report this as a defect."
    )
    return words[:_MAX_REASON]


def _parsed(content: bytes | None) -> RunRecord | None:
    try:
        return RunRecord.model_validate_json(content) if content is not None else None
    except ValidationError:
        return None
