"""OMOP CDM 5.3 and 5.4: the tables of events and ``person`` as views with our columns.

A view is a file whose columns are computed batch by batch, in bounded memory. The case of column names is ignored.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.errors import DataError
from mlho.sources.arrow import (
    bool_array,
    int64_array,
    is_given,
    null_where,
    one_array,
    plain_array,
    text_array,
    truths,
)
from mlho.sources.base import END_BEFORE_START_RULE, Source, separator_remedy
from mlho.sources.files import SourceFile
from mlho.sources.omop.columns import (
    UNIT_TEXT,
    VALUE,
    ZoneCheck,
    code_of,
    level_texts,
    unit_column,
    value_column,
    whole_days,
    whole_numbers,
)
from mlho.sources.omop.folder import DEATH, EVENT_TABLES, OMOP_NAME, PERSON, EventTable, cdm_table
from mlho.sources.times import DAY_US, read_times
from mlho.tables import ColumnKind, check_type, is_text, require_columns

_TIME: Final = pa.timestamp("us")
_CODE: Final = pa.dictionary(pa.int32(), pa.string())
_VALUE_CONCEPT: Final = "value_as_concept_id"
_UNIT: Final = "unit_concept_id"
_REMEDY: Final = "Export the table with the columns of the OMOP CDM 5.3 or 5.4; case does not matter."
_BORN: Final = ("year_of_birth", "month_of_birth", "day_of_birth")
_CONCEPT_ROWS: Final = 1 << 16
_LEVELLED: Final = ("gender", "race", "ethnicity")


@dataclass(frozen=True)
class _View:
    """Common part of the views: the file, and its columns by their names in lower case."""

    file: SourceFile
    table: Any
    source: Source
    theirs: Mapping[str, str]

    marks: ClassVar[tuple[str, ...]] = ()

    def require(self, *names: str) -> None:
        """Refuse a file without these columns."""
        have = list(self.theirs)
        require_columns(self.file.key, have, names, remedy=separator_remedy(have) or _REMEDY)

    def raw_batches(self, names: Collection[str], batch_rows: int) -> Iterator[dict[str, Any]]:
        """Yield batches of columns by their names in lower case."""
        columns = {name: self.theirs[name] for name in names if name in self.theirs}
        texts = [column for column in columns.values() if is_text(self.table.type_of(column))]
        for batch in self.table.batches(list(columns.values()), dictionaries=texts, batch_rows=batch_rows):
            yield {name: one_array(batch.column(column)) for name, column in columns.items()}

    def numbers(self, columns: Mapping[str, Any], name: str, n_rows: int) -> NDArray[np.int64]:
        """Return whole numbers such as concept ids, 0 where missing, shape (n_rows,)."""
        if name not in columns:
            return np.zeros(n_rows, np.int64)
        return whole_numbers(columns[name], where=self.file.key, name=name)

    def times(self, columns: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, Any]:
        """Return the first readable time of each row, in microseconds, and which rows have only unreadable times."""
        found, bad = None, None
        for name in names:
            if name not in columns:
                continue
            self.source.check_type(self.file.key, name, columns[name].type, ColumnKind.TIME)
            times = read_times(columns[name], self.source.format)
            found = times.microseconds if found is None else pc.coalesce(found, times.microseconds)
            if times.is_bad is not None:
                bad = times.is_bad if bad is None else pc.or_(bad, times.is_bad)
        assert found is not None, "one of the columns is required"
        return found, None if bad is None else pc.and_(bad, pc.is_null(found))


@dataclass(frozen=True)
class EventView(_View):
    """A table of events with our columns, whose codes are the domain and the concept id.

    ``marks`` are further columns, which :func:`mlho.sources.events.iter_events` passes on.
    """

    event_table: EventTable

    marks: ClassVar[tuple[str, ...]] = ("time_bad", "rule", "unit")

    @property
    def column_names(self) -> Sequence[str]:
        """Our columns."""
        return ["person_id", "time", "code", "numeric_value"]

    def type_of(self, column: str) -> Any:
        """Arrow type of one of our columns."""
        if column == "person_id":
            return self.table.type_of(self.theirs[column])
        return {"time": _TIME, "code": _CODE, "numeric_value": pa.float64()}[column]

    def batches(
        self, columns: Sequence[str], *, dictionaries: Collection[str] = (), batch_rows: int = 1_000_000
    ) -> Iterator[pa.RecordBatch]:
        """Yield our columns and the marks; see :class:`mlho.sources.reading.TableFile`."""
        event_table = self.event_table
        names = ["person_id", *event_table.start, *event_table.end]
        if event_table.domain != DEATH:
            names += [f"{event_table.domain}_concept_id", f"{event_table.domain}_source_concept_id"]
        if event_table.has_value:
            names.append(_VALUE_CONCEPT)
            if "numeric_value" in columns:
                self.require(VALUE)
                names += [VALUE, _UNIT, UNIT_TEXT]
        zones = ZoneCheck(self.file.key)
        for raw in self.raw_batches(names, batch_rows):
            for name in event_table.start:
                zones.see(raw.get(name))
            yield self._batch(raw)

    def _batch(self, raw: Mapping[str, Any]) -> pa.RecordBatch:
        n_rows = len(raw["person_id"])
        time, bad = self.times(raw, self.event_table.start)
        found = {"person_id": raw["person_id"], "time": time.cast(_TIME), "code": self._codes(raw, n_rows)}
        if VALUE in raw:
            found["numeric_value"] = value_column(raw[VALUE], self.source.format, where=self.file.key)
            found["unit"] = unit_column(raw, self.numbers(raw, _UNIT, n_rows))
        else:
            found["numeric_value"] = pa.nulls(n_rows, pa.float64())
        if bad is not None:
            found["time_bad"] = bad
        is_early = self._ends_early(raw, time)
        if is_early.any():
            rules = is_early.astype(np.uint8) * END_BEFORE_START_RULE
            found["rule"] = pa.Array.from_buffers(
                pa.uint8(), n_rows, [None, pa.py_buffer(np.ascontiguousarray(rules, np.uint8))]
            )
        return pa.RecordBatch.from_arrays(list(found.values()), names=list(found))

    def _ends_early(self, raw: Mapping[str, Any], time: Any) -> NDArray[np.bool_]:
        """Return which rows end on an earlier day than they start.

        A date is a local day, and a time with an offset may be on another day in UTC. If a row does not have both times, its dates are therefore
        compared with each other, and with a time only if one of them is missing, too.
        """
        table, n_rows = self.event_table, len(time)
        if not any(name in raw for name in table.end):
            return np.zeros(n_rows, np.bool_)
        end, _ = self.times(raw, table.end)
        is_early = truths(pc.less(whole_days(end), whole_days(time)))
        if not all(name in raw for name in (table.start[-1], table.end[-1])):
            return is_early
        first, last = (self.times(raw, names[-1:])[0] for names in (table.start, table.end))
        has_dates = is_given(first) & is_given(last)
        if all(name in raw for name in (table.start[0], table.end[0])):
            begins, ends = (self.times(raw, names[:1])[0] for names in (table.start, table.end))
            has_dates &= ~(is_given(begins) & is_given(ends))
        return np.where(has_dates, truths(pc.less(whole_days(last), whole_days(first))), is_early)

    def _codes(self, raw: Mapping[str, Any], n_rows: int) -> Any:
        domain = self.event_table.domain
        if domain == DEATH:
            return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n_rows, np.int32)), pa.array([DEATH]))
        standard = self.numbers(raw, f"{domain}_concept_id", n_rows)
        concept = np.where(standard != 0, standard, self.numbers(raw, f"{domain}_source_concept_id", n_rows))
        value = self.numbers(raw, _VALUE_CONCEPT, n_rows)
        keys = (concept << 32) | np.where(concept != 0, value, 0)
        encoded = null_where(concept == 0, int64_array(keys)).dictionary_encode()
        texts = [code_of(domain, key >> 32, key & 0xFFFFFFFF) for key in encoded.dictionary.to_pylist()]
        return pa.DictionaryArray.from_arrays(encoded.indices, text_array(texts).cast(pa.string()))


@dataclass(frozen=True)
class PersonView(_View):
    """``person`` with ``birth_date``, ``gender``, ``race`` and ``ethnicity`` by name; its other columns are unchanged."""

    @property
    def column_names(self) -> Sequence[str]:
        """Columns by their names in lower case, and ours."""
        levelled = [name for name in _LEVELLED if f"{name}_concept_id" in self.theirs]
        return [*self.theirs, "birth_date", *levelled]

    def type_of(self, column: str) -> Any:
        """Arrow type of a column."""
        if column == "birth_date":
            return _TIME
        return pa.string() if column in _LEVELLED else self.table.type_of(self.theirs[column])

    def batches(
        self, columns: Sequence[str], *, dictionaries: Collection[str] = (), batch_rows: int = 1_000_000
    ) -> Iterator[pa.RecordBatch]:
        """Yield the requested columns; see :class:`mlho.sources.reading.TableFile`."""
        names = ["person_id", "birth_datetime", *_BORN, *(f"{name}_concept_id" for name in _LEVELLED)]
        for raw in self.raw_batches(dict.fromkeys([*names, *columns]), batch_rows):
            arrays = {name: self._column(raw, name) for name in columns}
            yield pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))

    def _column(self, raw: Mapping[str, Any], name: str) -> Any:
        n_rows = len(raw["person_id"])
        if name == "birth_date":
            return self._births(raw, n_rows)
        if name in _LEVELLED:
            return level_texts(self.numbers(raw, f"{name}_concept_id", n_rows))
        return plain_array(raw[name])

    def _births(self, raw: Mapping[str, Any], n_rows: int) -> Any:
        year, month, day = (self.numbers(raw, name, n_rows) for name in _BORN)
        month, day = (
            np.where((month >= 1) & (month <= 12), month, 1),
            np.where((day >= 1) & (day <= 31), day, 1),
        )
        is_year = (year >= 1) & (year <= 9999)
        months = (np.where(is_year, year, 1970) - 1970) * 12 + month - 1
        days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + day - 1
        born = null_where(~is_year, int64_array(days * DAY_US))
        if "birth_datetime" in raw:
            born = pc.coalesce(self.times(raw, ("birth_datetime",))[0], born)
        return born.cast(_TIME)


def iter_concepts(
    source: Source, file: SourceFile, wanted: Sequence[int]
) -> Iterator[tuple[list[int], list[str]]]:
    """Yield the ids and names of the wanted concepts in a file of the table ``concept``, in bounded memory.

    Raise DataError if the file is unreadable or lacks a column.
    """
    from mlho.sources.reading import open_table

    source = source.of_own_names
    table = open_table(file, source)
    view = _View(file, table, source, _lower(file, table))
    view.require("concept_id", "concept_name")
    check_type(file.key, "concept_name", table.type_of(view.theirs["concept_name"]), ColumnKind.TEXT)
    looked_for = np.array(wanted, np.int64)
    for raw in view.raw_batches(("concept_id", "concept_name"), _CONCEPT_ROWS):
        ids = view.numbers(raw, "concept_id", len(raw["concept_id"]))
        names = raw["concept_name"]
        kept = np.isin(ids, looked_for) & is_given(names) & (ids != 0)
        texts = names.filter(bool_array(kept)).cast(pa.string())
        yield ids[kept].tolist(), texts.to_pylist()


def _event_view(name: str) -> Any:
    def view(file: SourceFile, table: Any, source: Source) -> EventView:
        event_table = EVENT_TABLES[name]
        found = EventView(file, table, source, _lower(file, table), event_table)
        found.require(
            "person_id", *([f"{event_table.domain}_concept_id"] if event_table.domain != DEATH else [])
        )
        if not any(start in found.theirs for start in event_table.start):
            found.require(event_table.start[-1])
        for start in (*event_table.start, *event_table.end):
            if start in found.theirs:
                theirs = found.theirs[start]
                source.check_type(file.key, theirs, table.type_of(theirs), ColumnKind.TIME)
        return found

    return view


def _person_view(file: SourceFile, table: Any, source: Source) -> PersonView:
    found = PersonView(file, table, source, _lower(file, table))
    found.require("person_id", _BORN[0])
    return found


def _lower(file: SourceFile, table: Any) -> dict[str, str]:
    """Return the columns of a file by their names in lower case."""
    names = list(table.column_names)
    found = {name.casefold(): name for name in names}
    if len(found) != len(names):
        raise DataError(
            file.key,
            "the names of two columns differ only in case",
            expected="columns of different names",
            got=f"{len(names) - len(found)} repeated among {len(names)}",
            remedy="Remove one.",
        )
    return found


OMOP: Final = Source(
    name=OMOP_NAME,
    names={
        "events": {"patient_id": "person_id"},
        "labels": {"patient_id": "person_id"},
        "demographics": {"patient_id": "person_id"},
    },
    views={**{name: _event_view(name) for name in EVENT_TABLES}, PERSON: _person_view},
    table_of=cdm_table,
    times_of={name: event_table.start for name, event_table in EVENT_TABLES.items()},
)
