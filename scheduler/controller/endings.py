"""How runs come to an end beyond their Kubernetes objects: cancelled, closed, or left behind by a resource that is gone."""

from collections.abc import Callable, Mapping, MutableMapping, Set

from scheduler.controller.cleanup import Cleaner
from scheduler.controller.observation import ObservedRun
from scheduler.controller.tracked_run import TrackedRun
from scheduler.controller.work_queue import WorkQueue


class Endings:
    """The ends of all runs of a scheduler, and the notes in the store of those that are under way.

    Parameters
    ----------
    cleaner : Cleaner
    tracked : mutable mapping
        What the scheduler remembers of each run, by the uid of its resource; shared with it.
    queue : WorkQueue
        Told which run to look at.
    """

    def __init__(self, cleaner: Cleaner, tracked: MutableMapping[str, TrackedRun], queue: WorkQueue) -> None:
        self._cleaner = cleaner
        self._tracked = tracked
        self._queue = queue
        self._former: Mapping[str, str] | None = None

    def start(self) -> None:
        """Read what a former leader has left."""
        self._cleaner.find(self._found_former)

    def stop(self) -> None:
        """Try nothing again."""
        self._cleaner.stop()

    def note(self, uid: str, run_id: str) -> None:
        """Remember in the store that a run is under way; its caller waits for that."""
        self._cleaner.note(uid, run_id)

    def is_cancelled(self, uid: str, tracked: TrackedRun, observed: ObservedRun) -> bool:
        """Have a run cancelled; tell whether the durable flag stands, or is not needed."""
        run_id = observed.status.run_id or (tracked.prepared.run_id if tracked.prepared else "")
        if not run_id or (tracked.thread is None and not observed.status.execution):
            return True
        if not tracked.cancellation:
            tracked.cancellation = "asked"
            self._cleaner.cancel(uid, run_id, flagged=lambda: self._flagged(uid, tracked))
        return tracked.cancellation == "flagged"

    def _flagged(self, uid: str, tracked: TrackedRun) -> None:
        tracked.cancellation = "flagged"
        self._queue.mark(uid)

    def close(self, uid: str, tracked: TrackedRun, observed: ObservedRun) -> None:
        """Nothing is left to do for a run, but to see its workers go."""
        tracked.prepared = None
        if tracked.active_run_id and not tracked.cancellation:
            self._cleaner.forget(uid)
            tracked.active_run_id = ""
        if any(not job.is_over for job in observed.jobs):
            self._queue.mark(uid, seconds=5.0)

    def on_deleted(self, uid: str) -> None:
        """The resource was deleted: nothing of it goes on. Its Kubernetes Jobs go with it, by their owner."""
        tracked = self._tracked.pop(uid, None)
        if tracked is None:
            return
        if tracked.thread is not None:
            tracked.thread.stop()
        if tracked.active_run_id and not tracked.cancellation:
            self._cancel_or_hand_over(uid, tracked.active_run_id)

    def _cancel_or_hand_over(self, uid: str, run_id: str) -> None:
        """End what a resource that is gone has left, unless another one asks for the same run: that goes on with it."""
        tracked = self._tracked.items()
        successor = next((other for other, own in tracked if run_id in (own.active_run_id, own.run_id)), None)
        if successor is None:
            self._cleaner.cancel(uid, run_id)
        else:
            self._tracked[successor].active_run_id = run_id
            self._cleaner.hand_over(uid, successor, run_id)

    def _found_former(self, records: Mapping[str, str]) -> None:
        self._former = records
        self._queue.wake()

    def take_over(self, under_way: Callable[[], Set[str]]) -> None:
        """Bring to an end what a former leader carried out for resources that were deleted meanwhile.

        ``under_way`` finds the uids of those that are there and have not ended.
        """
        if self._former is None:
            return
        records, self._former = self._former, None
        alive = under_way()
        for uid in records.keys() & alive:
            self._tracked.setdefault(uid, TrackedRun()).active_run_id = records[uid]
        for uid in records.keys() - alive:
            self._cancel_or_hand_over(uid, records[uid])
