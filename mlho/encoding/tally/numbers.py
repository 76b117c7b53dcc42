"""The numbers of codes over time: sums by month, and a sample of patients' series. Collected in the pass that encodes rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.arrays import is_new
from mlho.encoding.cohort.windows import DAY_US, year_bounds
from mlho.encoding.tally.sketch import mix

MONTHS: Final = 12 * 64
"""Number of months in the counts by code and month: years go by modulo 64, as in :class:`mlho.encoding.tally.tally.Tally`."""
LEVELS: Final = 120
"""Number of levels of positive numbers from 2⁻¹⁰ to 2²⁰: four per octave, of equal width within an octave."""
SAMPLED_ROWS: Final = 1 << 14
MOST_OF_SERIES: Final = 32
"""Maximum number of rows per series, so that a few long series do not fill the sample."""
_FIRST_LEVEL: Final = 4 * (1023 - 10)
_NO_SLOT: Final = -1
_LAST_HASH: Final = np.uint64(np.iinfo(np.uint64).max)


@dataclass(frozen=True, eq=False)
class MonthlyLevels:
    """Sums of the levels of positive numbers: one entry for each code and month with any, sorted."""

    code: NDArray[np.int64]
    """Position of the code. Shape (n_entries,)."""
    month: NDArray[np.int64]
    """Year modulo 64 × 12 + month. Shape (n_entries,)."""
    n: NDArray[np.int64]
    total: NDArray[np.int64]
    """Count of numbers, and the sum of their levels. Shape (n_entries,)."""

    def of_codes(self, place: NDArray[np.int64]) -> "MonthlyLevels":
        """Return the entries with new positions of the codes; −1 leaves a code out."""
        code = place[self.code] if len(self.code) else self.code
        kept = code >= 0
        return merged_levels([MonthlyLevels(code[kept], self.month[kept], self.n[kept], self.total[kept])])


def merged_levels(parts: Iterable[MonthlyLevels]) -> MonthlyLevels:
    """Return the sums of all parts."""
    every = list(parts)
    code, month, n, total = (
        np.concatenate([np.empty(0, np.int64), *(getattr(part, name) for part in every)])
        for name in ("code", "month", "n", "total")
    )
    key, place = np.unique(code * MONTHS + month, return_inverse=True)
    sums = np.zeros((2, len(key)), np.int64)
    np.add.at(sums[0], place, n)
    np.add.at(sums[1], place, total)
    return MonthlyLevels(key // MONTHS, key % MONTHS, sums[0], sums[1])


@dataclass(frozen=True, eq=False)
class SeriesSample:
    """Sampled rows with a number, by series. A series is the numbers of one code of one patient.

    The sample holds the series with the smallest hashes, as many as fit into ``SAMPLED_ROWS`` rows. A series contributes its
    earliest distinct rows, at most ``MOST_OF_SERIES``. The sample depends on the rows alone, not on their order or partition.
    """

    series: NDArray[np.uint64]
    code: NDArray[np.uint64]
    """Hash of patient and code, ascending, and hash of the code. Shape (n_rows,)."""
    time: NDArray[np.int64]
    """Microseconds, ascending within a series. Shape (n_rows,)."""
    value: NDArray[np.float64]
    """Shape (n_rows,)."""


def merged_series(parts: Iterable[SeriesSample]) -> SeriesSample:
    """Return the sample of all rows.

    Examples
    --------
    >>> one = SeriesSample(*(np.array([value], kind) for value, kind in ((5, "u8"), (1, "u8"), (3, "i8"), (2.5, "f8"))))
    >>> merged_series([one, one]).value.tolist()
    [2.5]
    """
    every = list(parts)
    columns = {
        name: np.concatenate([np.empty(0, kind), *(getattr(part, name) for part in every)])
        for name, kind in (
            ("series", np.uint64),
            ("code", np.uint64),
            ("time", np.int64),
            ("value", np.float64),
        )
    }
    kept = _kept(columns["series"], columns["time"], columns["value"])
    return SeriesSample(**{name: column[kept] for name, column in columns.items()})


def _kept(
    series: NDArray[np.uint64], time: NDArray[np.int64], value: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the rows of the sample, sorted by series, time and number."""
    bits = value.view(np.uint64)
    order = np.lexsort((bits, time, series))
    order = order[is_new(series[order], time[order], bits[order])]
    s = series[order]
    starts = np.flatnonzero(is_new(s))
    sizes = np.diff(np.r_[starts, len(s)])
    is_early = np.arange(len(s)) - np.repeat(starts, sizes) < MOST_OF_SERIES
    n_whole = int(np.searchsorted(np.cumsum(np.minimum(sizes, MOST_OF_SERIES)), SAMPLED_ROWS, side="right"))
    end = starts[n_whole] if n_whole < len(starts) else len(s)
    return np.asarray(order[:end][is_early[:end]], np.int64)


class _Rows(NamedTuple):
    series: NDArray[np.uint64]
    code: NDArray[np.uint64]
    time: NDArray[np.int64]
    value: NDArray[np.float64]


