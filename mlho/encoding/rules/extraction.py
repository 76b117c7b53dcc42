"""Extraction of the events of one partition that rules mention, and of the times at which each patient was first and last seen.

The result contains no codes and no values: an event is a patient, a time, and a bit for each set that it is in.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlho.arrays import text_arrays, texts_of, write_arrays
from mlho.encoding.cohort.windows import year_bounds
from mlho.encoding.events.patients import take_ids
from mlho.encoding.events.rows import LocalCodes
from mlho.encoding.rules.event_sets import memberships, without_values_outside
from mlho.pseudonyms import read_id_arrays
from mlho.sources import Source
from mlho.sources.arrow import as_numpy, is_given
from mlho.sources.events import iter_events, require_values
from mlho.sources.files import SourceFile
from mlho.spec.rules import EventSet, Rules

_COLUMNS: Final = ("first_us", "last_us", "patient", "time_us", "bits")  # arrays in the file
_NO_PATIENT: Final = -1
_LATEST: Final = np.iinfo(np.int64).max
_EARLIEST: Final = np.iinfo(np.int64).min


@dataclass(frozen=True, eq=False)
class RuleEvents:
    """The events of a partition that rules mention."""

    patient_ids: tuple[str, ...]
    """Patients with any usable event, by the UTF-8 bytes of their ids. Shape (n_patients,)."""
    first_us: NDArray[np.int64]
    last_us: NDArray[np.int64]
    """Times of their first and last usable event of any code, in microseconds since 1970. Shape (n_patients,)."""
    patient: NDArray[np.int32]
    """Position in ``patient_ids``. Events are sorted by patient, time and bits. Shape (n_events,)."""
    time_us: NDArray[np.int64]
    """Shape (n_events,)."""
    bits: NDArray[np.uint64]
    """Sets that the event is in; see :mod:`mlho.encoding.rules.event_sets`. Shape (n_events,)."""
    seen: int
    """Sets of which any code was seen, as bits, regardless of the value."""

    def write(self, path: Path) -> None:
        """Write them to one array file; equal events give equal bytes."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        seen = np.array([self.seen], np.uint64)
        write_arrays(path, {**text_arrays("id", self.patient_ids), **columns, "seen": seen})

    @classmethod
    def read(cls, path: Path) -> "RuleEvents":
        """Memory-map events written by :meth:`write`."""
        arrays = read_id_arrays(path)
        columns = {name: arrays[name] for name in _COLUMNS}
        return cls(patient_ids=texts_of("id", arrays), **columns, seen=int(arrays["seen"][0]))


