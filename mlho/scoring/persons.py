"""Demographics of the scored patients, as a table and as columns of the model."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.arrays import read_arrays, text_arrays, write_arrays
from mlho.encoding.cohort.calendar import CALENDAR, calendar_values
from mlho.encoding.cohort.demographics import CategoryCode, DemographicsEncoder, NumberCode
from mlho.encoding.cohort.join import (
    OLDEST_YEARS,
    ages_at,
    before_birth_warnings,
    matching_rows,
    odd_age_warnings,
)
from mlho.encoding.cohort.labels import MISSING
from mlho.encoding.cohort.levels import UNKNOWN
from mlho.encoding.cohort.persons import (
    AGE,
    NO_DATE,
    Persons,
    RawColumn,
    birth_column,
    conflict_warnings,
    ignored_warnings,
    read_persons,
)
from mlho.encoding.cohort.static_rows import read_static_rows
from mlho.errors import DataError, plural
from mlho.model.demographics import named_levels, unseen_in_words
from mlho.model.frames import Samples
from mlho.scoring.roster import mapped_texts
from mlho.sources import Source, list_inputs
from mlho.sources.arrow import as_numpy, int64_array, is_given, text_array
from mlho.sources.files import DataRoot, SourceFile
from mlho.sources.reading import open_table
from mlho.spec.scoring import ScoringIndex
from mlho.spec.training import TrainingSpec
from mlho.spec.types import MIN_CELL
from mlho.tables import DEMOGRAPHICS, require_columns

#: With at least this many values, chance cannot explain that none is a level of the bundle.
_MIN_GIVEN: Final = 100


@dataclass(frozen=True, eq=False)
class KnownPersons:
    """The demographics table with all its patients."""

    patient_ids: Any
    """Distinct, sorted by their UTF-8 bytes. Arrow large_string array, shape (n_patients,)."""
    patient: NDArray[np.int64]
    """Position in ``patient_ids``, non-decreasing. Shape (n_rows,)."""
    row_index_us: NDArray[np.int64]
    """Index date of each row; empty if the table has one row per patient. Shape (n_rows,)."""
    birth_us: NDArray[np.int64]
    """``NO_DATE`` if unknown. Shape (n_patients,)."""
    columns: tuple[RawColumn, ...]
    """Columns used by the bundle and present in the table."""
    warnings: tuple[str, ...] = ()
    """About rows that are ignored, and values that contradict each other."""

    def births_of(self, patient_ids: Sequence[str]) -> NDArray[np.int64]:
        """Birth dates in microseconds since 1970; ``NO_DATE`` if unknown. Shape (n_patients,)."""
        return _take(self.birth_us, self._person_of(patient_ids), missing=NO_DATE)

    def among(self, patient_ids: Sequence[str]) -> "KnownPersons":
        """Return only the rows of some patients, so that looking up a block does not scan the whole table again."""
        person_of = self._person_of(patient_ids)
        is_kept = np.zeros(len(self.patient_ids), np.bool_)
        is_kept[person_of[person_of != MISSING]] = True
        rows = np.flatnonzero(is_kept[self.patient])
        return KnownPersons(
            patient_ids=self.patient_ids.take(int64_array(np.flatnonzero(is_kept))),
            patient=(np.cumsum(is_kept) - 1)[self.patient[rows]],
            row_index_us=self.row_index_us[rows] if len(self.row_index_us) else self.row_index_us,
            birth_us=self.birth_us[is_kept],
            columns=tuple(
                RawColumn(column.name, column.values[rows], column.levels) for column in self.columns
            ),
        )

    def values_of(self, encoder: DemographicsEncoder, samples: Samples) -> dict[str, list[Any]]:
        """Return the values of some samples by demographic, for ``encoder.transform_table``.

        Patients that are not in the table have no values, which become medians, indicators and the level ``unknown``.
        """
        person_of = self._person_of(samples.patient_ids)
        rows = self._rows_of(person_of[samples.patient_of], samples.index_us)
        table: dict[str, list[Any]] = {column.name: _values(column, rows) for column in self.columns}
        if any(code.name == AGE for code in encoder.codes) and AGE not in table:
            births = _take(self.birth_us, person_of, missing=NO_DATE)
            table[AGE] = ages_at(samples.index_us, births[samples.patient_of]).tolist()
        for code in encoder.codes:
            if code.name in CALENDAR and code.name not in table:
                table[code.name] = list(calendar_values(code.name, samples.index_us))
        return table

    def count_odd_ages(
        self, encoder: DemographicsEncoder, samples: Samples, values: Mapping[str, Sequence[Any]]
    ) -> NDArray[np.int64]:
        """Count the samples with an implausible age, and those with an index date before the birth from which the age is counted.

        Parameters
        ----------
        values : mapping of name to a sequence of values
            From :meth:`values_of`.

        Returns
        -------
        int64, shape (2,)
        """
        if not any(isinstance(code, NumberCode) and code.name == AGE for code in encoder.codes):
            return np.zeros(2, np.int64)
        age = np.asarray(values[AGE], np.float64)
        is_before = np.zeros(len(age), np.bool_)
        if all(column.name != AGE for column in self.columns):
            births = self.births_of(samples.patient_ids)[samples.patient_of]
            is_before = (births != NO_DATE) & np.isnan(age)
        return np.array([((age < 0) | (age > OLDEST_YEARS)).sum(), is_before.sum()], np.int64)

    def _person_of(self, patient_ids: Sequence[str]) -> NDArray[np.int64]:
        found = pc.index_in(text_array(patient_ids), value_set=self.patient_ids)
        return np.where(is_given(found), as_numpy(found), MISSING).astype(np.int64)

    def _rows_of(self, person_of: NDArray[np.int64], index_us: NDArray[np.int64]) -> NDArray[np.int64]:
        if not len(self.row_index_us):  # one row per patient, or no rows
            return person_of
        return matching_rows(self.patient, self.row_index_us, person_of, index_us)

    def write(self, path: Path) -> None:
        """Write to one array file; equal tables give equal bytes."""
        meta = [{"levels": column.levels, "name": column.name} for column in self.columns]
        arrays: dict[str, NDArray[Any]] = {
            **text_arrays("patient_id", self.patient_ids.to_pylist()),
            "patient": self.patient,
            "row_index_us": self.row_index_us,
            "birth_us": self.birth_us,
            "meta": np.frombuffer(json.dumps(meta, sort_keys=True).encode(), np.uint8),
            "warnings": np.frombuffer(json.dumps(self.warnings).encode(), np.uint8),
        }
        arrays |= {f"column_{place}": column.values for place, column in enumerate(self.columns)}
        write_arrays(path, arrays)

    @classmethod
    def read(cls, path: Path) -> "KnownPersons":
        """Memory-map a table written by :meth:`write`."""
        arrays = read_arrays(path)
        meta = json.loads(arrays["meta"].tobytes())
        columns = tuple(
            RawColumn(
                column["name"],
                arrays[f"column_{place}"],
                None if column["levels"] is None else tuple(column["levels"]),
            )
            for place, column in enumerate(meta)
        )
        ids = mapped_texts("patient_id", arrays)
        warnings = tuple(json.loads(arrays["warnings"].tobytes()))
        return cls(ids, arrays["patient"], arrays["row_index_us"], arrays["birth_us"], columns, warnings)


def _values(column: RawColumn, rows: NDArray[np.int64]) -> list[Any]:
    """Values of a column at some rows: numbers or texts, None if missing."""
    if column.levels is None:
        numbers: list[Any] = _take(column.values, rows, missing=np.nan).tolist()
        return numbers
    texts = [*column.levels, None]  # the code of a missing value, -1, selects the last entry
    return [texts[code] for code in _take(column.values, rows, missing=MISSING).tolist()]


def count_missing(encoder: DemographicsEncoder, values: Mapping[str, Sequence[Any]]) -> NDArray[np.int64]:
    """Count the samples without a value of each demographic; as in training, the level ``unknown`` is not a value.

    Parameters
    ----------
    values : mapping of name to a sequence of values
        From :meth:`KnownPersons.values_of`.

    Returns
    -------
    int64, shape (n_codes,)
    """
    # NaN differs from itself.
    return np.array(
        [
            sum(value is None or value == UNKNOWN or value != value for value in values.get(code.name, ()))
            for code in encoder.codes
        ],
        np.int64,
    )


def age_warnings(counts: Sequence[int]) -> list[str]:
    """Warn of implausible ages, given the counts of :meth:`KnownPersons.count_odd_ages`, as training does."""
    n_odd, n_before = counts
    return [*odd_age_warnings(n_odd, "sample", MIN_CELL), *before_birth_warnings(n_before, MIN_CELL)]


def demographic_warnings(encoder: DemographicsEncoder | None, persons: KnownPersons | None) -> list[str]:
    """Return the warnings of the table, and of categories with many rows whose level the bundle does not have, such as ``f`` for ``F``.

    Each of these silently counts as another level. A bundle with the level ``other`` has merged rare levels, and more such rows are usual.
    """
    if persons is None:
        return []
    said = (unseen_in_words(*counts) for counts in _counts_of_levels(encoder, persons))
    return [*persons.warnings, *(words for words in said if words)]


def refuse_other_levels(encoder: DemographicsEncoder | None, persons: KnownPersons | None) -> None:
    """Refuse a table in which no value of a category is a level of the bundle, such as ``male`` and ``female`` for ``M`` and ``F``.

    Every patient would be scored with the same level, which is usually not that of the patient.

    Raises
    ------
    DataError
        At least 100 rows have a value of the category, and the bundle has the level of none.
    """
    for code, levels, n_rows in _counts_of_levels(encoder, persons):
        n_given = int(n_rows.sum())
        if n_given < _MIN_GIVEN or n_rows[~code.unseen(levels)].any():
            continue
        raise DataError(
            "demographics",
            f"no value of {code.name!r} is a level of the bundle: the scores would not reflect the patients",
            expected=f"the levels of training: {named_levels(code)}",
            got=f"{plural(n_given, 'row')} with other levels",
            remedy="Write the levels as in training. If this is intended, set checks.emptySamples: warn. Nothing is published.",
        )


def _counts_of_levels(
    encoder: DemographicsEncoder | None, persons: KnownPersons | None
) -> Iterator[tuple[CategoryCode, Sequence[str], NDArray[np.int64]]]:
    """Yield each category of the bundle that the table has, with the table's levels and the number of rows with each."""
    columns = {} if persons is None else {column.name: column for column in persons.columns}
    for code in () if encoder is None else encoder.codes:
        if isinstance(code, CategoryCode) and code.name in columns:
            column = columns[code.name]
            levels, given = column.levels or (), column.values[column.values != MISSING].astype(np.int64)
            yield code, levels, np.bincount(given, minlength=len(levels))


