"""Text for a model's numbers: the value of a column in the unit of the data."""

import math
from collections.abc import Callable, Iterator
from functools import partial

from mlho.encoding.cohort.demographics import DemographicsEncoder, NumberCode
from mlho.method.selection.features import Encoding

YES, NO, NONE = "yes", "no", "none"
_MINUS = "\N{MINUS SIGN}"


def value_in_words(encoding: Encoding, number: float) -> str:
    """Describe the value of a feature, given the encoded number.

    Parameters
    ----------
    number : float
        NaN if the value is missing.

    Examples
    --------
    >>> sodium = Encoding("last", centre=138.0)
    >>> value_in_words(sodium, -7.0), value_in_words(sodium, 0.0), value_in_words(Encoding("presence"), 1.0)
    ('131', '138, or none', 'yes')
    """
    if math.isnan(number):
        return NONE
    if encoding.aggregate in ("presence", "outOfRange"):
        return YES if number else NO
    if encoding.aggregate == "levels":
        return _level_in_words(encoding.level_cuts, int(number))
    if encoding.is_value:
        value = _rounded(number + encoding.centre)
        # A linear model has the same number for a value at the training median and for a missing value.
        return f"{value}, or {NONE}" if number == 0 and encoding.centre else value
    return _rounded(number)


def _level_in_words(cuts: tuple[int, ...], level: int) -> str:
    """Describe the counts of a level: ``0``, ``2``, ``3 to 5``, ``10 or more``."""
    low = 0 if level == 0 else cuts[level - 1]
    if level >= len(cuts):
        return f"{low} or more"
    high = cuts[level] - 1
    return str(low) if high == low else f"{low} to {high}"


def _rounded(number: float) -> str:
    """Format with four significant digits and a Unicode minus sign."""
    return f"{float(f'{number:.4g}'):,.10g}".replace("-", _MINUS)


def demographic_in_words(encoder: DemographicsEncoder) -> Iterator[tuple[str, Callable[[float], str]]]:
    """Yield each demographic column's name, and a function that describes its number."""
    for code in encoder.codes:
        for place, name in enumerate(code.names):
            is_number = isinstance(code, NumberCode) and place == 0
            yield name, partial(_demographic, is_number=is_number)


def _demographic(number: float, *, is_number: bool) -> str:
    if math.isnan(number):
        return NONE
    return _rounded(number) if is_number else (YES if number else NO)
