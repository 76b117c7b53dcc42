"""Join the demographics table to the samples of a cohort."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.encoding.cohort.calendar import calendar_column
from mlho.encoding.cohort.cohort import CategoricalColumn, NumericColumn
from mlho.encoding.cohort.counts import is_one, shown_count
from mlho.encoding.cohort.labels import MISSING
from mlho.encoding.cohort.levels import OTHER, UNKNOWN, merge_rare_levels, renumbered
from mlho.encoding.cohort.persons import AGE, NO_DATE, Persons, RawColumn
from mlho.errors import DataError, capitalized, plural
from mlho.sources.arrow import positions_in
from mlho.sources.times import DAY_US

DAYS_PER_YEAR: Final = 365.25
OLDEST_YEARS: Final = 150  # above any documented human age
# A category with more levels than this is an identifier or free text; each level would become a named column.
MAX_LEVELS: Final = 100


def join_persons(
    persons: Persons,
    names: Sequence[str],
    person_of: NDArray[np.int64],
    index_us: NDArray[np.int64],
    *,
    patient_of: NDArray[np.integer[Any]],
    min_cell: int,
    where: str,
) -> tuple[tuple[NumericColumn | CategoricalColumn, ...], tuple[str, ...]]:
    """Return the demographic columns of the samples, and warnings.

    Parameters
    ----------
    names : sequence of str
        Columns in the order of the specification.
    person_of : int64, shape (n_samples,)
        Position of each sample's patient in ``persons.patient_ids``; ``MISSING`` if the patient is absent from the table.
    min_cell : int
        Levels with fewer patients are merged (:mod:`mlho.encoding.cohort.levels`), and numeric columns known for fewer
        patients are left out.
    """
    row = rows_of_persons(persons, person_of, index_us)
    warnings: list[str] = []
    columns: dict[str, NumericColumn | CategoricalColumn] = {
        raw.name: _sample_column(raw, row, where) for raw in persons.columns
    }
    columns |= {name: calendar_column(name, index_us) for name in persons.from_index}
    if persons.age_from_birth:
        births = np.where(person_of == MISSING, NO_DATE, persons.birth_us[person_of])
        ages = ages_at(index_us, births)
        _refuse_empty(AGE, np.isnan(ages), where)
        columns[AGE] = NumericColumn(AGE, ages)
        warnings += before_birth_warnings(int((np.isnan(ages) & (births != NO_DATE)).sum()), min_cell)
    warnings += _age_warnings(columns.get(AGE), patient_of, min_cell)
    ordered = _without_rare_numbers([columns[name] for name in names], patient_of, min_cell, warnings)
    ordered = _merged(ordered, patient_of, min_cell, warnings)
    return ordered, tuple(warnings)


def _age_warnings(
    age: NumericColumn | CategoricalColumn | None, patient_of: NDArray[np.integer[Any]], min_cell: int
) -> list[str]:
    """Warn about the number of patients with an implausible age. It is used unchanged, as ages above 89 may be shifted."""
    if not isinstance(age, NumericColumn):
        return []
    with np.errstate(invalid="ignore"):
        is_odd = (age.values < 0) | (age.values > OLDEST_YEARS)
    return odd_age_warnings(n_distinct(patient_of[is_odd]), "patient", min_cell)


def odd_age_warnings(n: int, noun: str, min_cell: int) -> list[str]:
    """Return a warning about patients, samples or rows with an implausible age; none for a count of 0."""
    if not n:
        return []
    odd = shown_count(n, noun, min_cell)
    return [capitalized(f"{odd} with an age below 0 or above {OLDEST_YEARS} years: it is used as it is.")]


def before_birth_warnings(n: int, min_cell: int) -> list[str]:
    """Return a warning about samples whose index date is before birth; none for a count of 0."""
    if not n:
        return []
    samples = shown_count(n, "sample", min_cell)
    return [capitalized(f"{samples} with an index date before birth: the age counts as missing there.")]


def person_of_patients(persons: Persons, patient_ids: Any) -> NDArray[np.int64]:
    """Return the position of each patient id in the demographics; ``MISSING`` if absent."""
    return positions_in(patient_ids, persons.patient_ids)


def rows_of_persons(
    persons: Persons, person_of: NDArray[np.int64], index_us: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the row of the table for each sample; ``MISSING`` if there is none."""
    if persons.index_us is None:  # one row per patient
        return person_of
    return matching_rows(persons.patient, persons.index_us, person_of, index_us)


