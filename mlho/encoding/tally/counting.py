"""Counting of used rows, in the pass that encodes them.

Each kind of count has its own loop over a batch, which fits into the caches: loops without conditions on the data are several times
faster than one loop that does everything.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NO_BOUND, Cohort
from mlho.encoding.cohort.windows import DAY_US, year_bounds
from mlho.encoding.tally.numbers import NumberCounter
from mlho.encoding.tally.sketch import RowSampler
from mlho.encoding.tally.tally import (
    BY_CODE,
    LOWEST_OCTAVE,
    MAX_SITES,
    NEGATIVE,
    PLACEHOLDERS,
    VALUE_BINS,
    YEARS,
    ZERO,
    Tally,
    code_hash,
)

_LOWEST_POSITIVE_PLACEHOLDER: Final = min(number for number in PLACEHOLDERS if number > 0)
_HOUR_US: Final = 3_600_000_000
_NO_SITE: Final = -1
_TIMED: Final = "timed"
"""Name of the count of rows with a time of day; the remaining rows are those at midnight."""


class _Calendar(NamedTuple):
    """The range of plausible days: its first microsecond, and for each day the month since the start and the year modulo ``YEARS``."""

    first_us: int
    months: NDArray[np.int32]
    years: NDArray[np.int8]


class RowCounter:
    """Counts used rows while they are encoded; see :class:`mlho.encoding.tally.tally.Tally`."""

    def __init__(self, cohort: Cohort, years: Sequence[int], *, has_values: bool) -> None:
        self._first_year = years[0]
        self._calendar = _calendar(*years)
        self._site_of, self._n_sites = sites_of_patients(cohort)
        self._outcome_us = first_outcomes(cohort)
        self._n_bins = VALUE_BINS if has_values else 0
        self._hours = np.zeros((YEARS, 24), np.int64)
        self._by_day = np.zeros(len(self._calendar.months), np.int64)
        self._by_site = np.zeros((self._calendar.months[-1] + 1, self._n_sites), np.int64)
        self._codes: list[str] = []
        self._hashes = np.empty(0, np.uint64)
        self._by_code = self._no_codes(0)
        # Years first: a patient's rows are often in order of time, so consecutive rows then update adjacent counts.
        self._by_year = np.zeros((YEARS, 0), np.int64)
        self._sampler = RowSampler()
        self._numbers = NumberCounter(years)

    def _no_codes(self, n: int) -> dict[str, NDArray[np.int64]]:
        columns = {"sites": self._n_sites, "values": self._n_bins}
        names = (_TIMED, *(name for name in BY_CODE if name not in {"midnight", "years"}))
        return {name: np.zeros((n, columns[name]) if name in columns else n, np.int64) for name in names}

    def add(
        self,
        codes: tuple[str, ...],
        patient: NDArray[np.int32],
        code: NDArray[np.int32],
        time: NDArray[np.int64],
        value: NDArray[np.float64],
    ) -> None:
        """Count rows; ``value`` is empty if no feature uses numbers."""
        self._grow(codes)
        counts, calendar = self._by_code, self._calendar
        _count_times(code, time, calendar, self._by_day, self._by_year, counts[_TIMED], self._hours)
        if self._n_sites:
            _count_sites(patient, code, time, calendar, self._site_of, counts["sites"], self._by_site)
        if self._outcome_us.size:
            _count_outcomes(
                patient, code, time, self._outcome_us, counts["after_outcome"], counts["before_outcome"]
            )
        if value.size:
            _count_values(code, value, counts["values"], counts["placeholders"])
            self._numbers.add(self._hashes, patient, code, time, value)
        self._sampler.add(self._hashes, patient, code, time, value.view(np.uint64))

    def _grow(self, codes: tuple[str, ...]) -> None:
        """Make room for the codes that are new."""
        if len(codes) <= len(self._codes):
            return
        self._codes = list(codes)
        new = np.array([code_hash(code) for code in codes[len(self._hashes) :]], np.uint64)
        self._hashes = np.concatenate([self._hashes, new])
        room = self._by_year.shape[1]
        if len(codes) > room:
            grown = self._no_codes(max(2 * room, len(codes)))
            for name, counts in self._by_code.items():
                grown[name][:room] = counts
            by_year = np.zeros((YEARS, len(grown[_TIMED])), np.int64)
            by_year[:, :room] = self._by_year
            self._by_code, self._by_year = grown, by_year

    def rows_by_year(self) -> dict[str, int]:
        """Return the number of used rows by year, without years that have none."""
        by_year = self._months().reshape(-1, 12).sum(axis=1)
        return {str(self._first_year + place): int(n) for place, n in enumerate(by_year) if n}

    def _months(self) -> NDArray[np.int64]:
        used = np.flatnonzero(self._by_day)
        return _sums(self._calendar.months[used], self._by_day[used], len(self._by_site))

    def tally(self) -> Tally:
        """Return the counts so far."""
        n_codes = len(self._codes)
        years = np.ascontiguousarray(self._by_year[:, :n_codes].T)
        by_code = {name: counts[:n_codes] for name, counts in self._by_code.items()}
        midnight = years.sum(axis=1) - by_code.pop(_TIMED)
        used = np.flatnonzero(self._by_day)  # few of the plausible days have rows
        counts, calendar = self._by_day[used], self._calendar
        starts = np.searchsorted(calendar.months, calendar.months[used])  # first day of each day's month
        days = used + calendar.first_us // DAY_US
        weekday = calendar.years[used].astype(np.int64) * 7 + (days + 3) % 7
        return Tally(
            codes=tuple(self._codes),
            sample=self._sampler.sample(),
            levels=self._numbers.levels(),
            series=self._numbers.series(),
            midnight=midnight,
            years=years,
            **by_code,
            months=self._by_site if self._n_sites else self._months()[:, None],
            hours=self._hours,
            weekdays=_sums(weekday, counts, 7 * YEARS).reshape(YEARS, 7),
            days=_sums(used - starts, counts, 31),
        )


def _sums(keys: NDArray[Any], counts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the sum of the counts with each key."""
    total = np.zeros(n, np.int64)
    np.add.at(total, keys, counts)
    return total


