"""Counting of used rows, in the pass that encodes them."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NO_BOUND, Cohort
from mlho.encoding.cohort.windows import DAY_US, year_bounds
from mlho.encoding.tally.sketch import SAMPLED, RowSample, compact, mix
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

_HOUR_US: Final = 3_600_000_000
_NO_SITE: Final = -1


class _Calendar(NamedTuple):
    """The plausible days: the first microsecond, and for each day its month, counted from the first, and its year modulo ``YEARS``."""

    first_us: int
    months: NDArray[np.int32]
    years: NDArray[np.int8]


class _Counts(NamedTuple):
    """Counts by code, then those of all rows."""

    midnight: NDArray[np.int64]
    years: NDArray[np.int64]
    sites: NDArray[np.int64]
    values: NDArray[np.int64]
    placeholders: NDArray[np.int64]
    after_outcome: NDArray[np.int64]
    before_outcome: NDArray[np.int64]
    hours: NDArray[np.int64]
    by_day: NDArray[np.int64]
    by_site: NDArray[np.int64]
    """By month and site; no column without sites."""


class _Sample(NamedTuple):
    hashes: NDArray[np.uint64]
    counts: NDArray[np.int64]
    state: NDArray[np.int64]
    """Filled places."""
    limit: NDArray[np.uint64]
    """Hashes from it on are not in the sample."""


class RowCounter:
    """Counts used rows while they are encoded; see :class:`mlho.encoding.tally.tally.Tally`."""

    def __init__(self, cohort: Cohort, years: Sequence[int], *, has_values: bool) -> None:
        self._first_year = years[0]
        self._calendar = _calendar(years)
        self._site_of, self._n_sites = sites_of_patients(cohort)
        self._outcome_us = first_outcomes(cohort)
        self._n_bins = VALUE_BINS if has_values else 0
        self._hours = np.zeros((YEARS, 24), np.int64)
        self._by_day = np.zeros(len(self._calendar.months), np.int64)
        self._by_site = np.zeros((self._calendar.months[-1] + 1, self._n_sites), np.int64)
        self._codes: list[str] = []
        self._hashes = np.empty(0, np.uint64)
        self._by_code = self._no_codes(0)
        self._sample = _Sample(
            np.empty(2 * SAMPLED, np.uint64),
            np.empty(2 * SAMPLED, np.int64),
            np.zeros(1, np.int64),
            np.full(1, np.iinfo(np.uint64).max, np.uint64),
        )

    def _no_codes(self, n: int) -> dict[str, NDArray[np.int64]]:
        columns = {"years": YEARS, "sites": self._n_sites, "values": self._n_bins}
        return {name: np.zeros((n, columns[name]) if name in columns else n, np.int64) for name in BY_CODE}

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
        _count(
            (patient, code, time, value, value.view(np.uint64)),
            self._hashes,
            self._site_of,
            self._outcome_us,
            self._calendar,
            _Counts(**self._by_code, hours=self._hours, by_day=self._by_day, by_site=self._by_site),
            self._sample,
        )

    def _grow(self, codes: tuple[str, ...]) -> None:
        """Make room for the codes that are new."""
        if len(codes) <= len(self._codes):
            return
        self._codes = list(codes)
        new = np.array([code_hash(own) for own in codes[len(self._hashes) :]], np.uint64)
        self._hashes = np.concatenate([self._hashes, new])
        room = len(self._by_code["midnight"])
        if len(codes) > room:
            grown = self._no_codes(max(2 * room, len(codes)))
            for name, counts in self._by_code.items():
                grown[name][:room] = counts
            self._by_code = grown

    def rows_by_year(self) -> dict[str, int]:
        """Used rows of each year with any."""
        by_year = self._months().reshape(-1, 12).sum(axis=1)
        return {str(self._first_year + place): int(n) for place, n in enumerate(by_year) if n}

    def _months(self) -> NDArray[np.int64]:
        return _sums(self._calendar.months, self._by_day, len(self._by_site))

    def tally(self) -> Tally:
        """Return the counts so far."""
        own = self._sample
        n = compact(own.hashes, own.counts, own.state[0])
        n_codes = len(self._codes)
        days = np.arange(self._by_day.size) + self._calendar.first_us // DAY_US
        starts = np.searchsorted(
            self._calendar.months, self._calendar.months
        )  # first day of each day's month
        weekday = self._calendar.years.astype(np.int64) * 7 + (days + 3) % 7
        return Tally(
            codes=tuple(self._codes),
            sample=RowSample(own.hashes[:n].copy(), own.counts[:n].copy()),
            **{name: counts[:n_codes] for name, counts in self._by_code.items()},
            months=self._by_site if self._n_sites else self._months()[:, None],
            hours=self._hours,
            weekdays=_sums(weekday, self._by_day, 7 * YEARS).reshape(YEARS, 7),
            days=_sums(np.arange(days.size) - starts, self._by_day, 31),
        )


def _sums(keys: NDArray[Any], counts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the sum of the counts with each key."""
    total = np.zeros(n, np.int64)
    np.add.at(total, keys, counts)
    return total


