"""Files of times with a zone and files of times without one: the latter are read as UTC, which may shift them by hours."""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlho.sources import Source
from mlho.sources.arrow import as_numpy, is_given
from mlho.sources.files import SourceFile
from mlho.sources.forms import is_zoned
from mlho.sources.reading import open_table
from mlho.tables import is_text

_ROWS: Final = 10_000
_DATE_LENGTH: Final = len("2020-01-31")


def judge_zones(source: Source, columns: Iterable[tuple[SourceFile, str]]) -> list[str]:
    """Return a warning if some times have a zone and others have a time of day and no zone.

    Parameters
    ----------
    columns : iterable of (file, name)
        Columns of times; those that a file lacks are passed over. The first rows of text are looked at.
    """
    if source.format.date_formats:  # which state whether texts have a zone
        return []
    places: dict[bool, str] = {}
    for file, name in columns:
        table = open_table(file, source)
        if name not in table.column_names:
            continue
        type_ = table.type_of(name)
        if pa.types.is_timestamp(type_):
            found = {type_.tz is not None}
        elif is_text(type_):
            batch = next(iter(table.batches([name], batch_rows=_ROWS)), None)
            found = set() if batch is None else _kinds_of(batch.column(name))
        else:
            continue
        for is_with_zone in found:
            places.setdefault(is_with_zone, f"column {name!r} of {file.key}")
    if len(places) < 2:
        return []
    return [
        f"Times have a zone in {places[True]}, and none in {places[False]}. Those without one are taken as UTC: write all "
        "with their zone, or all in UTC."
    ]


def _kinds_of(array: Any) -> set[bool]:
    """Return whether there are texts with a zone (true), and whether there are texts with a time of day without one (false)."""
    plain = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    texts = pc.unique(pc.utf8_trim_whitespace(plain.cast(pa.string()))).drop_null()
    with_zone = is_zoned(texts)
    is_time = is_given(texts) & (as_numpy(pc.utf8_length(texts)) > _DATE_LENGTH)
    return {kind for kind in (True, False) if bool(np.any(is_time & (with_zone == kind)))}