def extract_file(
    rules: Rules,
    source: Source,
    file: SourceFile,
    *,
    years: tuple[int, ...],
    below: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> RuleEvents:
    """Return the events of a file that rules mention; see :func:`extract_events`.

    Raises
    ------
    DataError
        The file cannot be read, or lacks a column.
    """
    values = any(event_set.has_range for event_set in rules.event_sets)
    if values:
        require_values(source, file, what="A range of values in cohort.rules needs it.")
    return extract_events(rules, iter_events(source, file, values=values), years=years, below=below)


def extract_events(
    rules: Rules,
    batches: Iterable[Any],
    *,
    years: tuple[int, ...],
    below: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> RuleEvents:
    """Return the events of a partition that rules mention.

    Parameters
    ----------
    batches : iterable of pyarrow RecordBatch
        As from :func:`mlho.sources.iter_events`. A row without a patient, a usable code or a readable time is skipped; the
        ledger of the run counts it later.
    years : (int, int)
        First and last plausible year.
    below : mapping of code to codes
        Descendants, from :func:`mlho.encoding.rules.hierarchy.find_descendants`.
    """
    extraction = _Extraction(rules.event_sets, years, below)
    for batch in batches:
        extraction.add(batch)
    return extraction.result()


class _Extraction:
    """Running state over the batches of a partition."""

    def __init__(
        self, sets: tuple[EventSet, ...], years: tuple[int, ...], below: Mapping[str, Sequence[str]]
    ) -> None:
        self._sets, self._below = sets, below
        self._earliest, self._latest = year_bounds(years)
        self._codes, self._patients = LocalCodes(), _LocalPatients()
        self._sets_of = np.zeros(0, np.uint64)
        self._first, self._last = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._seen = 0
        self._found: list[tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.uint64]]] = []

    def add(self, batch: Any) -> None:
        code = self._codes.find(batch.column("code"))
        patient = self._patients.find(batch.column("patient"))
        times, given = as_numpy(batch.column("time")), is_given(batch.column("time"))
        is_usable = (code >= 0) & (patient != _NO_PATIENT) & given
        is_usable &= (times >= self._earliest) & (times <= self._latest)
        if "rule" in batch.schema.names:  # marks rows that the layout excludes
            is_usable &= as_numpy(batch.column("rule")) == 0
        rows = np.flatnonzero(is_usable)
        patient, code, time_us = patient[rows], code[rows], times[rows]
        self._observe(patient, time_us)
        self._learn_codes()
        bits = self._sets_of[code]
        is_hit = bits != 0
        rows, patient, time_us, bits = rows[is_hit], patient[is_hit], time_us[is_hit], bits[is_hit]
        self._seen |= int(np.bitwise_or.reduce(bits, initial=np.uint64(0)))
        if any(event_set.has_range for event_set in self._sets):
            bits = without_values_outside(bits, _values(batch)[rows], self._sets)
            is_hit = bits != 0
            patient, time_us, bits = patient[is_hit], time_us[is_hit], bits[is_hit]
        self._found.append((patient, time_us, bits))

    def result(self) -> RuleEvents:
        ids = self._patients.texts()
        # A number and a text that read the same are one patient. Patients without a usable event are left out.
        distinct = sorted(
            {patient_id for patient_id, first in zip(ids, self._first, strict=False) if first != _LATEST},
            key=str.encode,
        )
        rank = {patient_id: place for place, patient_id in enumerate(distinct)}
        place = np.array([rank.get(patient_id, -1) for patient_id in ids[: len(self._first)]], np.int64)
        first, last = np.full(len(distinct), _LATEST), np.full(len(distinct), _EARLIEST)
        np.minimum.at(first, place[place >= 0], self._first[place >= 0])
        np.maximum.at(last, place[place >= 0], self._last[place >= 0])
        patient, time_us, bits = (
            np.concatenate([part[column] for part in self._found]) if self._found else np.zeros(0, dtype)
            for column, dtype in enumerate((np.int32, np.int64, np.uint64))
        )
        patient = place[patient].astype(np.int32)
        order = np.lexsort((bits, time_us, patient))
        return RuleEvents(
            tuple(distinct), first, last, patient[order], time_us[order], bits[order], self._seen
        )

    def _observe(self, patient: NDArray[np.int32], time_us: NDArray[np.int64]) -> None:
        n_new = len(self._patients) - len(self._first)
        self._first = np.concatenate([self._first, np.full(n_new, _LATEST)])
        self._last = np.concatenate([self._last, np.full(n_new, _EARLIEST)])
        np.minimum.at(self._first, patient, time_us)
        np.maximum.at(self._last, patient, time_us)

    def _learn_codes(self) -> None:
        new = self._codes.texts()[len(self._sets_of) :] if len(self._codes) > len(self._sets_of) else ()
        if new:
            self._sets_of = np.concatenate([self._sets_of, memberships(self._sets, new, self._below)])


class _LocalPatients:
    """Patients of one partition, numbered by first appearance."""

    def __init__(self) -> None:
        self._ids: dict[str | int, int] = {}
        self._dictionary: tuple[Any, NDArray[np.int32]] | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def texts(self) -> list[str]:
        """Return the ids as text, by number."""
        return [str(patient_id) for patient_id in self._ids]

    def find(self, ids: Any) -> NDArray[np.int32]:
        """Return the number of each row's patient; ``_NO_PATIENT`` without one."""
        if not pa.types.is_dictionary(ids.type):
            given, numbers = is_given(ids), np.full(len(ids), _NO_PATIENT, np.int32)
            distinct, place = np.unique(as_numpy(ids)[given], return_inverse=True)
            numbers[given] = self._numbers(distinct.tolist())[place]
            return numbers
        if self._dictionary is None or not ids.dictionary.equals(self._dictionary[0]):
            texts = ids.dictionary.to_pylist()
            self._dictionary = ids.dictionary, self._numbers(texts)
        return take_ids(ids, self._dictionary[1], missing=_NO_PATIENT)

    def _numbers(self, ids: list[Any]) -> NDArray[np.int32]:
        numbers = [
            self._ids.setdefault(patient_id, len(self._ids)) if patient_id not in (None, "") else -1
            for patient_id in ids
        ]
        return np.array(numbers, np.int32)


def _values(batch: Any) -> NDArray[np.float64]:
    """Return the numeric values of a batch; NaN if missing, or if the file has none."""
    if "value" not in batch.schema.names:
        return np.full(batch.num_rows, np.nan)
    column = batch.column("value").cast(pa.float64())
    return np.where(is_given(column), as_numpy(column), np.nan)
