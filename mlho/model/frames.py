"""Conversion of tables to the input of the encoding: a batch of events, and the samples to score.

A table is a DataFrame, or an Arrow table where a program has no other use for pandas, whose import takes 0.2 s and 40 MB.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NO_BOUND
from mlho.encoding.cohort.windows import year_bounds
from mlho.errors import DataError, plural
from mlho.sources.arrow import is_given
from mlho.sources.events import number_column, patient_column, refuse_huge, text_column
from mlho.sources.times import DAY_US, read_times
from mlho.tables import EVENTS, LABELS, ColumnKind, check_type, require_columns

if TYPE_CHECKING:
    import pandas as pd

type Frame = pd.DataFrame | pa.Table

EVENTS_FRAME: Final = "events (DataFrame)"
INDEX_FRAME: Final = "index (DataFrame)"
NO_DATE: Final = np.iinfo(np.int64).min  # NaT


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples to score: distinct (patient, index date), sorted by the patient's id as text and by the date."""

    patient_ids: tuple[str, ...]
    """Sorted. Shape (n_patients,)."""
    patient_of: NDArray[np.int32]
    """Shape (n_samples,)."""
    index_us: NDArray[np.int64]
    """Last microsecond since 1970 that may be used; ``NO_BOUND`` without an index date. Shape (n_samples,)."""
    given_us: NDArray[np.int64]
    """Index date as given (midnight for a date); ``NO_DATE`` if there is none. Shape (n_samples,)."""


def require_frame(frame: object, *, where: str, expected: str = "a DataFrame") -> Frame:
    """Return a table unchanged; refuse anything but a table with distinct column names.

    Raises
    ------
    DataError
    """
    if isinstance(frame, pa.Table):
        is_frame, names = True, frame.column_names
    else:
        import pandas as pd

        is_frame = isinstance(frame, pd.DataFrame)
        names = list(frame.columns) if isinstance(frame, pd.DataFrame) else []
    if is_frame and len(set(names)) == len(names):
        return frame
    raise DataError(
        where,
        "two columns have the same name" if is_frame else "is not a DataFrame",
        expected="distinct column names" if is_frame else expected,
        got="a name twice" if is_frame else type(frame).__name__,
        remedy="Rename or drop one of them." if is_frame else "Convert it.",
    )


def names_of(frame: Frame) -> list[Any]:
    """Return the names of the columns of a table; in a DataFrame they can be anything."""
    return list(frame.column_names if isinstance(frame, pa.Table) else frame.columns)


def values_of(frame: Frame, name: str) -> list[Any]:
    """Return a column as Python values."""
    column = frame[name]
    values: list[Any] = column.to_pylist() if isinstance(frame, pa.Table) else column.tolist()
    return values


def arrow_column(frame: Frame, name: str, *, where: str, kind: ColumnKind) -> Any:
    """Return a column as an Arrow array of a type allowed for its kind.

    Raises
    ------
    DataError
        The column has a different type or mixed types. The message contains no value.
    """
    if not len(frame):  # an empty column can have any type in pandas
        return pa.nulls(0)
    try:
        array = frame[name] if isinstance(frame, pa.Table) else _from_pandas(frame[name])
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        raise DataError(
            where,
            f"column {name!r} holds values of several types",
            expected=kind.value,
            got="a mixed object column",
            remedy="Convert it to one type, for ids and codes with .astype(str).",
        ) from None  # the cause contains a value
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if not pa.types.is_null(array.type):
        check_type(where, name, array.type, kind)
    return array


def _from_pandas(column: "pd.Series") -> Any:
    _let_arrow_find_pandas()
    return pa.Array.from_pandas(column)


@cache
def _let_arrow_find_pandas() -> None:
    """Let Arrow look for pandas again. In a worker it first looked while pandas was hidden, and would read a column as Python values."""
    pa.nulls(0).to_pandas()


def events_batch(events: Frame, *, values: bool) -> Any:
    """Return the events as one batch, as :func:`mlho.sources.events.iter_events` yields them.

    Parameters
    ----------
    events : DataFrame or Arrow table
        ``patient_id``, ``time``, ``code``, and ``numeric_value`` if ``values``; other columns are ignored.
    values : bool
        Whether the bundle uses numeric values.
    """
    have = [str(name) for name in names_of(events)]
    wanted = ["patient_id", "time", "code", *(["numeric_value"] if values else [])]
    require_columns(EVENTS_FRAME, have, wanted, remedy="Rename or add it.")
    return batch_of(
        {
            name: arrow_column(events, name, where=EVENTS_FRAME, kind=EVENTS.column(name).kind)
            for name in wanted
        }
    )


def batch_of(columns: Mapping[str, Any]) -> Any:
    """Return the events as one batch from Arrow arrays of ``patient_id``, ``time``, ``code`` and, if used, ``numeric_value``."""
    times = read_times(columns["time"])
    arrays = {
        "patient": patient_column(_known_type(columns["patient_id"]), where=EVENTS_FRAME, name="patient_id"),
        "time": times.microseconds,
        "code": text_column(_known_type(columns["code"])),
    }
    if times.is_bad is not None:
        arrays["time_bad"] = times.is_bad
    if "numeric_value" in columns:
        arrays["value"] = number_column(columns["numeric_value"], where=EVENTS_FRAME, name="numeric_value")
        refuse_huge(arrays["value"], where=EVENTS_FRAME, name="numeric_value")
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _known_type(array: Any) -> Any:
    """Cast a column of nulls (or without rows) to text, which is valid for every column but numbers."""
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def patient_texts(frame: Frame, *, where: str) -> list[str | None]:
    """Return the text of each row's patient id; None if missing."""
    return _texts_of(_patient_ids(frame, where), where)


