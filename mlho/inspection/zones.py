"""Checks of times with a zone: next to times without one, which are read as UTC, or next to index dates that are UTC days."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.sources import Source
from mlho.sources.arrow import as_numpy, is_given, plain_array, truths
from mlho.sources.files import SourceFile
from mlho.sources.forms import is_zoned
from mlho.sources.reading import open_table, parquet_rows
from mlho.tables import is_text

_ROWS: Final = 10_000
_DATE_LENGTH: Final = len("2020-01-31")
_UTC: Final = ("UTC", "Etc/UTC", "GMT", "Z", "+00:00")

_Column = tuple[SourceFile, str]
_Found = tuple[str, Any, Any]  # place, Arrow type, distinct texts


def judge_zones(
    source: Source, times: Iterable[_Column], dates: Iterable[_Column] = (), *, has_common_day: bool = False
) -> list[str]:
    """Return warnings if only some times have a zone, or if index dates are UTC days and times have another zone.

    Parameters
    ----------
    times, dates : iterable of (file, name)
        Columns of the times of events, and of index dates; columns that a file lacks are skipped. Of texts only the first
        rows are read.
    has_common_day : bool
        Whether all samples have the same day as index date (``index.date``).
    """
    if source.format.date_formats:  # these states say whether texts have a zone
        return []
    of_times, of_dates = (list(_looked_at(source, columns)) for columns in (times, dates))
    return [*_judge_mixed([*of_times, *of_dates]), *_judge_days(of_times, of_dates, has_common_day)]


def _judge_mixed(looked_at: Iterable[_Found]) -> Iterator[str]:
    """Warn if some times have a zone and others have a time of day but no zone."""
    places: dict[bool, str] = {}
    for place, type_, texts in looked_at:
        found = {type_.tz is not None} if pa.types.is_timestamp(type_) else _kinds_of(texts)
        for is_with_zone in found:
            places.setdefault(is_with_zone, place)
    if len(places) == 2:
        yield (
            f"Times have a zone in {places[True]}, and none in {places[False]}. Those without one are taken as UTC: write all "
            "with their zone, or all in UTC."
        )


def _judge_days(
    of_times: Iterable[_Found], of_dates: Iterable[_Found], has_common_day: bool
) -> Iterator[str]:
    """Warn if times have a zone other than UTC, and index dates are days, which end at midnight UTC."""
    zoned = [place for place, type_, texts in of_times if _is_elsewhere(type_, texts)]
    days = ["one for all"] if has_common_day else []
    days += [place for place, type_, texts in of_dates if _has_days(type_, texts)]
    if zoned and days:
        yield (
            f"Times in {zoned[0]} have a zone other than UTC, and the index dates ({days[0]}) are days of UTC, which end hours "
            "earlier or later than local ones. Write index dates as times with their zone, or all times as local times without one."
        )


def _looked_at(source: Source, columns: Iterable[_Column]) -> Iterator[_Found]:
    """Yield the place, type and distinct texts of each column that exists. A Parquet file without rows has no times to judge."""
    for file, name in columns:
        table = open_table(file, source)
        if name not in table.column_names:
            continue
        type_, texts = table.type_of(name), pa.nulls(0, pa.string())
        if is_text(type_):
            batch = next(iter(table.batches([name], batch_rows=_ROWS)), None)
            texts = texts if batch is None else _distinct(batch.column(name))
        elif not parquet_rows(file):
            continue
        yield f"column {name!r} of {file.key}", type_, texts


def _distinct(array: Any) -> Any:
    return pc.unique(pc.utf8_trim_whitespace(plain_array(array).cast(pa.string()))).drop_null()


def _kinds_of(texts: Any) -> set[bool]:
    """Return whether there are texts with a zone (true), and whether there are texts with a time of day without one (false)."""
    with_zone, is_time = is_zoned(texts), is_given(texts) & (_lengths(texts) > _DATE_LENGTH)
    return {kind for kind in (True, False) if bool(np.any(is_time & (with_zone == kind)))}


def _is_elsewhere(type_: Any, texts: Any) -> bool:
    """Return whether times have a zone other than UTC."""
    if pa.types.is_timestamp(type_):
        return type_.tz is not None and type_.tz not in _UTC
    is_utc = truths(pc.match_substring_regex(texts, r"(Z|[+-]00(:?00)?)$"))
    return bool(np.any(is_zoned(texts) & ~is_utc))


def _has_days(type_: Any, texts: Any) -> bool:
    return bool(pa.types.is_date(type_)) or bool(np.any(_lengths(texts) == _DATE_LENGTH))


def _lengths(texts: Any) -> NDArray[Any]:
    return as_numpy(pc.utf8_length(texts))
