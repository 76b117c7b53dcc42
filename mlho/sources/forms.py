"""Dates and times in other text formats, rewritten as ISO 8601, independently of clock and locale."""

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.sources.arrow import null_where, text_array, truths
from mlho.spec.layout import DIRECTIVES

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH_NAMES: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip


def cast_or_null(array: Any, type_: Any) -> Any:
    """Cast each value independently of the others. A value that cannot be cast becomes null.

    Bisection finds the unreadable values, so a column with few of them is cast nearly as fast as one with none.
    """
    try:
        return pc.cast(array, type_)
    except (pa.ArrowInvalid, OverflowError):
        if len(array) == 1:
            return pa.nulls(1, type_)
    half = len(array) // 2
    parts = [cast_or_null(array.slice(0, half), type_), cast_or_null(array.slice(half), type_)]
    return pa.concat_arrays(parts)


def numbers_or_null(texts: Any, decimal: str | None) -> Any:
    """Return texts as float64, null where a text is not a number with this decimal separator (``None``: a point).

    Examples
    --------
    >>> numbers_or_null(pa.array(["3,5", "3.5", "35"]), ",").to_pylist()
    [3.5, None, 35.0]
    """
    if decimal == ",":
        has_point = truths(pc.match_substring(texts, "."))
        texts = null_where(has_point, pc.replace_substring(texts, ",", "."))
    return cast_or_null(texts, pa.float64())


def is_zoned(texts: Any) -> NDArray[np.bool_]:
    """Return which ISO 8601 texts end in an offset from UTC."""
    return truths(pc.match_substring_regex(texts, r"^.{10,}:.*(Z|[+-]\d\d(:?\d\d)?)$"))


def iso_texts(texts: Any, date_format: str) -> Any:
    r"""Rewrite texts of a format as ISO 8601; null if a text is not of that form.

    Parameters
    ----------
    date_format : str
        As :data:`mlho.spec.layout.DateFormat`.

    Examples
    --------
    >>> iso_texts(pa.array(["1/31/2020 2:05 PM", "2020-01-31"]), "%m/%d/%Y %I:%M %p").to_pylist()
    ['2020-01-31T14:05:00', None]
    """
    fields = pc.extract_regex(texts, _expression(date_format))

    def field(letter: str) -> Any:
        return pc.struct_field(fields, letter) if f"(?P<{letter}>" in _expression(date_format) else None

    year, month, day = field("Y"), _month(field), pc.utf8_lpad(field("d"), 2, "0")
    date = pc.binary_join_element_wise(year, month, day, "-")
    hour = field("H") if field("I") is None else _hour_of_24(field("I"), field("p"))
    if hour is None:
        return date
    minute, second = (_two(field(letter), len(texts)) for letter in ("M", "S"))
    time = pc.binary_join_element_wise(pc.utf8_lpad(hour, 2, "0"), minute, second, ":")
    if field("f") is not None:
        time = pc.binary_join_element_wise(time, pc.utf8_slice_codeunits(field("f"), 0, 6), ".")
    if field("z") is not None:
        time = pc.binary_join_element_wise(time, field("z"), "")
    return pc.binary_join_element_wise(date, time, "T")


def begins_as(text: str, date_format: str) -> bool:
    """Return whether a text begins with a date of this format, regardless of the rest.

    Examples
    --------
    >>> begins_as("1/31/2020 2:05 PM", "%m/%d/%Y"), begins_as("p00017", "%m/%d/%Y")
    (True, False)
    """
    return re.match(_expression(date_format).removesuffix("$"), text) is not None


def _expression(date_format: str) -> str:
    """Return the regular expression of a format. A number that directly adjoins another one must have its full width."""
    parts = re.split(r"(%.)", date_format)
    expression = ""
    for n, part in enumerate(parts):
        if n % 2 == 0:
            expression += re.escape(part).replace("\\ ", r"\s+")
            continue
        touches = not parts[n + 1] and n + 2 < len(parts)
        pattern = DIRECTIVES[part[1]]
        pattern = pattern.replace("{1,2}", "{2}") if touches or (n > 1 and not parts[n - 1]) else pattern
        expression += f"(?P<{part[1]}>{pattern})"
    return f"^{expression}$"


def _month(field: Any) -> Any:
    """Return the month as two digits, from a number or an English name."""
    if field("m") is not None:
        return pc.utf8_lpad(field("m"), 2, "0")
    names, months = (_MONTHS, field("b")) if field("b") is not None else (_MONTH_NAMES, field("B"))
    place = pc.index_in(pc.utf8_lower(months), value_set=_texts(names))
    return _texts([f"{n:02d}" for n in range(1, 13)]).take(place)


def _hour_of_24(hour: Any, half: Any) -> Any:
    number = hour.cast(pa.int64())
    number = pc.if_else(pc.and_(pc.greater_equal(number, 1), pc.less_equal(number, 12)), number, 99)
    number = pc.if_else(pc.equal(number, 12), 0, number)
    is_late = pc.equal(pc.utf8_lower(half), "pm")
    return pc.if_else(is_late, pc.add(number, 12), number).cast(pa.string())


def _two(text: Any, length: int) -> Any:
    return _texts(["00"] * length) if text is None else pc.utf8_lpad(text, 2, "0")


def _texts(texts: Sequence[str]) -> Any:
    return text_array(texts).cast(pa.string())
