"""Decide what a run in a cluster needs now: from what is seen to what is to be done. Pure, and the same whenever it is asked.

Nothing here remembers: a scheduler that has just taken over sees the same objects and decides the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from scheduler.api.objects import Workers, next_memory, slots
from scheduler.api.resource import DesiredState, as_number
from scheduler.api.status import ConditionType, Status, is_true
from scheduler.controller.conditions import (
    Event,
    cancelled,
    ended,
    events_of,
    has_ended,
    refused,
    under_way,
    with_all_conditions,
    with_phase,
)
from scheduler.controller.observation import Asked, Drive, JobFacts, Seen, parsed

_SHORT_LIFE_SECONDS: Final = 30.0  # workers that end sooner have done nothing: the next come later and later
_MAX_PAUSE_SECONDS: Final = 60.0
_LINGER_SECONDS: Final = 20.0  # for workers to end by themselves once the run has ended
_IDLE_SECONDS: Final = 15.0
_WORN_FAILURES: Final = 3  # failed pods after which Kubernetes itself waits too long to replace the next


@dataclass(frozen=True)
class Decision:
    """What is to be done.

    Attributes
    ----------
    status : Status
        As it should be.
    is_driven : bool
        A thread should carry the run out; false: one that does should stop, leaving all as it is.
    is_cancelled : bool
        Nothing of the run may start any more.
    make : Workers or None
        A generation to create.
    delete : tuple of str
        Names of Jobs to delete.
    events : tuple of Event
    is_expired : bool
        The resource has outlived its end for as long as it asks, and is to be deleted.
    """

    status: Status
    is_driven: bool = False
    is_cancelled: bool = False
    make: Workers | None = None
    delete: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    is_expired: bool = False


def decide(seen: Seen) -> Decision:
    """Decide what a run needs."""
    if has_ended(seen.status):
        return Decision(seen.status, delete=_leftovers(seen), is_expired=_seconds_left(seen) <= 0)
    wanted = seen.resource.desired
    if wanted is DesiredState.CANCELLED:
        return _finish(seen, Decision(cancelled(seen), is_cancelled=True, delete=_alive(seen)))
    if seen.check is None and not is_true(seen.status.conditions, ConditionType.ACCEPTED):
        return Decision(seen.status) if seen.status.phase else _finish(seen, Decision(seen.status))
    is_accepted = seen.check.is_accepted if seen.check else True
    if not is_accepted:
        return _finish(seen, Decision(refused(seen)))
    if seen.drive is not None and seen.drive.end is not None:
        return _finish(seen, Decision(ended(seen, seen.drive)))
    if wanted is DesiredState.SUSPENDED:
        return _finish(seen, Decision(under_way(seen, target=0), delete=_alive(seen)))
    return _running(seen)


def demand(resource: Asked, drive: Drive | None) -> int:
    """Worker pods that the tasks under way can keep busy, between the run's bounds; -1: as many as there are."""
    workers = resource.workers
    if drive is None:
        return -1  # nobody carries it out now, and workers that were asked for stay asked for
    if not drive.execution:
        return 0
    if not drive.running and drive.idle_seconds < _IDLE_SECONDS:
        return -1
    return min(workers.max, max(workers.min, math.ceil(drive.running / slots(workers))))


def _running(seen: Seen) -> Decision:
    target = demand(seen.resource, seen.drive)
    alive = [job for job in seen.jobs if not job.is_over and not job.is_being_deleted]
    capacity = sum(job.capacity for job in alive)
    small = _too_small(seen, alive)
    if small:
        delete: tuple[str, ...] = tuple(job.name for job in small)
        capacity -= sum(job.capacity for job in small)
    elif target == 0 and seen.drive is not None and seen.drive.execution:
        delete = tuple(job.name for job in alive)
    else:
        delete = _superfluous(seen, alive, capacity)
    make = None
    missing = max(target, 0) - capacity
    if seen.may_ask and ((missing > 0 and not delete) or small):
        make = _generation(seen, max(missing, 1))
    shown = capacity if target < 0 else target
    decision = Decision(under_way(seen, target=shown, made=make), is_driven=True, make=make, delete=delete)
    return _finish(seen, decision)


