"""Decide the actions for a run: a pure function of its observed state.

The decision depends only on the observed state. After a failover, the new leader observes the same objects
and decides the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from scheduler.api.objects import WorkerGeneration, first_memory, next_memory, slots
from scheduler.api.resource import DesiredState, RunRequest, as_number
from scheduler.api.status import ConditionType, Status, is_true
from scheduler.controller.conditions import (
    RunEvent,
    cancelled,
    ended,
    events_of,
    has_ended,
    refused,
    under_way,
    with_all_conditions,
    with_phase,
)
from scheduler.controller.observation import JobFacts, ObservedRun, RunProgress, parsed

_SHORT_LIFE_SECONDS: Final = 30.0  # workers that exit earlier failed at startup: the next have a backoff
_MAX_PAUSE_SECONDS: Final = 60.0
_LINGER_SECONDS: Final = 20.0  # for workers to exit by themselves after the run has ended
_IDLE_SECONDS: Final = 15.0
_WORN_FAILURES: Final = 3  # failed pods after which Kubernetes itself waits too long to replace the next


@dataclass(frozen=True)
class Decision:
    """Actions for a run."""

    status: Status
    """New status."""
    should_run: bool = False
    """Whether a thread should carry out the run. If false, a running thread stops and the execution stays open."""
    is_cancelled: bool = False
    """The run is to be cancelled."""
    make: WorkerGeneration | None = None
    """Generation of workers to create."""
    delete: tuple[str, ...] = ()
    """Names of Kubernetes Jobs to delete."""
    events: tuple[RunEvent, ...] = ()
    is_expired: bool = False
    """The time to live after the end has elapsed, and the resource is to be deleted."""


def decide(observed: ObservedRun) -> Decision:
    """Decide the actions for a run."""
    if has_ended(observed.status):
        return Decision(observed.status, delete=_leftovers(observed), is_expired=_seconds_left(observed) <= 0)
    desired = observed.resource.desired
    # The results of a run that has succeeded are published, so it is too late to cancel it.
    if desired is DesiredState.CANCELLED and not _has_succeeded(observed):
        return _finish(observed, Decision(cancelled(observed), is_cancelled=True, delete=_alive(observed)))
    if observed.check is None and not is_true(observed.status.conditions, ConditionType.ACCEPTED):
        unchanged = Decision(observed.status)
        return unchanged if observed.status.phase else _finish(observed, unchanged)
    if observed.check is not None and not observed.check.is_accepted:
        return _finish(observed, Decision(refused(observed)))
    if observed.progress is not None and observed.progress.end is not None:
        return _finish(observed, Decision(ended(observed, observed.progress)))
    if desired is DesiredState.SUSPENDED:
        return _finish(observed, Decision(under_way(observed, target=0), delete=_alive(observed)))
    return _running(observed)


def _has_succeeded(observed: ObservedRun) -> bool:
    return observed.progress is not None and observed.progress.end is ConditionType.SUCCEEDED


def demand(resource: RunRequest, progress: RunProgress | None) -> int | None:
    """Return the number of worker pods that the running tasks can use, within the run's bounds; ``None`` keeps the current number."""
    workers = resource.workers
    if progress is None:
        return None  # no thread carries out the run, and requested workers stay requested
    if not progress.execution:
        return 0
    if not progress.running and progress.idle_seconds < _IDLE_SECONDS:
        return None
    return min(workers.max, max(workers.min, math.ceil(progress.running / slots(workers))))


def _running(observed: ObservedRun) -> Decision:
    target = demand(observed.resource, observed.progress)
    alive = [job for job in observed.jobs if job.is_alive]
    capacity = sum(job.capacity for job in alive)
    small = _too_small(observed, alive)
    if small:
        delete: tuple[str, ...] = tuple(job.name for job in small)
        capacity -= sum(job.capacity for job in small)
    elif target == 0 and observed.progress is not None and observed.progress.execution:
        delete = tuple(job.name for job in alive)
    else:
        delete = _superfluous(observed, alive, capacity)
    make = None
    missing = (target or 0) - capacity
    if observed.may_ask and ((missing > 0 and not delete) or small):
        make = _generation(observed, max(missing, 1))
    shown_target = capacity if target is None else target
    decision = Decision(
        under_way(observed, target=shown_target, new_generation=make),
        should_run=True,
        make=make,
        delete=delete,
    )
    return _finish(observed, decision)


