"""Demographics from static rows among the events, as in MEDS: ``GENDER//M``, ``RACE//WHITE``, ``MEDS_BIRTH``.

One pass over three columns of the events. Memory grows with the patients of the labels and their distinct values, not with
the rows. The result depends neither on the order of rows nor on the files.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.encoding.cohort.calendar import calendar_names
from mlho.encoding.cohort.persons import AGE, NO_DATE, Persons, RawColumn, join_parts
from mlho.errors import SpecError
from mlho.sources import Source
from mlho.sources.arrow import as_numpy, bool_array, int64_array, is_given, text_array, truths
from mlho.sources.events import BATCH_ROWS, patient_column, text_column
from mlho.sources.files import SourceFile
from mlho.sources.reading import TableFile, open_table
from mlho.sources.times import read_times
from mlho.spec.training import TrainingSpec
from mlho.tables import EVENTS, is_text

BIRTH: Final = "birth_date"
_SEPARATOR: Final = "//"
_MOST_PENDING: Final = 1 << 20  # keys collected before equal ones are merged
_VALUE_BITS: Final = 31


@dataclass
class _Values:
    """The distinct (patient, value) pairs of one demographic, as integers."""

    ids: dict[Hashable, int] = field(default_factory=dict)
    keys: list[NDArray[np.int64]] = field(default_factory=list)
    n_pending: int = 0

    def add(self, patient: NDArray[np.int64], values: Sequence[Hashable], which: NDArray[np.int64]) -> None:
        """Add a pair for each patient; ``which`` is the position of its value."""
        ids = np.array([self.ids.setdefault(value, len(self.ids)) for value in values], np.int64)
        self.keys.append(np.unique(patient << _VALUE_BITS | ids[which]))
        self.n_pending += len(self.keys[-1])
        if self.n_pending > _MOST_PENDING:
            self.keys, self.n_pending = [self._merged()], 0

    def _merged(self) -> NDArray[np.int64]:
        return np.unique(np.concatenate([np.empty(0, np.int64), *self.keys]))

    def one_each(self, n_patients: int) -> tuple[NDArray[np.int64], int]:
        """Return the position in ``ids`` of each patient's only value, -1 if there is none, and the number of patients with several."""
        keys = self._merged()
        patient, value = keys >> _VALUE_BITS, keys & ((1 << _VALUE_BITS) - 1)
        n_values = np.bincount(patient, minlength=n_patients)
        value_of = np.full(n_patients, -1, np.int64)
        value_of[patient] = value
        return np.where(n_values == 1, value_of, -1), int((n_values > 1).sum())


def read_static_rows(
    spec: TrainingSpec,
    source: Source,
    files: Sequence[SourceFile],
    patient_ids: Any,
    *,
    where: str = "events",
) -> Persons:
    """Read the demographics of the specification from the codes of the events.

    Parameters
    ----------
    spec : TrainingSpec
        Its demographics have no table.
    source : Source
        Source with a layout that has static codes.
    patient_ids : Arrow string array
        Patients of the cohort, sorted by their UTF-8 bytes. All of them are known; a value without a row is missing.

    Returns
    -------
    Persons
        A patient with several values of a demographic has none; ``conflicts`` counts them.

    Raises
    ------
    DataError
        A file of the events is unreadable, or lacks a column.
    SpecError
        ``age`` would be computed from the birth date, but there is no index date.
    """
    if AGE in spec.features.demographics and not spec.cohort.has_index:
        raise SpecError(
            "features.demographics: age is computed from the birth date at the index date, but cohort.index is "
            "none. Give an index date, or leave age out."
        )
    from_index = calendar_names(spec, ())
    names = tuple(name for name in spec.features.demographics if name not in (AGE, *from_index))
    by_name = {name: _Values() for name in (*names, BIRTH)}
    for file in files:
        for patient, codes, times in _matching(source, file, tuple(by_name), patient_ids):
            _collect(source, by_name, patient, codes, times)
    n_patients = len(patient_ids)
    columns, conflicts = [], []
    for name in names:
        values, n_several = by_name[name].one_each(n_patients)
        columns.append(_column(where, name, by_name[name], values, name in spec.features.categorical))
        conflicts.append((name, n_several))
    births, n_several = by_name[BIRTH].one_each(n_patients)
    conflicts.append((BIRTH, n_several))
    known = np.array([*by_name[BIRTH].ids, NO_DATE], np.int64)
    return Persons(
        patient_ids=patient_ids,
        patient=np.arange(n_patients),
        index_us=None,
        birth_us=known[births],
        columns=tuple(columns),
        age_from_birth=AGE in spec.features.demographics,
        n_without_patient=0,
        from_index=from_index,
        conflicts=tuple((name, n) for name, n in conflicts if n),
    )


