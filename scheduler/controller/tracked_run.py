"""What an operator remembers of each run, and how it reads objects that may be of another version."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from scheduler.api.client import RUN_KINDS, Kind
from scheduler.api.objects import RUN_LABEL
from scheduler.api.resource import DesiredState, WorkersSpec
from scheduler.api.status import ConditionType, Phase, Status, is_true, read_status
from scheduler.controller.informer import Cache, Object
from scheduler.controller.observation import Check, JobFacts, PodFacts, RunProgress, RunRequest
from scheduler.controller.run_thread import RunThread
from scheduler.controller.turns import UNKNOWN_PRIORITY, Contender
from scheduler.engine.loop import PreparedRun

NO_ANSWER: Final = Check(
    reason="StoreUnavailable",
    message="The store, or where the data are, has not answered yet. It is asked again; check the addresses and that it runs.",
)


@dataclass
class TrackedRun:
    """What the operator remembers of one resource; all of it can be lost."""

    generation: int = -1
    """Of the spec that was read last."""
    request: RunRequest | None = None
    spec: Any = None
    check: Check | None = None
    prepared: PreparedRun | None = None
    is_checking: bool = False
    n_checks: int = 0
    check_began_at: float = math.inf
    check_again_at: float = 0.0
    checked_at: float = -math.inf
    thread: RunThread | None = None
    cancellation: str = ""
    """Empty, ``request``, or ``flagged``: the durable flag stands."""
    written_at: float = 0.0
    active_run_id: str = ""
    """Id of the run of which the store has a note that it is under way."""
    created: str = ""
    wants_turn: bool = False
    """It may be carried out, and its owner wants that."""
    has_workers: bool = False
    has_jobs: bool = False
    is_hindered: bool = False
    """Something keeps it from asking for workers."""
    busy_at: float = 0.0
    """When it last had workers, asked for some, or began."""
    parked_at: float = -math.inf
    """When it last gave its slot up."""

    @property
    def run_id(self) -> str:
        """Id of the run that is to be carried out; empty if there is none."""
        return self.prepared.run_id if self.prepared is not None else ""

    def note_workers(
        self, jobs: tuple[JobFacts, ...], pods: tuple[PodFacts, ...], progress: RunProgress | None
    ) -> None:
        """Note whether it has workers: placed on a node, or known to its queue while a Kubernetes Job has pods."""
        alive = [job for job in jobs if not job.is_over and not job.is_being_deleted]
        is_in_queue = progress is not None and progress.slots > 0 and any(job.active for job in alive)
        self.has_workers = is_in_queue or any(pod.is_placed for pod in pods)
        if self.has_workers or (alive and not self.has_jobs):
            self.busy_at = time.monotonic()
        self.has_jobs = bool(alive)

    def check_shown(self, status: Status, checked_at: float, *, patience: float) -> Check | None:
        """The check, as long as the run is not accepted; what is wrong later is not a matter of acceptance.

        Parameters
        ----------
        status : Status
        checked_at : float
            When the last check of any run ended.
        patience : float
            Seconds after which a check without an answer is shown as one: of all, since others may be asked first.
        """
        if is_true(status.conditions, ConditionType.ACCEPTED):
            return Check(run_id=status.run_id or "") if status.run_id else None
        # Some hundred may wait for their turn to be looked at, which is no reason to worry as long as others get their answers.
        silent_since = max(self.check_began_at, checked_at)
        if self.check is None and time.monotonic() - silent_since >= patience:
            return NO_ANSWER
        return self.check

    def progress_shown(self, status: Status) -> RunProgress | None:
        """How far the run is; also why it cannot go on, though it was accepted."""
        progress = self.thread.snapshot() if self.thread is not None else None
        if (
            progress is not None
            or self.check is None
            or not is_true(status.conditions, ConditionType.ACCEPTED)
        ):
            return progress
        if not self.check.is_accepted:
            return RunProgress(trouble=(self.check.reason, self.check.message))
        if status.run_id and self.check.run_id != status.run_id:
            message = "The inputs are not those that were accepted. Apply a new resource, which reads them as they are now."
            return RunProgress(end=ConditionType.FAILED, end_reason="InputChanged", end_message=message)
        return None

    def contender(self, uid: str, priorities: Mapping[str, int] | None) -> Contender:
        """How it stands in line for a turn; ``priorities`` are those of Kueue's classes, if it is there."""
        assert self.request is not None
        workers, now = self.request.workers, time.monotonic()
        is_queued = priorities is not None and workers.kueue_queue is not None
        priority = 0
        if priorities is not None and workers.priority_class is not None:
            priority = priorities.get(workers.priority_class, UNKNOWN_PRIORITY)
        return Contender(
            uid=uid,
            run_id=self.thread.run_id if self.thread is not None else self.run_id,
            created=self.created,
            priority=priority,
            is_running=self.thread is not None,
            has_workers=self.has_workers,
            has_jobs=self.has_jobs,
            is_hindered=self.is_hindered,
            needs_workload=is_queued,
            waited_seconds=now - self.busy_at,
            rested_seconds=now - self.parked_at,
        )


@dataclass
class Counts:
    """What is counted since this scheduler leads."""

    status_writes: int = 0
    jobs_created: int = 0
    api_errors: int = 0
    reconciles: int = 0
    errors: int = 0
    ended: dict[Phase, int] = field(
        default_factory=lambda: dict.fromkeys((Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED), 0)
    )


def part_for(cache: Cache, kind: Kind) -> Cache:
    """The cache for one kind: both kinds of runs share one, in which a list of one must not remove the others."""
    return _KindOnly(cache, kind) if kind in (Kind.TRAINING_RUN, Kind.SCORING_RUN) else cache


class _KindOnly(Cache):
    """The part of a cache that holds one kind of runs."""

    def __init__(self, whole: Cache, kind: Kind) -> None:
        super().__init__(self._pass_on)
        self._whole = whole
        self._kind = next(name for name, own in RUN_KINDS.items() if own is kind)

    def put(self, obj: Object) -> None:
        """Take in an object; those of a list of custom resources say their kind each."""
        super().put({"kind": self._kind, **obj})

    def _pass_on(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._whole.put(new)
        elif old is not None:
            self._whole.remove(old)


def status_of(obj: Mapping[str, Any]) -> Status:
    """The status; one that another version wrote, and this one cannot read, is made again."""
    try:
        return read_status(obj)
    except ValidationError:
        return Status()


def request_of_invalid(obj: Mapping[str, Any]) -> RunRequest:
    """What a resource asks for whose specification is not valid."""
    metadata = obj["metadata"]
    return RunRequest(
        kind=obj["kind"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        workers=WorkersSpec(),
        desired=DesiredState.CANCELLED
        if metadata.get("deletionTimestamp") or obj["spec"].get("desiredState") == DesiredState.CANCELLED
        else DesiredState.RUNNING,
    )


def run_of(obj: Mapping[str, Any]) -> str:
    """Uid of the run that an object of ours belongs to."""
    return str(obj["metadata"].get("labels", {}).get(RUN_LABEL, ""))


def owner_of(obj: Mapping[str, Any]) -> str:
    """Uid of an object's first owner."""
    return next((str(own["uid"]) for own in obj["metadata"].get("ownerReferences", ())), "")
