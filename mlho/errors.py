"""Errors, named after the action that the reader should take.

Every message says where the problem is, what was expected, what was found and what to do. It contains counts, keys and column
names, but never a patient's values. ``retryable`` alone decides whether the executor retries a task.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar


class MlhoError(Exception):
    """Base of all errors that this project raises deliberately."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1
    run_state: ClassVar[str] = "failed"
    """State recorded for a run that ends with this error; ``stopped`` if the same command continues the run."""
    task: str = ""
    """Name (in the plan) of the task that failed with this error, once known."""


class SpecError(MlhoError, ValueError):
    """Change the specification."""

    exit_code: ClassVar[int] = 2


class DataError(MlhoError, ValueError):
    """Fix the table.

    Attributes
    ----------
    where, rule, expected, got, remedy : str
        Parts of the message.
    policy : str
        Field of ``cohort`` in a specification that permits such a table, for example ``unknownPatients``; empty if there is none.
    """

    exit_code: ClassVar[int] = 3

    def __init__(
        self, where: str, rule: str, *, expected: str, got: str, remedy: str, policy: str = ""
    ) -> None:
        self.where = where
        self.rule = rule
        self.expected = expected
        self.got = got
        self.remedy = remedy
        self.policy = policy
        super().__init__(f"{where}: {rule}. Expected {expected}; got {got}. {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        """Preserve the fields across a process boundary, where the error is rebuilt from keyword arguments."""
        named = partial(
            type(self), expected=self.expected, got=self.got, remedy=self.remedy, policy=self.policy
        )
        return named, (self.where, self.rule)


class InputChanged(DataError):  # noqa: N818 - named after the event, as in the design
    """An input no longer matches the manifest: submit the run again."""


class ArtifactNotFound(MlhoError, LookupError):  # noqa: N818 - named after the state
    """The key does not exist in the store."""


class _DigestError(MlhoError):
    """An error about one digest; the task that wrote the bytes is repeated."""

    retryable: ClassVar[bool] = True

    def __init__(self, message: str, *, sha256: str = "") -> None:
        super().__init__(message)
        self.sha256 = sha256

    def __reduce__(self) -> tuple[object, ...]:
        """Preserve the digest across a process boundary."""
        return partial(type(self), sha256=self.sha256), (str(self),)


class ArtifactDamaged(_DigestError, ValueError):  # noqa: N818 - reads as the state
    """The bytes do not match their digest: run again; the task that wrote them is repeated."""


class CommitLost(_DigestError, ArtifactNotFound):  # noqa: N818 - reads as the state
    """The commit record of a finished task is missing or damaged: the task is repeated. ``sha256`` is the key of the task."""


class BundleError(MlhoError, ValueError):
    """The bundle is damaged, has a different version, or does not match the data: build or fetch it again."""

    exit_code: ClassVar[int] = 4


class ChannelDamaged(MlhoError, ValueError):  # noqa: N818 - reads as the state
    """Entries of a channel are damaged, missing or inserted: restore them from a backup."""


class PublishedBefore(MlhoError):  # noqa: N818 - reads as the state
    """A run was published with another result: delete it first, or keep it."""

    run_state: ClassVar[str] = "finished"


class StoreUnavailable(MlhoError, ConnectionError):  # noqa: N818 - reads as the state
    """The store did not answer: try again."""

    retryable: ClassVar[bool] = True


class StoreOutage(StoreUnavailable):
    """Object storage is unavailable: an error at the start of a command; a run in progress waits for it."""

    run_state: ClassVar[str] = "stopped"


class StoreAccessDenied(StoreOutage):
    """Object storage refuses the credentials: use others, or grant the missing permissions."""

    exit_code: ClassVar[int] = 2


def plural(n: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> plural(1, "patient"), plural(1204, "patient"), plural(2, "entry", "entries")
    ('1 patient', '1,204 patients', '2 entries')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(items: Sequence[str], most: int, separator: str = ", ") -> str:
    """Join the first items, and add how many more there are.

    Examples
    --------
    >>> listed(["a", "b", "c"], 2), listed(["a", "b", "c"], 2, "; "), listed(["a", "b"], 2)
    ('a, b and 1 more', 'a; b; and 1 more', 'a, b')
    """
    more = f"{separator.replace(',', '')}and {len(items) - most} more" if len(items) > most else ""
    return separator.join(items[:most]) + more


def capitalized(sentence: str) -> str:
    """Return a sentence with its first letter in upper case, the rest unchanged."""
    return sentence[:1].upper() + sentence[1:]
