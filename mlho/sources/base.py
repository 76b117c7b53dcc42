"""A source maps our column names to those of a table layout, and describes the format of its fields."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mlho.spec.layout import Format
from mlho.tables import EVENTS, TABLES, ColumnKind, Table, check_type, is_number, require_columns

#: Number of the ledger's rule ``Rule.MODIFIER``, which this package may not import.
MODIFIER_RULE: Final = 12
#: Number of ``Rule.END_BEFORE_START``.
END_BEFORE_START_RULE: Final = 13
# Columns that identify the layout of a file; those of events come first.
_SIGNS: Final = (
    ("dbmart", "phenx"),
    ("i2b2", "concept_cd"),
    ("meds", "subject_id"),
    ("dbmart", "patient_num"),
    ("native", "patient_id"),
)


@dataclass(frozen=True)
class EventDetails:
    """Columns that a layout needs, in addition to ours, to read a row of the events."""

    columns: tuple[str, ...]
    """Names in the layout. A file may lack these columns."""
    refine: Callable[[dict[str, Any], Mapping[str, Any]], None]
    """Called with the normalised columns of a batch, which it may change, and with those of ``columns`` that the file has. It may
    null values, and add ``rule``: uint8, the ledger rule that drops an otherwise usable row, 0 for none."""


@dataclass(frozen=True)
class Source:
    """Column names and formats of one layout."""

    name: str
    """Its name in ``data.source`` of the specification."""
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By table name, our column names to those of the layout. A column without an entry has our name."""
    missing_texts: tuple[str, ...] = ("",)
    """Unquoted CSV fields that mean "missing"; quoted ones are text."""
    format: Format = field(default_factory=Format)
    """``data.format`` of the specification."""
    named_columns: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By table name, our names of the columns that ``data.columns`` names. A file without one of them is refused."""
    ignores_case: bool = False
    """Whether case is ignored in the layout's column names."""
    details: EventDetails | None = None
    """Further columns that decide how an event is read."""
    takes_first_description: bool = False
    """Whether a code may have several descriptions; the first in alphabetical order is used."""
    static_codes: Mapping[str, str] | None = None
    """Column of the demographics to code, for a layout with demographics among the events, as ``CODE//value``. The code of a column
    without an entry is its name in capitals."""
    views: Mapping[str, Callable[[Any, Any, "Source"], Any]] = field(default_factory=dict)
    """By table whose columns are computed: a function of (file, opened file, source) that returns a file with our columns."""
    table_of: Callable[[str], str | None] = lambda _: None
    """Returns the table of the layout to which the file with this key belongs."""
    times_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For a layout with several tables of events: its tables to their columns of times, in lower case."""

    def column(self, table: Table, name: str) -> str:
        """Return this layout's name for one of our columns."""
        return self.names.get(table.name, {}).get(name, name)

    def columns(self, table: Table) -> dict[str, str]:
        """Return all columns of a table: our name → the layout's name."""
        return {column.name: self.column(table, column.name) for column in table.columns}

    @property
    def of_own_names(self) -> "Source":
        """Our column names, for files of the same form: separator, encoding, missing texts and dates."""
        return Source("native", missing_texts=self.missing_texts, format=self.format)

    def static_code(self, name: str) -> str:
        """Return the code that gives one of our demographics: the code in ``data.columns``, otherwise that of the layout."""
        if name in self.named_columns.get("demographics", ()):
            return self.names["demographics"][name]
        return (self.static_codes or {}).get(name, name.upper())

    def time_columns(self, key: str, file_columns: Sequence[str]) -> list[str]:
        """Return the columns of a file of events that may hold its times, in order of precedence."""
        wanted = self.times_of.get(self.table_of(key) or "", (self.column(EVENTS, "time"),))
        by_name = (
            {name.casefold(): name for name in file_columns}
            if self.times_of
            else {name: name for name in file_columns}
        )
        return [by_name[name] for name in wanted if name in by_name]

    def view(self, file: Any, table: Any) -> Any:
        """Return a file with our columns if its table's columns are computed, otherwise the file as it is."""
        make = self.views.get(self.table_of(file.key) or "")
        return make(file, table, self) if make is not None else table

    def require(self, table: Table, where: str, file_columns: Sequence[str]) -> None:
        """Refuse a file that lacks a required column of a table.

        The message names the file and the columns. If the file matches the layout of another source, it names that source.
        """
        named_columns = self.named_columns.get(table.name, ())
        required = [
            self.column(table, column.name)
            for column in table.columns
            if column.required or column.name in named_columns
        ]
        require_columns(where, file_columns, required, remedy=self.remedy(file_columns))

    def remedy(self, file_columns: Sequence[str]) -> str:
        """Return the remedy for a missing column, given the columns of the file."""
        separator = separator_remedy(file_columns)
        if separator is not None:
            return separator
        lower = {name.casefold() for name in file_columns}
        names = {name for table in TABLES for name in self.columns(table).values()}
        for name, sign in _SIGNS:
            if name != self.name and sign in lower and sign not in names:
                return (
                    f"It has {sign!r}: set data.source to {name} if all tables have that layout. "
                    "If only this table has it, name its columns in data.columns."
                )
        return f"Rename or add it, or name your column in data.columns; data.source is {self.name}."

    def check_type(self, where: str, name: str, type_: Any, kind: ColumnKind) -> None:
        """Refuse a column whose Arrow type does not match its kind; numbers are times if the format defines their unit."""
        if kind is ColumnKind.TIME and is_number(type_) and self.format.reads_numbers:
            return
        check_type(where, name, type_, kind)

    @property
    def times_in_words(self) -> str:
        """Description of a time, for messages."""
        words = [f"text of the form {' or '.join(self.format.date_formats)}"] * bool(self.format.date_formats)
        words += [f"a whole number of {self.format.time_unit} since 1970"] * bool(self.format.time_unit)
        return f"a timestamp, a date, {' or '.join(words)}" if words else ColumnKind.TIME.value


def separator_remedy(file_columns: Sequence[str]) -> str | None:
    """Return the remedy for a file whose header is a single name that contains a separator; ``None`` for other files."""
    mark = next((mark for mark in ";\t|," if len(file_columns) == 1 and mark in file_columns[0]), None)
    if mark is None:
        return None
    other = ", or give the file the suffix .tsv if the others have commas" if mark == "\t" else ""
    return f"Set data.format.delimiter to {json.dumps(mark)}{other}."