def matching_rows(
    patient: NDArray[Any],
    row_us: NDArray[np.int64],
    patient_of: NDArray[np.int64],
    index_us: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the row with the patient and the date of each sample; ``MISSING`` if there is none. The rows must ascend by patient and date."""
    dates = np.unique(np.concatenate([row_us, index_us]))
    have = patient.astype(np.int64) * len(dates) + np.searchsorted(dates, row_us)
    want = patient_of * len(dates) + np.searchsorted(dates, index_us)
    at = np.minimum(np.searchsorted(have, want), len(have) - 1)
    return np.where((have[at] == want) & (patient_of != MISSING), at, MISSING)


def _sample_column(raw: RawColumn, row: NDArray[np.int64], where: str) -> NumericColumn | CategoricalColumn:
    if raw.levels is None:
        numbers = np.where(row == MISSING, np.nan, raw.values[row])
        _refuse_empty(raw.name, np.isnan(numbers), where)
        return NumericColumn(raw.name, numbers)
    codes = np.where(row == MISSING, MISSING, raw.values[row])
    _refuse_empty(raw.name, codes == MISSING, where)
    return _categorical(raw.name, raw.levels, codes, where)


def _refuse_empty(name: str, is_missing: NDArray[np.bool_], where: str) -> None:
    if is_missing.all():
        raise DataError(
            where,
            f"column {name!r} is empty for the whole cohort",
            expected="a value for at least one sample",
            got=f"{plural(len(is_missing), 'sample')} without one",
            remedy="Fill it, or leave it out of features.demographics.",
        )


def _categorical(name: str, levels: Sequence[str], codes: NDArray[np.int64], where: str) -> CategoricalColumn:
    """Return a categorical column of the samples with missing values as ``unknown`` and without unused levels."""
    column = renumbered(name, [*levels, UNKNOWN], np.where(codes == MISSING, len(levels), codes))
    if len(column.levels) > MAX_LEVELS:
        raise DataError(
            where,
            f"column {name!r} has too many levels for a category",
            expected=f"at most {MAX_LEVELS}",
            got=f"{len(column.levels)}",
            remedy="Group them, write numbers as numbers, or leave the column out of features.demographics.",
        )
    return column


def _without_rare_numbers(
    columns: Sequence[NumericColumn | CategoricalColumn],
    patient_of: NDArray[np.integer[Any]],
    min_cell: int,
    warnings: list[str],
) -> tuple[NumericColumn | CategoricalColumn, ...]:
    """Return the columns without numeric columns that are known for too few patients: a median or a split would reveal their values."""
    kept: list[NumericColumn | CategoricalColumn] = []
    for column in columns:
        if isinstance(column, NumericColumn):
            n_known = n_distinct(patient_of[~np.isnan(column.values)])
            if n_known < min_cell:
                warnings.append(
                    f"{column.name!r} is known for fewer than {min_cell} patients (report.minCell) and is left out."
                )
                continue
        kept.append(column)
    return tuple(kept)


def _merged(
    columns: Sequence[NumericColumn | CategoricalColumn],
    patient_of: NDArray[np.integer[Any]],
    min_cell: int,
    warnings: list[str],
) -> tuple[NumericColumn | CategoricalColumn, ...]:
    """Return the columns without rare levels. Add a warning with the count for each column that had some."""
    merged: list[NumericColumn | CategoricalColumn] = []
    for column in columns:
        if isinstance(column, NumericColumn):
            merged.append(column)
            continue
        result = merge_rare_levels(column, patient_of, min_cell=min_cell)
        merged.append(result.column)
        if result.n_levels:
            target = f"{result.into!r}" if result.into in (OTHER, UNKNOWN) else "the reference level"
            counts = "counts" if is_one(result.n_levels) else "each count"
            warnings.append(
                f"{shown_count(result.n_levels, 'level')} of {column.name!r} with fewer than {min_cell} patients {counts} "
                f"as {target}."
            )
    return tuple(merged)


def ages_at(index_us: NDArray[np.int64], birth_us: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ages in years: whole days / 365.25; NaN if unknown or negative."""
    days = index_us // DAY_US - birth_us // DAY_US
    return np.where((birth_us != NO_DATE) & (days >= 0), days / DAYS_PER_YEAR, np.nan)
