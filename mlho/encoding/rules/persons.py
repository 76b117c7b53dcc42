"""Demographics that rules need: birth, age, sex, and the first and last day of observation."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.labels import MISSING, encode_patients, read_index, read_patients
from mlho.encoding.cohort.persons import AGE, NO_DATE, RawColumn, birth_column, read_persons
from mlho.errors import DataError, plural
from mlho.sources import Source, list_inputs, source_of
from mlho.sources.arrow import positions_in
from mlho.sources.files import DataRoot, SourceFile
from mlho.sources.reading import open_table, read_columns
from mlho.sources.times import DAY_US
from mlho.spec.features import Features
from mlho.spec.rules import Rules
from mlho.spec.training import TrainingSpec
from mlho.tables import DEMOGRAPHICS, ColumnKind, require_columns

_SEX: Final = ("sex", "gender")  # the first column that the table has


@dataclass(frozen=True, eq=False)
class RulePersons:
    """The persons of some patients, in their order; unknown ones have no value."""

    birth_us: NDArray[np.int64]
    """``NO_DATE`` if unknown. Shape (n_patients,)."""
    age: NDArray[np.float64]
    """Age as in the table, used where there is no birth date; NaN if unknown. Shape (n_patients,)."""
    sex: tuple[str | None, ...]
    """Shape (n_patients,)."""
    start_us: NDArray[np.int64] | None = None
    end_us: NDArray[np.int64] | None = None
    """First and last microsecond of observation, ``NO_DATE`` if unknown; None without such a column. Shape (n_patients,)."""


def read_rule_persons(spec: TrainingSpec, root: DataRoot, patient_ids: Any) -> RulePersons | None:
    """Read the persons of some patients from the demographics; None if no rule needs them.

    Raises
    ------
    DataError
        A column is missing or unreadable, or the rows of a patient differ.
    """
    rules, pattern = spec.cohort.rules, spec.data.tables.demographics
    assert rules is not None
    if not rules.reads_persons or pattern is None:
        return None
    source, files = source_of(spec.data), list_inputs(root, pattern)
    wanted = _wanted(rules, source, files)
    plain = spec.without_rules.model_copy(
        update={
            "features": Features(
                demographics=wanted, categorical=tuple(column for column in wanted if column in _SEX)
            )
        }
    )
    persons = read_persons(plain, source, root)
    assert persons is not None
    place = positions_in(patient_ids, persons.patient_ids)
    columns = {column.name: column for column in persons.columns}
    n = len(patient_ids)
    births = np.where(place == MISSING, NO_DATE, persons.birth_us[place])
    ages, sex = np.full(n, np.nan), (None,) * n
    if AGE in columns:
        _refuse_text(columns[AGE], pattern)
        ages = np.where(place == MISSING, np.nan, columns[AGE].values[place])
    for name in columns.keys() & {*_SEX}:
        levels = (*(columns[name].levels or ()), None)  # the last entry is for -1, a missing sex
        codes = np.where(place == MISSING, MISSING, columns[name].values[place])
        sex = tuple(levels[code] for code in codes.tolist())
    observed = partial(_dates_of, source, files, patient_ids)
    return RulePersons(
        births,
        ages,
        sex,
        start_us=observed(rules.observation.start_column, is_end=False),
        end_us=observed(rules.observation.end_column, is_end=True),
    )


def _refuse_text(column: RawColumn, where: str) -> None:
    if column.levels is not None:
        raise DataError(
            where,
            f"column {column.name!r} is text",
            expected="age in years as a number",
            got=f"{plural(len(column.levels), 'level')}",
            remedy="Write plain numbers, with a decimal point and without units or signs such as + or >, or a birth_date.",
        )


def _wanted(rules: Rules, source: Source, files: list[SourceFile]) -> tuple[str, ...]:
    """Return the demographics to read: an age only where there is no birth date to compute it from."""
    have = open_table(files[0], source).column_names
    wanted = []
    if any(condition.sex is not None for condition in rules.conditions):
        known = (name for name in _SEX if source.column(DEMOGRAPHICS, name) in have)
        wanted.append(next(known, _SEX[0]))
    if any(condition.age is not None for condition in rules.conditions):
        wanted += [] if birth_column(source, have) is not None else [AGE]
    return tuple(wanted)


def _dates_of(
    source: Source, files: list[SourceFile], patient_ids: Any, name: str | None, *, is_end: bool
) -> NDArray[np.int64] | None:
    """Return the dates of a column for each patient; a last day is included in full."""
    if name is None:
        return None
    parts = [_read_dates(source, file, name, is_end=is_end) for file in files]
    known, patient = encode_patients([part[0] for part in parts])
    dates = np.concatenate([part[1] for part in parts])
    rows = np.flatnonzero((patient != MISSING) & (dates != NO_DATE))
    lowest, highest = np.full(len(known), np.iinfo(np.int64).max), np.full(len(known), NO_DATE)
    np.minimum.at(lowest, patient[rows], dates[rows])
    np.maximum.at(highest, patient[rows], dates[rows])
    n_differing = int(((highest != NO_DATE) & (lowest != highest)).sum())
    if n_differing:
        raise DataError(
            files[0].key,
            f"a patient has differing dates in column {name!r}",
            expected="one period of observation for each patient",
            got=f"{plural(n_differing, 'patient')} with several dates",
            remedy="Keep one row for each patient.",
        )
    place = positions_in(patient_ids, known)
    return np.where(place == MISSING, NO_DATE, highest[place])


def _read_dates(
    source: Source, file: SourceFile, name: str, *, is_end: bool
) -> tuple[Any, NDArray[np.int64]]:
    table = open_table(file, source)
    have, patient = table.column_names, source.column(DEMOGRAPHICS, "patient_id")
    column = source.column(DEMOGRAPHICS, name)
    source.require(DEMOGRAPHICS, file.key, have)
    require_columns(
        file.key, have, [column], remedy="Add it, or correct the column in cohort.rules.observation."
    )
    source.check_type(file.key, column, table.type_of(column), ColumnKind.TIME)
    columns = read_columns(table, [patient, column])
    last_us, given = read_index(columns[column], source, where=file.key, name=column)
    dates = last_us if is_end else last_us // DAY_US * DAY_US
    return read_patients(columns[patient], where=file.key, name=patient), np.where(given, dates, NO_DATE)
