"""Errors of a task's future: each matches the failure that a worker reported for the last attempt."""

from typing import ClassVar, Final

from mlho.errors import MlhoError, StoreAccessDenied, StoreOutage, StoreUnavailable
from mlho.protocol.failures import RULES, Failure, FailureClass, OtherVersion, Quarantined

LEASE_EXPIRED: Final = Failure(
    FailureClass.POISON,
    "LeaseExpired",
    "its worker died, most often because memory ran out, or it lost its connection. Give workers more memory, or fewer slots.",
)


DISK_UNAVAILABLE: Final = "DiskUnavailable"
SYSTEM_ERROR: Final = "SystemError"
WORKER_OUTDATED: Final = "WorkerOutdated"
_REPEATED: Final = {OtherVersion.__name__: WORKER_OUTDATED, StoreUnavailable.__name__: DISK_UNAVAILABLE}


def repeated_reason(failure: Failure) -> str:
    """Return the reason in a resource's status of a failure for which a task is repeated for a limited time."""
    return _REPEATED.get(failure.kind, SYSTEM_ERROR)


class RemoteFailure(MlhoError):  # noqa: N818 - names the event, not an error
    """A task failed on a worker with an error that a retry would not fix."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure_class = failure.failure_class
        self.repeated_reason = repeated_reason(failure)


class RemoteInputFailure(RemoteFailure):
    """Fix the table."""

    exit_code: ClassVar[int] = RULES[FailureClass.INPUT].exit_code


class RemoteSpecFailure(RemoteFailure):
    """Change the specification."""

    exit_code: ClassVar[int] = RULES[FailureClass.SPEC].exit_code


def failure_error(failure: Failure) -> RemoteFailure:
    """Return the error for a failure that a retry would not fix."""
    kinds = {FailureClass.INPUT: RemoteInputFailure, FailureClass.SPEC: RemoteSpecFailure}
    return kinds.get(failure.failure_class, RemoteFailure)(failure)


def outage_met(failure: Failure) -> StoreOutage | None:
    """Return the outage of object storage that a worker reported, or ``None`` for any other failure."""
    kinds = {kind.__name__: kind for kind in (StoreOutage, StoreAccessDenied)}
    kind = kinds.get(failure.kind)
    return kind(f"a worker reports: {failure.message}") if kind is not None else None


def now_quarantined(run: str, kind: str, key: str, failure: Failure, attempts: int) -> Quarantined:
    """Return the error of a task that has used up its attempts."""
    return _quarantined(run, kind, key, f"failed {attempts} times and is quarantined", failure, attempts)


def still_quarantined(run: str, kind: str, key: str, failure: Failure, attempts: int) -> Quarantined:
    """Return the error of a task that had used up its attempts before."""
    words = f"quarantined by an earlier execution, after {attempts} starts"
    return _quarantined(run, kind, key, words, failure, attempts)


def _quarantined(run: str, kind: str, key: str, words: str, failure: Failure, attempts: int) -> Quarantined:
    remedy = f"Correct the cause, run mlho retry {run}, and run again."
    message = f"{kind} (task {key[:12]}…): {words}. Last: {failure.message} {remedy}"
    return Quarantined(message, attempts=attempts)
