"""Events: what a worker tells the scheduler about a message, signed as messages are.

Anybody who can write to Redis can put anything on the list of events. An event counts only with a signature, which binds it to the execution, the task,
the attempt and the message that it answers; the scheduler takes one answer to each message that it has sent.
"""

import hashlib
import hmac
from enum import StrEnum
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlho.protocol.failures import Failure, FailureClass
from mlho.protocol.messages import ExecutionId, MessageRefused, Nonce, Refusal, TaskKey

MAX_EVENT_CHARACTERS: Final = 131_072  # the words of an error are most of it
_SIGNATURE_CHARACTERS: Final = 64
_MESSAGE_CHARACTERS: Final = 16_384  # in JSON a control character takes six
_PURPOSE: Final = b"event\n"  # no signature of a message is one of an event


class EventKind(StrEnum):
    """What became of a message."""

    COMMITTED = "committed"
    """The task's commit record is in the store."""
    FAILED = "failed"
    RELEASED = "released"
    """Nothing was done, and the task is not to blame."""
    EXHAUSTED = "exhausted"
    """The store knows of as many starts as a task may have."""
    EXPIRED = "expired"


class ToldFailure(BaseModel):
    """A failure, as an event holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    failure_class: FailureClass = Field(alias="class")
    kind: str
    message: str
    sha256: str = ""

    @classmethod
    def of(cls, failure: Failure) -> Self:
        """The failure with no more text than an event may hold, and none that JSON cannot."""
        message = failure.message[:_MESSAGE_CHARACTERS].encode(errors="replace").decode()
        plain = {**failure.plain(), "class": failure.failure_class, "message": message}
        return cls.model_validate(plain)


class Event(BaseModel):
    """A worker's answer to a message."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    execution: ExecutionId
    task: TaskKey
    nonce: Nonce
    """Of the message that this answers."""
    event: EventKind
    attempt: int = Field(default=0, ge=0)
    """Which start of the task it was; 0: it was not started."""
    new: bool = False
    """Whether the start committed the task."""
    memory: int = Field(default=0, ge=0)
    """Bytes of the worker in which the task ran out of memory."""
    failure: ToldFailure | None = None

    @property
    def why(self) -> Failure:
        """The failure of an event that has one."""
        told = self.failure
        assert told is not None
        return Failure(told.failure_class, told.kind, told.message, told.sha256)

    def signed(self, key: bytes) -> str:
        """The text to send: the signature, then the event as JSON."""
        body = self.model_dump_json(exclude_defaults=True, by_alias=True)
        return _signature(body, key) + body


def read_event(text: str, *, key: bytes, execution: str) -> Event:
    """Return the event in a text, after its signature was verified.

    Parameters
    ----------
    text : str
        An item of the list of events: anything at all.
    key : bytes
        The execution's signing key.
    execution : str
        The execution that this scheduler drives.

    Raises
    ------
    MessageRefused
        It is too large, not signed with this key, of another shape, or about another execution.
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
