"""Label rows as arrays of patients, index dates and outcomes. No row is dropped here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NO_BOUND, FollowUp
from mlho.encoding.cohort.kept import TextColumn, encoded, read_texts
from mlho.errors import DataError, plural
from mlho.sources import Source, list_inputs
from mlho.sources.arrow import as_numpy, blank_texts, is_given, truths
from mlho.sources.events import patient_column
from mlho.sources.files import DataRoot, SourceFile
from mlho.sources.reading import TableFile, open_table, read_columns
from mlho.sources.times import DAY_US, Times, read_times
from mlho.spec.cohort import TimeToEvent
from mlho.spec.training import Cohort
from mlho.tables import LABELS, ColumnKind, check_type, is_text, require_columns

MISSING: Final = -1  # no patient, or no outcome
_OUTCOME_OF_TEXT: Final = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
_NEVER: Final = np.iinfo(np.int64).max
_EPOCH_ORDINAL: Final = 719_163  # 1970-01-01 as a proleptic Gregorian ordinal


@dataclass(frozen=True)
class LabelRows:
    """All rows of the label files, in file order."""

    patient_ids: Any
    """Distinct patients, sorted by their UTF-8 bytes. Arrow string array, shape (n_patients,)."""
    patient: NDArray[np.int64]
    """Position in ``patient_ids``; ``MISSING`` for a row without a patient. Shape (n_rows,)."""
    index_us: NDArray[np.int64]
    """Last microsecond that may be used; ``NO_BOUND`` without an index date. Shape (n_rows,)."""
    has_index: NDArray[np.bool_]
    """Whether the row has an index date; always true if the specification gives it. Shape (n_rows,)."""
    outcome: NDArray[np.int8]
    """0, 1, or ``MISSING``. Shape (n_rows,)."""
    kept: Mapping[str, TextColumn] = field(default_factory=dict)
    """Kept columns by name (persons, splits, audit), as far as the labels have them."""
    outcome_us: NDArray[np.int64] | None = None
    """Date of the outcome in microseconds since 1970, ``NO_BOUND`` without one; None if the specification names no column. Shape
    (n_rows,)."""
    follow_up: FollowUp | None = None
    """Follow-up of each row, if the outcome is a time to an event."""


def read_labels(
    cohort: Cohort, source: Source, root: DataRoot, pattern: str, *, kept: Sequence[str] = ()
) -> LabelRows:
    """Read the label files, and those of the columns ``kept`` that they contain.

    Raises
    ------
    DataError
        A file or column is missing, has a wrong type, or holds outcomes other than 0 and 1 or unreadable index dates; or
        the table is empty.
    """
    files = list_inputs(root, pattern)
    kept = _present(source, files, kept)
    parts = [_read_file(cohort, source, file, kept) for file in files]
    patient_ids, patient = encode_patients([part[0] for part in parts])
    if not len(patient):
        raise DataError(
            pattern,
            "the labels are empty",
            expected="a row for each sample",
            got="no row",
            remedy="Write the labels, or correct data.tables.labels.",
        )
    if not len(patient_ids):
        raise DataError(
            pattern,
            "no row of the labels has a patient",
            expected="a patient in each row",
            got=f"{plural(len(patient), 'row')} without",
            remedy="Write the patients' ids.",
        )
    return LabelRows(
        patient_ids=patient_ids,
        patient=patient,
        index_us=np.concatenate([part[1] for part in parts]),
        has_index=np.concatenate([part[2] for part in parts]),
        outcome=np.concatenate([part[3] for part in parts]),
        kept={name: encoded([part[4][name] for part in parts], encode_patients) for name in kept},
        outcome_us=None
        if cohort.outcome_date is None
        else np.concatenate([part[5] for part in parts if part[5] is not None]),
        follow_up=None if cohort.time_to_event is None else _joined([part[6] for part in parts]),
    )


def _joined(parts: Sequence[FollowUp | None]) -> FollowUp:
    with_times = [part for part in parts if part is not None]
    return FollowUp(
        np.concatenate([part.days for part in with_times]),
        np.concatenate([part.status for part in with_times]),
    )


def _present(source: Source, files: Sequence[SourceFile], kept: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that any file has. Raise an error unless every file has them."""
    if not kept:
        return ()
    have = {name for file in files for name in open_table(file, source).column_names}
    return tuple(name for name in kept if name in have)


def encode_patients(texts: Sequence[Any]) -> tuple[Any, NDArray[np.int64]]:
    """Return the distinct ids, sorted by their UTF-8 bytes, and the position of each row among them (``MISSING`` for null)."""
    encoded = pa.concat_arrays(list(texts)).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[as_numpy(order).astype(np.int64)] = np.arange(len(order))
    given = is_given(encoded)
    position = np.full(len(encoded), MISSING, np.int64)
    position[given] = rank[as_numpy(encoded.indices)[given]]
    return encoded.dictionary.take(order), position


def read_patients(array: Any, *, where: str, name: str) -> Any:
    """Return patient ids as an Arrow string array; blank ids become null."""
    return patient_column(array, where=where, name=name).cast(pa.string())


