"""The histories of all patients: extracted events of every partition in one order, and counts of events in windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlho.arrays import is_new
from mlho.encoding.cohort.labels import encode_patients
from mlho.encoding.cohort.windows import DAY_US
from mlho.encoding.rules.event_sets import in_set
from mlho.encoding.rules.extraction import RuleEvents

#: Bounds of a window that has none: far outside all times, but days can still be added.
BEFORE_ALL: Final = -(1 << 61)
AFTER_ALL: Final = 1 << 61


class Timeline:
    """The events of one set, with counts by binary search.

    Parameters
    ----------
    patient, time_us : int64, shape (n_events,)
        Sorted by patient and time.
    """

    def __init__(self, patient: NDArray[np.int64], time_us: NDArray[np.int64]) -> None:
        self.patient, self.time_us = patient, time_us
        # One integer key for (patient, time). Times are replaced by their ranks, so that no key overflows.
        self._times = np.unique(time_us)
        self._keys = patient * (len(self._times) + 1) + np.searchsorted(self._times, time_us)

    def n_until(self, patient: NDArray[np.int64], time_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the position after each patient's last event at or before a time."""
        rank = np.searchsorted(self._times, time_us, side="right")
        # Events at or before the time have lower ranks.
        return np.asarray(np.searchsorted(self._keys, patient * (len(self._times) + 1) + rank))

    def count(
        self, patient: NDArray[np.int64], after_us: NDArray[np.int64], until_us: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the number of each patient's events with after < time ≤ until."""
        n = self.n_until(patient, until_us) - self.n_until(patient, after_us)
        return np.asarray(np.maximum(n, 0))

    def first_in(
        self, patient: NDArray[np.int64], after_us: NDArray[np.int64], until_us: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the time of each patient's first event with after < time ≤ until; ``AFTER_ALL`` without one."""
        first = np.full(len(patient), AFTER_ALL)
        has_event = self.count(patient, after_us, until_us) > 0
        first[has_event] = self.time_us[self.n_until(patient[has_event], after_us[has_event])]
        return first

    def count_days(
        self, patient: NDArray[np.int64], after_us: NDArray[np.int64], until_us: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the number of days (UTC) on which each patient has an event with after < time ≤ until."""
        firsts = self._first_of_each_day()
        n = firsts.count(patient, after_us, until_us)
        # A window may begin within a day, after the first event of that day.
        midnight = after_us // DAY_US * DAY_US
        end = np.minimum(until_us, midnight + DAY_US - 1)
        is_cut = firsts.count(patient, midnight - 1, after_us) > 0
        return n + (is_cut & (self.count(patient, after_us, end) > 0))

    def _first_of_each_day(self) -> "Timeline":
        day = self.time_us // DAY_US
        is_first = is_new(self.patient, day)
        return Timeline(self.patient[is_first], self.time_us[is_first])


@dataclass(frozen=True, eq=False)
class Histories:
    """Events of all patients that rules mention."""

    patient_ids: pa.Array
    """Patients with any usable event, sorted by their UTF-8 bytes. Arrow string array, shape (n_patients,)."""
    first_us: NDArray[np.int64]
    last_us: NDArray[np.int64]
    """Times of their first and last event of any code. Shape (n_patients,)."""
    patient: NDArray[np.int64]
    time_us: NDArray[np.int64]
    bits: NDArray[np.uint64]
    """Sorted by patient, time and bits. Shape (n_events,)."""
    seen: int
    """Sets of which any code was seen, as bits."""

    def timeline(self, number: int) -> Timeline:
        """Return the events of one set."""
        rows = in_set(self.bits, number)
        return Timeline(self.patient[rows], self.time_us[rows])


def join_histories(parts: Sequence[RuleEvents]) -> Histories:
    """Join the events of all partitions, in any order. A patient may be in several partitions."""
    texts = [pa.array(part.patient_ids, pa.string()) for part in parts]
    patient_ids, place = encode_patients(texts)
    bounds = np.cumsum([0, *(len(ids) for ids in texts)])
    n_patients = len(patient_ids)
    first, last = np.full(n_patients, AFTER_ALL), np.full(n_patients, BEFORE_ALL)
    np.minimum.at(first, place, np.concatenate([part.first_us for part in parts]))
    np.maximum.at(last, place, np.concatenate([part.last_us for part in parts]))
    patient = np.concatenate(
        [place[start:][part.patient] for part, start in zip(parts, bounds[:-1], strict=True)]
    )
    time_us = np.concatenate([part.time_us for part in parts])
    bits = np.concatenate([part.bits for part in parts])
    order = np.lexsort((bits, time_us, patient))
    seen = 0
    for part in parts:
        seen |= part.seen
    return Histories(patient_ids, first, last, patient[order], time_us[order], bits[order], seen)
