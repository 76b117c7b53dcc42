"""Text of the data as it may be shown."""

import json

import pytest

from mlho.printable import printable, printable_json


@pytest.mark.parametrize(
    "code", [0x00, 0x07, 0x08, 0x0A, 0x0D, 0x1B, 0x7F, 0x9B, 0x200F, 0x202E, 0x2028, 0x2069, 0xDC80]
)
def test_a_control_character_becomes_one_visible_sign(code):
    """Of the terminal, of the direction of writing, a line end, or half a character: one sign in its place."""
    shown = printable(f"A{chr(code)}B")

    assert len(shown) == 3
    assert shown[0] + shown[2] == "AB"
    assert shown[1].isprintable()
    shown.encode()


def test_other_text_stays_as_it_is():
    """Letters of any language, signs, an emoji, the narrow space of our own numbers."""
    text = "Größe ≥ 5 µg 血圧 العربية 🩺 38.1\u202f%"

    assert printable(text) == text


def test_lines_and_tabs_stay_where_the_text_has_lines():
    """A page and a log are laid out by them."""
    assert printable("a\n\tb\x1b", lines=True) == "a\n\tb␛"


def test_json_for_a_terminal_reads_as_the_same_document():
    """Control characters are escape sequences of JSON, and nothing else changes."""
    document = {"code": "E11\x1b[2J\x7f\x9b31m\u202e", "n": [1, 2.5, None], "words": "Größe"}

    text = printable_json(document)

    assert all(c.isprintable() or c == "\n" for c in text)
    assert "Größe" in text
    assert json.loads(text) == document