class NumberCounter:
    """Counts the numbers of rows while they are encoded."""

    def __init__(self, years: Sequence[int]) -> None:
        self._first_us, _ = year_bounds(years)
        self._months = _months_of_days(*years)
        self._slots = np.empty(0, np.int64)
        self._n_slots = 0
        self._sums = np.zeros((2, 0, MONTHS), np.int64)
        n = 4 * SAMPLED_ROWS
        self._rows = _Rows(np.empty(n, np.uint64), np.empty(n, np.uint64), np.empty(n, np.int64), np.empty(n))
        self._n_rows = 0
        self._bound = _LAST_HASH

    def add(
        self,
        hashes: NDArray[np.uint64],
        patient: NDArray[np.int32],
        code: NDArray[np.int32],
        time: NDArray[np.int64],
        value: NDArray[np.float64],
    ) -> None:
        """Count rows; those without a number (NaN) are skipped.

        Parameters
        ----------
        hashes : uint64, shape (n_codes,)
        patient, code, time, value : arrays, shape (n_rows,)
        """
        self._grow(code, value, len(hashes))
        _count_levels(
            code, time, value, value.view(np.uint64), self._slots, self._first_us, self._months, self._sums
        )
        first = 0
        while first < len(value):
            columns = (patient, code, time, value)
            first, self._n_rows = _sample(columns, first, hashes, self._bound, self._rows, self._n_rows)
            if self._n_rows == len(self._rows.series):
                self._shrink()

    def _grow(self, code: NDArray[np.int32], value: NDArray[np.float64], n_codes: int) -> None:
        """Assign a position in the sums to each new code that has a positive number."""
        if n_codes > len(self._slots):
            more = np.full(n_codes - len(self._slots), _NO_SLOT, np.int64)
            self._slots = np.concatenate([self._slots, more])
        new = np.flatnonzero(_has_positive(code, value, n_codes) & (self._slots == _NO_SLOT))
        self._slots[new] = self._n_slots + np.arange(len(new))
        self._n_slots += len(new)
        room = self._sums.shape[1]
        if self._n_slots > room:
            grown = np.zeros((2, max(2 * room, self._n_slots), MONTHS), np.int64)
            grown[:, :room] = self._sums
            self._sums = grown

    def _shrink(self) -> None:
        rows, n = self._rows, self._n_rows
        kept = _kept(rows.series[:n], rows.time[:n], rows.value[:n])
        if len(np.unique(rows.series[:n])) > len(np.unique(rows.series[kept])):
            self._bound = np.uint64(rows.series[:n][~np.isin(rows.series[:n], rows.series[kept])].min())
        for column in rows:
            column[: len(kept)] = column[kept]
        self._n_rows = len(kept)

    def levels(self) -> MonthlyLevels:
        """Return the sums so far."""
        code = np.flatnonzero(self._slots != _NO_SLOT)
        n, total = (sums[self._slots[code]] for sums in self._sums)
        place, month = np.nonzero(n)
        return MonthlyLevels(code[place], month, n[place, month], total[place, month])

    def series(self) -> SeriesSample:
        """Return the sample so far."""
        rows, n = self._rows, self._n_rows
        return merged_series([SeriesSample(rows.series[:n], rows.code[:n], rows.time[:n], rows.value[:n])])


@lru_cache(maxsize=4)
def _months_of_days(first_year: int, last_year: int) -> NDArray[np.int64]:
    """Return the month of each day of a range of years, as in :class:`MonthlyLevels`. It is cached like the calendar of the row counter."""
    first_us, end_us = year_bounds((first_year, last_year))
    days = np.arange(first_us // DAY_US, end_us // DAY_US + 1).astype("datetime64[D]")
    months = (12 * 1970 + days.astype("datetime64[M]").astype(np.int64)) % MONTHS
    months.flags.writeable = False
    return months


@njit(cache=True, nogil=True)
def _has_positive(code: Any, value: Any, n_codes: Any) -> Any:  # pragma: no cover - compiled
    """Return which codes have a positive number."""
    has_positive = np.zeros(n_codes, np.bool_)
    for i in range(value.size):
        if value[i] > 0:
            has_positive[code[i]] = True
    return has_positive


@njit(cache=True, nogil=True)
def _count_levels(
    code: Any, time: Any, value: Any, bits: Any, slots: Any, first_us: Any, months: Any, sums: Any
) -> None:  # pragma: no cover - compiled
    for i in range(value.size):
        if value[i] > 0:
            # Exponent and the first two bits of the mantissa: four levels per octave, without a logarithm.
            level = np.int64(bits[i] >> np.uint64(50)) - _FIRST_LEVEL
            day = np.uint64(time[i] - first_us) // np.uint64(DAY_US)
            slot, month = slots[code[i]], months[day]
            sums[0, slot, month] += 1
            sums[1, slot, month] += min(max(level, 0), LEVELS - 1)


@njit(cache=True, nogil=True)
def _sample(
    columns: Any, first: Any, hashes: Any, bound: Any, rows: Any, n_rows: Any
) -> Any:  # pragma: no cover - compiled
    """Add rows of series below the bound until the buffer is full. Return the next row, and the number of rows in the buffer."""
    patient, code, time, value = columns
    series, codes, times, values = rows
    for i in range(first, value.size):
        if n_rows == series.size:
            return i, n_rows
        if np.isnan(value[i]):
            continue
        series_hash = mix(hashes[code[i]] ^ (np.uint64(patient[i]) * np.uint64(0x9E3779B97F4A7C15)))
        if series_hash < bound:
            series[n_rows], codes[n_rows], times[n_rows], values[n_rows] = (
                series_hash,
                hashes[code[i]],
                time[i],
                value[i],
            )
            n_rows += 1
    return value.size, n_rows
