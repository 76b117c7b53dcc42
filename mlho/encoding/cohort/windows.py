"""Look-back windows: the times visible to each sample, with microsecond precision.

For a sample with index date t, a gap of g days and a window of w days, a time is in the window when

    t - w days < time <= t - g days.

An index date without a time means the last microsecond of its day, so a window of w days without a gap is exactly w calendar
days and ends with the index day. Without a window the whole history up to the gap is visible; without an index date, all data
are. Windows nest: a time in one window is in every longer one.

With ``features.after`` the window lies after the index date, and two longer ones determine which codes are new:

    t + from days < time <= t + to days    (the window)
    t             < time <= t + to days
    t - past days < time <= t + to days
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NO_BOUND, Cohort
from mlho.spec.features import RECENCY, After
from mlho.spec.training import TrainingSpec

DAY_US: Final = 86_400_000_000  # as in mlho.sources.times, which imports pyarrow
NO_LOWER_BOUND: Final = np.iinfo(np.int64).min


@dataclass(frozen=True, eq=False)
class SampleWindows:
    """Bounds of every window for a range of samples."""

    starts: NDArray[np.int64]
    """First sample of each patient, relative to the range. Shape (n_patients + 1,)."""
    index_us: NDArray[np.int64]
    """Index date: the last microsecond of the available history; with ``features.after`` the end of its window. Shape (n_samples,)."""
    upper_us: NDArray[np.int64]
    """Last microsecond inside the windows, common to all of them. Shape (n_samples,)."""
    lower_us: NDArray[np.int64]
    """Last microsecond before each window, shortest window first. Shape (n_windows, n_samples)."""

    @property
    def n_windows(self) -> int:
        """Number of windows per sample."""
        return len(self.lower_us)


def sample_windows(
    spec: TrainingSpec, cohort: Cohort, patients: tuple[int, int] | None = None
) -> SampleWindows:
    """Return the bounds of the specification's windows for a range of patients (default: all)."""
    first, stop = patients or (0, cohort.n_patients)
    starts = cohort.sample_starts()[first : stop + 1]
    index_us = np.asarray(cohort.index_us[starts[0] : starts[-1]])
    if spec.features.after is not None:
        return _after(spec.features.after, starts - starts[0], index_us)
    upper = _days_before(index_us, spec.cohort.gap_days, unbounded=NO_BOUND)
    lower = [
        np.full(len(index_us), NO_LOWER_BOUND)
        if days is None
        else _days_before(index_us, days, unbounded=NO_LOWER_BOUND)
        for days in spec.windows
    ]
    return SampleWindows(starts - starts[0], index_us, upper, np.stack(lower))


def _after(after: After, starts: NDArray[np.int64], index_us: NDArray[np.int64]) -> SampleWindows:
    """Return the window after the index date, then two longer ones: from the index date, and from the start of the past."""
    end = index_us + after.to_days * DAY_US
    past = after.past_days
    oldest = np.full_like(index_us, NO_LOWER_BOUND) if past is None else index_us - past * DAY_US
    return SampleWindows(starts, end, end, np.stack([index_us + after.from_days * DAY_US, index_us, oldest]))


def year_bounds(years: Sequence[int]) -> tuple[int, int]:
    """Return the first and last microsecond of a range of years, such as ``data.plausibleYears``.

    Examples
    --------
    >>> year_bounds((1970, 1970))
    (0, 31535999999999)
    """
    first, last = years
    start, stop = (np.datetime64(year - 1970, "Y").astype("datetime64[us]") for year in (first, last + 1))
    return int(start.astype(np.int64)), int(stop.astype(np.int64)) - 1


def needs_times(spec: TrainingSpec, cohort: Cohort) -> bool:
    """Return whether the times of used rows are still needed. With one sample per patient and one window, the rows alone are sufficient."""
    return (
        bool(spec.features.numbers or spec.features.utilisation)
        or spec.features.sequences is not None
        or spec.data.duplicates == "drop"
        or len(spec.windows) > 1
        or spec.features.after is not None
        or cohort.has_repeats
    )


def needs_values(spec: TrainingSpec) -> bool:
    """Return whether an aggregate uses numeric values."""
    return bool(set(spec.features.numbers) - {RECENCY})


def _days_before(index_us: NDArray[np.int64], days: int, *, unbounded: int) -> NDArray[np.int64]:
    """Shift index dates back by whole days; unbounded dates stay unbounded."""
    return np.where(index_us == NO_BOUND, unbounded, index_us - days * DAY_US)
