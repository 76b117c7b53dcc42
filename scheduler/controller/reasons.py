"""Reason, message and remedy of errors in the status of a resource."""

from collections.abc import Mapping
from typing import Any, Final

from mlho.errors import (
    BundleError,
    ChannelDamaged,
    DataError,
    InputChanged,
    MlhoError,
    SpecError,
    StoreAccessDenied,
    StoreUnavailable,
    plural,
)
from mlho.protocol.failures import FailureClass, Quarantined, QueueError
from mlho.protocol.redis_client import QueueUnavailable
from scheduler.api.status import MAX_FAILURES, MAX_MESSAGE, TASKS_QUARANTINED, FailedTask, cut
from scheduler.api.tenancy import ForeignAddress
from scheduler.engine.outages import StoreGivenUp
from scheduler.queue.errors import DISK_UNAVAILABLE, SYSTEM_ERROR, WORKER_OUTDATED, RemoteFailure

STORE_REASONS: Final = frozenset({"StoreAccessDenied", "StoreUnavailable"})  # temporary
_DEFECT: Final = "InternalError"
_REASONS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (StoreAccessDenied, "StoreAccessDenied"),
    (StoreUnavailable, "StoreUnavailable"),
    (QueueUnavailable, "QueueUnavailable"),
    (QueueError, "QueueRefused"),
    (Quarantined, TASKS_QUARANTINED),
    (BundleError, "InvalidBundle"),
    (ChannelDamaged, "ChannelDamaged"),
    (InputChanged, "InputChanged"),
    (DataError, "InvalidData"),
    (ForeignAddress, "ForeignAddress"),
    (SpecError, "InvalidSpec"),
)
_REASONS_OF_TASKS: Final[Mapping[FailureClass, str]] = {
    FailureClass.INPUT: "InvalidData",
    FailureClass.SPEC: "InvalidSpec",
}
_REMEDIES: Final[Mapping[str, str]] = {
    "StoreAccessDenied": "Correct the credentials of scheduler and workers for the object storage, then apply a new resource.",
    "StoreUnavailable": "Restore access to the object storage, then apply a new resource.",
    WORKER_OUTDATED: "Delete the workers' Kubernetes Jobs of the other version, or set image.worker of the chart to the scheduler's version, then apply a new resource.",
    DISK_UNAVAILABLE: "Free space on the disk that the message names, or set larger workers.resources.scratch, then apply a new resource.",
    SYSTEM_ERROR: "Remove the cause that the message gives on the worker's node, then apply a new resource.",
    TASKS_QUARANTINED: "Correct the cause, run {retry}, and apply a new resource.",
    "InvalidBundle": "Apply a new resource with a complete bundle that matches the data.",
    "ChannelDamaged": "Restore the log of the channel from a backup, then apply a new resource.",
    "InputChanged": "Apply a new resource, which reads the current tables.",
    "InvalidData": "Correct the table, then apply a new resource.",
    "InvalidSpec": "Apply a new resource with a corrected specification.",
    _DEFECT: "Report this as a defect, with the logs of scheduler and workers.",
}
_ANY_REMEDY: Final = "Apply a new resource, which reuses the committed results."


def reason_of(error: BaseException) -> str:
    """Return the condition reason of an error."""
    if isinstance(error, StoreGivenUp):
        return error.reason
    if isinstance(error, RemoteFailure):
        if error.failure_class is FailureClass.INFRASTRUCTURE:  # an outage of object storage is StoreGivenUp
            return error.repeated_reason
        return _REASONS_OF_TASKS.get(error.failure_class, _DEFECT)
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), type(error).__name__)


def quality_shown(result: Mapping[str, Any]) -> tuple[bool, str, str] | None:
    """Return whether no check of data quality has a finding, with reason and message; None for a result without these checks.

    Examples
    --------
    >>> checks = [{"check": "months", "n_findings": 0}, {"check": "units", "n_findings": 2}]
    >>> quality_shown({"quality": {"checks": checks}})
    (False, 'Findings', '1 check has findings: units (2). The report gives the evidence and the remedy.')
    """
    if not result.get("quality"):
        return None
    checks = result["quality"]["checks"]
    counts = [f"{check['check']} ({check['n_findings']})" for check in checks if check["n_findings"]]
    if not counts:
        return True, "Passed", "No check of data quality has a finding."
    counted = f"{plural(len(counts), 'check')} {'has' if len(counts) == 1 else 'have'}"
    message = f"{counted} findings: {', '.join(counts)}. The report gives the evidence and the remedy."
    return False, "Findings", cut(message, MAX_MESSAGE)


def failures_shown(error: MlhoError, *, retry: str) -> tuple[FailedTask, ...]:
    """Return the tasks that a run failed for, with reason, message and remedy; at most ten.

    ``retry`` is the command that gives quarantined tasks new attempts.
    """
    if isinstance(error, Quarantined) and error.tasks:
        named = list(error.tasks.items())[:MAX_FAILURES]
        return tuple(_shown(task, failure, retry, attempts=failure.attempts) for task, failure in named)
    return (_shown(error.task or str(error).partition(":")[0], error, retry),)


def _shown(task: str, error: MlhoError, retry: str, *, attempts: int = 1) -> FailedTask:
    reason = reason_of(error)
    return FailedTask(
        task=cut(task, 128),
        reason=reason,
        attempts=attempts,
        message=cut(str(error), 512),
        remedy=_REMEDIES.get(reason, _ANY_REMEDY).format(retry=retry),
    )
