"""The end of runs in store and queue: cancellation, completion, and cleanup after deleted resources."""

from collections.abc import Callable, Mapping, MutableMapping, Set

from scheduler.controller.cleanup import Cleaner
from scheduler.controller.observation import ObservedRun
from scheduler.controller.run_thread import RunThread
from scheduler.controller.tracked_run import Cancellation, TrackedRun
from scheduler.controller.work_queue import WorkQueue


class RunFinalizer:
    """Ends the runs of a scheduler, and maintains the records of active runs in the store.

    Parameters
    ----------
    tracked : mutable mapping
        State of each run by the uid of its resource; shared with the operator.
    """

    def __init__(self, cleaner: Cleaner, tracked: MutableMapping[str, TrackedRun], queue: WorkQueue) -> None:
        self._cleaner = cleaner
        self._tracked = tracked
        self._queue = queue
        self._former: Mapping[str, str] | None = None

    def start(self) -> None:
        """Read the records of the previous leader."""
        self._cleaner.find(self._found_former)

    def is_cancelled(self, uid: str, tracked: TrackedRun, observed: ObservedRun) -> bool:
        """Start the cancellation of a run. Return whether the durable flag is set or not needed."""
        run_id = observed.status.run_id or (tracked.prepared.run_id if tracked.prepared else "")
        if not run_id or (tracked.thread is None and not observed.status.execution):
            return True
        if tracked.cancellation is Cancellation.NONE:
            tracked.cancellation = Cancellation.REQUESTED
            self._cleaner.cancel(uid, run_id, flagged=lambda: self._flagged(uid, tracked))
        return tracked.cancellation is Cancellation.FLAGGED

    def _flagged(self, uid: str, tracked: TrackedRun) -> None:
        tracked.cancellation = Cancellation.FLAGGED
        self._queue.mark(uid)

    def close(self, uid: str, tracked: TrackedRun, observed: ObservedRun) -> None:
        """Delete the record of a finished run, and reconcile again until its workers have exited."""
        tracked.prepared = None
        if tracked.active_run_id and tracked.cancellation is Cancellation.NONE:
            self._cleaner.forget(uid)
            tracked.active_run_id = ""
        if any(not job.is_over for job in observed.jobs):
            self._queue.mark(uid, seconds=5.0)

    def on_deleted(self, uid: str) -> None:
        """End the run of a deleted resource. Kubernetes deletes its Jobs through their owner reference."""
        tracked = self._tracked.pop(uid, None)
        if tracked is None:
            return
        if tracked.cancellation is not Cancellation.NONE or not tracked.active_run_id:
            if tracked.thread is not None:
                tracked.thread.cancel()
            return
        self._cancel_or_hand_over(uid, tracked.active_run_id, tracked.thread)

    def _cancel_or_hand_over(self, uid: str, run_id: str, thread: RunThread | None = None) -> None:
        """Cancel the run of a deleted resource, or stop it and hand it over to another resource that requests the same run."""
        tracked = self._tracked.items()
        successor = next(
            (other for other, candidate in tracked if run_id in (candidate.active_run_id, candidate.run_id)),
            None,
        )
        if thread is not None:
            (thread.cancel if successor is None else thread.stop)()
        if successor is None:
            self._cleaner.cancel(uid, run_id)
        else:
            self._tracked[successor].active_run_id = run_id
            self._cleaner.hand_over(uid, successor, run_id)

    def _found_former(self, records: Mapping[str, str]) -> None:
        self._former = records
        self._queue.wake()

    def take_over(self, under_way: Callable[[], Set[str]]) -> None:
        """Cancel the runs that the previous leader carried out for resources that have been deleted since.

        ``under_way`` returns the uids of the existing resources that have not ended.
        """
        if self._former is None:
            return
        records, self._former = self._former, None
        alive = under_way()
        for uid in records.keys() & alive:
            self._tracked.setdefault(uid, TrackedRun()).active_run_id = records[uid]
        for uid in records.keys() - alive:
            self._cancel_or_hand_over(uid, records[uid])
