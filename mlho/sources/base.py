"""A source maps our column names to those of a table layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlho.tables import Table, require_columns


@dataclass(frozen=True)
class Source:
    """Column names of one layout.

    Attributes
    ----------
    name : str
        Its name in ``data.source`` of the specification.
    names : mapping of table name to mapping of our column name to the layout's
        A column without an entry has our name.
    missing_texts : tuple of str
        Unquoted CSV fields that mean "missing"; quoted ones are text.
    """

    name: str
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    missing_texts: tuple[str, ...] = ("",)

    def column(self, table: Table, name: str) -> str:
        """Return this layout's name for one of our columns."""
        return self.names.get(table.name, {}).get(name, name)

    def columns(self, table: Table) -> dict[str, str]:
        """Return all columns of a table: our name → the layout's name."""
        return {column.name: self.column(table, column.name) for column in table.columns}

    def require(self, table: Table, where: str, have: Sequence[str], *, extra: Sequence[str] = ()) -> None:
        """Refuse a file that lacks a required column of a table, or one of ``extra`` (names of the layout).

        Raises
        ------
        DataError
            The message names the file, the columns, and the other source if the file matches its layout.
        """
        required = [self.column(table, column.name) for column in table.columns if column.required]
        require_columns(where, have, [*required, *extra], remedy=self.remedy(have))

    def remedy(self, have: Sequence[str]) -> str:
        """Return the remedy for a missing column, given the columns of the file."""
        if len(have) == 1 and any(mark in have[0] for mark in ";\t|"):
            return "Separate the fields by commas."
        other = {"native": "dbmart", "dbmart": "native"}.get(self.name)
        marks = {"dbmart": "patient_num", "native": "patient_id"}
        if other and marks[other] in have and marks[self.name] not in have:
            return f"It has {marks[other]!r}: set data.source to {other}, or rename the columns."
        return f"Rename or add it; data.source is {self.name}."
