"""Guesses of the format of dates from texts. Pure."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.sources.arrow import as_numpy, blank_texts, bool_array
from mlho.sources.forms import begins_as
from mlho.sources.times import read_times
from mlho.spec.layout import ISO, Format

_DAYS: Final = (
    "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d%b%Y", "%d-%b-%Y", "%d %b %Y",
    "%b %d, %Y", "%d %B %Y", "%Y%m%d", "%Y-%m-%d",
)  # fmt: skip
_CLOCKS: Final = (
    "",
    " %H:%M:%S",
    " %H:%M",
    " %H:%M:%S.%f",
    " %I:%M:%S %p",
    " %I:%M %p",
    ":%H:%M:%S",
    "%H%M%S",
    "%H%M",
    " %H:%M:%S UTC",
)
#: Words for a missing value, in lower case: those that the layouts read as missing, and NaN of pandas.
_MISSING: Final = ("na", "nan", "null", "(null)", "\\n")
_MOST_FORMATS: Final = 2  # with and without a time of day


def guess_formats(texts: Any) -> tuple[tuple[str, ...], bool] | None:
    """Guess the formats of dates in a column of text.

    Parameters
    ----------
    texts : Arrow string array
        Sample of the column.

    Returns
    -------
    tuple of formats and whether a different form reads as many, or None
        No formats for ISO 8601. ``None`` if no combination reads every text. Words for a missing value, such as NA, are
        ignored.

    Examples
    --------
    >>> guess_formats(pa.array(["13.02.2020", "01.02.2020 08:30"]))
    (('%d.%m.%Y', '%d.%m.%Y %H:%M'), False)
    """
    distinct = pc.unique(texts.filter(bool_array(~is_missing(texts))))
    if not len(distinct):
        return (), False
    if not len(_unread(distinct, (ISO,))):
        return (), False
    # A form that does not match the first text cannot read all texts. Most columns of text are not dates.
    first = distinct[0].as_py().strip()
    days = [day for day in _DAYS if begins_as(first, day)]
    found = [formats for day in days if (formats := _formats_of(distinct, day))]
    return (found[0], len(found) > 1) if found else None


def is_missing(texts: Any) -> NDArray[np.bool_]:
    """Return which texts are null, white space, or a word for a missing value."""
    words = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    is_word: NDArray[np.bool_] = as_numpy(pc.is_in(words, value_set=pa.array(_MISSING)))
    return blank_texts(texts) | is_word


def _formats_of(texts: Any, day: str) -> tuple[str, ...]:
    """Return formats with this form of the day that together read every text; an empty result if there are none."""
    kept: list[str] = []
    left = texts
    for clock in _CLOCKS:
        n_before = len(left)
        left = _unread(left, (day + clock,))
        if len(left) < n_before:
            kept.append(day + clock)
        if not len(left) or len(kept) > _MOST_FORMATS:
            break
    return tuple(kept) if not len(left) and kept else ()


def _unread(texts: Any, formats: Sequence[str]) -> Any:
    times = read_times(texts, Format(date_formats=tuple(formats)))
    return texts.filter(times.is_bad) if times.is_bad is not None else texts.slice(0, 0)