def read_index(
    array: Any, source: Source, *, where: str, name: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the last microsecond that each index date includes, and which rows have an index date.

    Raises
    ------
    DataError
        Some dates are unreadable.
    """
    times = _readable_times(array, source, where, name)
    given = is_given(times.microseconds)
    whole_day = np.where(as_numpy(times.is_date), DAY_US - 1, 0)
    return np.where(given, as_numpy(times.microseconds) + whole_day, 0), given


def read_births(array: Any, source: Source, *, where: str, name: str) -> NDArray[np.int64]:
    """Return birth dates in microseconds since 1970; ``NaT`` (the smallest int64) if missing.

    Raises
    ------
    DataError
        Some dates are unreadable.
    """
    times = _readable_times(array, source, where, name)
    return np.where(is_given(times.microseconds), as_numpy(times.microseconds), np.iinfo(np.int64).min)


def _readable_times(array: Any, source: Source, where: str, name: str) -> Times:
    times = read_times(array, source.format)
    if times.is_bad is None:
        return times
    n_bad = int(as_numpy(times.is_bad).sum())
    raise DataError(
        where,
        f"column {name!r} holds dates that cannot be read",
        expected=source.times_in_words,
        got=f"{plural(n_bad, 'such row')}",
        remedy="Write them in this form, or state their form in data.format.dateFormats; leave the field empty where there is no date.",
    )


_Part = tuple[
    Any,
    NDArray[np.int64],
    NDArray[np.bool_],
    NDArray[np.int8],
    dict[str, Any],
    NDArray[np.int64] | None,
    FollowUp | None,
]


def _read_file(cohort: Cohort, source: Source, file: SourceFile, kept: Sequence[str]) -> _Part:
    table = open_table(file, source)
    patient = source.column(LABELS, "patient_id")
    _check_columns(cohort, source, table, file, patient)
    index = cohort.index.column
    require_columns(file.key, table.column_names, kept, remedy="Add it: other files of the table have it.")
    dated = cohort.outcome_date
    names = [*dict.fromkeys(filter(None, [patient, *_outcome_columns(cohort), index, dated, *kept]))]
    columns = read_columns(table, names)
    _refuse_headers(columns, file.key)
    n_rows = len(columns[patient])
    if index:
        index_us, has_index = read_index(columns[index], source, where=file.key, name=index)
    else:
        index_us, has_index = np.full(n_rows, _common_index(cohort), np.int64), np.ones(n_rows, np.bool_)
    texts = read_patients(columns[patient], where=file.key, name=patient)
    texts_kept = {name: read_texts(columns[name]) for name in kept}
    if cohort.time_to_event is not None:
        dates = {
            name: read_index(columns[name], source, where=file.key, name=name)
            for name in cohort.time_to_event.columns
        }
        follow_up = read_follow_up(cohort.time_to_event, dates, index_us)
        outcomes = outcome_of(follow_up, cohort.time_to_event)
        return texts, index_us, has_index, outcomes, texts_kept, None, follow_up
    outcomes = _outcomes(columns[cohort.outcome], file.key, cohort.outcome)
    outcome_us = None if dated is None else _outcome_dates(columns[dated], source, file.key, dated)
    return texts, index_us, has_index, outcomes, texts_kept, outcome_us, None


def _refuse_headers(columns: Mapping[str, Any], where: str) -> None:
    """Refuse a row that repeats the header, as in files that were appended to each other."""
    if not all(pa.types.is_string(array.type) for array in columns.values()):
        return
    # pc.equal with a Python string would import pandas.
    named = [truths(pc.match_substring(array, pattern=name)) for name, array in columns.items()]
    rows = np.flatnonzero(np.all(named, axis=0)).tolist()
    rows = [row for row in rows if all(array[row].as_py() == name for name, array in columns.items())]
    if rows:
        raise DataError(
            where,
            f"row {rows[0] + 1} repeats the header",
            expected="the header in the first line only",
            got="the names of the columns as values",
            remedy="Remove such rows, which come from files that were appended to each other.",
        )


def _outcome_dates(array: Any, source: Source, where: str, name: str) -> NDArray[np.int64]:
    dates = read_births(array, source, where=where, name=name)
    return np.where(dates == np.iinfo(np.int64).min, NO_BOUND, dates)


def _outcome_columns(cohort: Cohort) -> tuple[str, ...]:
    return (cohort.outcome,) if cohort.time_to_event is None else cohort.time_to_event.columns


def _check_columns(cohort: Cohort, source: Source, table: TableFile, file: SourceFile, patient: str) -> None:
    """Refuse a label file in which the patient, the outcome or the index date is missing or has a wrong type."""
    have = table.column_names
    require_columns(file.key, have, [patient], remedy=source.remedy(have))
    check_type(file.key, patient, table.type_of(patient), ColumnKind.PATIENT)
    if cohort.time_to_event is not None:
        names = cohort.time_to_event.columns
        require_columns(file.key, have, names, remedy="Correct the names in cohort.timeToEvent.")
        for column in names:
            source.check_type(file.key, column, table.type_of(column), ColumnKind.TIME)
    else:
        require_columns(
            file.key,
            have,
            [cohort.outcome],
            remedy="Set cohort.outcome to the column that holds the outcome.",
        )
        check_type(file.key, cohort.outcome, table.type_of(cohort.outcome), ColumnKind.OUTCOME)
    if cohort.outcome_date is not None:
        require_columns(file.key, have, [cohort.outcome_date], remedy="Correct or remove cohort.outcomeDate.")
        source.check_type(file.key, cohort.outcome_date, table.type_of(cohort.outcome_date), ColumnKind.TIME)
    name = cohort.index.column
    if name is not None:
        remedy = (
            "Add an index date and name it in cohort.index.column, or give one date for all (cohort.index.date). "
            "cohort.index: none states explicitly that all events count; the result is then an association, not a prediction."
        )
        require_columns(file.key, have, [name], remedy=remedy)
        source.check_type(file.key, name, table.type_of(name), ColumnKind.TIME)


def _common_index(cohort: Cohort) -> int:
    if cohort.index.date is not None:
        return (cohort.index.date.toordinal() - _EPOCH_ORDINAL + 1) * DAY_US - 1
    return int(NO_BOUND)


def _outcomes(array: Any, where: str, name: str) -> NDArray[np.int8]:
    if pa.types.is_null(array.type):
        return np.full(len(array), MISSING, np.int8)
    numbers = _outcome_numbers(array)
    is_missing = np.isnan(numbers)
    n_other = int((~is_missing & (numbers != 0) & (numbers != 1)).sum())
    if n_other:
        raise DataError(
            where,
            f"outcome column {name!r} holds a value that is not an outcome",
            expected=ColumnKind.OUTCOME.value,
            got=f"other values in {n_other:,} of {plural(len(numbers), 'row')}",
            remedy="Code the outcome as 0 and 1, and leave the field empty where it is not known.",
        )
    return np.where(is_missing, MISSING, numbers).astype(np.int8)


def _outcome_numbers(array: Any) -> NDArray[np.float64]:
    """Return outcomes as floats: NaN means missing, 2 means a text that is not an outcome."""
    if not is_text(array.type):
        numbers = as_numpy(array.cast(pa.float64(), safe=False)).copy()
        numbers[~is_given(array)] = np.nan
        return numbers
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    texts = encoded.dictionary.cast(pa.string())
    outcomes = [_OUTCOME_OF_TEXT.get((text or "").strip().lower(), 2) for text in texts.to_pylist()]
    by_text = np.where(blank_texts(texts), np.nan, np.array(outcomes, np.float64))
    given = is_given(encoded)
    numbers = np.full(len(encoded), np.nan)
    numbers[given] = by_text[as_numpy(encoded.indices)[given]]
    return numbers


Dates = tuple[NDArray[np.int64], NDArray[np.bool_]]  # last microsecond of each date, and which rows have one


def read_follow_up(times: TimeToEvent, dates: Mapping[str, Dates], index_us: NDArray[np.int64]) -> FollowUp:
    """Return what ended the observation after each index date; the days are ``NaN`` where nothing did.

    An event after the end of observation counts as not observed. If an event and a competing one have the same time, the
    event counts.
    """
    assert times.event is not None, "the specification requires both without rules"
    assert times.end is not None
    event, end = _times(dates[times.event]), _times(dates[times.end])
    competing = np.full_like(event, _NEVER) if times.competing is None else _times(dates[times.competing])
    first = np.minimum(np.minimum(event, competing), end)
    status = np.where(event == first, 1, np.where(competing == first, 2, 0)).astype(np.uint8)
    days = np.where(first == _NEVER, np.nan, (first - index_us) / DAY_US)
    return FollowUp(days, status)


def _times(dates: Dates) -> NDArray[np.int64]:
    time_us, given = dates
    return np.where(given, time_us, _NEVER)


def outcome_of(follow_up: FollowUp, times: TimeToEvent) -> NDArray[np.int8]:
    """Return 1 for an event up to the first horizon, 0 otherwise, and ``MISSING`` where nothing ends the observation."""
    is_event = (follow_up.status == 1) & (follow_up.days <= times.horizon_days[0])
    return np.where(np.isnan(follow_up.days), MISSING, is_event).astype(np.int8)


def refuse_other_times(
    follow_up: FollowUp, rows: NDArray[np.int64], first: NDArray[np.int64], where: str
) -> None:
    """Refuse label rows whose follow-up differs from that of their sample's first row (``rows``, ``first``: positions of both)."""
    repeated, of_first = follow_up[rows], follow_up[first]
    n_bad = int(((repeated.days != of_first.days) | (repeated.status != of_first.status)).sum())
    if n_bad:
        raise DataError(
            where,
            "rows of one sample have different dates of cohort.timeToEvent",
            expected="one time for each patient and index date",
            got=f"{plural(n_bad, 'row')} whose time differs from that of the first row of the sample",
            remedy="Keep one of the rows.",
        )
