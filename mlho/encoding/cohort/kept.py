"""Columns that are read in addition to the features: persons, sites or parts, and columns of the audit.

``cohort.groupBy`` names the person behind patient ids, ``validation.splitColumn`` the site or part, and ``bias.columns`` the
columns of the audit. They are read as text from the labels or, if missing there, from the demographics.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlho.arrays import is_new, n_distinct
from mlho.encoding.cohort.cohort import CategoricalColumn, Groups
from mlho.encoding.cohort.levels import UNKNOWN
from mlho.errors import DataError, plural
from mlho.sources.arrow import as_numpy, blank_texts, int64_array, is_given, null_where
from mlho.tables import is_text

MISSING: Final = -1
MAX_PARTS: Final = 1000  # sites or folds; a column with more values is an identifier


@dataclass(frozen=True)
class TextColumn:
    """A column of texts, with one entry for each row of its table."""

    levels: tuple[str, ...]
    """Sorted by their UTF-8 bytes."""
    codes: NDArray[np.int64]
    """Position in ``levels``; ``MISSING`` where the field is empty. Shape (n_rows,)."""


def read_texts(array: Any) -> Any:
    """Return a column as an Arrow string array; whole numbers without decimals, blanks as null."""
    if pa.types.is_null(array.type):
        return array.cast(pa.string())
    if is_text(array.type):
        texts = array.cast(pa.string())
        return null_where(blank_texts(texts), texts)
    if not pa.types.is_floating(array.type):
        return array.cast(pa.string())
    numbers = np.where(is_given(array), as_numpy(array.cast(pa.float64())), np.nan)
    distinct, place = np.unique(numbers, return_inverse=True)
    return pa.array([number_text(number) for number in distinct.tolist()], pa.string()).take(
        int64_array(place)
    )


def number_text(number: float) -> str | None:
    """Return the text of a numeric code: 3.0 gives ``3``; None for NaN.

    Examples
    --------
    >>> number_text(3.0), number_text(2.5), number_text(float("nan"))
    ('3', '2.5', None)
    """
    if math.isnan(number):
        return None
    return str(int(number)) if number.is_integer() else repr(number)


def refuse_differing(
    columns: Mapping[str, TextColumn], rows: NDArray[np.int64], first: NDArray[np.int64], where: str
) -> None:
    """Refuse label rows of one sample that differ in a kept column, because the result would depend on their order.

    Parameters
    ----------
    columns : mapping of name to TextColumn
    rows : int64, shape (n_rows,)
        Label rows, sorted by sample.
    first : int64, shape (n_rows,)
        First label row of the sample of each row.
    """
    for name, column in columns.items():
        n_bad = int((column.codes[rows] != column.codes[first]).sum())
        if n_bad:
            raise DataError(
                where,
                f"rows of one sample differ in column {name!r}",
                expected="one value for each patient and index date",
                got=f"{plural(n_bad, 'row')} whose value differs from that of the first row of the sample",
                remedy="Keep one of the rows.",
            )


def sample_texts(
    name: str,
    field: str,
    *,
    labels: Mapping[str, TextColumn],
    rows: NDArray[np.int64],
    persons: Mapping[str, TextColumn],
    person_rows: NDArray[np.int64] | None,
    where: str,
    unknown: bool = False,
) -> TextColumn:
    """Return the column of the samples, from the labels or else from the demographics.

    Parameters
    ----------
    name, field : str
        Column, and the field of the specification that names it.
    labels, persons : mapping of name to TextColumn
        Kept columns of either table.
    rows, person_rows : int64, shape (n_samples,)
        Row of each sample in the labels, and in the demographics (``MISSING`` without one).
    unknown : bool
        If true, samples without a value have the level ``unknown``.

    Raises
    ------
    DataError
        Neither table has the column, or a sample has no value.
    """
    if name in labels:
        levels, codes = labels[name].levels, labels[name].codes[rows]
    elif name in persons and person_rows is not None:
        levels = persons[name].levels
        codes = np.where(person_rows == MISSING, MISSING, persons[name].codes[person_rows])
    else:
        raise DataError(
            where,
            f"there is no column {name!r}",
            expected=f"the column that {field} names, in the labels or in the demographics",
            got="neither table has it",
            remedy=f"Add it, or correct {field}.",
        )
    n_without = int((codes == MISSING).sum())
    if n_without and unknown:
        levels, codes = _with_unknown(levels, codes)
    elif n_without:
        raise DataError(
            where,
            f"column {name!r}, which {field} names, has empty fields",
            expected="a value for each sample",
            got=f"{plural(n_without, 'sample')} without one, of {len(codes):,}",
            remedy="Fill it, or remove these patients from the labels.",
        )
    used_levels, used_code = np.unique(codes, return_inverse=True)
    return TextColumn(tuple(levels[place] for place in used_levels.tolist()), used_code.astype(np.int64))


def _with_unknown(
    levels: tuple[str, ...], codes: NDArray[np.int64]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Give samples without a value the level ``unknown``, which may also be written in the table."""
    if UNKNOWN not in levels:
        levels = (*levels, UNKNOWN)
    return levels, np.where(codes == MISSING, levels.index(UNKNOWN), codes)


def groups_of(name: str, column: TextColumn, patient_of: NDArray[np.integer[Any]], where: str) -> Groups:
    """Return the persons behind the patients. Refuse a patient id that belongs to two persons."""
    starts = np.flatnonzero(is_new(patient_of))
    of_patient = column.codes[starts]
    n_bad = n_distinct(patient_of[column.codes != of_patient[patient_of]])
    if n_bad:
        raise DataError(
            where,
            f"a patient has several values in column {name!r}",
            expected="one person for each patient id (cohort.groupBy)",
            got=f"{plural(n_bad, 'patient')} with several",
            remedy="Correct the column, or name another one in cohort.groupBy.",
        )
    return Groups(column.levels, of_patient.astype(np.int32))


def category_of(name: str, column: TextColumn, where: str, field: str) -> CategoricalColumn:
    """Return the sites, parts or groups of the samples. Refuse a column with so many values that it must be an identifier."""
    if len(column.levels) > MAX_PARTS:
        raise DataError(
            where,
            f"column {name!r} has too many values for {field}",
            expected=f"at most {MAX_PARTS:,} values",
            got=f"{len(column.levels):,}",
            remedy="Name a column of sites, folds or groups.",
        )
    return CategoricalColumn(name, column.levels, column.codes.astype(np.int16))


def encoded(texts: Sequence[Any], encode: Any) -> TextColumn:
    """Return the parts of a column, one for each file, as one column with sorted levels."""
    levels, codes = encode(texts)
    return TextColumn(tuple(levels.to_pylist()), codes)
