"""Counting of used rows, in the pass that encodes them."""

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

_MONTH_US: Final = 2_629_746_000_000  # mean of the Gregorian calendar
_HOUR_US: Final = 3_600_000_000
_NO_SITE: Final = -1


class _Calendar(NamedTuple):
    """First microsecond of each plausible month and of the one after them, and the first year."""

    starts: NDArray[np.int64]
    first_year: int


class _Counts(NamedTuple):
    """Counts by code, then those of all rows."""

    midnight: NDArray[np.int64]
    years: NDArray[np.int64]
    sites: NDArray[np.int64]
    values: NDArray[np.int64]
    placeholders: NDArray[np.int64]
    after_outcome: NDArray[np.int64]
    before_outcome: NDArray[np.int64]
    months: NDArray[np.int64]
    hours: NDArray[np.int64]
    weekdays: NDArray[np.int64]
    days: NDArray[np.int64]


class _Sample(NamedTuple):
    hashes: NDArray[np.uint64]
    counts: NDArray[np.int64]
    state: NDArray[np.int64]
    """Filled places."""
    limit: NDArray[np.uint64]
    """Hashes from it on are not in the sample."""


class RowCounter:
    """Counts used rows while they are encoded; see :class:`mlho.encoding.tally.tally.Tally`."""

    def __init__(self, cohort: Cohort, years: tuple[int, ...], *, has_values: bool) -> None:
        self._calendar = _Calendar(_month_starts(years), years[0])
        self._site_of, self._n_sites = sites_of_patients(cohort)
        self._outcome_us = first_outcomes(cohort)
        self._n_bins = VALUE_BINS if has_values else 0
        n_months = len(self._calendar.starts) - 1
        shapes = {"months": (n_months, max(1, self._n_sites)), "hours": (YEARS, 24), "weekdays": (YEARS, 7)}
        self._in_all = {name: np.zeros(shape, np.int64) for name, shape in (shapes | {"days": (31,)}).items()}
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
            _Counts(**self._by_code, **self._in_all),
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
        by_year = self._in_all["months"].sum(axis=1).reshape(-1, 12).sum(axis=1)
        first = self._calendar.first_year
        return {str(first + place): int(n) for place, n in enumerate(by_year) if n}

    def tally(self) -> Tally:
        """Return the counts so far."""
        own = self._sample
        n = compact(own.hashes, own.counts, own.state[0])
        n_codes = len(self._codes)
        return Tally(
            codes=tuple(self._codes),
            sample=RowSample(own.hashes[:n].copy(), own.counts[:n].copy()),
            **{name: counts[:n_codes] for name, counts in self._by_code.items()},
            **self._in_all,
        )


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


def _month_starts(years: tuple[int, ...]) -> NDArray[np.int64]:
    months = np.arange(12 * (years[0] - 1970), 12 * (years[-1] - 1969) + 1)
    starts = months.astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)
    assert starts[0] == year_bounds(years)[0]
    return starts


@njit(cache=True, nogil=True)
def _count(
    rows: Any, code_hashes: Any, site_of: Any, outcome_us: Any, calendar: Any, counts: Any, sample: Any
) -> None:  # pragma: no cover - compiled
    patient, code, time, value, bits = rows
    starts, first_year = calendar
    hashes, hash_counts, state, limit = sample
    has_sites = counts.sites.shape[1] > 0
    n_hashes, bound = state[0], limit[0]
    month = np.int64(0)
    for i in range(patient.size):
        p, c, t = patient[i], code[i], time[i]
        # Rows of a patient follow one another in most files: the month before is the best guess.
        if t < starts[month] or t >= starts[month + 1]:
            month = min((t - starts[0]) // _MONTH_US, starts.size - 2)
            while t < starts[month]:
                month -= 1
            while t >= starts[month + 1]:
                month += 1
        year = (first_year + month // 12) % YEARS
        day = t // DAY_US
        clock = t - day * DAY_US
        counts.years[c, year] += 1
        counts.weekdays[year, (day + 3) % 7] += 1
        counts.days[(t - starts[month]) // DAY_US] += 1
        if clock == 0:
            counts.midnight[c] += 1
        else:
            counts.hours[year, clock // _HOUR_US] += 1
        site = site_of[p] if has_sites else 0
        counts.months[month, site] += 1
        if has_sites:
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
