"""Demographics computed from the index date: ``index_year``, ``index_month``, and completed years.

``index_year`` is a number, ``index_month`` a category from ``01`` to ``12``. Each is computed if the demographics have no column
of that name. Training and scoring use the same functions.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import CategoricalColumn, NumericColumn
from mlho.encoding.cohort.levels import renumbered
from mlho.errors import SpecError
from mlho.sources.times import DAY_US
from mlho.spec.training import TrainingSpec

INDEX_YEAR: Final = "index_year"
INDEX_MONTH: Final = "index_month"
CALENDAR: Final = (INDEX_YEAR, INDEX_MONTH)
_MONTHS: Final = tuple(f"{month:02d}" for month in range(1, 13))
_EPOCH: Final = 1970


def calendar_names(spec: TrainingSpec, have: Collection[str]) -> tuple[str, ...]:
    """Return the demographics that are computed from the index date.

    Parameters
    ----------
    have : collection of str
        Demographics of the table.

    Raises
    ------
    SpecError
        There is no index date, or one of these demographics is declared categorical.
    """
    names = tuple(name for name in spec.features.demographics if name in CALENDAR and name not in have)
    if names and not spec.cohort.has_index:
        raise SpecError(
            f"features.demographics: {names[0]} is computed from the index date, but cohort.index is none. Give an index "
            f"date, add a column {names[0]!r} to the demographics, or leave it out."
        )
    if declared := [name for name in names if name in spec.features.categorical]:
        raise SpecError(
            f"features.categorical: {declared[0]} is taken from the index date; {INDEX_YEAR} is a number and {INDEX_MONTH} a "
            "category. Leave it out."
        )
    return names


def calendar_column(name: str, index_us: NDArray[np.int64]) -> NumericColumn | CategoricalColumn:
    """Return the values of one name in ``CALENDAR``, one for each sample.

    Parameters
    ----------
    index_us : int64, shape (n_samples,)
        Index dates in microseconds since 1970.

    Examples
    --------
    >>> calendar_column("index_year", np.array([0, 86_400_000_000 * 365])).values.tolist()
    [1970.0, 1971.0]
    """
    months = index_us.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    if name == INDEX_YEAR:
        return NumericColumn(name, (months // 12 + _EPOCH).astype(np.float64))
    return renumbered(name, list(_MONTHS), months % 12)


def calendar_values(name: str, index_us: NDArray[np.int64]) -> Sequence[Any]:
    """Return the values of :func:`calendar_column` as plain values, for scoring."""
    column = calendar_column(name, index_us)
    if isinstance(column, NumericColumn):
        values: list[float] = column.values.tolist()
        return values
    return [column.levels[code] for code in column.codes.tolist()]


def completed_years(from_us: NDArray[np.int64], to_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of anniversaries of one day up to another; a 29 February has its anniversary on 1 March in other years.

    Examples
    --------
    >>> born, days = np.array(["2000-02-29"] * 2, "M8[us]"), np.array(["2018-02-28", "2018-03-01"], "M8[us]")
    >>> completed_years(born.astype(np.int64), days.astype(np.int64)).tolist()
    [17, 18]
    """
    years, months, days = zip(*(_calendar(times) for times in (from_us, to_us)), strict=True)
    is_before = (months[1] < months[0]) | ((months[1] == months[0]) & (days[1] < days[0]))
    return np.asarray(years[1] - years[0] - is_before)


def _calendar(time_us: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the year (since 1970), the month (0 to 11) and the day of the month (from 0)."""
    day = (time_us // DAY_US).astype("M8[D]")
    month, year = day.astype("M8[M]"), day.astype("M8[Y]")
    return (
        year.astype(np.int64),
        (month - year.astype("M8[M]")).astype(np.int64),
        (day - month.astype("M8[D]")).astype(np.int64),
    )
