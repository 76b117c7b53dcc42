"""Periods in which patients are observed, from a table such as OMOP's ``observation_period``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.labels import MISSING, read_index, read_patients
from mlho.encoding.cohort.persons import NO_DATE
from mlho.encoding.rules.history import Timeline
from mlho.errors import DataError, plural
from mlho.sources.arrow import is_given, positions_in
from mlho.sources.base import Source
from mlho.sources.files import SourceFile
from mlho.sources.reading import TableFile, open_table, read_columns
from mlho.sources.times import DAY_US
from mlho.tables import ColumnKind, check_type, require_columns

#: Patient, first day and last day: names of the OMOP CDM, and ours.
OMOP_COLUMNS: Final = ("person_id", "observation_period_start_date", "observation_period_end_date")
OWN_COLUMNS: Final = ("patient_id", "start_date", "end_date")


@dataclass(frozen=True, eq=False)
class Periods:
    """Periods of some patients, sorted by patient and start. Periods of one patient neither overlap nor touch."""

    patient: NDArray[np.int64]
    """Shape (n_periods,)."""
    start_us: NDArray[np.int64]
    end_us: NDArray[np.int64]
    """First and last microsecond. Shape (n_periods,)."""

    def at(
        self, patient: NDArray[np.int64], time_us: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the start and end of the period that contains each time; ``NO_DATE`` if none does."""
        if not len(self.patient):
            return np.full_like(time_us, NO_DATE), np.full_like(time_us, NO_DATE)
        place = Timeline(self.patient, self.start_us).n_until(patient, time_us) - 1
        number = np.maximum(place, 0)
        is_in = (place >= 0) & (self.patient[number] == patient) & (time_us <= self.end_us[number])
        return np.where(is_in, self.start_us[number], NO_DATE), np.where(is_in, self.end_us[number], NO_DATE)


def read_periods(source: Source, files: Sequence[SourceFile], patient_ids: Any) -> Periods:
    """Read the periods of some patients. Merge periods that overlap or follow each other without a day in between.

    Parameters
    ----------
    source : Source
        For the form of CSV files and of times only.
    files : sequence of SourceFile
        Columns ``patient_id``, ``start_date`` and ``end_date``, or those of OMOP's ``observation_period``.
    patient_ids : Arrow string array
        Patients whose periods are read; others are skipped.

    Raises
    ------
    DataError
        A file is unreadable or lacks a column; a period lacks a patient or a date, or ends before it begins.
    """
    parts = [_read_file(source, file) for file in files]
    patient = np.concatenate([positions_in(ids, patient_ids) for ids, _, _ in parts])
    start, end = (np.concatenate([part[column] for part in parts]) for column in (1, 2))
    _refuse(files[0].key, "a period ends before it begins", int((end < start).sum()))
    rows = np.flatnonzero(patient != MISSING)
    rows = rows[np.lexsort((end[rows], start[rows], patient[rows]))]
    return _merged(patient[rows], start[rows], end[rows])


def _merged(patient: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64]) -> Periods:
    if not len(patient):
        return Periods(patient, start, end)
    # The latest end so far of each patient. Ends are shifted by patient, so that those of a later patient are larger than all
    # earlier ones.
    order = np.argsort(np.argsort(end, kind="stable"), kind="stable").astype(np.int64)
    reached = np.maximum.accumulate(patient * (len(end) + 1) + order) % (len(end) + 1)
    latest = np.sort(end)[reached]
    is_new = np.ones(len(patient), np.bool_)
    is_new[1:] = (patient[1:] != patient[:-1]) | (start[1:] > latest[:-1] + 1)
    first = np.flatnonzero(is_new)
    last = np.append(first[1:], len(patient)) - 1
    return Periods(patient[first], start[first], latest[last])


def _read_file(source: Source, file: SourceFile) -> tuple[Any, NDArray[np.int64], NDArray[np.int64]]:
    """Return the patients, and the first and last microseconds, of the periods in a file."""
    table = open_table(file, source.of_own_names)
    names = _names(file, table)
    for name in names[1:]:
        check_type(file.key, name, table.type_of(name), ColumnKind.TIME)
    columns = read_columns(table, names)
    ids = read_patients(columns[names[0]], where=file.key, name=names[0])
    (start, has_start), (end, has_end) = (
        read_index(columns[name], source, where=file.key, name=name) for name in names[1:]
    )
    is_whole = has_start & has_end & is_given(ids)
    _refuse(file.key, "a period lacks its patient, its start or its end", int((~is_whole).sum()))
    return ids, start // DAY_US * DAY_US, end


def _names(file: SourceFile, table: TableFile) -> tuple[str, ...]:
    """Return the names of the three columns in the file: those of the CDM in any case, or ours."""
    have = {name.casefold(): name for name in table.column_names}
    if all(name in have for name in OMOP_COLUMNS):
        return tuple(have[name] for name in OMOP_COLUMNS)
    remedy = f"Rename them, or give a table with {', '.join(OMOP_COLUMNS)}."
    require_columns(file.key, table.column_names, OWN_COLUMNS, remedy=remedy)
    return OWN_COLUMNS


def _refuse(where: str, rule: str, n: int) -> None:
    if n:
        raise DataError(
            where,
            rule,
            expected="a patient, a first day, and a last day that is not earlier",
            got=plural(n, "other row"),
            remedy="Correct these rows, or remove them.",
        )