def sites_of_patients(cohort: Cohort) -> tuple[NDArray[np.int32], int]:
    """Return the site of each patient's first sample, and the number of sites; no site if there are too many."""
    sites = np.full(cohort.n_patients, _NO_SITE, np.int32)
    if cohort.parts is None or len(cohort.parts.levels) > MAX_SITES:
        return sites, 0
    sites[:] = cohort.parts.codes[cohort.sample_starts()[:-1].clip(max=cohort.n_samples - 1)]
    return sites, len(cohort.parts.levels)


def first_outcomes(cohort: Cohort) -> NDArray[np.int64]:
    """Return the date of each patient's first outcome, ``NO_BOUND`` without one; empty if the labels have no dates."""
    if cohort.outcome_us is None:
        return np.empty(0, np.int64)
    found = np.full(cohort.n_patients, NO_BOUND, np.int64)
    positive = cohort.outcome == 1
    np.minimum.at(found, cohort.patient_of[positive], cohort.outcome_us[positive])
    return found


def _calendar(years: Sequence[int]) -> _Calendar:
    first_us, end_us = year_bounds(years)
    days = np.arange(first_us // DAY_US, end_us // DAY_US + 1).astype("datetime64[D]")
    months = days.astype("datetime64[M]").astype(np.int64)
    months -= months[0]
    return _Calendar(first_us, months.astype(np.int32), ((years[0] + months // 12) % YEARS).astype(np.int8))


@njit(cache=True, nogil=True)
def _count(
    rows: Any, code_hashes: Any, site_of: Any, outcome_us: Any, calendar: Any, counts: Any, sample: Any
) -> None:  # pragma: no cover - compiled
    patient, code, time, value, bits = rows
    first_us, months, years = calendar
    hashes, hash_counts, state, limit = sample
    has_sites = counts.by_site.shape[1] > 0
    n_hashes, bound = state[0], limit[0]
    for i in range(patient.size):
        p, c, t = patient[i], code[i], time[i]
        # Division of unsigned numbers by a constant is several times faster than that of signed ones.
        since = np.uint64(t - first_us)
        day = since // np.uint64(DAY_US)
        clock = since - day * np.uint64(DAY_US)
        year = years[day]
        counts.by_day[day] += 1
        counts.years[c, year] += 1
        if clock == 0:
            counts.midnight[c] += 1
        else:
            counts.hours[year, clock // np.uint64(_HOUR_US)] += 1
        if has_sites:
            site = site_of[p]
            counts.by_site[months[day], site] += 1
            counts.sites[c, site] += 1
        if outcome_us.size and outcome_us[p] != NO_BOUND:
            if t >= outcome_us[p]:
                counts.after_outcome[c] += 1
            else:
                counts.before_outcome[c] += 1
        own = code_hashes[c] ^ (np.uint64(p) * np.uint64(0x9E3779B97F4A7C15))
        own = (own + np.uint64(t)) * np.uint64(0xD1B54A32D192ED03)
        if value.size:
            own ^= bits[i]
            v = value[i]
            if not np.isnan(v):
                counts.values[c, _bin_of(v)] += 1
                for placeholder in PLACEHOLDERS:
                    if v == placeholder:
                        counts.placeholders[c] += 1
        own = mix(own)
        if own < bound:
            hashes[n_hashes], hash_counts[n_hashes] = own, 1
            n_hashes += 1
            if n_hashes == hashes.size:
                n_hashes = compact(hashes, hash_counts, n_hashes)
                if n_hashes == hashes.size // 2:
                    bound = hashes[n_hashes - 1] + np.uint64(1)
    state[0], limit[0] = n_hashes, bound


@njit(cache=True, nogil=True)
def _bin_of(v: Any) -> Any:  # pragma: no cover - compiled
    """Position of a number among the bins of size."""
    if v == 0:
        return ZERO
    if v < 0:
        return NEGATIVE
    return min(max(int(np.floor(4 * (np.log2(v) - LOWEST_OCTAVE))), 0), NEGATIVE - 1)
