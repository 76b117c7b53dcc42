"""Columns that can be the outcome: two values, numbers or words. Pure."""

from typing import Any, Final

import pyarrow.compute as pc

from mlho.tables import is_time

_WORDS: Final = frozenset(("true", "false"))
_TRUTHS: Final = _WORDS | {"0", "1", "0.0", "1.0"}
_MISSING: Final = frozenset(("", "na"))


def is_outcome(values: Any) -> bool:
    """Return whether a column holds two values, 0 and 1 or false and true."""
    if is_time(values.type):
        return False
    texts = _texts(values)
    return len(texts) == 2 and texts <= _TRUTHS


def two_values(values: Any) -> str:
    """Return the two values of a column that can be the outcome, for a sentence."""
    return "false and true" if _texts(values) == _WORDS else "0 and 1"


def _texts(values: Any) -> set[str]:
    """Return the distinct values of a column as texts in lower case, without missing ones."""
    texts = {str(value).strip().casefold() for value in pc.unique(values).to_pylist() if value is not None}
    return texts - _MISSING
