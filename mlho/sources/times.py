"""Conversion of timestamps, dates, text and numbers to microseconds since 1970 in UTC.

A naive time is interpreted as UTC without a shift. A time with an offset is converted to UTC. A date is its midnight.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.sources.arrow import as_numpy, blank_texts, bool_array, int64_array, is_given, null_where, truths
from mlho.sources.forms import cast_or_null, is_zoned, iso_texts
from mlho.spec.layout import ISO, Format, has_time_of_day
from mlho.tables import is_number

DAY_US: Final = 86_400_000_000
_MICROSECONDS: Final = pa.timestamp("us")
_ZONED: Final = pa.timestamp("us", "UTC")
_DATE_LENGTH: Final = len("2020-01-31")
_UNIT_US: Final = {"s": 1_000_000, "ms": 1_000, "us": 1, "days": DAY_US}
_MAX_INT64: Final = 2.0**63
_PLAIN: Final = Format()


@dataclass(frozen=True)
class Times:
    """Times of one column."""

    microseconds: Any
    """Since 1970-01-01T00:00 UTC; null if missing or unreadable. Arrow int64."""
    is_bad: Any
    """True for an unreadable time; None if there is no such row. Never null. Arrow bool."""
    is_date: Any
    """True for a date without a time of day (a date column, or ten characters of text). Never null. Arrow bool."""


def read_times(array: Any, form: Format = _PLAIN) -> Times:
    """Convert a column of times to microseconds since 1970 (UTC).

    Parameters
    ----------
    array : Arrow array
        Timestamp of any unit and zone, date, text (plain or dictionary; ``YYYY-MM-DD``, then optionally ``T`` or a
        space, ``HH:MM``, seconds with a fraction, and ``Z`` or an offset), or all null. The caller checks the type.
    form : Format
        Format of the table: other forms of text, and the unit of numbers.
    """
    if pa.types.is_null(array.type):
        array = array.cast(_MICROSECONDS)
    if is_number(array.type):
        if form.time_unit is not None:
            return _from_numbers(array, form.time_unit)
        array = array.cast(pa.int64(), safe=False).cast(pa.string())
    if pa.types.is_dictionary(array.type) or not pa.types.is_temporal(array.type):
        return _from_text(array, form)
    microseconds = _to_microseconds(array)
    is_date = bool_array(np.full(len(array), pa.types.is_date(array.type)))
    return Times(microseconds, _lost(array, microseconds), is_date)


def _to_microseconds(array: Any) -> Any:
    unit = _MICROSECONDS if getattr(array.type, "tz", None) is None else pa.timestamp("us", array.type.tz)
    if pa.types.is_timestamp(array.type) and array.type.unit == "ns":  # a cast would round up before 1970
        return null_where(~is_given(array), int64_array(as_numpy(array) // 1_000))
    return cast_or_null(array, unit).cast(pa.int64())


def _from_numbers(array: Any, unit: str) -> Times:
    """Convert numbers with a unit; numbers beyond the range of microseconds are unreadable."""
    is_known = is_given(array)
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64(), safe=False)
    numbers = as_numpy(array)
    is_known = is_known & ~np.isnan(numbers) if numbers.dtype.kind == "f" else is_known
    factor = _UNIT_US[unit]
    is_bad = is_known & (np.abs(numbers.astype(np.float64)) >= _MAX_INT64 / factor)
    whole = np.floor(np.where(is_known & ~is_bad, numbers, 0)).astype(np.int64) * factor
    is_date = bool_array(np.full(len(array), unit == "days"))
    return Times(null_where(~is_known | is_bad, int64_array(whole)), _any_or_none(is_bad), is_date)


def _from_text(array: Any, form: Format) -> Times:
    """Parse each distinct text once."""
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    texts, indices = pc.utf8_trim_whitespace(array.dictionary.cast(pa.string())), array.indices
    blank = blank_texts(texts)
    texts = null_where(blank, texts)
    microseconds, is_date = _parse_as(texts, form)
    microseconds, is_date = microseconds.take(indices), bool_array(is_date).take(indices)
    is_bad = truths(bool_array(~blank).take(indices)) & ~is_given(microseconds)
    return Times(microseconds, _any_or_none(is_bad), bool_array(truths(is_date) & is_given(microseconds)))


def _parse_as(texts: Any, form: Format) -> tuple[Any, NDArray[np.bool_]]:
    """Parse each text by the first form that matches. Return the microseconds (null if none matches), and which texts are dates."""
    if not form.date_formats and form.time_unit is None:
        return _parse_iso(texts)
    parsed, is_date = pa.nulls(len(texts), pa.int64()), np.zeros(len(texts), np.bool_)
    found = []
    if form.time_unit is not None:
        is_whole = truths(pc.match_substring_regex(texts, r"^[-+]?\d{1,18}([.]0*)?$"))
        whole = pc.replace_substring_regex(null_where(~is_whole, texts), r"^[+]|[.]0*$", "")
        times = _from_numbers(whole.cast(pa.int64()), form.time_unit)
        found.append((times.microseconds, as_numpy(times.is_date)))
    for date_format in form.date_formats or (ISO,):
        if date_format == ISO:
            found.append(_parse_iso(texts))
        else:
            whole_day = np.full(len(texts), not has_time_of_day(date_format))
            found.append((_parse(iso_texts(texts, date_format)), whole_day))
    for microseconds, is_day in found:
        is_date |= is_given(microseconds) & ~is_given(parsed) & is_day
        parsed = pc.coalesce(parsed, microseconds)
    return parsed, is_date


def _parse_iso(texts: Any) -> tuple[Any, NDArray[np.bool_]]:
    return _parse(texts), as_numpy(pc.utf8_length(texts)) == _DATE_LENGTH


def _parse(texts: Any) -> Any:
    """Parse each text independently: as a naive time, otherwise as a time with an offset, otherwise as null."""
    try:
        return pc.cast(texts, _MICROSECONDS).cast(pa.int64())
    except pa.ArrowInvalid:
        texts = pc.replace_substring_regex(texts, r"^(.{19}[.]\d{6})\d+", r"\1")  # finer than microseconds
        zoned = is_zoned(texts)
        naive = cast_or_null(null_where(zoned, texts), _MICROSECONDS).cast(pa.int64())
        with_offset = cast_or_null(null_where(~zoned, texts), _ZONED).cast(pa.int64())
        return pc.coalesce(naive, with_offset)


def _lost(array: Any, microseconds: Any) -> Any:
    """Return which times are outside the range of microseconds; None if there are none."""
    if array.null_count == microseconds.null_count:
        return None
    return _any_or_none(is_given(array) & ~is_given(microseconds))


def _any_or_none(bad: NDArray[np.bool_]) -> Any:
    return bool_array(bad) if bad.any() else None
