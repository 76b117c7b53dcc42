"""Label proxies by name: codes whose name or description contains the words of the outcome's name."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

_WORD: Final = re.compile(r"[A-Za-z]+")
#: Words of outcome names that do not describe the outcome itself.
_GENERAL: Final = frozenset(
    (
        "label", "labels", "outcome", "target", "class", "flag", "event", "events", "y", "the", "of", "in", "within", "after", "before", "and", "or", "a", "an",
        "any", "new", "first", "has", "had", "is", "day", "days", "d", "week", "weeks", "month", "months", "year", "years", "yr", "hospital", "hosp", "patient",
        "status", "risk", "bool", "boolean", "value",
    )
)  # fmt: skip
_STEM: Final = 5  # characters in which two words agree: readmit and readmission


def name_words(name: str) -> list[str]:
    """Return the significant words of a name, in lower case.

    Examples
    --------
    >>> name_words("readmit_30d"), name_words("in_hospital_death"), name_words("label")
    (['readmit'], ['death'], [])
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in map(str.lower, _WORD.findall(spaced)) if word not in _GENERAL and len(word) > 1]


def proxies_by_name(outcome: str, codes: Sequence[str], descriptions: Mapping[str, str]) -> list[int]:
    """Return the positions of the codes that are named like the outcome.

    A code matches if it equals the outcome's name (ignoring case), or if for each significant word of the outcome's name its text or
    description has a word that begins with the same five characters.

    Examples
    --------
    >>> proxies_by_name("readmit_30", ["LABEL", "ADM:Readmission", "I10"], {})
    [1]
    >>> proxies_by_name("label", ["LABEL", "I10"], {})
    [0]
    """
    wanted = name_words(outcome)
    stems = [word[:_STEM] for word in wanted if len(word) > 2]
    found = []
    for place, code in enumerate(codes):
        text = f"{code} {descriptions.get(code, '')}"
        words = {word[:_STEM] for word in map(str.lower, _WORD.findall(text))}
        if code.lower() == outcome.lower() or (stems and words.issuperset(stems)):
            found.append(place)
    return found