def sites_of_patients(cohort: Cohort) -> tuple[NDArray[np.int32], int]:
    """Return the site of each patient's first sample, and the number of sites; no sites if there are too many."""
    sites = np.full(cohort.n_patients, _NO_SITE, np.int32)
    if cohort.parts is None or len(cohort.parts.levels) > MAX_SITES:
        return sites, 0
    sites[:] = cohort.parts.codes[cohort.sample_starts()[:-1].clip(max=cohort.n_samples - 1)]
    return sites, len(cohort.parts.levels)


def first_outcomes(cohort: Cohort) -> NDArray[np.int64]:
    """Return the date of each patient's first outcome, ``NO_BOUND`` without one; empty if the labels have no dates."""
    if cohort.outcome_us is None:
        return np.empty(0, np.int64)
    first = np.full(cohort.n_patients, NO_BOUND, np.int64)
    positive = cohort.outcome == 1
    np.minimum.at(first, cohort.patient_of[positive], cohort.outcome_us[positive])
    return first


@lru_cache(maxsize=4)
def _calendar(first_year: int, last_year: int) -> _Calendar:
    """Return the calendar of a range of years. It is cached, because computing it takes longer than encoding a small partition."""
    first_us, end_us = year_bounds((first_year, last_year))
    days = np.arange(first_us // DAY_US, end_us // DAY_US + 1).astype("datetime64[D]")
    months = days.astype("datetime64[M]").astype(np.int64)
    months -= months[0]
    calendar = _Calendar(
        first_us, months.astype(np.int32), ((first_year + months // 12) % YEARS).astype(np.int8)
    )
    for shared in (calendar.months, calendar.years):
        shared.flags.writeable = False
    return calendar


@njit(cache=True, nogil=True)
def _count_times(
    code: Any, time: Any, calendar: Any, by_day: Any, by_year: Any, timed: Any, hours: Any
) -> None:  # pragma: no cover - compiled
    first_us, _, years = calendar
    for i in range(code.size):
        # Division by a constant is several times faster for unsigned than for signed numbers, and unsigned positions need no
        # test for negative values.
        since, c = np.uint64(time[i] - first_us), np.uint64(code[i])
        day = since // np.uint64(DAY_US)
        clock = since - day * np.uint64(DAY_US)
        year = np.uint64(years[day])
        by_day[day] += 1
        by_year[year, c] += 1
        if clock:
            timed[c] += 1
            hours[year, clock // np.uint64(_HOUR_US)] += 1


@njit(cache=True, nogil=True)
def _count_sites(
    patient: Any, code: Any, time: Any, calendar: Any, site_of: Any, sites: Any, by_site: Any
) -> None:  # pragma: no cover - compiled
    first_us, months, _ = calendar
    for i in range(code.size):
        site = site_of[np.uint64(patient[i])]
        by_site[months[np.uint64(time[i] - first_us) // np.uint64(DAY_US)], site] += 1
        sites[np.uint64(code[i]), site] += 1


@njit(cache=True, nogil=True)
def _count_outcomes(
    patient: Any, code: Any, time: Any, outcome_us: Any, after: Any, before: Any
) -> None:  # pragma: no cover - compiled
    for i in range(code.size):
        outcome = outcome_us[np.uint64(patient[i])]
        if outcome == NO_BOUND:
            continue
        if time[i] >= outcome:
            after[np.uint64(code[i])] += 1
        else:
            before[np.uint64(code[i])] += 1


@njit(cache=True, nogil=True)
def _count_values(
    code: Any, value: Any, values: Any, placeholders: Any
) -> None:  # pragma: no cover - compiled
    for i in range(code.size):
        v, c = value[i], np.uint64(code[i])
        if np.isnan(v):
            continue
        values[c, _bin_of(v)] += 1
        if v < 0 or v >= _LOWEST_POSITIVE_PLACEHOLDER:
            for placeholder in PLACEHOLDERS:
                if v == placeholder:
                    placeholders[c] += 1


@njit(cache=True, nogil=True)
def _bin_of(v: Any) -> Any:  # pragma: no cover - compiled
    """Return the bin of a number by its size."""
    if v == 0:
        return ZERO
    if v < 0:
        return NEGATIVE
    return min(max(int(np.floor(4 * (np.log2(v) - LOWEST_OCTAVE))), 0), NEGATIVE - 1)
