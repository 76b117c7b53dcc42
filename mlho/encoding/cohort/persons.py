"""The demographics table, read and checked: one row per patient (or per patient and index date)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.arrays import is_new, n_distinct
from mlho.encoding.cohort.calendar import calendar_names
from mlho.encoding.cohort.counts import is_one, shown_count
from mlho.encoding.cohort.kept import TextColumn, encoded, number_text, read_texts
from mlho.encoding.cohort.labels import MISSING, encode_patients, read_births, read_index, read_patients
from mlho.errors import DataError, SpecError, capitalized, plural
from mlho.printable import has_control
from mlho.sources import Source, list_inputs
from mlho.sources.arrow import as_numpy, blank_texts, is_given, null_where, truths
from mlho.sources.events import refuse_huge
from mlho.sources.files import DataRoot, SourceFile
from mlho.sources.forms import numbers_or_null
from mlho.sources.reading import TableFile, open_table, read_columns
from mlho.spec.training import TrainingSpec
from mlho.tables import DEMOGRAPHICS, MAX_CODE_CHARACTERS, ColumnKind, is_text, require_columns

NO_DATE: Final = np.iinfo(np.int64).min  # numpy's NaT as an integer
AGE: Final = "age"
BIRTH_COLUMNS: Final = ("birth_date", "birth")
_Form = Literal["number", "category", "csv text"]


@dataclass(frozen=True)
class RawColumn:
    """A demographic column as stored in the table: numbers (NaN: missing), or positions in ``levels`` (-1: missing)."""

    name: str
    values: NDArray[Any]
    levels: tuple[str, ...] | None
    has_leading_zeros: bool = False
    """Whether a text that is read as a number begins with a zero, as codes do."""


@dataclass(frozen=True)
class Persons:
    """The demographics table."""

    patient_ids: Any
    """Distinct patients, sorted by their UTF-8 bytes. Arrow string array."""
    patient: NDArray[np.int64]
    """Position in ``patient_ids``, non-decreasing. Shape (n_rows,)."""
    index_us: NDArray[np.int64] | None
    """Index date of each row, if the table has the labels' index column and is joined by both. Shape (n_rows,)."""
    birth_us: NDArray[np.int64]
    """``NO_DATE`` if unknown. Shape (n_patients,)."""
    columns: tuple[RawColumn, ...]
    age_from_birth: bool
    """Whether ``age`` is requested and computed from the birth date."""
    n_without_patient: int
    """Rows without a patient id, which are ignored."""
    from_index: tuple[str, ...] = ()
    """Requested demographics that are computed from the index date; see :mod:`mlho.encoding.cohort.calendar`."""
    conflicts: tuple[tuple[str, int], ...] = ()
    """Demographics whose static rows give some patients several values, which count as missing. As (name, number of patients)."""
    kept: Mapping[str, TextColumn] = field(default_factory=dict)
    """Kept columns by name (persons, splits, audit), as far as the table has them."""


@dataclass(frozen=True)
class _Layout:
    """Names of the columns to read from a file."""

    patient: str
    index: str | None
    birth: str | None
    wanted: tuple[tuple[str, str], ...]  # our name and the file's name
    categorical: frozenset[str]
    age_from_birth: bool
    from_index: tuple[str, ...]


def ignored_warnings(persons: Persons) -> list[str]:
    """Return a warning about rows without a patient id; an empty list if there are none."""
    n = persons.n_without_patient
    have, are = ("has", "is") if n == 1 else ("have", "are")
    return [f"{plural(n, 'row')} of the demographics {have} no patient and {are} ignored."] if n else []


def conflict_warnings(persons: Persons, noun: str, min_cell: int) -> list[str]:
    """Return a warning for each demographic whose static rows differ within a patient; an empty list if there is none."""
    return [
        capitalized(
            f"{shown_count(n, noun, min_cell)} {'has' if is_one(n, min_cell) else 'have'} several values of {name!r} in the "
            "events: it counts as missing there."
        )
        for name, n in persons.conflicts
    ]


