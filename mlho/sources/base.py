"""What a source is: our column names on one side, a layout's own on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlho.tables import Table, require_columns


@dataclass(frozen=True)
class Source:
    """Names of one layout's columns.

    Attributes
    ----------
    name : str
        As ``data.source`` of the specification says it.
    names : mapping of table name to mapping of our column name to the layout's
        A column that is not in it has our name.
    missing_texts : tuple of str
        Unquoted fields of a CSV that mean "missing"; quoted ones are text.
    """

    name: str
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    missing_texts: tuple[str, ...] = ("",)

    def column(self, table: Table, name: str) -> str:
        """Name that this layout gives to a column of ours."""
        return self.names.get(table.name, {}).get(name, name)

    def columns(self, table: Table) -> dict[str, str]:
        """All columns of a table: our name → the layout's."""
        return {column.name: self.column(table, column.name) for column in table.columns}

    def require(self, table: Table, where: str, have: Sequence[str], *, extra: Sequence[str] = ()) -> None:
        """Refuse a file that lacks a required column of a table, or one of ``extra`` (the layout's names).

        Raises
        ------
        DataError
            Names the file and the columns, and the other source if the file looks like that one's.
        """
        required = [self.column(table, column.name) for column in table.columns if column.required]
        require_columns(where, have, [*required, *extra], remedy=self.remedy(have))

    def remedy(self, have: Sequence[str]) -> str:
        """Say what to do about a missing column, from the columns that are there."""
        if len(have) == 1 and any(mark in have[0] for mark in ";\t|"):
            return "Separate the fields by commas."
        other = {"native": "dbmart", "dbmart": "native"}.get(self.name)
        marks = {"dbmart": "patient_num", "native": "patient_id"}
        if other and marks[other] in have and marks[self.name] not in have:
            return f"It has {marks[other]!r}: set data.source to {other}, or rename the columns."
        return f"Rename or add it; data.source is {self.name}."
