"""Failure classes: the retry rule for each kind of failure. The documentation contains the same table."""

import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from mlho.errors import (
    ArtifactDamaged,
    ArtifactNotFound,
    BundleError,
    DataError,
    MlhoError,
    SpecError,
    StoreUnavailable,
)
from mlho.protocol.scripts import MAX_ATTEMPTS

INFRASTRUCTURE_SECONDS: Final = 300.0  # time for which a task may keep failing because of a store or a disk
_OUR_FOLDERS: Final = tuple(
    f"{Path(__file__).parents[2] / package}{os.sep}" for package in ("mlho", "scheduler", "worker")
)


class FailureClass(StrEnum):
    """Class of a failure, named after its cause; each has its own retry rule."""

    INPUT = "input"
    SPEC = "spec"
    POISON = "poison"
    MEMORY = "memory"
    TIME = "time"
    INFRASTRUCTURE = "infrastructure"
    INTERNAL = "internal"


@dataclass(frozen=True)
class RetryRule:
    """The rule for failures of one class."""

    meaning: str
    counts: bool
    """Whether the attempt counts against the limit of attempts."""
    max_attempts: int
    """Maximum number of attempts; 0 if ``INFRASTRUCTURE_SECONDS`` limits them instead."""
    exit_code: int
    """Exit code of the command when the run fails with this class."""


RULES: Final[Mapping[FailureClass, RetryRule]] = {
    FailureClass.INPUT: RetryRule("a table is invalid or has changed: correct it", True, 1, 3),
    FailureClass.SPEC: RetryRule("the specification is invalid: change it", True, 1, 2),
    FailureClass.POISON: RetryRule(
        "the process or its worker died while the task ran", True, MAX_ATTEMPTS, 1
    ),
    FailureClass.MEMORY: RetryRule(
        "the task came close to the memory limit and was stopped", True, MAX_ATTEMPTS, 1
    ),
    FailureClass.TIME: RetryRule("the task exceeded its time limit and was stopped", True, MAX_ATTEMPTS, 1),
    FailureClass.INFRASTRUCTURE: RetryRule(
        "the store or the disk is unavailable, or the worker has another version: the task is retried with backoff",
        False,
        0,
        1,
    ),
    FailureClass.INTERNAL: RetryRule("a defect of the program: report it", True, 1, 1),
}


class TimeExceeded(MlhoError):  # noqa: N818 - names the event, not an error
    """The task needs more time: raise the limit, or split the work into smaller tasks."""


class Quarantined(MlhoError):  # noqa: N818 - names the event, not an error
    """Tasks have used up their attempts. The other tasks continue; ``mlho retry`` then gives these tasks new attempts.

    Parameters
    ----------
    attempts : int
        Number of attempts, if a single task is meant.
    tasks : mapping of str to Quarantined, optional
        The errors by task name in the plan, if they block a run.
    """

    def __init__(
        self, message: str, *, attempts: int = 0, tasks: "Mapping[str, Quarantined] | None" = None
    ) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.tasks = dict(tasks or {})


class OtherVersion(SpecError):  # noqa: N818 - reads as the state
    """Stop the worker and start one of the scheduler's version, which runs the task."""


class QueueError(MlhoError):
    """Correct the queue's configuration: its address, its password or its eviction policy."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Failure:
    """Reason why an attempt failed, in text without a patient's values."""

    failure_class: FailureClass
    kind: str
    """Name of the error's class."""
    message: str
    sha256: str = ""
    """Digest of the damaged blob, or key of the task whose commit record is lost; empty for other failures."""

    @classmethod
    def of(cls, error: BaseException, *, step: str) -> Self:
        """Describe an error. Use only the type and location of an error that is not ours, because its message may quote data."""
        if isinstance(error, MlhoError):
            return cls(classify(error), type(error).__name__, str(error), getattr(error, "sha256", ""))
        failure_class, remedy = classify(error), "Report this as a defect."
        if failure_class is FailureClass.INFRASTRUCTURE and isinstance(error, OSError) and error.errno:
            # The text of the system for this number, because that of the error may quote data.
            remedy = f"The system reports: {os.strerror(error.errno)}. Check disks and limits of the worker's machine."
        return cls(failure_class, type(error).__name__, f"{step}: {kind_and_place(error)}. {remedy}")

    def plain(self) -> dict[str, str]:
        """Return plain values for JSON."""
        return {
            "class": self.failure_class.value,
            "kind": self.kind,
            "message": self.message,
            "sha256": self.sha256,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Restore the failure from the values of :meth:`plain`."""
        return cls(
            FailureClass(plain["class"]),
            str(plain["kind"]),
            str(plain["message"]),
            str(plain.get("sha256", "")),
        )


def classify(error: BaseException) -> FailureClass:
    """Return the class of an error.

    Examples
    --------
    >>> classify(MemoryError()).value
    'memory'
    """
    for kinds, failure_class in _CLASSES:
        if isinstance(error, kinds):
            return failure_class
    return FailureClass.INTERNAL


# The first match decides. A plain OSError comes from a disk or a network: input is validated and raises our
# own errors.
_CLASSES: Final[tuple[tuple[tuple[type[BaseException], ...], FailureClass], ...]] = (
    ((StoreUnavailable, ArtifactDamaged, ArtifactNotFound, OtherVersion), FailureClass.INFRASTRUCTURE),
    ((DataError,), FailureClass.INPUT),
    ((SpecError, BundleError), FailureClass.SPEC),
    ((MemoryError,), FailureClass.MEMORY),
    ((TimeExceeded,), FailureClass.TIME),
    ((MlhoError,), FailureClass.INTERNAL),
    ((OSError,), FailureClass.INFRASTRUCTURE),
)


def kind_and_place(error: BaseException) -> str:
    """Return the type of an error and the line of our code that raised it. Its message may quote a patient's values."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(_OUR_FOLDERS)] or list(frames)
    if not ours:
        return type(error).__name__
    return f"{type(error).__name__} in {Path(ours[-1].filename).name}, line {ours[-1].lineno}"
