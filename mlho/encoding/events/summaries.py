"""Numbers that summarise the rows of a cell: recency, and the first, smallest and largest value, their mean and slope.

The rows of a code and patient are sorted by time and value before anything is added up, so equal rows give equal bytes for
any partitioning. Mean and slope are updated row by row (Welford 1962), so a constant value has exactly this mean and the
slope 0. If same-day duplicates are dropped, a day has one value: its latest in the window.
"""

from collections.abc import Collection
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.encoding.cohort.windows import DAY_US, SampleWindows
from mlho.encoding.events.patients import frozen
from mlho.encoding.events.rows import UsedRows

DAYS_PER_YEAR: Final = 365.25  # of a slope
SUMMARIES: Final = ("recency", "first", "min", "max", "mean", "slope")
_FEW: Final = 16  # maximum number of rows sorted by insertion


class RowArrays(NamedTuple):
    """Used rows for compiled code."""

    patient: NDArray[np.int32]
    time: NDArray[np.int64]
    value: NDArray[np.float64]

    @classmethod
    def of(cls, rows: UsedRows) -> Self:
        """Return the arrays of rows, read-only."""
        return cls(frozen(rows.patient), frozen(rows.time), frozen(rows.value))


class WindowArrays(NamedTuple):
    """Windows of the samples for compiled code."""

    sample_starts: NDArray[np.int64]
    index_us: NDArray[np.int64]
    upper_us: NDArray[np.int64]
    lower_us: NDArray[np.int64]

    @classmethod
    def of(cls, windows: SampleWindows) -> Self:
        """Return the arrays of windows, read-only."""
        return cls(*map(frozen, (windows.starts, windows.index_us, windows.upper_us, windows.lower_us)))


def sort_by_time(rows: UsedRows, code_starts: NDArray[np.int64]) -> None:
    """Sort the rows of each code and patient by time and value, in place.

    Parameters
    ----------
    rows : UsedRows
        Sorted by code and patient.
    code_starts : int64, shape (n_codes + 1,)
        First row of each code.
    """
    _sort_by_time(frozen(code_starts), frozen(rows.patient), rows.time, rows.value)


def summarize(
    rows: UsedRows,
    code_starts: NDArray[np.int64],
    windows: SampleWindows,
    indptr: NDArray[np.int64],
    names: Collection[str],
    *,
    is_daily: bool,
) -> dict[str, NDArray[np.float64]]:
    """Compute numbers of every cell of a block.

    Parameters
    ----------
    rows : UsedRows
        As sorted by :func:`sort_by_time`.
    code_starts : int64, shape (n_codes + 1,)
    indptr : int64, shape (n_columns + 1,)
        First cell of each column.
    names : collection of str
        Those of ``SUMMARIES`` to compute.
    is_daily : bool
        Same-day duplicates are dropped.

    Returns
    -------
    dict of name to float64, shape (n_cells,)
        ``recency``: whole days (UTC) from the last row to the index date. ``slope``: change of the value per year by least
        squares on the day, ``NaN`` unless two days have a value. The others are ``NaN`` without any value.
    """
    n_cells = int(indptr[-1])
    numbers = {name: np.empty(n_cells if name in names else 0) for name in SUMMARIES}
    _summarize(
        frozen(code_starts),
        RowArrays.of(rows),
        WindowArrays.of(windows),
        is_daily,
        indptr[:-1].copy(),
        _Numbers(*numbers.values()),
    )
    return {name: numbers[name] for name in SUMMARIES if name in names}


@njit(cache=True, nogil=True)
def _sort_by_time(
    code_starts: Any, patient: Any, time: Any, value: Any
) -> None:  # pragma: no cover - compiled
    for c in range(code_starts.size - 1):
        start = code_starts[c]
        while start < code_starts[c + 1]:
            stop = start + 1
            is_sorted = True
            while stop < code_starts[c + 1] and patient[stop] == patient[start]:
                is_sorted = is_sorted and time[stop - 1] < time[stop]
                stop += 1
            if not is_sorted:
                _sort_rows(start, stop, time, value)
            start = stop