def _column(
    where: str, name: str, found_values: _Values, values: NDArray[np.int64], is_category: bool
) -> RawColumn:
    texts = text_array([*map(str, found_values.ids), ""]).cast(pa.string())
    texts = pc.if_else(bool_array(values >= 0), texts.take(int64_array(values % len(texts))), None)
    return join_parts(where, name, [("category" if is_category else "csv text", texts, where)])


def _matching(
    source: Source, file: SourceFile, names: Sequence[str], patient_ids: Any
) -> Iterator[tuple[NDArray[np.int64], Any, Any]]:
    """Yield the rows of known patients whose code gives a demographic: positions of patients, codes and times."""
    table = open_table(file, source)
    columns = _checked(source, table, file)
    text = [name for name in columns.values() if is_text(table.type_of(name))]
    for batch in table.batches(list(columns.values()), dictionaries=text, batch_rows=BATCH_ROWS):
        codes = text_column(batch.column(columns["code"]))
        matches = np.zeros(len(codes.dictionary), np.bool_)
        for name in names:
            matches |= _is_code(source.static_code(name), codes.dictionary)
        rows = pc.indices_nonzero(bool_array(truths(bool_array(matches).take(codes.indices))))
        if not len(rows):
            continue
        ids = patient_column(
            batch.column(columns["patient_id"]).take(rows), where=file.key, name=columns["patient_id"]
        )
        place = pc.index_in(ids.cast(pa.string()), value_set=patient_ids)
        is_known = is_given(place)
        kept = rows.filter(bool_array(is_known))
        patient = as_numpy(place).astype(np.int64)[is_known]
        yield patient, codes.take(kept), batch.column(columns["time"]).take(kept)


def _checked(source: Source, table: TableFile, file: SourceFile) -> dict[str, str]:
    source.require(EVENTS, file.key, table.column_names)
    names = {name: source.column(EVENTS, name) for name in ("patient_id", "time", "code")}
    for name, column in names.items():
        source.check_type(file.key, column, table.type_of(column), EVENTS.column(name).kind)
    return names


def _is_code(code: str, texts: Any) -> NDArray[np.bool_]:
    """Return which codes equal this one, with or without a value after two slashes."""
    is_alone = pc.equal(texts, code)
    return truths(pc.or_(is_alone, pc.starts_with(texts, code + _SEPARATOR)))


def _collect(
    source: Source, by_name: Mapping[str, _Values], patient: NDArray[np.int64], codes: Any, times: Any
) -> None:
    indices, texts = as_numpy(codes.indices).astype(np.int64), codes.dictionary
    for name, found_values in by_name.items():
        code = source.static_code(name)
        rows = np.flatnonzero(_is_code(code, texts)[indices])
        if not len(rows):
            continue
        if name == BIRTH:
            microseconds = read_times(times.take(int64_array(rows)), source.format).microseconds
            rows = rows[is_given(microseconds)]
            distinct, which = np.unique(as_numpy(microseconds)[is_given(microseconds)], return_inverse=True)
            found_values.add(patient[rows], distinct.tolist(), which)
            continue
        used, which = np.unique(indices[rows], return_inverse=True)
        values = [
            text.partition(code + _SEPARATOR)[2].strip() for text in texts.take(int64_array(used)).to_pylist()
        ]
        is_valued = np.array([bool(value) for value in values])[which]
        found_values.add(patient[rows[is_valued]], values, which[is_valued])
