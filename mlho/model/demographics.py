"""Encoding of new patients' demographics, from a table to the columns of the model."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.calendar import CALENDAR, calendar_values
from mlho.encoding.cohort.demographics import CategoryCode, DemographicsEncoder, NumberCode, is_absent
from mlho.encoding.cohort.join import OLDEST_YEARS, ages_at, before_birth_warnings, odd_age_warnings
from mlho.encoding.cohort.labels import read_births
from mlho.encoding.cohort.levels import OTHER
from mlho.encoding.cohort.persons import AGE, BIRTH_COLUMNS
from mlho.errors import DataError, plural
from mlho.model.frames import (
    EVENTS_FRAME,
    NO_DATE,
    Frame,
    Samples,
    arrow_column,
    index_bounds,
    names_of,
    patient_texts,
    patients_of,
    values_of,
)
from mlho.sources.native import NATIVE
from mlho.tables import ColumnKind, require_columns

DEMOGRAPHICS_FRAME: Final = "demographics (DataFrame)"
INDEX: Final = "index_date"
_NO_ROW = -1
# Share of rows with a level unknown to the bundle that gives a warning, without and with the level "other".
_MOST_UNSEEN: Final = 0.05
_MOST_UNSEEN_WITH_OTHER: Final = 0.5
_NAMED: Final = 6  # levels in a warning


def demographics_block(
    encoder: DemographicsEncoder | None, samples: Samples, frame: Frame | None
) -> tuple[NDArray[np.float64] | None, NDArray[np.int64]]:
    """Return the demographic columns of each sample, and the birth date of each patient.

    Parameters
    ----------
    encoder : DemographicsEncoder or None
        None: the model has no demographic columns.
    frame : DataFrame or Arrow table, or None
        ``patient_id`` and the columns named by the encoder. ``age`` is computed from ``birth_date`` if there is no column
        ``age``, and ``index_year`` and ``index_month`` from the index date likewise. One row per patient, or one per (patient, index date) with a column ``index_date``. Patients without a row
        have unknown values: medians, indicators and the level ``unknown``.

    Returns
    -------
    block : float64, shape (n_samples, n_columns), or None
    birth_us : int64, shape (n_patients,)
        Microseconds since 1970, ``NO_DATE`` if unknown. The ledger uses it to find events before birth.

    Raises
    ------
    DataError
        The model needs demographics and there is no frame, a column is missing or has a wrong type, or rows of one
        patient differ.
    """
    if frame is None:
        _refuse_none(encoder)
        return None, np.full(len(samples.patient_ids), NO_DATE, np.int64)
    require_columns(
        DEMOGRAPHICS_FRAME,
        [str(name) for name in names_of(frame)],
        ["patient_id"],
        remedy="Rename or add it.",
    )
    patients = patient_texts(frame, where=DEMOGRAPHICS_FRAME)
    names = tuple(code.name for code in encoder.codes if code.name in names_of(frame)) if encoder else ()
    born = _births(frame)
    _refuse_contradictions(frame, patients, names, born)
    births = _births_of(samples, patients, born)
    if encoder is None:
        return None, births
    row_of = _rows(frame, patients, samples)
    table: dict[str, Sequence[Any]] = {name: _values(values_of(frame, name), row_of) for name in names}
    if AGE not in names_of(frame) and born is not None:
        table[AGE] = ages_at(samples.index_us, births[samples.patient_of]).tolist()
    for code in encoder.codes:
        if code.name in CALENDAR and code.name not in table:
            table[code.name] = calendar_values(code.name, samples.index_us)
    return encoder.transform_table(table), births


def lost_values(
    encoder: DemographicsEncoder | None, samples: Samples, events: Frame, frame: Frame | None
) -> list[str]:
    """Return a warning for each loss of demographics that the caller may not expect: ids or levels in a different form."""
    if encoder is None or frame is None or not len(frame):
        return []
    with_events = patients_of(events, where=EVENTS_FRAME).intersection(samples.patient_ids)
    found = []
    if with_events and with_events.isdisjoint(patients_of(frame, where=DEMOGRAPHICS_FRAME)):
        found.append(
            f"None of the {plural(len(with_events), 'patient')} with events has a row of demographics, so their values are unknown. Check "
            "that events and demographics write patient ids in the same form: 17.0 and 17 are different ids."
        )
    for code in encoder.codes:
        if isinstance(code, CategoryCode) and code.name in names_of(frame):
            given = [value for value in values_of(frame, code.name) if not is_absent(value)]
            found.append(unseen_in_words(code, given, np.ones(len(given), np.int64)))
        elif isinstance(code, NumberCode) and code.name == AGE:
            found += _impossible_ages(samples, frame)
    return [sentence for sentence in found if sentence]


def _impossible_ages(samples: Samples, frame: Frame) -> list[str]:
    """Return the warnings about ages, as given or counted from the birth."""
    if AGE in names_of(frame):
        n_odd = sum(
            isinstance(age, Real) and not 0 <= float(age) <= OLDEST_YEARS and not is_absent(age)
            for age in values_of(frame, AGE)
        )
        return odd_age_warnings(n_odd, "row", 0)
    patients = patient_texts(frame, where=DEMOGRAPHICS_FRAME)
    births = _births_of(samples, patients, _births(frame))[samples.patient_of]
    ages = ages_at(samples.index_us, births)
    is_before = (births != NO_DATE) & np.isnan(ages)
    return [
        *odd_age_warnings(int((ages > OLDEST_YEARS).sum()), "sample", 0),
        *before_birth_warnings(int(is_before.sum()), 0),
    ]


def unseen_in_words(code: CategoryCode, values: Sequence[object], n_rows: NDArray[Any]) -> str:
    """Warn of many rows whose level the bundle does not have, such as ``f`` in place of ``F``; empty if there are few.

    Parameters
    ----------
    values : sequence
        Levels as in the table.
    n_rows : int, shape (n_values,)
        Rows with each.
    """
    is_unseen = code.unseen(values)
    n_given, n_unseen = int(n_rows.sum()), int(n_rows[is_unseen].sum())
    most = _MOST_UNSEEN_WITH_OTHER if OTHER in code.levels else _MOST_UNSEEN
    if not n_unseen or n_unseen < n_given * most:
        return ""
    instead = code.levels[int(code.positions([values[int(np.argmax(is_unseen))]])[0])]
    return (
        f"Demographic {code.name!r}: {100 * n_unseen / n_given:.0f} % of the rows have a level that the bundle does not have. They count as "
        f"{instead!r}. Write the levels as in training: {named_levels(code)}."
    )


def named_levels(code: CategoryCode) -> str:
    """Return the first levels of a category in words."""
    return ", ".join(code.levels[:_NAMED]) + (", …" if len(code.levels) > _NAMED else "")


def _refuse_none(encoder: DemographicsEncoder | None) -> None:
    """Refuse to score without demographics by mistake. A frame without rows is explicit and accepted."""
    if encoder is not None and encoder.codes:
        names = ", ".join(code.name for code in encoder.codes)
        raise DataError(
            DEMOGRAPHICS_FRAME,
            "not given, and the bundle uses demographics",
            expected=f"a table of patient_id, {names}",
            got="none",
            remedy="Pass demographics; rows or values that are not known may be left out.",
        )


def _births(frame: Frame) -> NDArray[np.int64] | None:
    name = next((name for name in BIRTH_COLUMNS if name in names_of(frame)), None)
    if name is None:
        return None
    array = arrow_column(frame, name, where=DEMOGRAPHICS_FRAME, kind=ColumnKind.TIME)
    return read_births(array, NATIVE, where=DEMOGRAPHICS_FRAME, name=name)


def _births_of(
    samples: Samples, patients: Sequence[str | None], born: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    if born is None:
        return np.full(len(samples.patient_ids), NO_DATE, np.int64)
    known = {patient: date for patient, date in zip(patients, born.tolist(), strict=True) if date != NO_DATE}
    return np.array([known.get(patient, NO_DATE) for patient in samples.patient_ids], np.int64)


def _keys(frame: Frame, patients: Sequence[str | None]) -> list[Any]:
    """Return the join key of each row: the patient, or the patient and the index date if the frame has one."""
    if INDEX not in names_of(frame):
        return list(patients)
    bounds, _ = index_bounds(frame, where=DEMOGRAPHICS_FRAME)
    return list(zip(patients, bounds.tolist(), strict=True))


def _rows(frame: Frame, patients: Sequence[str | None], samples: Samples) -> list[int]:
    """Row of the frame for each sample; ``_NO_ROW`` if there is none."""
    rows: Mapping[Any, int] = {key: number for number, key in enumerate(_keys(frame, patients))}
    ids = [samples.patient_ids[number] for number in samples.patient_of]
    if INDEX not in names_of(frame):
        return [rows.get(patient, _NO_ROW) for patient in ids]
    return [rows.get(key, _NO_ROW) for key in zip(ids, samples.index_us.tolist(), strict=True)]


def _values(column: Sequence[Any], row_of: Sequence[int]) -> list[Any]:
    return [None if row == _NO_ROW else column[row] for row in row_of]


def _refuse_contradictions(
    frame: Frame, patients: Sequence[str | None], names: Sequence[str], born: NDArray[np.int64] | None
) -> None:
    """Refuse rows of one patient (and index date) that differ in a column in use. Missing values are equal in any form."""
    first: dict[Any, tuple[Any, ...]] = {}
    columns = [values_of(frame, name) for name in names] + ([] if born is None else [born.tolist()])
    n_contradictions = 0
    for number, (patient, key) in enumerate(zip(patients, _keys(frame, patients), strict=True)):
        if patient is None:  # such rows are ignored, as in training
            continue
        cells = [column[number] for column in columns]
        row = tuple("" if is_absent(cell) else str(cell) for cell in cells)
        n_contradictions += first.setdefault(key, row) != row
    if n_contradictions:
        raise DataError(
            DEMOGRAPHICS_FRAME,
            "rows of one patient differ",
            expected="one row per patient, or one per (patient, index_date) with a column index_date",
            got=f"{plural(n_contradictions, 'row')} contradicting an earlier one",
            remedy="Keep the row that is valid at the index date.",
        )
