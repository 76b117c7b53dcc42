"""The wording of a reason: the words of a feature, shortened to fit an alert."""

import re
from typing import Final

REASON_LENGTH: Final = 80
_WINDOW = re.compile(r", in the (\d+) days before the index date$")


def reason_words(words: str, code: str = "") -> str:
    """Return the words of a feature in at most 80 characters. Shorter words are returned unchanged.

    The window is abbreviated first, then the description is cut; the code and the aggregate stay, so that reasons differ.

    Examples
    --------
    >>> reason_words("E11: ever recorded", "E11")
    'E11: ever recorded'
    >>> long = "Type 2 diabetes mellitus with other specified complications (E11.69): ever recorded, in the 730 days before the index date"
    >>> reason_words(long, "E11.69")
    'Type 2 diabetes mellitus with other… (E11.69): ever recorded, last 730 days'
    """
    if len(words) <= REASON_LENGTH:
        return words
    short = _WINDOW.sub(r", last \1 days", words)
    if len(short) <= REASON_LENGTH:
        return short
    place = short.find(f" ({code}): ") if code else -1
    end = short[place:] if place > 0 else ""
    if not end or len(end) > REASON_LENGTH // 2 + 20:
        return short[: REASON_LENGTH - 1].rstrip() + "…"
    return short[: REASON_LENGTH - len(end) - 1].rsplit(" ", 1)[0].rstrip() + "…" + end