def _too_small(seen: Seen, alive: Sequence[JobFacts]) -> list[JobFacts]:
    """Generations of which a worker ran out of memory, if more is allowed."""
    return [
        job
        for job in alive
        if seen.ran_out(job) and next_memory(seen.resource.workers, job.memory) is not None
    ]


def _superfluous(seen: Seen, alive: Sequence[JobFacts], capacity: int) -> tuple[str, ...]:
    """Generations to end: of another execution, with old Secrets, worn out, or beyond the run's maximum, the latest first."""
    execution = seen.drive.execution if seen.drive else ""
    delete = [
        job.name
        for job in alive
        if (execution and job.execution != execution)
        or seen.has_old_secrets(job)
        or (job.failed >= _WORN_FAILURES and job.active == 0 and not job.is_suspended)
    ]
    for job in sorted(alive, key=lambda own: -own.generation):
        if capacity > seen.resource.workers.max and job.name not in delete:
            delete.append(job.name)
            capacity -= job.capacity
    return tuple(delete)


def _generation(seen: Seen, n_pods: int) -> Workers | None:
    """The next generation of workers, unless the last ones ended so soon that it is better to wait."""
    if _pause_left(seen) > 0 or seen.drive is None:
        return None
    resource = seen.resource
    last = max((job.generation for job in seen.jobs), default=0)
    known = seen.status.workers.generation if seen.status.workers else 0
    return Workers(
        kind=resource.kind,
        name=resource.name,
        namespace=resource.namespace,
        uid=resource.uid,
        run_id=seen.check.run_id if seen.check else seen.status.run_id or "",
        execution=seen.drive.execution,
        generation=max(last, known) + 1,
        parallelism=n_pods,
        memory=_memory(seen),
        spec=resource.workers,
    )


def _memory(seen: Seen) -> str:
    """Memory of the next workers: what the last had, or twice that if one of them ran out of it."""
    spec = seen.resource.workers
    memory = spec.resources.memory
    if seen.status.workers and seen.status.workers.memory:
        memory = max(memory, seen.status.workers.memory, key=as_number)
    for job in seen.jobs:
        memory = max(memory, job.memory, key=as_number)
        if seen.ran_out(job):
            memory = max(memory, next_memory(spec, job.memory) or job.memory, key=as_number)
    return (next_memory(spec, memory) or memory) if seen.was_exceeded(memory) else memory


def _pause_left(seen: Seen) -> float:
    """Seconds to wait before the next generation: doubled with each that failed or ended at once."""
    short = [
        job.ended_at
        for job in seen.jobs
        if job.is_over
        and job.ended_at is not None
        and (job.failure or (job.seconds or 0) < _SHORT_LIFE_SECONDS)
    ]
    if len(short) < 2:  # workers that were drained at once end soon, too
        return 0.0
    pause = min(2.0 ** len(short), _MAX_PAUSE_SECONDS)
    return pause - (seen.now - max(short)).total_seconds()


def _seconds_left(seen: Seen) -> float:
    """Seconds until the resource of a run that has ended is to be deleted."""
    if seen.resource.ttl is None or seen.status.finished_at is None:
        return math.inf
    return seen.resource.ttl - (seen.now - parsed(seen.status.finished_at)).total_seconds()


def _leftovers(seen: Seen) -> tuple[str, ...]:
    """Workers that are still there though the run has ended; a moment is left them to end by themselves."""
    ended = seen.status.finished_at
    since = (seen.now - parsed(ended)).total_seconds() if ended else math.inf
    if since < _LINGER_SECONDS and not is_true(seen.status.conditions, ConditionType.CANCELLED):
        return ()
    return _alive(seen)


def _alive(seen: Seen) -> tuple[str, ...]:
    return tuple(job.name for job in seen.jobs if not job.is_over and not job.is_being_deleted)


def _finish(seen: Seen, decision: Decision) -> Decision:
    """Add the conditions that are missing, the phase, and the Events that a change is worth."""
    status = with_phase(seen, with_all_conditions(seen, decision.status))
    return replace(decision, status=status, events=events_of(seen, status, decision.make))
