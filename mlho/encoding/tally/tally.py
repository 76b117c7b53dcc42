"""Counts of the used rows of a partition, by code and by calendar. Counts of several partitions add up exactly."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import read_arrays, text_arrays, texts_of, write_arrays
from mlho.encoding.tally.numbers import MonthlyLevels, SeriesSample, merged_levels, merged_series
from mlho.encoding.tally.sketch import RowSample, merge_samples

FILE: Final = "tally.arr"
YEARS: Final = 64  # counts by year use the year modulo 64
#: Bins of values by size: quarter octaves from 2⁻¹⁰ to 2²⁰, then negative numbers and zero.
LOWEST_OCTAVE: Final = -10
OCTAVES: Final = 30
NEGATIVE: Final = 4 * OCTAVES
ZERO: Final = NEGATIVE + 1
VALUE_BINS: Final = ZERO + 1
MAX_SITES: Final = 64  # with more sites, rows are not counted by site
#: Numbers that stand for a missing value in many exports.
PLACEHOLDERS: Final = (-1.0, -9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0, 99999.0, 999999.0)


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of used rows."""

    codes: tuple[str, ...]
    midnight: NDArray[np.int64]
    """Rows at 00:00:00. Shape (n_codes,)."""
    years: NDArray[np.int64]
    """Rows by year modulo ``YEARS``. Shape (n_codes, YEARS)."""
    sites: NDArray[np.int64]
    """Rows by site of the patient; no column without sites. Shape (n_codes, n_sites)."""
    values: NDArray[np.int64]
    """Rows with a number, by bin of its size; no columns if no feature uses numbers. Shape (n_codes, VALUE_BINS)."""
    placeholders: NDArray[np.int64]
    """Rows whose number is one of ``PLACEHOLDERS``. Shape (n_codes,)."""
    after_outcome: NDArray[np.int64]
    before_outcome: NDArray[np.int64]
    """Rows of patients with a dated outcome: on or after that date, and before it. Shape (n_codes,)."""
    months: NDArray[np.int64]
    """Rows by month since the first plausible year, and site. Shape (n_months, max(1, n_sites))."""
    hours: NDArray[np.int64]
    """Rows that are not at midnight, by year modulo ``YEARS`` and hour (UTC). Shape (YEARS, 24)."""
    weekdays: NDArray[np.int64]
    """Rows by year modulo ``YEARS`` and day of the week, Monday first. Shape (YEARS, 7)."""
    days: NDArray[np.int64]
    """Rows by day of the month. Shape (31,)."""
    sample: RowSample
    levels: MonthlyLevels
    """Like ``series``, empty if no feature uses numbers."""
    series: SeriesSample

    def write(self, path: Path) -> None:
        """Write the counts to one array file."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in (*BY_CODE, *IN_ALL)}
        arrays |= text_arrays("code", self.codes)
        arrays |= {"sample_hashes": self.sample.hashes, "sample_counts": self.sample.counts}
        for name in _NESTED:
            arrays |= {f"{name}_{column}": array for column, array in vars(getattr(self, name)).items()}
        write_arrays(path, arrays)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the counts written by :meth:`write`."""
        arrays = read_arrays(path)
        counts: dict[str, Any] = {name: arrays[name] for name in (*BY_CODE, *IN_ALL)}
        for name, kind in _NESTED.items():
            counts[name] = kind(**{field.name: arrays[f"{name}_{field.name}"] for field in fields(kind)})
        return cls(
            codes=texts_of("code", arrays),
            sample=RowSample(arrays["sample_hashes"], arrays["sample_counts"]),
            **counts,
        )

    def of_codes(self, codes: Sequence[str]) -> "Tally":
        """Return the counts of these codes, in their order; zero for a code without rows."""
        ids = {code: place for place, code in enumerate(codes)}
        known = [(place, ids[code]) for place, code in enumerate(self.codes) if code in ids]
        here, there = np.array(known, np.int64).reshape(-1, 2).T
        ordered: dict[str, Any] = {}
        for name in BY_CODE:
            counts = getattr(self, name)
            ordered[name] = np.zeros((len(codes), *counts.shape[1:]), np.int64)
            ordered[name][there] = counts[here]
        place = np.full(len(self.codes), -1, np.int64)
        place[here] = there
        return replace(self, codes=tuple(codes), levels=self.levels.of_codes(place), **ordered)


BY_CODE: Final = ("midnight", "years", "sites", "values", "placeholders", "after_outcome", "before_outcome")
IN_ALL: Final = ("months", "hours", "weekdays", "days")
_NESTED: Final[dict[str, Any]] = {"levels": MonthlyLevels, "series": SeriesSample}
assert {*BY_CODE, *IN_ALL, *_NESTED, "codes", "sample"} == {field.name for field in fields(Tally)}


def merge_tallies(paths: Iterable[Path], codes: Sequence[str]) -> Tally:
    """Return the sum of the counts over partitions, for the codes of the dictionary.

    Parameters
    ----------
    paths : iterable of Path
        At least one file.
    codes : sequence of str
        Codes with a used row in any partition.
    """
    total: Tally | None = None
    for path in paths:
        tally = Tally.read(path).of_codes(codes)
        if total is None:
            # The arrays of a file are read-only.
            total = replace(tally, **{name: getattr(tally, name).copy() for name in IN_ALL})
            continue
        for name in (*BY_CODE, *IN_ALL):
            getattr(total, name)[...] += getattr(tally, name)
        total = replace(
            total,
            sample=merge_samples([total.sample, tally.sample]),
            levels=merged_levels([total.levels, tally.levels]),
            series=merged_series([total.series, tally.series]),
        )
    assert total is not None, "a run has a partition"
    return total


def codes_outside(paths: Iterable[Path], codes: Sequence[str]) -> list[str]:
    """Return the codes of partitions that have no used row, sorted."""
    seen: set[str] = set()
    for path in paths:
        seen.update(texts_of("code", read_arrays(path)))
    return sorted(seen - set(codes))


def code_hash(code: str) -> int:
    """Return 64 bits that identify a code in every partition."""
    return int.from_bytes(hashlib.blake2b(code.encode(), digest_size=8).digest(), "little")
