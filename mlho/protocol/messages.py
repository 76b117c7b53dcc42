"""The message that starts a task: small, strict, signed, and free of data.

It names a task. The task itself is in the store, under a key that is the hash of its content. A client that can write to the
queue but lacks the signing key can at most send a copy of a message, which makes a worker repeat a task of the run.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from mlho.spec.training import RUN_ID_LENGTH, canonical_json

TASK_NAME: Final = "mlho.run_task"  # the complete list of allowed task names
MAX_MESSAGE_BYTES: Final = 1024
NONCE_BYTES: Final = 16
SIGNATURE: Final = "signature"
ID_SEPARATOR: Final = "."  # between task and nonce in the id of a queued message

RunId = Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{RUN_ID_LENGTH}}}$")]
ExecutionId = Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{RUN_ID_LENGTH}}}-[1-9][0-9]{{0,5}}$")]
TaskKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Nonce = Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{2 * NONCE_BYTES}}}$")]


class Refusal(StrEnum):
    """Reason why a message was rejected. Each is counted; none is executed."""

    OVERSIZED = "oversized"
    MALFORMED = "malformed"
    FORGED = "forged"
    FOREIGN = "foreign"  # signed with our key, but for another execution
    REPLAYED = "replayed"  # its nonce has been used before
    EXPIRED = "expired"
    UNKNOWN = "unknown"  # a different task name

    @property
    def counter(self) -> str:
        """Return the name of its counter in Redis."""
        return f"refused:{self.value}"


class MessageRefused(Exception):  # noqa: N818 - names the event; the worker counts it and continues
    """A message that must not be executed."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class TaskMessage(BaseModel):
    """The arguments of the only Celery task."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    run: RunId
    execution: ExecutionId
    task: TaskKey
    expires: int
    """Milliseconds since 1970 by the clock of Redis. After this time the message is dropped and sent again."""
    nonce: Nonce
    """Random nonce. A claim consumes it, so that a copied message cannot start a task."""


def new_message(*, run: str, execution: str, task: str, expires: int) -> TaskMessage:
    """Return a message with a new nonce."""
    return TaskMessage(
        run=run, execution=execution, task=task, expires=expires, nonce=secrets.token_hex(NONCE_BYTES)
    )


def signed(message: TaskMessage, *, key: bytes) -> dict[str, Any]:
    """Return the arguments to send: the message's fields and their signature."""
    fields = message.model_dump()
    return {**fields, SIGNATURE: _signature(fields, key)}


def read_message(arguments: Mapping[str, Any], *, key: bytes, execution: str) -> TaskMessage:
    """Verify the signature of a delivery's arguments and return their message.

    Raise MessageRefused if they are too large, malformed, not signed with this key, or for another execution.

    Parameters
    ----------
    arguments : mapping
        Arguments of the delivery; untrusted.
    """
    fields = dict(arguments)
    claimed = fields.pop(SIGNATURE, None)
    try:
        expected = _signature(fields, key)
        size = len(canonical_json(dict(arguments)))
    except (TypeError, ValueError, RecursionError):
        raise MessageRefused(Refusal.MALFORMED) from None
    if size > MAX_MESSAGE_BYTES:
        raise MessageRefused(Refusal.OVERSIZED)
    if not isinstance(claimed, str):
        raise MessageRefused(Refusal.MALFORMED)
    if not hmac.compare_digest(claimed.encode(), expected.encode()):
        raise MessageRefused(Refusal.FORGED)
    try:
        message = TaskMessage.model_validate(fields)
    except ValidationError:
        raise MessageRefused(Refusal.MALFORMED) from None
    if message.execution != execution:
        raise MessageRefused(Refusal.FOREIGN)
    return message


def _signature(fields: Mapping[str, Any], key: bytes) -> str:
    body = canonical_json({"arguments": dict(fields), "name": TASK_NAME})
    return hmac.new(key, body, hashlib.sha256).hexdigest()
