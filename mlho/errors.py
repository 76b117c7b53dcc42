"""Errors, named by what the reader does next.

Every message says where, what was expected, what was found, and the remedy, and never a patient's values: counts, keys
and column names only. ``retryable`` is what the executor asks; nothing else decides whether a task is tried again.
"""

from typing import ClassVar


class MlhoError(Exception):
    """Base of all errors that this project raises on purpose."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1
    task: str = ""
    """Name in the plan of the task that failed for it, once that is known."""


class SpecError(MlhoError, ValueError):
    """Change the specification."""

    exit_code: ClassVar[int] = 2


class DataError(MlhoError, ValueError):
    """Fix the table."""

    exit_code: ClassVar[int] = 3

    def __init__(self, where: str, rule: str, *, expected: str, got: str, remedy: str) -> None:
        self.where = where
        self.rule = rule
        self.expected = expected
        self.got = got
        self.remedy = remedy
        super().__init__(f"{where}: {rule}. Expected {expected}; got {got}. {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the parts when the error crosses a process boundary: it is rebuilt by keyword there."""
        return _rebuild_data_error, (type(self), self.where, self.rule, self.expected, self.got, self.remedy)


def _rebuild_data_error(
    kind: type[DataError], where: str, rule: str, expected: str, got: str, remedy: str
) -> DataError:
    return kind(where, rule, expected=expected, got=got, remedy=remedy)


class InputChanged(DataError):  # noqa: N818 - named by what happened, as in the design
    """An input is no longer the one that the manifest names: submit the run again."""


class NotFittedError(MlhoError, ValueError, AttributeError):
    """Call ``fit`` first."""


class ArtifactNotFound(MlhoError, LookupError):  # noqa: N818 - reads as the state, like FileNotFoundError's cause
    """The store holds nothing under this key."""


class ArtifactDamaged(MlhoError, ValueError):  # noqa: N818 - reads as the state
    """The bytes do not match their digest: run again; the task that made them makes them anew."""

    retryable: ClassVar[bool] = True

    def __init__(self, message: str, *, sha256: str = "") -> None:
        super().__init__(message)
        self.sha256 = sha256

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the digest when the error crosses a process boundary."""
        return _rebuild_damaged, (str(self), self.sha256)


class CommitLost(ArtifactNotFound):
    """The record of a task that was done is gone, or damaged: the task is done again."""

    retryable: ClassVar[bool] = True

    def __init__(self, message: str, *, sha256: str = "") -> None:
        super().__init__(message)
        self.sha256 = sha256
        """Key of the task."""

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the key when the error crosses a process boundary."""
        return _rebuild_lost, (str(self), self.sha256)


class BundleError(MlhoError, ValueError):
    """The bundle is damaged, of another version, or does not fit the data: build or fetch it again."""

    exit_code: ClassVar[int] = 4


class StoreUnavailable(MlhoError, ConnectionError):  # noqa: N818 - reads as the state
    """Try again; the store did not answer."""

    retryable: ClassVar[bool] = True


class StoreOutage(StoreUnavailable):
    """Object storage does not serve now: at the start of a command an error at once, in a run that has begun waited for."""


class StoreAccessDenied(StoreOutage):
    """Object storage refuses these credentials: give the program others, or grant them what they need."""

    exit_code: ClassVar[int] = 2


def _rebuild_lost(message: str, sha256: str) -> CommitLost:
    return CommitLost(message, sha256=sha256)


def _rebuild_damaged(message: str, sha256: str) -> ArtifactDamaged:
    return ArtifactDamaged(message, sha256=sha256)
