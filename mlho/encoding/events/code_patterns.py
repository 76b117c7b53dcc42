"""Code patterns: the codes that ``features.include`` and ``features.exclude`` keep."""

import re
from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from mlho.spec.features import Features


def code_filter(features: Features, *, never: Collection[str] = ()) -> Callable[[str], bool]:
    """Return a function that says whether a code is excluded: it is not among ``include``, or it is among ``exclude`` or ``never``.

    Examples
    --------
    >>> is_excluded = code_filter(Features(include=("ICD10:*",), exclude=("ICD10:Z??",)))
    >>> [is_excluded(code) for code in ("ICD10:E11", "ICD10:Z51", "ICD10:Z51.1", "LOINC:2160-0")]
    [False, True, False, True]
    """
    included, excluded = (_any_of(patterns) for patterns in (features.include, features.exclude))

    def is_excluded(code: str) -> bool:
        is_in = included is None or included.fullmatch(code) is not None
        return not is_in or code in never or (excluded is not None and excluded.fullmatch(code) is not None)

    return is_excluded


def matches(patterns: Sequence[str], codes: Sequence[str]) -> NDArray[np.bool_]:
    """Return which codes match one of the patterns.

    Examples
    --------
    >>> matches(["ICD10:E1?"], ["ICD10:E11", "ICD10:E11.9"]).tolist()
    [True, False]
    """
    pattern = _any_of(patterns)
    assert pattern is not None
    return np.array([pattern.fullmatch(code) is not None for code in codes], np.bool_)


def _any_of(patterns: Sequence[str] | None) -> re.Pattern[str] | None:
    """Return the regular expression of patterns in which ``*`` is any text and ``?`` one character; all else is literal."""
    if patterns is None:
        return None
    escaped = (re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in patterns)
    return re.compile("|".join(escaped), re.DOTALL)