def _take(values: NDArray[Any], rows: NDArray[np.int64], *, missing: float) -> NDArray[Any]:
    """Values at some rows; ``missing`` for ``MISSING``."""
    taken = np.full(len(rows), missing, values.dtype)
    is_there = rows != MISSING
    taken[is_there] = values[rows[is_there]]
    return taken


def read_known_persons(
    encoder: DemographicsEncoder | None, index: ScoringIndex, source: Source, root: DataRoot, pattern: str
) -> KnownPersons:
    """Read the demographics table with the columns used by a bundle.

    Parameters
    ----------
    encoder : DemographicsEncoder or None
        The bundle's encoder; None reads only birth dates, which the ledger needs to find events before birth.
    index : ScoringIndex
        A table with the column ``index.column`` is joined by patient and index date.
    pattern : str
        ``data.tables.demographics``.

    Raises
    ------
    DataError
        A file or column is missing, the kind of a column differs from training, or a patient's rows differ.
    """
    codes = encoder.codes if encoder else ()
    _require(source, root, pattern, [code.name for code in codes])
    spec = TrainingSpec.model_validate(
        {
            "data": {
                "source": source.name,
                "tables": {"events": "-", "labels": "-", "demographics": pattern},
            },
            "cohort": {"index": index.model_dump()},
            "features": {
                "demographics": [code.name for code in codes],
                "categorical": [
                    code.name for code in codes if isinstance(code, CategoryCode) and code.of_numbers
                ],
            },
        }
    )
    persons = read_persons(spec, source, root)
    assert persons is not None  # the table is named
    known = known_persons(encoder, persons, pattern)
    return replace(known, warnings=tuple(ignored_warnings(persons)))


