"""What went wrong, as a resource's status says it: a reason in one word, and the remedy."""

from collections.abc import Mapping
from typing import Final

from mlho.errors import (
    BundleError,
    DataError,
    InputChanged,
    MlhoError,
    SpecError,
    StoreAccessDenied,
    StoreUnavailable,
)
from mlho.protocol.failures import FailureClass, Quarantined, QueueError
from mlho.protocol.redis_client import QueueUnavailable
from scheduler.api.status import MAX_FAILURES, TASKS_QUARANTINED, Failure, cut
from scheduler.api.tenancy import ForeignAddress
from scheduler.engine.outages import StoreGivenUp
from scheduler.queue.errors import RemoteFailure

STORE_REASONS: Final = frozenset({"StoreAccessDenied", "StoreUnavailable"})  # pass by themselves
_DEFECT: Final = "InternalError"
_REASONS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (StoreAccessDenied, "StoreAccessDenied"),
    (StoreUnavailable, "StoreUnavailable"),
    (QueueUnavailable, "QueueUnavailable"),
    (QueueError, "QueueRefused"),
    (Quarantined, TASKS_QUARANTINED),
    (BundleError, "InvalidBundle"),
    (InputChanged, "InputChanged"),
    (DataError, "InvalidData"),
    (ForeignAddress, "ForeignAddress"),
    (SpecError, "InvalidSpec"),
)
_REASONS_OF_TASKS: Final[Mapping[FailureClass, str]] = {
    FailureClass.INPUT: "InvalidData",
    FailureClass.SPEC: "InvalidSpec",
    FailureClass.INFRASTRUCTURE: "StoreUnavailable",
}
_REMEDIES: Final[Mapping[str, str]] = {
    "StoreAccessDenied": "Give scheduler and workers credentials that the object storage accepts; then apply a new resource.",
    "StoreUnavailable": "Look after the object storage; then apply a new resource.",
    TASKS_QUARANTINED: "Mend the cause. Then: {retry}, and apply a new resource.",
    "InvalidBundle": "Name a bundle that is whole and fits the data, in a new resource.",
    "InputChanged": "Apply a new resource, which reads the tables as they are now.",
    "InvalidData": "Correct the table; then apply a new resource.",
    "InvalidSpec": "Correct the specification, in a new resource.",
    _DEFECT: "Report it as a defect, with the logs of scheduler and workers.",
}
_ANY_REMEDY: Final = "Apply a new resource: it goes on from what is committed."


def reason_of(error: BaseException) -> str:
    """The reason of a condition that an error leads to."""
    if isinstance(error, StoreGivenUp):
        return error.reason
    if isinstance(error, RemoteFailure):
        return _REASONS_OF_TASKS.get(error.failure_class, _DEFECT)
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), type(error).__name__)


def failures_shown(error: MlhoError, *, retry: str) -> tuple[Failure, ...]:
    """What a status says of the tasks that a run failed for: each with reason, message and remedy, the first ten of them.

    ``retry`` is the command that gives quarantined tasks new starts.
    """
    if isinstance(error, Quarantined) and error.tasks:
        named = list(error.tasks.items())[:MAX_FAILURES]
        return tuple(_shown(task, own, retry, attempts=own.attempts) for task, own in named)
    return (_shown(error.task or str(error).partition(":")[0], error, retry),)


def _shown(task: str, error: MlhoError, retry: str, *, attempts: int = 1) -> Failure:
    reason = reason_of(error)
    return Failure(
        task=cut(task, 128),
        reason=reason,
        attempts=attempts,
        message=cut(str(error), 512),
        remedy=_REMEDIES.get(reason, _ANY_REMEDY).format(retry=retry),
    )
