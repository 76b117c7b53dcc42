"""A model's numbers in words: what the value of a column means, in the unit of the data."""

import math
from collections.abc import Callable, Iterator
from functools import partial

from mlho.encoding.cohort.demographics import DemographicsEncoder, NumberCode
from mlho.method.selection.features import Encoding

YES, NO, NONE = "yes", "no", "none"
_MINUS = "\N{MINUS SIGN}"


def value_in_words(encoding: Encoding, number: float) -> str:
    """Return the value of a feature in words, from the number that the model sees.

    Parameters
    ----------
    encoding : Encoding
        Which made the number.
    number : float
        NaN where the model sees that there is no value.

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
    if encoding.aggregate == "last":
        value = _rounded(number + encoding.centre)
        # A linear model has one number for a value at the training median and for none.
        return f"{value}, or {NONE}" if number == 0 and encoding.centre else value
    return _rounded(number)


def _level_in_words(cuts: tuple[int, ...], level: int) -> str:
    """Return the counts of a level: ``0``, ``2``, ``3 to 5``, ``10 or more``."""
    low = 0 if level == 0 else cuts[level - 1]
    if level >= len(cuts):
        return f"{low} or more"
    high = cuts[level] - 1
    return str(low) if high == low else f"{low} to {high}"


def _rounded(number: float) -> str:
    """Return four significant digits with a real minus sign."""
    return f"{float(f'{number:.4g}'):,.10g}".replace("-", _MINUS)


def demographic_in_words(encoder: DemographicsEncoder) -> Iterator[tuple[str, Callable[[float], str]]]:
    """Yield each demographic column's name, and what turns its number into words."""
    for code in encoder.codes:
        for place, name in enumerate(code.names):
            is_number = isinstance(code, NumberCode) and place == 0
            yield name, partial(_demographic, is_number=is_number)


def _demographic(number: float, *, is_number: bool) -> str:
    if math.isnan(number):
        return NONE
    return _rounded(number) if is_number else (YES if number else NO)