def _too_small(observed: ObservedRun, alive: Sequence[JobFacts]) -> list[JobFacts]:
    """Return the generations in which a worker ran out of memory, if a larger size is allowed."""
    return [
        job
        for job in alive
        if observed.ran_out(job) and next_memory(observed.resource.workers, job.memory) is not None
    ]


def _superfluous(observed: ObservedRun, alive: Sequence[JobFacts], capacity: int) -> tuple[str, ...]:
    """Return the generations to delete: of another execution, with old Secrets or another image, failing, or above the maximum, latest first."""
    execution = observed.progress.execution if observed.progress else ""
    delete = [
        job.name
        for job in alive
        if (execution and job.execution != execution)
        or observed.has_old_secrets(job)
        or observed.has_old_image(job)
        or (job.failed >= _WORN_FAILURES and job.active == 0 and not job.is_suspended)
    ]
    for job in sorted(alive, key=lambda job: -job.generation):
        if capacity > observed.resource.workers.max and job.name not in delete:
            delete.append(job.name)
            capacity -= job.capacity
    return tuple(delete)


def _generation(observed: ObservedRun, n_pods: int) -> WorkerGeneration | None:
    """Return the next generation of workers, or ``None`` during the backoff after failed ones."""
    if _pause_left(observed) > 0 or observed.progress is None:
        return None
    resource = observed.resource
    last = observed.latest_job.generation if observed.latest_job else 0
    tracked = observed.status.workers.generation if observed.status.workers else 0
    return WorkerGeneration(
        kind=resource.kind,
        name=resource.name,
        namespace=resource.namespace,
        uid=resource.uid,
        run_id=observed.check.run_id if observed.check else observed.status.run_id or "",
        execution=observed.progress.execution,
        generation=max(last, tracked) + 1,
        parallelism=n_pods,
        memory=_memory(observed),
        spec=resource.workers,
    )


def _memory(observed: ObservedRun) -> str:
    """Return the memory of the next workers: that of the last ones, doubled if one of them ran out of memory.

    The first ones get the estimate of the plan, at least the requested memory and at most its maximum.
    """
    spec = observed.resource.workers
    memory = first_memory(spec, observed.progress.memory_needed if observed.progress else 0)
    if observed.status.workers and observed.status.workers.memory:
        memory = max(memory, observed.status.workers.memory, key=as_number)
    for job in observed.jobs:
        memory = max(memory, job.memory, key=as_number)
        if observed.ran_out(job):
            memory = max(memory, next_memory(spec, job.memory) or job.memory, key=as_number)
    return (next_memory(spec, memory) or memory) if observed.was_exceeded(memory) else memory


def _pause_left(observed: ObservedRun) -> float:
    """Return the remaining backoff before the next generation, which doubles with each generation that failed or exited early."""
    short = [
        job.ended_at
        for job in observed.jobs
        if job.is_over
        and job.ended_at is not None
        and (job.failure or (job.seconds or 0) < _SHORT_LIFE_SECONDS)
    ]
    if len(short) < 2:  # workers that were drained right after their start also exit early
        return 0.0
    pause = min(2.0 ** len(short), _MAX_PAUSE_SECONDS)
    return pause - (observed.now - max(short)).total_seconds()


def _seconds_left(observed: ObservedRun) -> float:
    """Return the seconds until the resource of an ended run is to be deleted."""
    if observed.resource.ttl is None or observed.status.finished_at is None:
        return math.inf
    return observed.resource.ttl - (observed.now - parsed(observed.status.finished_at)).total_seconds()


def _leftovers(observed: ObservedRun) -> tuple[str, ...]:
    """Return the workers of an ended run that have not exited by themselves in time."""
    ended = observed.status.finished_at
    since = (observed.now - parsed(ended)).total_seconds() if ended else math.inf
    if since < _LINGER_SECONDS and not is_true(observed.status.conditions, ConditionType.CANCELLED):
        return ()
    return _alive(observed)


def _alive(observed: ObservedRun) -> tuple[str, ...]:
    return tuple(job.name for job in observed.jobs if job.is_alive)


def _finish(observed: ObservedRun, decision: Decision) -> Decision:
    """Complete a decision with missing conditions, the phase, and Events."""
    status = with_phase(observed, with_all_conditions(observed, decision.status))
    return replace(decision, status=status, events=events_of(observed, status, decision.make))
