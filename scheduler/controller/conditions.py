"""Status of a run for its users: conditions, phase, counts and Events, derived from the observed state. Pure."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from mlho.errors import plural
from scheduler.api.objects import WorkerGeneration, next_memory
from scheduler.api.resource import DesiredState, as_number
from scheduler.api.status import (
    TASKS_QUARANTINED,
    Condition,
    ConditionType,
    Phase,
    Status,
    TaskCounts,
    WorkerCounts,
    get_condition,
    in_words,
    is_true,
    set_condition,
    timestamp,
)
from scheduler.controller.observation import ObservedRun, PodFacts, Quota, RunProgress, parsed
from scheduler.engine.progress import current_stage, in_all, share

ENDED: Final = (ConditionType.SUCCEEDED, ConditionType.FAILED, ConditionType.CANCELLED)
QUALITY_TASK: Final = "quality"  # name in the plan
WORKERS_REFUSED: Final = "WorkersRefused"  # a reason
_AT_FIRST: Final[Mapping[ConditionType, tuple[bool | None, str, str]]] = {
    ConditionType.ACCEPTED: (None, "NotChecked", "Specification, store and data have not been checked yet."),
    ConditionType.QUOTA_RESERVED: (None, "NotRequested", ""),
    ConditionType.WORKERS_READY: (False, "NotStarted", ""),
    ConditionType.PROGRESSING: (False, "NotStarted", ""),
    ConditionType.DEGRADED: (False, "Well", ""),
    ConditionType.DATA_QUALITY: (None, "NotChecked", ""),
    **dict.fromkeys(ENDED, (False, "NotEnded", "")),
}
_WORKERS_FAILED: Final = "WorkersFailed"
_REPEATED: Final = 2  # failed pods of a generation; Kubernetes replaces a single one within seconds
_PLACEMENT_SECONDS: Final = 60.0  # for a pod to be scheduled, as other pods end or a node is added
_NO_MORE_MEMORY: Final = (
    "A worker ran out of memory at {}, the maximum size. Cancel the run, and apply it under a new name with a larger "
    "workers.resources.maxMemory. Committed results are reused."
)


class EventReason(StrEnum):
    """Reasons of a run's Events."""

    ACCEPTED = "Accepted"
    """The specification is valid, and its store and data are accessible."""
    NOT_ACCEPTED = "NotAccepted"
    """The run was rejected; the message states the reason and the remedy."""
    STARTED = "Started"
    """The first worker became available."""
    SUSPENDED = "Suspended"
    """The run was suspended by ``desiredState: Suspended``."""
    RESUMED = "Resumed"
    """The run was resumed by ``desiredState: Running``."""
    WORKERS_CREATED = "WorkersCreated"
    """A generation of workers was created."""
    MEMORY_RAISED = "MemoryRaised"
    """Workers ran out of memory, and the next generation has more."""
    DEGRADED = "Degraded"
    """The run continues with a problem."""
    RECOVERED = "Recovered"
    """The problem is resolved."""
    RESULT_WARNING = "ResultWarning"
    """A warning of the result, such as a rule that drops many rows."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


@dataclass(frozen=True)
class RunEvent:
    """An Event of a run, as shown by ``kubectl describe``."""

    reason: EventReason
    message: str
    is_warning: bool = False


def has_ended(status: Status) -> bool:
    """Return whether a run has succeeded, failed or been cancelled. This is final."""
    return any(is_true(status.conditions, kind) for kind in ENDED)


# Conditions and counts.


def _set(
    observed: ObservedRun,
    status: Status,
    kind: ConditionType,
    holds: bool | None,
    reason: str,
    message: str = "",
) -> Status:
    conditions = set_condition(
        status.conditions,
        kind,
        status=holds,
        reason=reason,
        message=message,
        now=observed.now,
        generation=observed.resource.generation,
    )
    return status.model_copy(update={"conditions": conditions})


def cancelled(observed: ObservedRun) -> Status:
    """Return the status of a cancelled run."""
    status = _set(
        observed, observed.status, ConditionType.CANCELLED, True, "Cancelled", "Cancelled by desiredState."
    )
    if observed.progress is not None:
        status = _with_progress(status, observed.progress)
    return _closed(observed, status)


def refused(observed: ObservedRun) -> Status:
    """Return the status of a run that was not accepted."""
    check = observed.check
    assert check is not None
    return _set(observed, observed.status, ConditionType.ACCEPTED, False, check.reason, check.message)


def ended(observed: ObservedRun, progress: RunProgress) -> Status:
    """Return the status of a run that has ended, with its results."""
    assert progress.end is not None
    status = _with_progress(_accepted(observed), progress)
    status = _set(
        observed, status, progress.end, True, progress.end_reason or progress.end.value, progress.end_message
    )
    blocked = any(failure.task == QUALITY_TASK for failure in progress.failures)
    quality = (False, "Blocked", progress.end_message) if blocked else progress.quality
    if quality is not None:
        status = _set(observed, status, ConditionType.DATA_QUALITY, *quality)
    results = ("outputs", "metrics", "headline", "warnings", "gates", "model", "cost", "failures")
    update = {name: getattr(progress, name) or getattr(status, name) for name in results}
    return _closed(observed, status.model_copy(update=update))


def with_all_conditions(observed: ObservedRun, status: Status) -> Status:
    """Return the status with all conditions, so that clients need not distinguish absent from false.

    Initial values are set again for each generation: ``kubectl wait`` ignores a condition of an older generation.
    """
    for kind, (holds, reason, message) in _AT_FIRST.items():
        if kind is ConditionType.QUOTA_RESERVED and observed.resource.workers.kueue_queue is None:
            continue
        if kind is ConditionType.DATA_QUALITY and observed.resource.kind == "ScoringRun":
            continue
        condition = get_condition(status.conditions, kind)
        if condition is None or condition.reason == reason:
            status = _set(observed, status, kind, holds, reason, message)
    return status


def _closed(observed: ObservedRun, status: Status) -> Status:
    """Return the final status. Exactly one terminal condition is true."""
    status = with_all_conditions(observed, status)
    for kind in (ConditionType.PROGRESSING, ConditionType.WORKERS_READY, ConditionType.DEGRADED, *ENDED):
        condition = get_condition(status.conditions, kind)
        if condition is not None and (condition.status == "True") != (kind in ENDED):
            status = _set(observed, status, kind, False, "Ended")
    update = {"finished_at": timestamp(observed.now), "workers": _worker_counts(observed, status, 0, None)}
    if status.started_at is not None:
        update["duration"] = in_words((observed.now - parsed(status.started_at)).total_seconds())
    return status.model_copy(update=update)


def _accepted(observed: ObservedRun) -> Status:
    check = observed.check
    if check is None or not check.is_accepted:
        return observed.status
    message = check.message or "The specification is valid, and its store and data are accessible."
    if check.warning:
        message += f" Warning: {check.warning}"
    status = _set(observed, observed.status, ConditionType.ACCEPTED, True, check.reason, message)
    return status.model_copy(update={"run_id": check.run_id})


def under_way(
    observed: ObservedRun, *, target: int, new_generation: WorkerGeneration | None = None
) -> Status:
    """Return the status of a run that is running, waiting or suspended."""
    status, progress = _accepted(observed), observed.progress
    status = _with_quota(observed, status)
    if progress is not None:
        status = _with_progress(status, progress)
    is_working = _is_working(observed)
    if is_working and status.started_at is None:
        status = status.model_copy(update={"started_at": timestamp(observed.now)})
    status = status.model_copy(update={"workers": _worker_counts(observed, status, target, new_generation)})
    why = ("Ready", "") if is_working else _no_worker_reason(observed, target)
    status = _set(observed, status, ConditionType.WORKERS_READY, is_working, *why)
    status = _set(observed, status, ConditionType.PROGRESSING, *_progressing(observed, is_working))
    trouble = _trouble(observed, status)
    if trouble is not None:
        return _set(observed, status, ConditionType.DEGRADED, True, *trouble)
    if get_condition(status.conditions, ConditionType.DEGRADED) is not None:
        return _set(observed, status, ConditionType.DEGRADED, False, "Well")
    return status


def _with_quota(observed: ObservedRun, status: Status) -> Status:
    latest = observed.latest_job
    if observed.resource.workers.kueue_queue is None or latest is None:
        return status
    if observed.quota is not None:
        quota = observed.quota
    elif latest.is_suspended:
        quota = Quota(False, "WaitingForQuota", "The workers' Kubernetes Job is suspended.")
    else:
        quota = Quota(True, "QuotaReserved")
    return _set(
        observed, status, ConditionType.QUOTA_RESERVED, quota.is_reserved, quota.reason, quota.message
    )


def _with_progress(status: Status, progress: RunProgress) -> Status:
    done, total = in_all(progress.stages)
    if not total:
        return status
    counts = TaskCounts(
        total=total,
        done=done,
        running=0 if progress.end else min(progress.running, progress.slots),
        retried=progress.retried,
        quarantined=progress.quarantined,
    )
    update = {
        "execution": progress.execution or status.execution,
        "stage": current_stage(progress.stages),
        "progress": share(done, total),
        "tasks": counts,
    }
    return status.model_copy(update=update)


def _worker_counts(
    observed: ObservedRun, status: Status, target: int, new_generation: WorkerGeneration | None
) -> WorkerCounts:
    old = status.workers or WorkerCounts()
    latest = observed.latest_job
    if new_generation is not None:
        generation, memory = new_generation.generation, new_generation.memory
    elif latest is not None and latest.generation >= old.generation:
        generation, memory = latest.generation, latest.memory
    else:
        generation, memory = old.generation, old.memory or ""
    ready = 0 if target == 0 else observed.n_ready
    return WorkerCounts(desired=target, ready=ready, generation=generation, memory=memory or None)


def _no_worker_reason(observed: ObservedRun, target: int) -> tuple[str, str]:
    if observed.resource.desired is DesiredState.SUSPENDED:
        return "Suspended", "A suspended run has no workers."
    if any(job.is_suspended for job in observed.jobs if not job.is_over):
        return "WaitingForQuota", ""
    if observed.refusal:
        return WORKERS_REFUSED, ""
    if target == 0 or not observed.jobs:
        return "NoneWanted", "No task is ready."
    return "Starting", ""


def _is_working(observed: ObservedRun) -> bool:
    """Return whether the run has workers. Workers often register with the queue long before their pods are ready.

    The queue is not sufficient evidence: it lists workers for some seconds after their end, and during an outage
    of Redis.
    """
    is_in_queue = observed.progress is not None and observed.progress.slots > 0
    return bool(observed.n_ready) or (is_in_queue and any(job.active for job in observed.jobs))


def _progressing(observed: ObservedRun, is_working: bool) -> tuple[bool, str, str]:
    if observed.resource.desired is DesiredState.SUSPENDED:
        return False, "Suspended", "Set desiredState: Running to resume the run."
    if observed.is_waiting_for_turn:
        return (
            False,
            "WaitingForTurn",
            "The scheduler carries out other runs first, or the same run for another resource.",
        )
    is_begun = (
        bool(observed.progress.execution)
        if observed.progress is not None
        else any(not job.is_over for job in observed.jobs)
    )
    if not is_begun:
        return False, "Beginning", ""
    return (True, "Working", "") if is_working else (False, "WaitingForWorkers", "")


def _trouble(observed: ObservedRun, status: Status) -> tuple[str, str] | None:
    """Return reason and message of the first problem of a run that continues."""
    if observed.resource.desired is DesiredState.SUSPENDED:
        return None
    if observed.progress is not None and observed.progress.trouble is not None:
        return observed.progress.trouble
    if observed.refusal:
        return WORKERS_REFUSED, observed.refusal
    for job in observed.jobs:
        if observed.ran_out(job) and next_memory(observed.resource.workers, job.memory) is None:
            return "OutOfMemory", _NO_MORE_MEMORY.format(job.memory)
    for pod in observed.pods:
        if pod.image_problem:
            return "WorkerCannotStart", pod.image_problem
    # A pod that cannot start takes the room of others, so it is the cause.
    for pod in observed.pods:
        if pod.unschedulable and _is_persistent(pod, observed.now):
            return "Unschedulable", pod.unschedulable
    last = observed.latest_job
    errors = [pod.error for pod in observed.pods if last and pod.generation == last.generation and pod.error]
    if len(errors) >= _REPEATED and not _is_working(observed):
        return _WORKERS_FAILED, f"Workers end with an error: {errors[-1]}"
    if last is not None and last.failure:
        return _WORKERS_FAILED, f"Kubernetes Job {last.name}: {last.failure}"
    if status.tasks is not None and status.tasks.quarantined:
        return (
            TASKS_QUARANTINED,
            f"{plural(status.tasks.quarantined, 'quarantined task')}; the other tasks continue.",
        )
    old = get_condition(observed.status.conditions, ConditionType.DEGRADED)
    if old is not None and old.reason == _WORKERS_FAILED and not _is_working(observed):
        return old.reason, old.message  # the failed pods were deleted, and no worker is ready since
    return None


def _is_persistent(pod: PodFacts, now: dt.datetime) -> bool:
    """Return whether a pod has been unschedulable for longer than scheduling normally takes."""
    since = pod.unschedulable_since
    return since is None or (now - since).total_seconds() >= _PLACEMENT_SECONDS


def with_phase(observed: ObservedRun, status: Status) -> Status:
    """Return the status with its phase, and with the reason and message of the printer columns."""
    phase, kind = _phase(observed, status)
    condition = get_condition(status.conditions, kind)
    update: dict[str, Any] = {
        "phase": phase,
        "observed_generation": observed.resource.generation,
        "reason": condition.reason if condition else None,
        "message": condition.message or None if condition else None,
    }
    if phase in (Phase.RUNNING, Phase.SUCCEEDED):
        # The columns Reason and Message are empty unless there is a problem.
        update["reason"] = update["message"] = None
        trouble = get_condition(status.conditions, ConditionType.DEGRADED)
        if trouble is not None and trouble.status == "True":
            update |= {"reason": trouble.reason, "message": trouble.message or None}
    return status.model_copy(update=update)


def _phase(observed: ObservedRun, status: Status) -> tuple[Phase, ConditionType]:
    """Return the phase and the condition that explains it."""
    for kind, phase in zip(ENDED, (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED), strict=True):
        if is_true(status.conditions, kind):
            return phase, kind
    if not is_true(status.conditions, ConditionType.ACCEPTED):
        return Phase.PENDING, ConditionType.ACCEPTED
    if observed.resource.desired is DesiredState.SUSPENDED:
        return Phase.SUSPENDED, ConditionType.PROGRESSING
    if is_true(status.conditions, ConditionType.PROGRESSING):
        return Phase.RUNNING, ConditionType.PROGRESSING
    if is_true(status.conditions, ConditionType.DEGRADED):
        return Phase.WAITING, ConditionType.DEGRADED
    quota = get_condition(status.conditions, ConditionType.QUOTA_RESERVED)
    if quota is not None and quota.status == "False":
        return Phase.WAITING, ConditionType.QUOTA_RESERVED
    return Phase.WAITING, ConditionType.PROGRESSING


_FLIPS: Final[Mapping[tuple[ConditionType, str], EventReason]] = {
    (ConditionType.ACCEPTED, "True"): EventReason.ACCEPTED,
    (ConditionType.ACCEPTED, "False"): EventReason.NOT_ACCEPTED,
    (ConditionType.DEGRADED, "True"): EventReason.DEGRADED,
    (ConditionType.DEGRADED, "False"): EventReason.RECOVERED,
    (ConditionType.SUCCEEDED, "True"): EventReason.SUCCEEDED,
    (ConditionType.FAILED, "True"): EventReason.FAILED,
    (ConditionType.CANCELLED, "True"): EventReason.CANCELLED,
}
_WARNINGS: Final = (EventReason.NOT_ACCEPTED, EventReason.DEGRADED, EventReason.FAILED)


def events_of(
    observed: ObservedRun, status: Status, new_generation: WorkerGeneration | None
) -> tuple[RunEvent, ...]:
    """Return the Events for a change of the status and for new workers."""
    events = []
    for condition in status.conditions:
        reason = _FLIPS.get((ConditionType(condition.type), condition.status))
        old = get_condition(observed.status.conditions, ConditionType(condition.type))
        is_only_the_end = reason is EventReason.RECOVERED and has_ended(status)
        if reason is not None and _has_more_detail(old, condition) and not is_only_the_end:
            words = condition.message or condition.reason
            if reason is EventReason.RECOVERED and old is not None:
                words = f"The problem {old.reason} is resolved."
            is_partial = reason is EventReason.ACCEPTED and bool(observed.check and observed.check.warning)
            events.append(RunEvent(reason, words, is_warning=is_partial or reason in _WARNINGS))
    if status.started_at and not observed.status.started_at:
        events.append(RunEvent(EventReason.STARTED, "The first worker is available."))
    if status.phase is Phase.SUSPENDED and observed.status.phase is not Phase.SUSPENDED:
        events.append(RunEvent(EventReason.SUSPENDED, "The run has no workers. Committed results are kept."))
    if observed.status.phase is Phase.SUSPENDED and status.phase in (Phase.WAITING, Phase.RUNNING):
        events.append(RunEvent(EventReason.RESUMED, "The run resumes from its committed results."))
    if not observed.status.warnings:
        events += [
            RunEvent(EventReason.RESULT_WARNING, warning, is_warning=True) for warning in status.warnings
        ]
    if new_generation is not None:
        before = observed.status.workers.memory if observed.status.workers else None
        if before and as_number(new_generation.memory) > as_number(before):
            words = f"Workers ran out of memory at {before}; the next generation has {new_generation.memory}."
            events.append(RunEvent(EventReason.MEMORY_RAISED, words, is_warning=True))
        pods = plural(new_generation.parallelism, "pod")
        words = f"Kubernetes Job {new_generation.job_name}: {pods} of {new_generation.memory}."
        events.append(RunEvent(EventReason.WORKERS_CREATED, words))
    return tuple(events)


def _has_more_detail(old: Condition | None, new: Condition) -> bool:
    """Return whether a condition needs an Event: its status changed, or the reason of a problem changed."""
    kind = (ConditionType(new.type), new.status)
    if old is None:
        return kind != (ConditionType.DEGRADED, "False")
    is_wrong = kind in ((ConditionType.ACCEPTED, "False"), (ConditionType.DEGRADED, "True"))
    return old.status != new.status or (is_wrong and old.reason != new.reason)
