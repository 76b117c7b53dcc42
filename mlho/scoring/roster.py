"""The samples to score, from the cohort table or from the patients in a partition."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.arrays import is_new, read_arrays, text_arrays, write_arrays
from mlho.encoding.cohort.cohort import NO_BOUND
from mlho.encoding.cohort.labels import encode_patients, read_index, read_patients
from mlho.errors import DataError
from mlho.model.frames import NO_DATE, Samples, refuse_implausible, refuse_missing
from mlho.sources import Source, list_inputs
from mlho.sources.arrow import as_numpy, int64_array, is_given, text_array, texts_in
from mlho.sources.events import patient_column
from mlho.sources.files import DataRoot, SourceFile
from mlho.sources.reading import open_table, read_columns
from mlho.sources.times import DAY_US, read_times
from mlho.spec.scoring import ScoringIndex
from mlho.spec.types import PLAUSIBLE_YEARS
from mlho.tables import EVENTS, LABELS, ColumnKind, check_type, is_text, require_columns

_EPOCH: Final = dt.date(1970, 1, 1)


@dataclass(frozen=True, eq=False)
class Roster:
    """The cohort table: the samples to score, each (patient, index date) once."""

    patient_ids: Any
    """Distinct, sorted by their UTF-8 bytes. Arrow large_string array, shape (n_patients,)."""
    starts: NDArray[np.int64]
    """First sample of each patient, with the number of samples as the last entry. Shape (n_patients + 1,)."""
    index_us: NDArray[np.int64]
    given_us: NDArray[np.int64]
    """Index dates as in :class:`mlho.model.frames.Samples`, ascending within a patient. Shape (n_samples,)."""

    @property
    def n_patients(self) -> int:
        """Number of patients to score."""
        return len(self.patient_ids)

    @property
    def n_samples(self) -> int:
        """Number of samples to score."""
        return len(self.index_us)

    def find(self, patient_ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the roster numbers of those patients that are in it, ascending."""
        texts = text_array(patient_ids)
        found = pc.index_in(texts, value_set=self.patient_ids)
        return np.sort(as_numpy(found)[is_given(found)].astype(np.int64))

    def samples_of(self, patients: NDArray[np.int64]) -> Samples:
        """Return the samples of some patients.

        Parameters
        ----------
        patients : int64
            Roster numbers, ascending.
        """
        counts = self.starts[patients + 1] - self.starts[patients]
        patient_of = np.repeat(np.arange(len(patients), dtype=np.int32), counts)
        within = np.arange(len(patient_of)) - (np.cumsum(counts) - counts)[patient_of]
        rows = self.starts[patients][patient_of] + within
        ids = self.patient_ids.take(int64_array(patients)).to_pylist()
        return Samples(tuple(ids), patient_of, self.index_us[rows], self.given_us[rows])

    def write(self, path: Path) -> None:
        """Write to one array file; equal rosters give equal bytes."""
        ids = text_arrays("patient_id", self.patient_ids.to_pylist())
        samples = {"starts": self.starts, "index_us": self.index_us, "given_us": self.given_us}
        write_arrays(path, ids | samples)

    @classmethod
    def read(cls, path: Path) -> "Roster":
        """Memory-map a roster written by :meth:`write`."""
        arrays = read_arrays(path)
        return cls(
            mapped_texts("patient_id", arrays), arrays["starts"], arrays["index_us"], arrays["given_us"]
        )


