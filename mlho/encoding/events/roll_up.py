"""Roll-up of codes: a map from codes to coarser ones, such as ICD-10 to phecode, applied before anything is counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from mlho.errors import DataError, plural
from mlho.printable import has_control
from mlho.sources.base import Source
from mlho.sources.events import text_column
from mlho.sources.files import SourceFile
from mlho.sources.reading import open_table, read_columns
from mlho.tables import MAX_CODE_CHARACTERS, ColumnKind, check_type, require_columns

#: Name of the map among the inputs of a run.
TABLE: Final = "rollUp"
_REMEDY: Final = "Correct the map, or leave out features.rollUp."


@dataclass(frozen=True)
class RollUp:
    """A map of codes."""

    parents: Mapping[str, str] = field(default_factory=dict)
    """Code to parent, sorted by code. Codes that are their own parent are left out."""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    """Parent to text, sorted by parent."""


def read_roll_up(source: Source, files: Sequence[SourceFile]) -> RollUp:
    """Read the map: ``code``, ``parent``, and optionally ``description``, which describes the parent.

    Parameters
    ----------
    source : Source
        For the form of CSV files only; the columns have our names.

    Raises
    ------
    DataError
        A file is unreadable or lacks a column; a code has several parents, or a parent has another parent; a parent has several
        descriptions, or is not a code.
    """
    parents: dict[str, str] = {}
    descriptions: dict[str, str] = {}
    several: set[str] = set()
    worded: set[str] = set()
    for file in files:
        for code, parent, words in zip(*_columns(source, file), strict=True):
            if code is None or parent is None:
                continue
            if parents.setdefault(code, parent) != parent:
                several.add(code)
            if words is not None and descriptions.setdefault(parent, words) != words:
                worded.add(parent)
    where = files[0].key
    chained = {parent for parent in parents.values() if parents.get(parent, parent) != parent}
    unusable = {
        parent for parent in parents.values() if len(parent) > MAX_CODE_CHARACTERS or has_control(parent)
    }
    _refuse(where, "a code has several parents", "one parent for each code", several)
    _refuse(where, "a parent has a parent of its own", "a map with one step", chained)
    _refuse(where, "a parent has several descriptions", "one description for each parent", worded)
    _refuse(
        where, "a parent is not a code", f"at most {MAX_CODE_CHARACTERS:,} printable characters", unusable
    )
    return RollUp(
        {code: parent for code, parent in sorted(parents.items()) if code != parent},
        dict(sorted(descriptions.items())),
    )


def _columns(source: Source, file: SourceFile) -> tuple[list[Any], list[Any], list[Any]]:
    """Read codes, parents and descriptions of a file; blank ones are null."""
    table = open_table(file, source.of_own_names)
    require_columns(file.key, table.column_names, ["code", "parent"], remedy="Rename or add it.")
    names = [name for name in ("code", "parent", "description") if name in table.column_names]
    for name in names:
        check_type(file.key, name, table.type_of(name), ColumnKind.CODE)
    columns = read_columns(table, names)
    texts = [text_column(columns[name]).cast(pa.string()).to_pylist() for name in names]
    return texts[0], texts[1], texts[2] if len(texts) == 3 else [None] * len(texts[0])


def _refuse(where: str, rule: str, expected: str, codes: set[str]) -> None:
    if codes:
        raise DataError(where, rule, expected=expected, got=plural(len(codes), "other"), remedy=_REMEDY)
