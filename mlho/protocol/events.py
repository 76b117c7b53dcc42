"""Events: the reports of workers to the scheduler about messages, signed in the same way as messages.

Any client of Redis can write to the list of events. An event counts only with a valid signature, which binds
it to the execution, the task, the attempt and the message that it answers. The scheduler accepts one answer
per message sent.
"""

import hashlib
import hmac
from enum import StrEnum
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlho.protocol.failures import Failure, FailureClass
from mlho.protocol.messages import ExecutionId, MessageRefused, Nonce, Refusal, TaskKey

MAX_EVENT_CHARACTERS: Final = 131_072  # most of an event is the error message
_SIGNATURE_CHARACTERS: Final = 64
_MESSAGE_CHARACTERS: Final = 16_384  # in JSON a control character takes six characters
_PURPOSE: Final = b"event\n"  # keeps the signatures of messages and of events distinct


class EventKind(StrEnum):
    """Outcome of a message."""

    COMMITTED = "committed"
    """The task's commit record is in the store."""
    FAILED = "failed"
    RELEASED = "released"
    """No work was done, for a reason outside the task."""
    EXHAUSTED = "exhausted"
    """The store already has records of as many attempts as a task may have."""
    EXPIRED = "expired"


class ReportedFailure(BaseModel):
    """A failure in the form that an event carries."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    failure_class: FailureClass = Field(alias="class")
    kind: str
    message: str
    sha256: str = ""

    @classmethod
    def of(cls, failure: Failure) -> Self:
        """Return the failure with its text truncated to the limit of an event, and with characters that JSON cannot hold replaced."""
        message = failure.message[:_MESSAGE_CHARACTERS].encode(errors="replace").decode()
        plain = {**failure.plain(), "class": failure.failure_class, "message": message}
        return cls.model_validate(plain)


class Event(BaseModel):
    """A worker's answer to a message."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    execution: ExecutionId
    task: TaskKey
    nonce: Nonce
    """Nonce of the message that this event answers."""
    event: EventKind
    attempt: int = Field(default=0, ge=0)
    """Number of the attempt; 0 if the task was not started."""
    new: bool = False
    """Whether this attempt committed the task."""
    memory: int = Field(default=0, ge=0)
    """Memory of the worker in bytes, if the task ran out of memory there."""
    failure: ReportedFailure | None = None

    @property
    def why(self) -> Failure:
        """Return the failure of an event that has one."""
        failure = self.failure
        assert failure is not None
        return Failure(failure.failure_class, failure.kind, failure.message, failure.sha256)

    def signed(self, key: bytes) -> str:
        """Return the text to send: the signature, then the event as JSON."""
        body = self.model_dump_json(exclude_defaults=True, by_alias=True)
        return _signature(body, key) + body


def read_event(text: str, *, key: bytes, execution: str) -> Event:
    """Verify the signature of a text and return its event.

    Raise MessageRefused if the text is too large, not signed with this key, malformed, or about another execution.

    Parameters
    ----------
    text : str
        An item of the list of events; untrusted.
    """
    if len(text) > MAX_EVENT_CHARACTERS:
        raise MessageRefused(Refusal.OVERSIZED)
    claimed, body = text[:_SIGNATURE_CHARACTERS], text[_SIGNATURE_CHARACTERS:]
    if not hmac.compare_digest(claimed.encode(errors="replace"), _signature(body, key).encode()):
        raise MessageRefused(Refusal.FORGED)
    try:
        event = Event.model_validate_json(body)
    except ValidationError:
        raise MessageRefused(Refusal.MALFORMED) from None
    if event.execution != execution:
        raise MessageRefused(Refusal.FOREIGN)
    if event.event is EventKind.FAILED and event.failure is None:
        raise MessageRefused(Refusal.MALFORMED)
    return event


def _signature(body: str, key: bytes) -> str:
    return hmac.new(key, _PURPOSE + body.encode(errors="replace"), hashlib.sha256).hexdigest()
