"""Conversion of timestamps, dates and ISO 8601 text to microseconds since 1970 in UTC.

A naive time is interpreted as UTC without a shift. A time with an offset is converted to UTC. A date is its midnight.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.sources.arrow import as_numpy, blank_texts, bool_array, is_given, null_where

DAY_US: Final = 86_400_000_000
_MICROSECONDS: Final = pa.timestamp("us")
_ZONED: Final = pa.timestamp("us", "UTC")
_DATE_LENGTH: Final = len("2020-01-31")


@dataclass(frozen=True)
class Times:
    """Times of one column.

    Attributes
    ----------
    microseconds : Arrow int64
        Since 1970-01-01T00:00 UTC; null if missing or unreadable.
    is_bad : Arrow bool or None
        True for an unreadable time; None if there is no such row. Never null.
    is_date : Arrow bool
        True for a date without a time of day (a date column, or ten characters of text). Never null.
    """

    microseconds: Any
    is_bad: Any
    is_date: Any


def read_times(array: Any) -> Times:
    """Convert a timestamp, date or text column to microseconds since 1970 (UTC).

    Parameters
    ----------
    array : Arrow array
        Timestamp of any unit and zone, date, text (plain or dictionary; ``YYYY-MM-DD``, then optionally ``T`` or a
        space, ``HH:MM``, seconds with a fraction, and ``Z`` or an offset), or all null. The caller checks the type.
    """
    if pa.types.is_null(array.type):
        array = array.cast(_MICROSECONDS)
    if pa.types.is_dictionary(array.type) or not pa.types.is_temporal(array.type):
        return _from_text(array)
    microseconds = _to_microseconds(array)
    is_date = bool_array(np.full(len(array), pa.types.is_date(array.type)))
    return Times(microseconds, _lost(array, microseconds), is_date)


def cast_or_null(array: Any, type_: Any) -> Any:
    """Cast each value, or return null if it cannot be cast, independent of the other values.

    Bisection finds the unreadable values, so that a column with few of them is nearly as fast as one without.
    """
    try:
        return pc.cast(array, type_)
    except (pa.ArrowInvalid, OverflowError):
        if len(array) == 1:
            return pa.nulls(1, type_)
    half = len(array) // 2
    parts = [cast_or_null(array.slice(0, half), type_), cast_or_null(array.slice(half), type_)]
    return pa.concat_arrays(parts)


def _to_microseconds(array: Any) -> Any:
    unit = _MICROSECONDS if getattr(array.type, "tz", None) is None else pa.timestamp("us", array.type.tz)
    if pa.types.is_timestamp(array.type) and array.type.unit in ("us", "ns"):
        return pc.cast(array, unit, safe=False).cast(pa.int64())  # nanoseconds are truncated
    return cast_or_null(array, unit).cast(pa.int64())


def _from_text(array: Any) -> Times:
    """Parse each distinct text once."""
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    texts, indices = pc.utf8_trim_whitespace(array.dictionary.cast(pa.string())), array.indices
    blank = blank_texts(texts)
    texts = null_where(blank, texts)
    microseconds = _parse(texts).take(indices)
    bad = bool_array(~blank).take(indices)
    is_date = bool_array(as_numpy(pc.utf8_length(texts)) == _DATE_LENGTH).take(indices)
    is_bad = _truths(bad) & ~is_given(microseconds)
    return Times(microseconds, _any_or_none(is_bad), bool_array(_truths(is_date) & is_given(microseconds)))


def _parse(texts: Any) -> Any:
    """Parse each text independently: as a naive time, else as a time with an offset, else null."""
    try:
        return pc.cast(texts, _MICROSECONDS).cast(pa.int64())
    except pa.ArrowInvalid:
        texts = pc.replace_substring_regex(texts, r"^(.{19}[.]\d{6})\d+", r"\1")  # finer than microseconds
        is_zoned = _truths(pc.match_substring_regex(texts, r"^.{10,}:.*(Z|[+-]\d\d(:?\d\d)?)$"))
        naive = cast_or_null(null_where(is_zoned, texts), _MICROSECONDS).cast(pa.int64())
        zoned = cast_or_null(null_where(~is_zoned, texts), _ZONED).cast(pa.int64())
        return pc.coalesce(naive, zoned)


def _lost(array: Any, microseconds: Any) -> Any:
    """Rows whose time is outside the range of microseconds."""
    if array.null_count == microseconds.null_count:
        return None
    return _any_or_none(is_given(array) & ~is_given(microseconds))


def _truths(array: Any) -> NDArray[np.bool_]:
    """Convert a boolean Arrow array, with null as false."""
    return as_numpy(array) & is_given(array)


def _any_or_none(bad: NDArray[np.bool_]) -> Any:
    return bool_array(bad) if bad.any() else None
