"""Join the demographics table to the samples of a cohort."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort import CategoricalColumn, NumericColumn
from mlho.encoding.labels import MISSING
from mlho.encoding.persons import AGE, NO_DATE, Persons, RawColumn
from mlho.errors import DataError
from mlho.sources.times import DAY_US

UNKNOWN: Final = "unknown"  # the level of a missing category
DAYS_PER_YEAR: Final = 365.25
# A category with more levels than this is an identifier or free text; every level would become a column, by its name.
MAX_LEVELS: Final = 100


def join_persons(
    persons: Persons,
    names: Sequence[str],
    person_of: NDArray[np.int64],
    index_us: NDArray[np.int64],
    *,
    where: str,
) -> tuple[tuple[NumericColumn | CategoricalColumn, ...], tuple[str, ...]]:
    """Demographic columns of the samples, and warnings.

    Parameters
    ----------
    persons : Persons
        The table.
    names : sequence of str
        Columns in the order of the specification.
    person_of : int64, shape (n_samples,)
        Position of each sample's patient in ``persons.patient_ids``; ``MISSING`` where the table lacks the patient.
    index_us : int64, shape (n_samples,)
        Index date of each sample.
    where : str
        The table, for messages.
    """
    row = _rows_of(persons, person_of, index_us)
    warnings: list[str] = []
    columns: dict[str, NumericColumn | CategoricalColumn] = {
        raw.name: _sample_column(raw, row, where) for raw in persons.columns
    }
    if persons.age_from_birth:
        ages, n_before = _ages(persons.birth_us, person_of, index_us)
        _refuse_empty(AGE, np.isnan(ages), where)
        columns[AGE] = NumericColumn(AGE, ages)
        if n_before:
            warnings.append(
                f"{n_before} samples have an index date before birth: their age counts as missing."
            )
    return tuple(columns[name] for name in names), tuple(warnings)


def _rows_of(
    persons: Persons, person_of: NDArray[np.int64], index_us: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Row of the table for each sample, ``MISSING`` where there is none."""
    if persons.index_us is None:  # then rows and patients are one to one
        return person_of
    dates = np.unique(np.concatenate([persons.index_us, index_us]))
    have = persons.patient * len(dates) + np.searchsorted(dates, persons.index_us)
    want = person_of * len(dates) + np.searchsorted(dates, index_us)
    at = np.minimum(np.searchsorted(have, want), len(have) - 1)
    return np.where((have[at] == want) & (person_of != MISSING), at, MISSING)


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
            got=f"{len(is_missing)} samples without one",
            remedy="Fill it, or leave it out of features.demographics.",
        )


def _categorical(name: str, levels: Sequence[str], codes: NDArray[np.int64], where: str) -> CategoricalColumn:
    """Renumber levels: the most frequent first (ties: alphabetical), the others alphabetical, unused ones gone."""
    texts = [*levels, UNKNOWN]
    counts = np.bincount(np.where(codes == MISSING, len(levels), codes), minlength=len(texts))
    n_by_level: dict[str, int] = {}
    for text, count in zip(texts, counts.tolist(), strict=True):
        if count:
            n_by_level[text] = n_by_level.get(text, 0) + count
    if len(n_by_level) > MAX_LEVELS:
        raise DataError(
            where,
            f"column {name!r} has too many levels for a category",
            expected=f"at most {MAX_LEVELS}",
            got=f"{len(n_by_level)}",
            remedy="Group them, write numbers as numbers, or leave the column out of features.demographics.",
        )
    reference = min(n_by_level, key=lambda text: (-n_by_level[text], text))
    ordered = (reference, *sorted(n_by_level.keys() - {reference}))
    position = {text: number for number, text in enumerate(ordered)}
    renumber = np.array([position.get(text, 0) for text in texts], np.int16)
    return CategoricalColumn(name, ordered, renumber[np.where(codes == MISSING, len(levels), codes)])


def _ages(
    birth_us: NDArray[np.int64], person_of: NDArray[np.int64], index_us: NDArray[np.int64]
) -> tuple[NDArray[np.float64], int]:
    """Ages in years at the index date, in whole days over 365.25; NaN where not known, and how many are negative."""
    births = np.where(person_of == MISSING, NO_DATE, birth_us[person_of])
    days = index_us // DAY_US - births // DAY_US
    is_known = births != NO_DATE
    ages = np.where(is_known & (days >= 0), days / DAYS_PER_YEAR, np.nan)
    return ages, int((is_known & (days < 0)).sum())
