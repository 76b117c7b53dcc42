"""Only the signed message of a queue item reaches Celery, independent of the item's other content."""

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.protocol.messages import (
    SIGNATURE,
    TASK_NAME,
    MessageRefused,
    Refusal,
    new_message,
    read_message,
    signed,
)
from tests.services.hostile import HEADERS, PROPERTIES, VALUES
from worker.envelope import MAX_ITEM_BYTES, genuine_envelope

KEY = b"0123456789abcdef0123456789abcdef"
EXECUTION = "0123456789abcdef-1"
ARGUMENTS = signed(
    new_message(run=EXECUTION[:16], execution=EXECUTION, task="ab" * 32, expires=1_700_000_000_000), key=KEY
)


def _item() -> dict[str, Any]:
    body = [[], ARGUMENTS, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": TASK_NAME, "id": "x", "eta": None, "expires": None, "group": None},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {},
            "delivery_tag": "t",
            "correlation_id": "c",
        },
    }


def _admitted(item: object) -> dict[str, Any] | Refusal:
    """Return the envelope that reaches Celery, with the random tag replaced by ``tag``, or the reason for the refusal."""
    try:
        envelope = genuine_envelope(json.dumps(item).encode(), key=KEY, execution=EXECUTION)
    except MessageRefused as refused:
        return refused.refusal
    tag = envelope["properties"]["delivery_tag"]
    assert len(tag) == 32
    found: dict[str, Any] = json.loads(json.dumps(envelope).replace(tag, "tag"))
    return found


def _changed(path: tuple[str, ...], value: object) -> dict[str, Any]:
    item = _item()
    place = item
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return item


def _with_body(change: Any) -> dict[str, Any]:
    item = _item()
    body = json.loads(base64.b64decode(item["body"]))
    item["body"] = base64.b64encode(json.dumps(change(body)).encode()).decode()
    return item


PLAIN = _admitted(_item())


def test_the_signed_message_is_handed_on() -> None:
    """The envelope has the signed message, the name of the one task, and neither a time limit nor a start time nor a callback."""
    assert isinstance(PLAIN, dict)
    positional, arguments, embedded = json.loads(base64.b64decode(PLAIN["body"]))
    assert positional == []
    assert read_message(arguments, key=KEY, execution=EXECUTION).task == "ab" * 32
    assert not any(embedded.values())
    headers = PLAIN["headers"]
    assert (headers["task"], headers["timelimit"], headers["retries"]) == (TASK_NAME, [None, None], 0)
    assert (headers["eta"], headers["expires"], headers["group"]) == (None, None, None)


def test_two_deliveries_of_one_message_have_different_tags() -> None:
    tags = {
        genuine_envelope(json.dumps(_item()).encode(), key=KEY, execution=EXECUTION)["properties"][
            "delivery_tag"
        ]
        for _ in range(2)
    }
    assert len(tags) == 2


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize(
    "path",
    [*(("headers", name) for name in HEADERS), *(("properties", name) for name in PROPERTIES)],
    ids="/".join,
)
def test_no_header_and_no_property_reaches_celery(path: tuple[str, ...], value: object) -> None:
    """Changed headers and properties have no effect. Before, ``timelimit: 5``, ``eta: 0``, ``expires: ""`` and ``shadow:
    {}`` stopped or killed workers.
    """
    assert _admitted(_changed(path, value)) == PLAIN


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("headers", "task"), "celery.chunks", Refusal.UNKNOWN),
        (("headers", "task"), ["x"], Refusal.UNKNOWN),
        (("headers",), [], Refusal.MALFORMED),
        (("properties",), None, Refusal.MALFORMED),
        (("content-type",), "application/x-python-serialize", Refusal.MALFORMED),
        (("content-encoding",), "binary", Refusal.MALFORMED),
        (("properties", "body_encoding"), None, Refusal.MALFORMED),
        (("body",), "x" * 5000, Refusal.OVERSIZED),
        (("body",), "not base64!", Refusal.MALFORMED),
        (("body",), "é", Refusal.MALFORMED),
        (("body",), None, Refusal.MALFORMED),
    ],
)
def test_what_no_scheduler_writes_is_refused(path: tuple[str, ...], value: object, expected: Refusal) -> None:
    assert _admitted(_changed(path, value)) is expected


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (b"", Refusal.MALFORMED),
        (b"\xff\xfe", Refusal.MALFORMED),
        (b"[" * MAX_ITEM_BYTES, Refusal.MALFORMED),
        (b"9" * MAX_ITEM_BYTES, Refusal.MALFORMED),
        (b'{"__type__": "decimal", "__value__": "x"}', Refusal.MALFORMED),
        (b"[" * (MAX_ITEM_BYTES + 1), Refusal.OVERSIZED),
    ],
    ids=["empty", "no text", "nested", "a huge number", "a type of Kombu's", "long"],
)
def test_item_that_is_no_envelope_is_refused(item: bytes, expected: Refusal) -> None:
    with pytest.raises(MessageRefused) as caught:
        genuine_envelope(item, key=KEY, execution=EXECUTION)
    assert caught.value.refusal is expected


def test_callbacks_and_positional_arguments_do_not_reach_celery() -> None:
    assert _admitted(_with_body(lambda body: [["x"], body[1], {"callbacks": [{"task": "x"}]}])) == PLAIN


def test_changed_argument_is_a_forgery() -> None:
    assert _admitted(_with_body(lambda body: [[], {**body[1], "expires": 2}, body[2]])) is Refusal.FORGED


def test_unsigned_message_is_malformed() -> None:
    unsigned = {name: value for name, value in ARGUMENTS.items() if name != SIGNATURE}
    assert _admitted(_with_body(lambda body: [[], unsigned, body[2]])) is Refusal.MALFORMED


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_any_item_is_refused_or_becomes_the_same_envelope(data: st.DataObject) -> None:
    """Any JSON at any place of an item gives a refusal or the unchanged envelope."""
    item = copy.deepcopy(_item())
    name = data.draw(st.sampled_from(sorted(item)))
    if isinstance(item[name], dict) and data.draw(st.booleans()):
        item[name][data.draw(st.sampled_from(sorted(item[name])))] = data.draw(values)
    else:
        item[name] = data.draw(values)
    found = _admitted(item)
    assert isinstance(found, Refusal) or found == PLAIN
    assert isinstance(_admitted(data.draw(values)), Refusal)