def known_persons(encoder: DemographicsEncoder | None, persons: Persons, pattern: str) -> KnownPersons:
    """Return those columns of the demographics that a bundle uses; see :func:`read_known_persons`."""
    codes = encoder.codes if encoder else ()
    is_category = {code.name: isinstance(code, CategoryCode) for code in codes}
    columns = tuple(
        _of_kind(column, pattern, is_category=is_category[column.name])
        for column in persons.columns
        if column.name in is_category
    )
    return _known(persons, columns)


def read_static_persons(
    encoder: DemographicsEncoder,
    index: ScoringIndex,
    source: Source,
    files: Sequence[SourceFile],
    patient_ids: Sequence[str],
) -> KnownPersons:
    """Read the demographics used by a bundle from the codes of the events, if there is no table.

    Parameters
    ----------
    source : Source
        A layout with static codes.
    files : sequence of SourceFile
        Files with the events of these patients.
    patient_ids : sequence of str
        Patients to score; one without such rows has unknown values.

    Raises
    ------
    DataError
        The kind of a column differs from training.
    """
    codes = [code for code in encoder.codes if code.name not in CALENDAR]
    categories = [code.name for code in codes if isinstance(code, CategoryCode)]
    spec = TrainingSpec.model_validate(
        {
            "data": {"source": source.name, "tables": {"events": "-", "labels": "-"}},
            "cohort": {"index": index.model_dump()},
            "features": {"demographics": [code.name for code in codes], "categorical": categories},
        }
    )
    ids = text_array(sorted(patient_ids)).cast(pa.string())
    persons = read_static_rows(spec, source, files, ids)
    columns = tuple(
        _of_kind(column, "events", is_category=column.name in categories) for column in persons.columns
    )
    warnings = tuple(conflict_warnings(persons, "patient", MIN_CELL))
    return replace(_known(persons, columns), warnings=warnings)