@njit(cache=True, nogil=True)
def _sort_rows(start: Any, stop: Any, time: Any, value: Any) -> None:  # pragma: no cover - compiled
    if stop - start > _FEW:
        order = np.argsort(time[start:stop])
        time[start:stop] = time[start:stop][order]
        if value.size:
            value[start:stop] = value[start:stop][order]
    else:
        for i in range(start + 1, stop):
            for j in range(i, start, -1):
                if time[j - 1] <= time[j]:
                    break
                time[j - 1], time[j] = time[j], time[j - 1]
                if value.size:
                    value[j - 1], value[j] = value[j], value[j - 1]
    if value.size == 0:
        return
    first = start
    while first < stop:
        after = first + 1
        while after < stop and time[after] == time[first]:
            after += 1
        if after - first > 1:
            # NaN last. Not by np.sort: tests/unit/test_compiled_functions.py gives the reason.
            value[first:after] = value[first:after][np.argsort(value[first:after])]
        first = after


class _Numbers(NamedTuple):
    """The numbers of the cells, in the order of ``SUMMARIES``."""

    recency: NDArray[np.float64]
    first: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    mean: NDArray[np.float64]
    slope: NDArray[np.float64]


@njit(cache=True, nogil=True)
def _summarize(
    code_starts: Any, rows: RowArrays, windows: WindowArrays, is_daily: Any, place: Any, out: _Numbers
) -> None:  # pragma: no cover - compiled
    """Write the numbers of each cell at the ``place`` of its column and advance it. Skip empty arrays."""
    patient, time, value = rows
    sample_starts, index_us, upper_us, lower_us = windows
    recency, first, lowest, highest, mean, slope = out
    n_windows = lower_us.shape[0]
    is_seen, last_day = np.zeros(n_windows, np.bool_), np.zeros(n_windows, np.int64)
    n, x_mean, xx, xy = np.zeros(n_windows), np.zeros(n_windows), np.zeros(n_windows), np.zeros(n_windows)
    y_first, y_min = np.zeros(n_windows), np.zeros(n_windows)
    y_max, y_mean = np.zeros(n_windows), np.zeros(n_windows)
    for c in range(code_starts.size - 1):
        start = code_starts[c]
        while start < code_starts[c + 1]:
            p = patient[start]
            stop = start + 1
            while stop < code_starts[c + 1] and patient[stop] == p:
                stop += 1
            for s in range(sample_starts[p], sample_starts[p + 1]):
                is_seen[:] = False
                n[:] = 0.0
                for i in range(start, stop):
                    t = time[i]
                    if t > upper_us[s]:
                        break
                    day = t // DAY_US
                    is_used = value.size > 0 and not np.isnan(value[i])
                    if is_used and is_daily:
                        j = i + 1
                        while j < stop and time[j] <= upper_us[s] and time[j] // DAY_US == day:
                            if not np.isnan(value[j]):
                                is_used = False  # the day has a later value
                                break
                            j += 1
                    for k in range(n_windows - 1, -1, -1):
                        if t <= lower_us[k, s]:
                            break  # shorter windows begin later
                        is_seen[k] = True
                        last_day[k] = day
                        if not is_used:
                            continue
                        x, y = np.float64(day), value[i]
                        if n[k] == 0:
                            n[k], x_mean[k], xx[k], xy[k] = 1.0, x, 0.0, 0.0
                            y_first[k], y_min[k], y_max[k], y_mean[k] = y, y, y, y
                            continue
                        n[k] += 1.0
                        y_min[k], y_max[k] = min(y_min[k], y), max(y_max[k], y)
                        dx = x - x_mean[k]
                        x_mean[k] += dx / n[k]
                        y_mean[k] += (y - y_mean[k]) / n[k]
                        xx[k] += dx * (x - x_mean[k])
                        xy[k] += dx * (y - y_mean[k])
                for k in range(n_windows):
                    if not is_seen[k]:
                        continue
                    at = place[c * n_windows + k]
                    place[c * n_windows + k] = at + 1
                    is_known = n[k] > 0
                    if recency.size:
                        recency[at] = np.float64(index_us[s] // DAY_US - last_day[k])
                    if first.size:
                        first[at] = y_first[k] if is_known else np.nan
                    if lowest.size:
                        lowest[at] = y_min[k] if is_known else np.nan
                    if highest.size:
                        highest[at] = y_max[k] if is_known else np.nan
                    if mean.size:
                        mean[at] = y_mean[k] if is_known else np.nan
                    if slope.size:
                        slope[at] = xy[k] / xx[k] * DAYS_PER_YEAR if is_known and xx[k] > 0 else np.nan
            start = stop
