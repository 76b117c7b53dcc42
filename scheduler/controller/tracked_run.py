"""In-memory state of each run in the operator, and tolerant parsing of objects that a different version wrote."""

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import RunSpec
from scheduler.api.objects import RUN_LABEL
from scheduler.api.resource import DesiredState, RunRequest, WorkersSpec
from scheduler.api.status import ConditionType, Phase, Status, is_true
from scheduler.controller.observation import Check, JobFacts, PodFacts, RunProgress
from scheduler.controller.run_thread import RunThread
from scheduler.controller.turns import UNKNOWN_PRIORITY, Contender
from scheduler.engine.loop import PreparedRun

_AGAIN_SECONDS: Final = (5.0, 15.0, 30.0, 60.0, 300.0)  # until the next check, by the number of checks before


class Cancellation(Enum):
    """Progress of the cancellation of a run."""

    NONE = 0
    REQUESTED = 1
    FLAGGED = 2
    """The durable flag is set."""


@dataclass
class TrackedRun:
    """In-memory state of one resource. It can be rebuilt after a restart."""

    generation: int | None = None
    """Generation of the spec that was last parsed."""
    request: RunRequest | None = None
    spec: RunSpec | ScoringRunSpec | None = None
    check: Check | None = None
    prepared: PreparedRun | None = None
    is_checking: bool = False
    n_checks: int = 0
    check_began_at: float = math.inf
    check_again_at: float = 0.0
    checked_at: float = -math.inf
    thread: RunThread | None = None
    cancellation: Cancellation = Cancellation.NONE
    written_at: float = 0.0
    active_run_id: str = ""
    """Id of the run that is recorded as active in the store."""
    created: str = ""
    wants_turn: bool = False
    """The run is accepted and to be carried out."""
    has_workers: bool = False
    has_jobs: bool = False
    is_hindered: bool = False
    """The run cannot request workers now."""
    busy_at: float = 0.0
    """Time at which it last had workers, requested some, or started."""
    parked_at: float = -math.inf
    """Time at which it last released its slot."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    """Keeps specification and check consistent: a check runs in its own thread, and the specification may change meanwhile."""

    @property
    def run_id(self) -> str:
        """Return the id of the prepared run, or an empty string."""
        return self.prepared.run_id if self.prepared is not None else ""

    def set_spec(self, spec: RunSpec | ScoringRunSpec) -> None:
        """Set the specification. If it differs, forget the check of the previous one."""
        with self._lock:
            if self.spec != spec:
                self.spec, self.check, self.prepared, self.n_checks = spec, None, None, 0
                self.check_again_at = 0.0

    def reject(self, check: Check) -> None:
        """Record that the specification is invalid."""
        with self._lock:
            self.spec, self.check = None, check

    def record_check(self, spec: object, check: Check, prepared: PreparedRun | None) -> None:
        """Record the check of a specification, unless it has changed meanwhile, and when to check again."""
        with self._lock:
            if self.spec == spec:
                self.check, self.prepared = check, prepared
                pause = _AGAIN_SECONDS[min(self.n_checks, len(_AGAIN_SECONDS) - 1)]
                self.check_again_at = self.checked_at + pause
                self.n_checks += 1

    def note_workers(
        self, jobs: tuple[JobFacts, ...], pods: tuple[PodFacts, ...], progress: RunProgress | None
    ) -> None:
        """Record whether the run has workers: scheduled pods, or workers in the queue while a Kubernetes Job has pods."""
        alive = [job for job in jobs if job.is_alive]
        is_in_queue = progress is not None and progress.slots > 0 and any(job.active for job in alive)
        self.has_workers = is_in_queue or any(pod.is_placed for pod in pods)
        if self.has_workers or (alive and not self.has_jobs):
            self.busy_at = time.monotonic()
        self.has_jobs = bool(alive)

    def progress_shown(self, status: Status) -> RunProgress | None:
        """Return the progress, or the reason why an accepted run cannot continue."""
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
            message = "The inputs have changed since the run was accepted. Apply a new resource, which reads the current inputs."
            return RunProgress(end=ConditionType.FAILED, end_reason="InputChanged", end_message=message)
        return None

    def contender(self, uid: str, priorities: Mapping[str, int] | None) -> Contender:
        """Return the run as a contender for a turn. ``priorities`` are those of Kueue's classes, or ``None`` without Kueue."""
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
class OperatorCounts:
    """Counters since this scheduler became the leader."""

    status_writes: int = 0
    jobs_created: int = 0
    api_errors: int = 0
    reconciles: int = 0
    errors: int = 0
    ended: dict[Phase, int] = field(
        default_factory=lambda: dict.fromkeys((Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED), 0)
    )


def request_of_invalid(obj: Mapping[str, Any]) -> RunRequest:
    """Return the desired state of a resource whose specification is invalid."""
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
    """Return the uid of the run to which an object belongs."""
    return str(obj["metadata"].get("labels", {}).get(RUN_LABEL, ""))


def owner_of(obj: Mapping[str, Any]) -> str:
    """Return the uid of an object's first owner."""
    return next((str(owner["uid"]) for owner in obj["metadata"].get("ownerReferences", ())), "")