def birth_column(source: Source, have: Sequence[str]) -> str | None:
    """Return the name of a file's column of birth dates; ``None`` if there is none."""
    names = (source.column(DEMOGRAPHICS, name) for name in BIRTH_COLUMNS)
    return next((name for name in names if name in have), None)


def read_persons(spec: TrainingSpec, source: Source, root: DataRoot) -> Persons | None:
    """Read the demographics table; ``None`` if the specification names none.

    Raises
    ------
    DataError
        A file or column is missing or has a wrong type, there is no row, or a patient's rows differ.
    SpecError
        ``age`` would be computed from the birth date, but there is no index date.
    """
    pattern = spec.data.tables.demographics
    if pattern is None:
        return None
    tables = [(file, open_table(file, source)) for file in list_inputs(root, pattern)]
    layout = _layout(spec, source, tables)
    parts = [_read_file(file, table, layout, source) for file, table in tables]
    patient_ids, patient = encode_patients([part[0] for part in parts])
    index_us = np.concatenate([part[1] for part in parts]) if layout.index else None
    births = np.concatenate([part[2] for part in parts])
    columns = tuple(
        join_parts(pattern, name, [part[3][number] for part in parts], decimal=source.format.decimal)
        for number, (name, _) in enumerate(layout.wanted)
    )
    known = patient != MISSING
    if not known.any():
        raise _empty(pattern, len(patient), spec.features.demographics)
    order = np.flatnonzero(known)
    order = order[np.lexsort((index_us[order] if index_us is not None else order * 0, patient[order]))]
    patient, births = patient[order], births[order]
    index_us = index_us[order] if index_us is not None else None
    columns = tuple(replace(column, values=column.values[order]) for column in columns)
    keep = _one_row_each(pattern, patient, index_us, columns)
    columns = tuple(replace(column, values=column.values[keep]) for column in columns)
    return Persons(
        patient_ids=patient_ids,
        patient=patient[keep],
        index_us=index_us[keep] if index_us is not None else None,
        birth_us=_one_birth_each(pattern, patient, births, layout.birth),
        columns=tuple(column for column in columns if column.name in spec.features.demographics),
        age_from_birth=layout.age_from_birth,
        from_index=layout.from_index,
        n_without_patient=int((~known).sum()),
        kept={column.name: _as_text(column) for column in columns if column.name in spec.kept_columns},
    )


def _layout(spec: TrainingSpec, source: Source, tables: Sequence[tuple[SourceFile, TableFile]]) -> _Layout:
    """Determine the columns to read: those that any file has. Raise an error unless every file has them."""
    patient = source.column(DEMOGRAPHICS, "patient_id")
    have = [name for _, table in tables for name in table.column_names]
    file_column = partial(source.column, DEMOGRAPHICS)
    birth = birth_column(source, have)
    index = spec.cohort.index.column
    demographics = list(spec.features.demographics)
    age_from_birth = AGE in demographics and file_column(AGE) not in have and birth is not None
    if age_from_birth:
        demographics.remove(AGE)
    from_index = calendar_names(spec, [name for name in demographics if file_column(name) in have])
    demographics = [name for name in demographics if name not in from_index]
    if age_from_birth and not spec.cohort.has_index:
        raise SpecError(
            "features.demographics: age is computed from the birth date at the index date, but cohort.index is "
            "none. Give an index date, add a column 'age' to the demographics, or leave age out."
        )
    if patient in map(file_column, demographics):
        raise SpecError(f"features.demographics: {patient!r} identifies patients. Leave it out.")
    kept = [name for name in spec.kept_columns if name not in demographics and file_column(name) in have]
    categorical = frozenset([*spec.features.categorical, *kept])
    if age_from_birth and AGE in categorical:
        raise SpecError(
            "features.categorical: age is computed from the birth date and is a number. Leave it out."
        )
    index = file_column(index) if index is not None and file_column(index) in have else None
    names = tuple((name, file_column(name)) for name in [*demographics, *kept])
    layout = _Layout(patient, index, birth, names, categorical, age_from_birth, from_index)
    for file, table in tables:
        _check_file(file, table, layout, source)
    return layout


