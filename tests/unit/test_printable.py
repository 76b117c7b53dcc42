"""Text of the data, made safe to print."""

import json

import pytest

from mlho.printable import folded, printable, printable_json


@pytest.mark.parametrize(
    "code", [0x00, 0x07, 0x08, 0x0A, 0x0D, 0x1B, 0x7F, 0x9B, 0x200F, 0x202E, 0x2028, 0x2069, 0xDC80]
)
def test_a_control_character_becomes_one_visible_sign(code):
    """A control character, a direction mark, a line end or a lone surrogate becomes one visible character."""
    shown = printable(f"A{chr(code)}B")

    assert len(shown) == 3
    assert shown[0] + shown[2] == "AB"
    assert shown[1].isprintable()
    shown.encode()


def test_other_text_stays_as_it_is():
    """Letters of any language, symbols, emoji and narrow spaces are not changed."""
    text = "Größe ≥ 5 µg 血圧 العربية 🩺 38.1\u202f%"

    assert printable(text) == text


def test_lines_and_tabs_stay_where_the_text_has_lines():
    """Line ends and tabs are kept in multi-line text."""
    assert printable("a\n\tb\x1b", lines=True) == "a\n\tb␛"


def test_json_for_a_terminal_reads_as_the_same_document():
    """JSON for a terminal has control characters as escape sequences and is otherwise the same document."""
    document = {"code": "E11\x1b[2J\x7f\x9b31m\u202e", "n": [1, 2.5, None], "words": "Größe"}

    text = printable_json(document)

    assert all(c.isprintable() or c == "\n" for c in text)
    assert "Größe" in text
    assert json.loads(text) == document


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("Größe", "Gro\u0308\u00dfe"),
        ("STRASSE", "straße"),
        ("I10", "\uff29\uff11\uff10"),
        ("white british", "White\u00a0British "),
    ],
    ids=["decomposed accent", "sharp s", "full-width letters", "no-break space"],
)
def test_spellings_of_one_name_are_equal_when_folded(text, other):
    """Case, forms of Unicode and white space do not tell names apart."""
    assert folded(text) == folded(other)


def test_other_names_differ_when_folded():
    """Accents and words are part of a name."""
    assert len({folded(text) for text in ("resume", "résumé", "re sume")}) == 3
