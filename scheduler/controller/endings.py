"""How runs come to an end beyond their Kubernetes objects: cancelled, closed, or left behind by a resource that is gone."""

from collections.abc import Callable, Mapping, MutableMapping, Set

from scheduler.controller.cleanup import Cleaner
from scheduler.controller.observation import Seen
from scheduler.controller.tracked_run import Known
from scheduler.controller.work_queue import WorkQueue


class Endings:
    """The ends of all runs of a scheduler, and the notes in the store of those that are under way.

    Parameters
    ----------
    cleaner : Cleaner
    known : mutable mapping
        What the scheduler remembers of each run, by the uid of its resource; shared with it.
    queue : WorkQueue
        Told which run to look at.
    """

    def __init__(self, cleaner: Cleaner, known: MutableMapping[str, Known], queue: WorkQueue) -> None:
        self._cleaner = cleaner
        self._known = known
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

    def is_cancelled(self, uid: str, known: Known, seen: Seen) -> bool:
        """Have a run cancelled; tell whether the durable flag stands, or is not needed."""
        run_id = seen.status.run_id or (known.undertaking.run_id if known.undertaking else "")
        if not run_id or (known.driver is None and not seen.status.execution):
            return True
        if not known.cancelling:
            known.cancelling = "asked"
            self._cleaner.cancel(uid, run_id, flagged=lambda: self._flagged(uid, known))
        return known.cancelling == "flagged"

    def _flagged(self, uid: str, known: Known) -> None:
        known.cancelling = "flagged"
        self._queue.mark(uid)

    def close(self, uid: str, known: Known, seen: Seen) -> None:
        """Nothing is left to do for a run, but to see its workers go."""
        known.undertaking = None
        if known.noted and not known.cancelling:
            self._cleaner.forget(uid)
            known.noted = ""
        if any(not job.is_over for job in seen.jobs):
            self._queue.mark(uid, seconds=5.0)

    def gone(self, uid: str) -> None:
        """The resource was deleted: nothing of it goes on. Its Kubernetes Jobs go with it, by their owner."""
        known = self._known.pop(uid, None)
        if known is None:
            return
        if known.driver is not None:
            known.driver.stop()
        if known.noted and not known.cancelling:
            self._lay_down(uid, known.noted)

    def _lay_down(self, uid: str, run_id: str) -> None:
        """End what a resource that is gone has left, unless another one asks for the same run: that goes on with it."""
        known = self._known.items()
        heir = next((other for other, own in known if run_id in (own.noted, own.run_id)), None)
        if heir is None:
            self._cleaner.cancel(uid, run_id)
        else:
            self._known[heir].noted = run_id
            self._cleaner.hand_over(uid, heir, run_id)

    def _found_former(self, noted: Mapping[str, str]) -> None:
        self._former = noted
        self._queue.wake()

    def take_over(self, under_way: Callable[[], Set[str]]) -> None:
        """Bring to an end what a former leader carried out for resources that were deleted meanwhile.

        ``under_way`` finds the uids of those that are there and have not ended.
        """
        if self._former is None:
            return
        noted, self._former = self._former, None
        alive = under_way()
        for uid in noted.keys() & alive:
            self._known.setdefault(uid, Known()).noted = noted[uid]
        for uid in noted.keys() - alive:
            self._lay_down(uid, noted[uid])
