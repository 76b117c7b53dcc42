"""Safe display of text from the data: control characters are replaced with visible symbols.

Codes and descriptions are free text. An escape sequence would reach the terminal, and a bidirectional control character
would reverse the text after it; both could falsify a report.
"""

import json
import re
import unicodedata
from functools import cache
from typing import Final

_PICTURES: Final = 0x2400  # symbols for U+0000 to U+001F are U+2400 to U+241F
_DELETE: Final = 0x7F
_C1: Final = range(0x80, 0xA0)  # U+009B by itself starts an escape sequence on some terminals
_DIRECTIONS: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_LINE_ENDS: Final = (0x2028, 0x2029)
_SURROGATES: Final = range(0xD800, 0xE000)  # from file names that are not UTF-8; they cannot be encoded
MAX_IN_SENTENCE: Final = 100  # characters of a code or label; tables and results have it in full
_LONGEST_SHOWN: Final = 200  # characters of a name or value shown in a message
_LAYOUT: Final = frozenset("\n\t")  # allowed white space in multi-line text

_SHOWN: Final[dict[int, str]] = {
    **{code: chr(_PICTURES + code) for code in range(0x20)},
    _DELETE: "\N{SYMBOL FOR DELETE}",
    **dict.fromkeys((*_C1, *_DIRECTIONS, *_LINE_ENDS, *_SURROGATES), "\N{REPLACEMENT CHARACTER}"),
}
_SHOWN_IN_LINES: Final = {code: sign for code, sign in _SHOWN.items() if chr(code) not in _LAYOUT}
_ESCAPED: Final = {code: f"\\u{code:04x}" for code in (_DELETE, *_C1, *_DIRECTIONS, *_LINE_ENDS)}


#: The characters above as a range of a regular expression for valid UTF-8 (RE2, which Arrow uses).
CONTROL_CHARACTERS: Final = "".join(f"\\x{{{code:x}}}" for code in _SHOWN if code not in _SURROGATES)


def printable(text: str, *, lines: bool = False) -> str:
    r"""Replace each control character with a visible symbol; the length does not change.

    Parameters
    ----------
    lines : bool
        Keep line feeds and tabs, for multi-line text.

    Examples
    --------
    >>> printable("E11\x1b[2J")
    'E11␛[2J'
    """
    replaced = _SHOWN_IN_LINES if lines else _SHOWN
    # A report of half a megabyte is searched in 1 ms and translated in 18 ms.
    return text.translate(replaced) if _any_of(lines=lines).search(text) else text


@cache
def _any_of(*, lines: bool) -> re.Pattern[str]:
    """Return the pattern of the characters that :func:`printable` replaces."""
    codes = _SHOWN_IN_LINES if lines else _SHOWN
    return re.compile(
        "[" + "".join(f"\\u{code:04x}" for code in codes if code not in _SURROGATES) + "\\ud800-\\udfff]"
    )


def has_control(text: str) -> bool:
    r"""Return whether a text contains a character that :func:`printable` replaces.

    Examples
    --------
    >>> has_control("I10.9 Ä"), has_control("I10\n"), has_control("\udcff")
    (False, True, True)
    """
    return _any_of(lines=False).search(text) is not None


def folded(text: str) -> str:
    r"""Return a text normalised for comparing names, without differences in case, Unicode form or white space.

    Examples
    --------
    >>> folded("\uff29\u00a010") == folded("i 10")  # full-width letter, no-break space
    True
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.casefold().split())


def shown(text: str) -> str:
    """Return foreign text for a message: printable, and truncated to 200 characters."""
    return printable(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…")


def cut(label: str, most: int = MAX_IN_SENTENCE) -> str:
    """Truncate a label for use in a sentence."""
    return label if len(label) <= most else label[: most - 1].rstrip() + "…"


def code_words(code: str, description: str | None = None) -> str:
    """Return a code for a sentence, after its description if it has one; both are truncated, because each may be long.

    Examples
    --------
    >>> code_words("I10", "Hypertension"), code_words("I10")
    ('Hypertension (I10)', 'I10')
    """
    return f"{cut(description)} ({cut(code)})" if description else cut(code)


def printable_json(document: object) -> str:
    r"""Return a document as indented JSON with ``\u`` escapes for control characters; it parses to the same document.

    JSON escapes the characters below U+0020 itself; those above are escaped here.
    """
    return json.dumps(document, indent=1, ensure_ascii=False).translate(_ESCAPED)
