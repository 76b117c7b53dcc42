"""Strict YAML: only documents that all YAML readers interpret in the same way are accepted."""

import json
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlho.printable import has_control
from mlho.spec import strict_yaml
from mlho.spec.strict_yaml import MAX_BYTES, YamlError, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: ~", {"a": None}),
        ("a: TRUE\nb: false", {"a": True, "b": False}),
        ("[0, -1, +2, 12]", [0, -1, 2, 12]),
        ("[0.5, .5, 1., 1e-3, -2.5E+2]", [0.5, 0.5, 1.0, 0.001, -250.0]),
        ("day: 2020-01-31", {"day": "2020-01-31"}),
        ("day: 2020-02-30", {"day": "2020-02-30"}),
        ("['010', \"yes\", '1:30', 'null', '']", ["010", "yes", "1:30", "null", ""]),
        ("name: 1.2.3", {"name": "1.2.3"}),
        ("{a: [{b: c}]}", {"a": [{"b": "c"}]}),
    ],
)
def test_unambiguous_scalars_are_read(text, value):
    """Numbers are decimal, and dates and quoted scalars are text."""
    assert read_yaml(text) == value


@pytest.mark.parametrize(
    "scalar",
    [
        "010",
        "-07",
        "08",
        "00.5",
        "1_000",
        "1_0.5",
        "0b11",
        "0o17",
        "0x1F",
        "1:30",
        "190:20:30",
        "1:30.5",
        "yes",
        "No",
        "ON",
        "off",
        "y",
        "N",
        ".inf",
        "-.INF",
        ".nan",
        "=",
        "<<",
    ],
)
def test_a_scalar_that_readers_take_for_different_values_is_refused(scalar):
    """An ambiguous scalar is refused with its line; the error suggests the quoted form, which is accepted."""
    with pytest.raises(YamlError, match=r"without quotes|not a usable number") as caught:
        read_yaml(f"a:\n  b: {scalar}")

    assert caught.value.line == 2
    assert f"'{scalar}'" in str(caught.value)
    assert read_yaml(f"'{scalar}'") == scalar


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!int abc", "tags"),
        ("a: !!python/object:os.system x", "tags"),
        ("a: &x 1\nb: *x", "anchors"),
        ("a: &x [*x]", "anchors"),
        ("? [1]\n: 2", "a list or a mapping is used as a key"),
        ("1: 2", "is not a text. Quote it"),
        ("null: 2", "is not a text. Quote it"),
        ("a: 1\na: 2", "occurs twice"),
        ("a: 1\n---\nb: 2", "second document"),
        ("a: 99999999999999999999", "too large"),
        ("a: " + "9" * 6000, "too long"),
        ("a: " + "1_" * 100_000 + "x", "too long"),
        ("a: " + "1." + "1" * 200_000 + "x", "too long"),
        ("a: " + "1" + ":1" * 100_000 + "x", "too long"),
        ("a: 1e999", "too large"),
        ('a: "x\\ty"', "control character"),
        ('a: "\\x1b[2J"', "control character"),
        ("a: |\n  x\n  y", "line break"),
        ("a: x\u202ey", "control character"),
        ("a: x\u2028y", "control character"),
        ("[" * 33, "nest"),
        ("[" * 100_000, "nest"),
        ("a:\n" + "".join(" " * n + "a:\n" for n in range(1, 600)), "nested"),
        ("a: " + "x" * MAX_BYTES, "at most"),
    ],
)
def test_refused_input_is_named(text, words):
    """Refused input gives a specific error within seconds of CPU time, at any depth and size."""
    began = time.process_time()
    with pytest.raises(YamlError, match=words):
        read_yaml(text)

    assert time.process_time() - began < 5


def test_as_many_keys_as_fit_are_read_at_once():
    """24,000 keys are read within seconds of CPU time, because the time is proportional to the size."""
    text = "\n".join(f"k{number}: 1" for number in range(24_000))
    began = time.process_time()

    assert len(read_yaml(text)) == 24_000
    assert time.process_time() - began < 10


_TEXTS = st.text(max_size=12).filter(lambda text: not has_control(text))
_PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(_PLAIN)
def test_json_values_are_read_back(plain):
    """Every JSON value is equal after a round trip through the reader."""
    assert read_yaml(json.dumps(plain, ensure_ascii=False)) == plain


@given(st.text(alphabet="0123456789_:.+-eExob ynoNYfTtrualsi~[]{},#&*!|>?%@`\n", max_size=30))
def test_accepted_text_has_the_value_of_other_readers(text):
    """PyYAML (YAML 1.1) reads every accepted text as the same value, except dates, and numbers with an exponent but without a dot."""
    try:
        found = read_yaml(text)
    except YamlError:
        return
    expected = yaml.load(text, Loader=_TextDates)
    assert _numbers_as_kubectl(expected) == found


class _TextDates(strict_yaml._LOADER):
    """YAML 1.1 without times, which kubectl passes on as text."""


_TextDates.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if not tag.endswith(":timestamp")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _numbers_as_kubectl(value):
    """Convert numbers with an exponent but without a dot, which PyYAML reads as text and kubectl and YAML 1.2 as numbers."""
    if isinstance(value, list):
        return [_numbers_as_kubectl(item) for item in value]
    if isinstance(value, dict):
        return {key: _numbers_as_kubectl(item) for key, item in value.items()}
    if isinstance(value, str) and strict_yaml._REAL.fullmatch(value):
        return float(value)
    return value


def test_the_reader_without_libyaml_is_as_strict(monkeypatch):
    """The reader is as strict if PyYAML was built without libyaml."""
    monkeypatch.setattr(strict_yaml, "_LOADER", yaml.SafeLoader)

    assert read_yaml("{a: [1, x], b: '010'}") == {"a": [1, "x"], "b": "010"}
    for text in ("a: 010", "[" * 500, "a: &x 1", "a: !!int abc", "a: [", "a: 1\na: 2"):
        with pytest.raises(YamlError):
            read_yaml(text)
