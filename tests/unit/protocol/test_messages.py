"""A message is accepted only if it is small, well formed, signed with our key and for this execution."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.protocol.messages import (
    MAX_MESSAGE_BYTES,
    SIGNATURE,
    MessageRefused,
    Refusal,
    new_message,
    read_message,
    signed,
)
from mlho.spec.training import canonical_json

KEY = b"0123456789abcdef0123456789abcdef"
RUN = "0123456789abcdef"
EXECUTION = f"{RUN}-3"
TASK = "ab" * 32


def _arguments(**changes: Any) -> dict[str, Any]:
    message = new_message(run=RUN, execution=EXECUTION, task=TASK, expires=1_700_000_000_000)
    return {**signed(message, key=KEY), **changes}


def _refusal(arguments: dict[str, Any], **options: Any) -> Refusal:
    with pytest.raises(MessageRefused) as caught:
        read_message(arguments, **{"key": KEY, "execution": EXECUTION, **options})
    return caught.value.refusal


def test_signed_message_is_read_back() -> None:
    """A signed message is read back unchanged and has less than 400 bytes."""
    arguments = _arguments()
    message = read_message(arguments, key=KEY, execution=EXECUTION)
    assert (message.run, message.execution, message.task) == (RUN, EXECUTION, TASK)
    assert len(canonical_json(arguments)) < 400


def test_two_messages_for_one_task_differ() -> None:
    assert _arguments()["nonce"] != _arguments()["nonce"]


@pytest.mark.parametrize("field", ["run", "execution", "task", "expires", "nonce"])
def test_changed_field_is_a_forgery(field: str) -> None:
    genuine = _arguments()
    value = genuine[field]
    changed = value + 1 if isinstance(value, int) else ("0" if value[0] != "0" else "1") + value[1:]
    assert _refusal({**genuine, field: changed}) is Refusal.FORGED


def test_other_key_is_a_forgery() -> None:
    assert _refusal(_arguments(), key=b"another key of sixteen bytes or more") is Refusal.FORGED


@pytest.mark.parametrize("signature", [None, 7, ["x"], {"a": "b"}])
def test_signature_of_another_type_is_malformed(signature: object) -> None:
    assert _refusal(_arguments(signature=signature)) is Refusal.MALFORMED


def test_signature_beyond_ascii_is_a_forgery() -> None:
    assert _refusal(_arguments(signature="ü" * 64)) is Refusal.FORGED


def test_large_message_is_refused_before_it_is_verified() -> None:
    assert _refusal(_arguments(padding="x" * MAX_MESSAGE_BYTES)) is Refusal.OVERSIZED


def test_message_of_another_execution_is_refused() -> None:
    assert _refusal(_arguments(), execution=f"{RUN}-4") is Refusal.FOREIGN


def test_extra_field_is_refused_even_if_it_is_signed() -> None:
    """A message with an additional field is refused even if its signature is valid."""
    from mlho.protocol import messages

    fields = {**_arguments(), "command": "rm"}
    del fields[SIGNATURE]
    assert _refusal({**fields, SIGNATURE: messages._signature(fields, KEY)}) is Refusal.MALFORMED


@pytest.mark.parametrize(
    "wrong", [{"expires": "soon"}, {"expires": 1.5}, {"task": "AB" * 32}, {"task": "../x"}, {"run": 1}]
)
def test_wrong_type_is_refused_even_if_it_is_signed(wrong: dict[str, Any]) -> None:
    from mlho.protocol import messages

    fields = {**_arguments(), **wrong}
    del fields[SIGNATURE]
    assert _refusal({**fields, SIGNATURE: messages._signature(fields, KEY)}) is Refusal.MALFORMED


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["run", "task", "nonce", "signature", "x"]), json_values))
def test_anything_else_is_refused_with_a_reason(arguments: dict[str, Any]) -> None:
    """Any arguments give a refusal and never raise another error."""
    assert _refusal(arguments) in {Refusal.MALFORMED, Refusal.FORGED, Refusal.OVERSIZED}
