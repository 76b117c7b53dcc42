"""Only what our own scheduler could have written is let through to Celery."""

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.protocol.messages import TASK_NAME, Refusal, new_message, signed
from worker.envelope import refusal_of

KEY = b"0123456789abcdef0123456789abcdef"
EXECUTION = "0123456789abcdef-1"


def _envelope() -> dict[str, Any]:
    message = new_message(run=EXECUTION[:16], execution=EXECUTION, task="ab" * 32, expires=1)
    body = [[], signed(message, key=KEY), {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
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


def _refusal(item: object) -> Refusal | None:
    return refusal_of(item, key=KEY, execution=EXECUTION)


def _with_body(change: Any) -> dict[str, Any]:
    envelope = _envelope()
    body = json.loads(base64.b64decode(envelope["body"]))
    envelope["body"] = base64.b64encode(json.dumps(change(body)).encode()).decode()
    return envelope


def test_genuine_envelope_is_let_through() -> None:
    assert _refusal(_envelope()) is None


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("headers", "task"), "celery.chunks", Refusal.UNKNOWN),
        (("headers", "eta"), "2030-01-01T00:00:00", Refusal.MALFORMED),
        (("headers", "expires"), "2030-01-01T00:00:00", Refusal.MALFORMED),
        (("headers", "group"), "g", Refusal.MALFORMED),
        (("headers", "id"), 7, Refusal.MALFORMED),
        (("content-type",), "application/x-python-serialize", Refusal.MALFORMED),
        (("content-encoding",), "binary", Refusal.MALFORMED),
        (("properties", "body_encoding"), None, Refusal.MALFORMED),
        (("properties", "delivery_tag"), None, Refusal.MALFORMED),
        (("body",), "x" * 5000, Refusal.OVERSIZED),
        (("body",), "not base64!", Refusal.MALFORMED),
        (("body",), None, Refusal.MALFORMED),
    ],
)
def test_anything_beyond_it_is_refused(path: tuple[str, ...], value: object, expected: Refusal) -> None:
    envelope = _envelope()
    place = envelope
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert _refusal(envelope) is expected


def test_callback_of_celery_is_refused() -> None:
    assert (
        _refusal(_with_body(lambda body: [body[0], body[1], {"callbacks": [{"task": "x"}]}]))
        is Refusal.MALFORMED
    )


def test_positional_argument_is_refused() -> None:
    assert _refusal(_with_body(lambda body: [["x"], body[1], body[2]])) is Refusal.MALFORMED


def test_changed_argument_is_a_forgery() -> None:
    assert _refusal(_with_body(lambda body: [[], {**body[1], "expires": 2}, body[2]])) is Refusal.FORGED


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_no_item_whatever_gets_an_exception_out(data: st.DataObject) -> None:
    """Any JSON at any place of an envelope: let through only if it is the genuine one."""
    genuine = _envelope()
    envelope = copy.deepcopy(genuine)
    name = data.draw(st.sampled_from(sorted(envelope)))
    if isinstance(envelope[name], dict) and data.draw(st.booleans()):
        envelope[name][data.draw(st.sampled_from(sorted(envelope[name])))] = data.draw(values)
    else:
        envelope[name] = data.draw(values)
    refusal = _refusal(envelope)
    assert refusal is None or isinstance(refusal, Refusal)
    assert _refusal(data.draw(values)) is not None