def _check_file(file: SourceFile, table: TableFile, layout: _Layout, source: Source) -> None:
    have = table.column_names
    source.require(DEMOGRAPHICS, file.key, have)
    wanted = [name for _, name in layout.wanted]
    require_columns(
        file.key,
        have,
        wanted,
        remedy="Add it, name your column in data.columns, or correct features.demographics.",
    )
    kinds = {layout.patient: ColumnKind.PATIENT, **dict.fromkeys(wanted, ColumnKind.DEMOGRAPHIC)}
    for name in (layout.index, layout.birth):
        if name is not None:
            require_columns(file.key, have, [name], remedy="Add it: other files of the table have it.")
            kinds.setdefault(name, ColumnKind.TIME)
    for name, kind in kinds.items():
        source.check_type(file.key, name, table.type_of(name), kind)


_Piece = tuple[_Form, Any, str]  # form, Arrow float64 or string array, file key
_Part = tuple[Any, NDArray[np.int64], NDArray[np.int64], list[_Piece]]


def _read_file(file: SourceFile, table: TableFile, layout: _Layout, source: Source) -> _Part:
    wanted = [name for _, name in layout.wanted]
    names = dict.fromkeys([layout.patient, layout.index, layout.birth, *wanted])
    columns = read_columns(table, [name for name in names if name is not None])
    patients = read_patients(columns[layout.patient], where=file.key, name=layout.patient)
    index_us = births = np.full(len(patients), NO_DATE, np.int64)
    if layout.index:
        last_us, given = read_index(columns[layout.index], source, where=file.key, name=layout.index)
        index_us = np.where(given, last_us, NO_DATE)
    if layout.birth:
        births = read_births(columns[layout.birth], source, where=file.key, name=layout.birth)
    pieces = [
        _category(columns[file_column], file, file_column)
        if name in layout.categorical
        else _piece(columns[file_column], file, file_column)
        for name, file_column in layout.wanted
    ]
    return patients, index_us, births, pieces


def _piece(array: Any, file: SourceFile, name: str) -> _Piece:
    """Return one file's part of a column: numbers, or texts with blanks as null."""
    if pa.types.is_null(array.type):
        return "csv text", array.cast(pa.string()), file.key
    if pa.types.is_boolean(array.type):
        return "category", array.cast(pa.string()), file.key
    if is_text(array.type):
        texts = array.cast(pa.string())
        form: _Form = "category" if file.is_parquet else "csv text"
        return form, null_where(blank_texts(texts), texts), file.key
    numbers = array.cast(pa.float64(), safe=False)
    _refuse_infinite(numbers, file.key, name)
    return "number", numbers, file.key


def _category(array: Any, file: SourceFile, name: str) -> _Piece:
    """Return one file's part of a column declared categorical: numbers as their shortest text, text unchanged."""
    _, piece, key = _piece(array, file, name)
    return "category", read_texts(piece), key


def join_parts(where: str, name: str, pieces: Sequence[_Piece], *, decimal: str | None = None) -> RawColumn:
    """Join one column of all files. A CSV column is numeric if all of its texts are numbers, with the decimal separator of ``data.format``."""
    forms = {form for form, _, _ in pieces} - {"csv text"}
    if len(forms) == 2:
        raise DataError(
            where,
            f"column {name!r} is a number in some files and a category in others",
            expected="one type in all files of the table",
            got=f"{sum(p[0] == 'number' for p in pieces)} files with numbers of {len(pieces)}",
            remedy="Write it with one type.",
        )
    if "category" not in forms:
        parts = [
            numbers_or_null(array, decimal) if form == "csv text" else array for form, array, _ in pieces
        ]
        read_all = all(p.null_count == piece[1].null_count for p, piece in zip(parts, pieces, strict=True))
        if read_all:
            for part, (_, _, key) in zip(parts, pieces, strict=True):
                _refuse_infinite(part, key, name)
            numbers = pa.concat_arrays(parts)
            has_zeros = any(_has_leading_zeros(array) for form, array, _ in pieces if form == "csv text")
            return RawColumn(name, np.where(is_given(numbers), as_numpy(numbers), np.nan), None, has_zeros)
        if forms:
            raise DataError(
                where,
                f"column {name!r} is a number in some files and text in others",
                expected="one type in all files of the table",
                got="text that is not a number",
                remedy="Write it with one type.",
            )
    levels, codes = encode_patients([array for _, array, _ in pieces])
    _refuse_unusable(where, name, levels.to_pylist())
    return RawColumn(name, codes, tuple(levels.to_pylist()))


