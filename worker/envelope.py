"""Validation of queue items before Celery sees them: any client of Redis can write to the queue.

Celery obeys many requests of an envelope (callbacks, time limits, ETAs, other task names, other encodings),
and some of them terminate or block a worker. Therefore only the signed message reaches Celery: after
verification, the envelope is rebuilt.
"""

import base64
import binascii
import json
import secrets
from typing import Any, Final

from mlho.protocol.messages import SIGNATURE, TASK_NAME, MessageRefused, Refusal, read_message
from mlho.protocol.names import QUEUE

MAX_BODY_CHARACTERS: Final = 4096  # a message of a kilobyte in base64, and Celery's wrapping
MAX_ITEM_BYTES: Final = 2 * MAX_BODY_CHARACTERS
_TAG_BYTES: Final = 16
_NOTHING_ELSE: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def genuine_envelope(item: bytes, *, key: bytes, execution: str) -> dict[str, Any]:
    """Return a new envelope for Celery that contains only the signed message of an item.

    Raise MessageRefused if the item holds no message signed by this execution's scheduler.

    Parameters
    ----------
    item : bytes
        The raw item from the queue.
    """
    if len(item) > MAX_ITEM_BYTES:
        raise MessageRefused(Refusal.OVERSIZED)
    arguments = _arguments(_parsed(item))
    message = read_message(arguments, key=key, execution=execution)
    return _envelope({**message.model_dump(), SIGNATURE: arguments[SIGNATURE]})


def _envelope(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a message in Celery's format that requests only the execution of its task."""
    tag = secrets.token_hex(_TAG_BYTES)  # unique per delivery: a copy must not be mistaken for the original
    body = json.dumps([[], arguments, _NOTHING_ELSE]).encode()
    return {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": TASK_NAME,
            "id": tag,
            "root_id": tag,
            "parent_id": None,
            "group": None,
            "eta": None,
            "expires": None,
            "retries": 0,
            "timelimit": [None, None],
        },
        "properties": {
            "correlation_id": tag,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "delivery_tag": tag,
            "priority": 0,
            "body_encoding": "base64",
        },
    }


def _arguments(item: object) -> dict[str, Any]:
    envelope = _mapping(item)
    headers, properties = _mapping(envelope.get("headers")), _mapping(envelope.get("properties"))
    body = envelope.get("body")
    if not isinstance(body, str):
        raise MessageRefused(Refusal.MALFORMED)
    if len(body) > MAX_BODY_CHARACTERS:
        raise MessageRefused(Refusal.OVERSIZED)
    _require(envelope.get("content-type") == "application/json")
    _require(envelope.get("content-encoding") == "utf-8")
    _require(properties.get("body_encoding") == "base64")
    if headers.get("task") != TASK_NAME:
        raise MessageRefused(Refusal.UNKNOWN)
    return _signed_part(body)


def _signed_part(text: str) -> dict[str, Any]:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MessageRefused(Refusal.MALFORMED) from None
    body = _parsed(content)
    if not isinstance(body, list) or len(body) != 3:
        raise MessageRefused(Refusal.MALFORMED)
    return _mapping(body[1])


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise MessageRefused(Refusal.MALFORMED) from None


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MessageRefused(Refusal.MALFORMED)
    return value


def _require(claim: bool) -> None:
    if not claim:
        raise MessageRefused(Refusal.MALFORMED)
