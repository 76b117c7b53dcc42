"""What comes off the queue, before Celery sees it: anybody who can write to Redis can put anything there.

Celery acts on much that an envelope may ask for (callbacks, later times, other names, other encodings), and a worker ends when an
item is no envelope at all. So only what our own scheduler could have written is let through, and the signature is
verified here first.
"""

import base64
import binascii
import json
from typing import Any, Final

from mlho.protocol.messages import TASK_NAME, MessageRefused, Refusal, read_message

MAX_BODY_CHARACTERS: Final = 4096  # a message of a kilobyte in base 64, and what Celery wraps it in
_TAGS: Final = ("delivery_tag", "correlation_id")
_NOT_ASKED_FOR: Final = ("eta", "expires", "group", "replaced_task_nesting", "stamps", "stamped_headers")


def refusal_of(item: object, *, key: bytes, execution: str) -> Refusal | None:
    """Why an item from the queue must not be let through; ``None`` if it may.

    Parameters
    ----------
    item : object
        The item, parsed as JSON.
    key : bytes
        The signing key.
    execution : str
        The execution that this worker serves.
    """
    try:
        arguments = _arguments(item)
        read_message(arguments, key=key, execution=execution)
    except MessageRefused as refused:
        return refused.refusal
    return None


def _arguments(item: object) -> dict[str, Any]:
    envelope = _mapping(item)
    headers, properties = _mapping(envelope.get("headers")), _mapping(envelope.get("properties"))
    body = envelope.get("body")
    _require(isinstance(body, str))
    if len(str(body)) > MAX_BODY_CHARACTERS:
        raise MessageRefused(Refusal.OVERSIZED)
    _require(
        envelope.get("content-type") == "application/json" and envelope.get("content-encoding") == "utf-8"
    )
    _require(
        properties.get("body_encoding") == "base64" and isinstance(properties.get("delivery_info"), dict)
    )
    _require(
        all(isinstance(properties.get(name), str) for name in _TAGS) and isinstance(headers.get("id"), str)
    )
    if headers.get("task") != TASK_NAME:
        raise MessageRefused(Refusal.UNKNOWN)
    _require(not any(headers.get(name) for name in _NOT_ASKED_FOR))
    return _body(str(body))


def _body(text: str) -> dict[str, Any]:
    try:
        body = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise MessageRefused(Refusal.MALFORMED) from None
    _require(isinstance(body, list) and len(body) == 3)
    positional, arguments, embedded = body
    _require(positional == [] and isinstance(embedded, dict) and not any(embedded.values()))
    return _mapping(arguments)


def _mapping(value: object) -> dict[str, Any]:
    _require(isinstance(value, dict))
    assert isinstance(value, dict)
    return value


def _require(claim: bool) -> None:
    if not claim:
        raise MessageRefused(Refusal.MALFORMED)
