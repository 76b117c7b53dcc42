"""The subgroup of a cohort that ``cohort.only`` selects by sex and by age at the index date."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.calendar import completed_years
from mlho.encoding.cohort.join import rows_of_persons
from mlho.encoding.cohort.labels import MISSING
from mlho.encoding.cohort.persons import AGE, NO_DATE, Persons, RawColumn
from mlho.errors import SpecError
from mlho.spec.cohort import Only
from mlho.spec.rules import Age
from mlho.spec.types import MIN_CELL

OF_SEX: Final = "of the sex of cohort.only"
OF_AGE: Final = "of the age of cohort.only"
_SEX: Final = ("sex", "gender")  # the first column that the demographics have


def subgroup(
    only: Only, persons: Persons | None, person_of: NDArray[np.int64], index_us: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Return, for each condition, which label rows meet it; an unknown sex or age does not.

    Parameters
    ----------
    person_of : int64, shape (n_rows,)
        Position of each row's patient in ``persons.patient_ids``; ``MISSING`` if unknown.
    index_us : int64, shape (n_rows,)

    Raises
    ------
    SpecError
        ``features.demographics`` lacks a column that the subgroup needs, or the column has none of the named values.
    """
    if persons is None:
        raise _not_there("sex or age")
    masks = {}
    row = rows_of_persons(persons, person_of, index_us)
    columns = {column.name: column for column in persons.columns}
    if only.sex is not None:
        sex = next((columns[name] for name in _SEX if name in columns), None)
        if sex is None or sex.levels is None:
            raise _not_there("sex")
        if not set(only.sex) & set(sex.levels):
            raise _no_such_sex(sex)
        accepted = np.array([*(level in only.sex for level in sex.levels), False])  # the last: missing
        masks[OF_SEX] = accepted[np.where(row == MISSING, MISSING, sex.values[row]).astype(np.int64)]
    if only.age is not None:
        years = _years(persons, person_of, row, index_us)
        masks[OF_AGE] = is_of_age(only.age, years)
    return masks


def is_of_age(age: Age, years: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which ages in completed years are within the bounds; NaN never is."""
    low = 0 if age.at_least is None else age.at_least
    high = np.inf if age.at_most is None else age.at_most
    return np.asarray((years >= low) & (years <= high))


def _years(
    persons: Persons, person_of: NDArray[np.int64], row: NDArray[np.int64], index_us: NDArray[np.int64]
) -> NDArray[np.float64]:
    if persons.age_from_birth:
        births = np.where(person_of == MISSING, NO_DATE, persons.birth_us[person_of])
        is_born = births != NO_DATE
        return np.where(is_born, completed_years(np.where(is_born, births, 0), index_us), np.nan)
    age = next((column for column in persons.columns if column.name == AGE), None)
    if age is None or age.levels is not None:
        raise _not_there("age")
    return np.where(row == MISSING, np.nan, np.floor(age.values[row]))


def _not_there(name: str) -> SpecError:
    return SpecError(
        f"cohort.only: {name} is not among the demographics. Expected it in features.demographics and its table. Add it."
    )


def _no_such_sex(column: RawColumn) -> SpecError:
    codes = column.values[column.values != MISSING].astype(np.int64)
    counts = np.bincount(codes, minlength=len(column.levels or ()))
    frequent = [level for level, n in zip(column.levels or (), counts, strict=True) if n >= MIN_CELL]
    return SpecError(
        f"cohort.only.sex: the column {column.name} of the demographics has none of these values. "
        f"Expected values of at least {MIN_CELL} rows: {', '.join(frequent) or 'there are none'}. Correct it."
    )
