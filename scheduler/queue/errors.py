"""What a task's future raises when it did not come home: the error that fits what a worker said of its last attempt."""

from typing import ClassVar, Final

from mlho.errors import MlhoError, StoreAccessDenied, StoreOutage
from mlho.protocol.failures import RULES, Failure, FailureClass, Quarantined

LEASE_EXPIRED: Final = Failure(FailureClass.POISON, "LeaseExpired", "its worker died, or was cut off.")


class RemoteFailure(MlhoError):  # noqa: N818 - says what happened
    """A task failed on a worker, and trying again would not mend it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure_class = failure.failure_class


class RemoteInputFailure(RemoteFailure):
    """Fix the table."""

    exit_code: ClassVar[int] = RULES[FailureClass.INPUT].exit_code


class RemoteSpecFailure(RemoteFailure):
    """Change the specification."""

    exit_code: ClassVar[int] = RULES[FailureClass.SPEC].exit_code


def failure_error(failure: Failure) -> RemoteFailure:
    """The error of a failure that trying again would not mend."""
    kinds = {FailureClass.INPUT: RemoteInputFailure, FailureClass.SPEC: RemoteSpecFailure}
    return kinds.get(failure.failure_class, RemoteFailure)(failure)


def outage_met(failure: Failure) -> StoreOutage | None:
    """The outage of object storage that a worker met, if that is what it says."""
    kinds = {kind.__name__: kind for kind in (StoreOutage, StoreAccessDenied)}
    kind = kinds.get(failure.kind)
    return kind(failure.message) if kind is not None else None


def now_quarantined(run: str, kind: str, key: str, failure: Failure, attempts: int) -> Quarantined:
    """The error of a task that has used up its starts."""
    return _quarantined(
        run, f"{_named(kind, key)}: failed {attempts} times and is quarantined", failure, attempts
    )


def still_quarantined(run: str, kind: str, key: str, failure: Failure, attempts: int) -> Quarantined:
    """The error of a task that had used them up before."""
    words = f"{_named(kind, key)}: quarantined by an earlier try, after {attempts} starts"
    return _quarantined(run, words, failure, attempts)


def _named(kind: str, key: str) -> str:
    return f"{kind} (task {key[:12]}…)"


def _quarantined(run: str, words: str, failure: Failure, attempts: int) -> Quarantined:
    remedy = f"When that is mended: mlho retry {run}, and run again."
    return Quarantined(f"{words}. Last: {failure.message} {remedy}", attempts=attempts)