def mapped_texts(name: str, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Wrap the texts of :func:`mlho.arrays.text_arrays` as an Arrow large_string array, without copying."""
    data, offsets = arrays[f"{name}_bytes"], arrays[f"{name}_offsets"]
    buffers = [pa.py_buffer(np.ascontiguousarray(array)) for array in (offsets, data)]
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, *buffers)


def read_roster(
    index: ScoringIndex,
    source: Source,
    root: DataRoot,
    pattern: str,
    *,
    years: Sequence[int] = PLAUSIBLE_YEARS,
) -> Roster:
    """Read the cohort table and collapse equal rows.

    Parameters
    ----------
    index : ScoringIndex
        Column with the index date, or the common index date.
    source : Source
        Source whose label column names apply to the patient column.
    pattern : str
        ``data.tables.cohort``.
    years : pair of int
        First and last plausible year of an index date, as in training.

    Raises
    ------
    DataError
        A file or column is missing or has a wrong type, a row has no patient or no readable and plausible date, or the
        table is empty. No row is dropped silently.
    """
    parts = [_read_file(index, source, file) for file in list_inputs(root, pattern)]
    ids, patient = encode_patients([part[0] for part in parts])
    index_us, given_us = (np.concatenate([part[place] for part in parts]) for place in (1, 2))
    if not len(patient):
        raise DataError(
            pattern,
            "the cohort table is empty",
            expected="a row for each patient to score",
            got="no row",
            remedy="Write it, or leave out data.tables.cohort: all patients with an event are then scored.",
        )
    if index.column is not None:
        refuse_implausible(index_us, years, where=pattern, name=index.column)
    order = np.lexsort((given_us, index_us, patient))
    patient, index_us, given_us = patient[order], index_us[order], given_us[order]
    # A date and the last microsecond of its day are the same sample.
    kept = is_new(patient, index_us)
    starts = np.searchsorted(patient[kept], np.arange(len(ids) + 1)).astype(np.int64)
    return Roster(ids.cast(pa.large_string()), starts, index_us[kept], given_us[kept])


_Part = tuple[Any, NDArray[np.int64], NDArray[np.int64]]


def _read_file(index: ScoringIndex, source: Source, file: SourceFile) -> _Part:
    table = open_table(file, source)
    patient, have = source.column(LABELS, "patient_id"), table.column_names
    require_columns(file.key, have, [patient], remedy=source.remedy(have))
    check_type(file.key, patient, table.type_of(patient), ColumnKind.PATIENT)
    if index.column is not None:
        require_columns(file.key, have, [index.column], remedy="Set index.column to the column of the dates.")
        source.check_type(file.key, index.column, table.type_of(index.column), ColumnKind.TIME)
    columns = read_columns(table, list(dict.fromkeys([patient, *([index.column] if index.column else [])])))
    texts = read_patients(columns[patient], where=file.key, name=patient)
    refuse_missing(file.key, patient, int(texts.null_count))
    if index.column is None:
        bound, date_us = common_index(index)
        return texts, np.full(len(texts), bound, np.int64), np.full(len(texts), date_us, np.int64)
    bounds, has_date = read_index(columns[index.column], source, where=file.key, name=index.column)
    refuse_missing(file.key, index.column, int((~has_date).sum()))
    return (
        texts,
        bounds,
        as_numpy(read_times(columns[index.column], source.format).microseconds).astype(np.int64),
    )


def common_index(index: ScoringIndex) -> tuple[int, int]:
    """Return the last microsecond of the common index date, and the date as given; without a date, ``NO_BOUND``, ``NO_DATE``."""
    if index.date is None:
        return int(NO_BOUND), int(NO_DATE)
    date_us = (index.date - _EPOCH).days * DAY_US
    return date_us + DAY_US - 1, date_us


def everybody(patient_ids: Sequence[str], index: ScoringIndex) -> Samples:
    """Return one sample for each patient (sorted, distinct), with the common index date or none."""
    bound, date_us = common_index(index)
    n = len(patient_ids)
    return Samples(
        patient_ids=tuple(patient_ids),
        patient_of=np.arange(n, dtype=np.int32),
        index_us=np.full(n, bound, np.int64),
        given_us=np.full(n, date_us, np.int64),
    )


def patients_in(source: Source, file: SourceFile) -> list[str]:
    """Return the distinct patients named in a partition, sorted; only the patient column is read.

    Raises
    ------
    DataError
        The file is unreadable, or a column is missing or has a wrong type.
    """
    table = open_table(file, source)
    source.require(EVENTS, file.key, table.column_names)
    name = source.column(EVENTS, "patient_id")
    check_type(file.key, name, table.type_of(name), ColumnKind.PATIENT)
    batches = table.batches([name], dictionaries=[name] if is_text(table.type_of(name)) else [])
    ids = (patient_column(batch.column(name), where=file.key, name=name) for batch in batches)
    return sorted(texts_in(ids))