def _has_leading_zeros(texts: Any) -> bool:
    return bool(truths(pc.match_substring_regex(texts, r"^\s*0\d")).any())


def _as_text(column: RawColumn) -> TextColumn:
    if column.levels is not None:
        return TextColumn(column.levels, column.values)
    texts = pa.array([number_text(number) for number in column.values.tolist()], pa.string())
    return encoded([texts], encode_patients)


def _refuse_unusable(where: str, name: str, levels: Sequence[str]) -> None:
    """Refuse categories that are too long or contain control characters, which would corrupt reports and logs."""
    n_bad = sum(len(level) > MAX_CODE_CHARACTERS or has_control(level) for level in levels)
    if n_bad:
        raise DataError(
            where,
            f"column {name!r} holds categories that cannot be shown",
            expected=f"at most {MAX_CODE_CHARACTERS:,} characters, none of them a control character",
            got=f"{n_bad} others among {len(levels)}",
            remedy="Write short names, or leave the column out of features.demographics.",
        )


def _refuse_infinite(numbers: Any, where: str, name: str) -> None:
    n_infinite = int((np.isinf(as_numpy(numbers)) & is_given(numbers)).sum())
    if n_infinite:
        raise DataError(
            where,
            f"column {name!r} holds infinite numbers",
            expected="finite numbers",
            got=f"{n_infinite} infinite ones",
            remedy="Leave the field empty where the number is not known.",
        )
    refuse_huge(numbers, where=where, name=name)


def _empty(where: str, n_rows: int, needed: Sequence[str]) -> DataError:
    if n_rows:
        remedy = "Check the column of patient ids."
    elif needed:
        remedy = f"Write it again: {', '.join(needed)} are read from it. Individual patients and values may be missing."
    else:
        remedy = "Write the demographics, or leave out data.tables.demographics."
    return DataError(
        where,
        "the demographics are empty",
        expected="a row for each patient",
        got=f"{plural(n_rows, 'row')}, none with a patient",
        remedy=remedy,
    )


def _one_row_each(
    where: str, patient: NDArray[np.int64], index_us: NDArray[np.int64] | None, columns: Sequence[RawColumn]
) -> NDArray[np.bool_]:
    """Mark the first row of each key, given rows sorted by key. Refuse differing rows of one key."""
    is_first = is_new(patient) if index_us is None else is_new(patient, index_us)
    first = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    differs = np.zeros(len(patient), np.bool_)
    guilty = []
    for column in columns:
        is_other = column.values != column.values[first]
        if column.levels is None:
            is_other &= ~(np.isnan(column.values) & np.isnan(column.values[first]))
        if is_other.any():
            guilty.append(column.name)
        differs |= is_other
    if guilty:
        raise DataError(
            where,
            "a patient has differing rows" + ("" if index_us is None else " at one index date"),
            expected="one row for each " + ("patient" if index_us is None else "patient and index date"),
            got=f"{plural(n_distinct(patient[differs]), 'patient')} whose rows differ in {', '.join(map(repr, guilty))}",
            remedy="Keep one row, or add the labels' index column so that rows are joined by patient and index date.",
        )
    return is_first


def _one_birth_each(
    where: str, patient: NDArray[np.int64], births: NDArray[np.int64], name: str | None
) -> NDArray[np.int64]:
    is_first = is_new(patient)
    first = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    differs = births != births[first]
    if differs.any():
        raise DataError(
            where,
            "a patient has differing birth dates",
            expected="one birth date for each patient",
            got=f"{plural(n_distinct(patient[differs]), 'patient')} whose rows differ in {name!r}",
            remedy="Keep one.",
        )
    return births[is_first]
