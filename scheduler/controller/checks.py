"""Checks of runs before they start: specification, store and data, in background threads and with backoff."""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from scheduler.api.status import ConditionType, Status, is_true
from scheduler.api.tenancy import prefixes_of
from scheduler.controller.conditions import has_ended
from scheduler.controller.observation import Check
from scheduler.controller.reasons import STORE_REASONS
from scheduler.controller.run_thread import Backend, check_run
from scheduler.controller.tracked_run import TrackedRun
from scheduler.controller.work_queue import WorkQueue
from scheduler.engine.loop import PreparedRun

_THREADS: Final = 8
_PATIENCE_SECONDS: Final = 10.0  # without an answer from the store, until the status shows it
_PROBE_SECONDS: Final = 5.0  # between two checks of a run that waits for its store
_PROBE_EVERY_SECONDS: Final = 1.0  # between two checks of any such runs, because each opens the store
_NO_ANSWER: Final = Check(
    reason="StoreUnavailable",
    message="The store or the location of the data has not answered yet, and the check is retried. Check that both addresses are correct and reachable.",
)


class RunChecks:
    """The checks of all runs of a scheduler.

    Checks of one run are repeated with backoff. During an outage of the store, the waiting runs are also probed in turn, at
    a limited rate. The first successful check triggers the checks of all others, so that hundreds of waiting runs resume
    within seconds after a long outage without constant polling.

    Parameters
    ----------
    prefixes : mapping
        Addresses that the runs of a namespace may read; see :func:`scheduler.api.tenancy.prefixes_of`.
    """

    def __init__(self, backend: Backend, prefixes: Mapping[str, Sequence[str]], queue: WorkQueue) -> None:
        self._backend = backend
        self._prefixes = prefixes
        self._queue = queue
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="check")
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._without_store: dict[str, TrackedRun] = {}
        self._began_at = -math.inf
        self._ended_at = 0.0

    def stop(self) -> None:
        """Start no further checks."""
        self._stop.set()

    def forget(self, uid: str) -> None:
        """Remove a deleted run."""
        with self._lock:
            self._without_store.pop(uid, None)

    def shown(self, tracked: TrackedRun, status: Status) -> Check | None:
        """Return the check to show while a run is not accepted. Later problems do not affect acceptance."""
        if is_true(status.conditions, ConditionType.ACCEPTED):
            return Check(run_id=status.run_id) if status.run_id else None
        # Hundreds of runs may wait for their check. This is normal while checks of other runs end.
        silent_since = max(tracked.check_began_at, self._ended_at)
        if tracked.check is None and time.monotonic() - silent_since >= _PATIENCE_SECONDS:
            return _NO_ANSWER
        return tracked.check

    def begin(self, uid: str, tracked: TrackedRun, status: Status) -> None:
        """Start a check unless the result is known, a check is running, or the backoff has not elapsed."""
        if has_ended(status) or tracked.spec is None or tracked.prepared is not None or self._stop.is_set():
            return
        now = time.monotonic()
        if tracked.is_checking:
            left = max(tracked.check_began_at, self._ended_at) + _PATIENCE_SECONDS - now
            if left > 0:  # then the status shows that the store does not answer
                self._queue.mark(uid, seconds=left)
            return
        left = self._pause_left(uid, tracked, now)
        if left > 0:
            self._queue.mark(uid, seconds=left)
            return
        tracked.is_checking, tracked.check_began_at, self._began_at = True, now, now
        self._queue.mark(uid, seconds=_PATIENCE_SECONDS)
        self._pool.submit(self._check, uid, tracked, status.run_id)

    def _pause_left(self, uid: str, tracked: TrackedRun, now: float) -> float:
        left = tracked.check_again_at - now
        with self._lock:
            if uid not in self._without_store:
                return left
        soonest = max(tracked.checked_at + _PROBE_SECONDS, self._began_at + _PROBE_EVERY_SECONDS)
        return min(left, soonest - now)

    def _check(self, uid: str, tracked: TrackedRun, accepted: str | None) -> None:
        spec = tracked.spec
        if spec is None:  # it became invalid in the meantime
            tracked.is_checking, tracked.check_began_at = False, math.inf
            return
        allowed = prefixes_of(tracked.request.namespace if tracked.request else "", self._prefixes)
        check, prepared = check_run(self._backend, spec, allowed=allowed, accepted=accepted)
        self._ended_at = tracked.checked_at = time.monotonic()
        tracked.record_check(spec, check, prepared)
        self._note(uid, tracked, check, prepared)
        tracked.is_checking, tracked.check_began_at = False, math.inf
        self._queue.mark(uid)

    def _note(self, uid: str, tracked: TrackedRun, check: Check, prepared: PreparedRun | None) -> None:
        """Record whether a run waits for its store. After a successful check, schedule the checks of all waiting runs."""
        with self._lock:
            if check.reason in STORE_REASONS:
                self._without_store[uid] = tracked
                return
            self._without_store.pop(uid, None)
            waiting = dict(self._without_store) if prepared is not None else {}
        for other, run in waiting.items():
            run.check_again_at = min(run.check_again_at, run.checked_at + _PROBE_SECONDS)
            self._queue.mark(other)