def patients_of(frame: Frame, *, where: str) -> set[str]:
    """Return the distinct patient ids of a table as texts, without converting each row."""
    return {text for text in _texts_of(_patient_ids(frame, where).unique(), where) if text}


def _patient_ids(frame: Frame, where: str) -> Any:
    require_columns(where, [str(name) for name in names_of(frame)], ["patient_id"])
    return _known_type(arrow_column(frame, "patient_id", where=where, kind=ColumnKind.PATIENT))


def _texts_of(ids: Any, where: str) -> list[str | None]:
    texts: list[str | None] = (
        patient_column(ids, where=where, name="patient_id").cast(pa.string()).to_pylist()
    )
    return texts


def samples_of_frame(index: Frame, *, has_dates: bool) -> Samples:
    """Return the samples of a table of ``patient_id`` and ``index_date``; equal rows are collapsed.

    Parameters
    ----------
    has_dates : bool
        False if the bundle has no index date; only ``patient_id`` is read then.

    Raises
    ------
    DataError
        A column is missing or has a wrong type, or a row has no patient or no date.
    """
    wanted = ["patient_id", *(["index_date"] if has_dates else [])]
    require_columns(INDEX_FRAME, [str(name) for name in names_of(index)], wanted, remedy="Rename or add it.")
    patients = patient_texts(index, where=INDEX_FRAME)
    refuse_missing(INDEX_FRAME, "patient_id", sum(not text for text in patients))
    if not has_dates:
        return samples_of([str(text) for text in patients], None)
    bounds, dates = index_bounds(index, where=INDEX_FRAME)
    _refuse_unreadable_dates(index, dates)
    refuse_missing(INDEX_FRAME, "index_date", int(np.count_nonzero(dates == NO_DATE)))
    return _sorted_samples([str(text) for text in patients], dates, bounds)


def _refuse_unreadable_dates(index: Frame, dates: NDArray[np.int64]) -> None:
    """Refuse index dates that are given and cannot be read, as text in a form other than ISO 8601."""
    kind = LABELS.column("index_date").kind
    given = is_given(arrow_column(index, "index_date", where=INDEX_FRAME, kind=kind))
    n_unreadable = int(np.count_nonzero(given & (dates == NO_DATE)))
    if n_unreadable:
        raise DataError(
            INDEX_FRAME,
            "column 'index_date' contains text that is not a date",
            expected=kind.value,
            got=f"other text in {plural(n_unreadable, 'row')} of {len(dates):,}",
            remedy="Convert the column, for example with pandas.to_datetime(index['index_date'], format='%d.%m.%Y').",
        )


def index_bounds(frame: Frame, *, where: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the last microsecond included by each row's ``index_date``, and the date as given.

    A date includes its whole day, a timestamp ends at that instant; ``NO_DATE`` if there is no readable date.
    """
    kind = LABELS.column("index_date").kind
    times = read_times(arrow_column(frame, "index_date", where=where, kind=kind))
    dates = times.microseconds.fill_null(NO_DATE).to_numpy(zero_copy_only=False)
    is_date = times.is_date.to_numpy(zero_copy_only=False) & (dates != NO_DATE)
    return dates + np.where(is_date, DAY_US - 1, 0), dates


def refuse_implausible(index_us: NDArray[np.int64], years: Sequence[int], *, where: str, name: str) -> None:
    """Refuse index dates outside the plausible years of training.

    Parameters
    ----------
    index_us : int64
        Microseconds since 1970.
    years : pair of int
        First and last plausible year.

    Raises
    ------
    DataError
        Some are outside. The message counts them.
    """
    first, last = year_bounds(years)
    n_odd = int(((index_us < first) | (index_us > last)).sum())
    if n_odd:
        raise DataError(
            where,
            f"column {name!r} holds implausible dates",
            expected=f"years from {years[0]} to {years[1]}, as in training (data.plausibleYears)",
            got=f"other years in {n_odd:,} of {plural(len(index_us), 'row')}",
            remedy="Correct these rows or remove them: no patient is omitted silently.",
        )


def samples_of(patients: Sequence[str], date: "dt.date | None") -> Samples:
    """Return one sample per patient, with the common index date or none."""
    distinct = sorted(set(patients))
    if date is None:
        date_us, bound = NO_DATE, NO_BOUND
    else:
        times = read_times(pa.array([date]))
        date_us = int(times.microseconds[0].as_py())
        bound = date_us + (DAY_US - 1 if times.is_date[0].as_py() else 0)
    return _sorted_samples(distinct, np.full(len(distinct), date_us), np.full(len(distinct), bound))


def _sorted_samples(patients: Sequence[str], dates: NDArray[np.int64], index: NDArray[np.int64]) -> Samples:
    rows = sorted(set(zip(patients, index.tolist(), dates.tolist(), strict=True)))
    # A date and the last microsecond of its day are the same sample.
    rows = [row for number, row in enumerate(rows) if not number or row[:2] != rows[number - 1][:2]]
    ids = sorted({patient for patient, _, _ in rows})
    number_of = {patient: number for number, patient in enumerate(ids)}
    return Samples(
        patient_ids=tuple(ids),
        patient_of=np.array([number_of[patient] for patient, _, _ in rows], np.int32),
        index_us=np.array([index_us for _, index_us, _ in rows], np.int64),
        given_us=np.array([given_us for _, _, given_us in rows], np.int64),
    )


def refuse_missing(where: str, name: str, n_missing: int) -> None:
    """Refuse rows of a table without a value that every sample needs."""
    if n_missing:
        raise DataError(
            where,
            f"rows without {name}",
            expected=f"a readable {name} in every row: no patient is omitted silently",
            got=f"{plural(n_missing, 'row')} without",
            remedy="Remove these rows or complete them.",
        )