def _require(source: Source, root: DataRoot, pattern: str, names: Sequence[str]) -> None:
    for file in list_inputs(root, pattern):
        have = open_table(file, source).column_names
        by_birth = birth_column(source, have) is not None
        computed = (*CALENDAR, *([AGE] if by_birth else []))
        columns = {name: source.column(DEMOGRAPHICS, name) for name in names}
        wanted = [column for name, column in columns.items() if column in have or name not in computed]
        require_columns(
            file.key, have, wanted, remedy="Add it: the bundle uses it. Single values may be empty."
        )


def _of_kind(column: RawColumn, where: str, *, is_category: bool) -> RawColumn:
    """Return a column with the kind of the bundle's encoder; a column without values fits both kinds."""
    if (column.levels is not None) == is_category:
        return column
    is_empty = column.levels == () or (column.levels is None and bool(np.isnan(column.values).all()))
    if not is_empty:
        raise DataError(
            where,
            f"column {column.name!r} has a different kind than in training",
            expected="a category (text)" if is_category else "a number",
            got="numbers" if is_category else "text that is not a number",
            remedy="Write it as in training, and state data.format.decimal if training did; in Parquet a category is a string column.",
        )
    n = len(column.values)
    if is_category:
        return RawColumn(column.name, np.full(n, MISSING, np.int64), ())
    return RawColumn(column.name, np.full(n, np.nan), None)


def _known(persons: Persons, columns: tuple[RawColumn, ...]) -> KnownPersons:
    return KnownPersons(
        patient_ids=text_array(persons.patient_ids.to_pylist()),
        patient=persons.patient,
        row_index_us=np.empty(0, np.int64) if persons.index_us is None else persons.index_us,
        birth_us=persons.birth_us,
        columns=columns,
    )
