"""A source maps our column names to those of a table layout, and describes the format of its fields."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mlho.spec.layout import Format
from mlho.tables import EVENTS, TABLES, ColumnKind, Table, check_type, is_number, require_columns

#: Number of the ledger's rule ``Rule.MODIFIER``, which is defined above this room.
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
    """Columns of the events, in addition to ours, that a layout needs to read a row."""

    columns: tuple[str, ...]
    """The layout's names. A file may lack them."""
    refine: Callable[[dict[str, Any], Mapping[str, Any]], None]
    """Takes the normalised columns of a batch, which it may change, and those of ``columns`` that the file has. It may null values, and add
    ``rule``: uint8, the ledger rule that drops a row that is usable otherwise, 0 for none."""


@dataclass(frozen=True)
class Source:
    """Column names and formats of one layout."""

    name: str
    """Its name in ``data.source`` of the specification."""
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By table name; our column name to the layout's. A column without an entry has our name."""
    missing_texts: tuple[str, ...] = ("",)
    """Unquoted CSV fields that mean "missing"; quoted ones are text."""
    format: Format = field(default_factory=Format)
    """``data.format`` of the specification."""
    named_columns: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Table name to our column names. Columns that ``data.columns`` names: a file without one is refused."""
    ignores_case: bool = False
    """Whether the layout's column names are found in any case."""
    details: EventDetails | None = None
    """Further columns that decide how an event is read."""
    takes_first_description: bool = False
    """Whether a code may have several descriptions; the first in alphabetical order is used."""
    static_codes: Mapping[str, str] | None = None
    """Column of the demographics to code. For a layout with demographics among the events, as ``CODE//value``. A column without an entry
    has its name in capitals as code."""
    views: Mapping[str, Callable[[Any, Any, "Source"], Any]] = field(default_factory=dict)
    """By table of the layout whose columns are computed: returns a file with our columns for (file, opened file, source)."""
    table_of: Callable[[str], str | None] = lambda _: None
    """Tells by a file's key which table of the layout it belongs to."""
    times_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The layout's table to columns. Columns of times, in lower case, for a layout with several tables of events."""

    def column(self, table: Table, name: str) -> str:
        """Return this layout's name for one of our columns."""
        return self.names.get(table.name, {}).get(name, name)

    def columns(self, table: Table) -> dict[str, str]:
        """Return all columns of a table: our name → the layout's name."""
        return {column.name: self.column(table, column.name) for column in table.columns}

    @property
    def of_own_names(self) -> "Source":
        """Our column names in files of the same form: separator, encoding, missing texts and dates."""
        return Source("native", missing_texts=self.missing_texts, format=self.format)

    def static_code(self, name: str) -> str:
        """Return the code that gives one of our demographics: as ``data.columns`` states, else as the layout has it."""
        if name in self.named_columns.get("demographics", ()):
            return self.names["demographics"][name]
        return (self.static_codes or {}).get(name, name.upper())

    def time_columns(self, key: str, file_columns: Sequence[str]) -> list[str]:
        """Return the columns of a file of events that may hold its times, the first one that counts first."""
        wanted = self.times_of.get(self.table_of(key) or "", (self.column(EVENTS, "time"),))
        by_name = (
            {name.casefold(): name for name in file_columns}
            if self.times_of
            else {name: name for name in file_columns}
        )
        return [by_name[name] for name in wanted if name in by_name]

    def view(self, file: Any, table: Any) -> Any:
        """Return a file with our columns, if the file belongs to a table whose columns are computed; else the file as it is."""
        make = self.views.get(self.table_of(file.key) or "")
        return make(file, table, self) if make is not None else table

    def require(self, table: Table, where: str, file_columns: Sequence[str]) -> None:
        """Refuse a file that lacks a required column of a table.

        Raises
        ------
        DataError
            The message names the file, the columns, and the other source if the file matches its layout.
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
                return f"It has {sign!r}: set data.source to {name}, or rename the columns."
        return f"Rename or add it, or name your column in data.columns; data.source is {self.name}."

    def check_type(self, where: str, name: str, type_: Any, kind: ColumnKind) -> None:
        """Refuse a column whose Arrow type does not match its kind; numbers are times if the format defines their unit.

        Raises
        ------
        DataError
            See :func:`mlho.tables.check_type`.
        """
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
    """Return the remedy for a file whose header is one name that holds a separator; ``None`` for others."""
    mark = next((mark for mark in ";\t|," if len(file_columns) == 1 and mark in file_columns[0]), None)
    if mark is None:
        return None
    other = ", or name the file .tsv if the others have commas" if mark == "\t" else ""
    return f"Set data.format.delimiter to {json.dumps(mark)}{other}."
