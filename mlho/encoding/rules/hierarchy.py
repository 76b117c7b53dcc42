"""Descendants of codes, from OMOP's ``concept_ancestor`` or a map of parents: further members of a set with ``descendants``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from mlho.errors import DataError, plural
from mlho.sources.base import Source
from mlho.sources.files import SourceFile
from mlho.sources.reading import TableFile, open_table
from mlho.spec.rules import BY_RULES, Rules
from mlho.tables import require_columns

#: Columns of ancestor and descendant: in the OMOP CDM, whose table has all levels, and in a map of codes to direct parents.
OMOP_COLUMNS: Final = ("ancestor_concept_id", "descendant_concept_id")
MAP_COLUMNS: Final = ("parent", "code")
#: Domain of a code of an OMOP source, ``condition`` in ``condition:201826``; concepts in ``concept_ancestor`` have none.
_DOMAIN_ENDS: Final = ":"


def find_descendants(rules: Rules, source: Source, files: Sequence[SourceFile]) -> dict[str, list[str]]:
    """Return the sorted descendants of each code of the sets with ``descendants``; a code without descendants is left out.

    Parameters
    ----------
    source : Source
        For the form of CSV files only.
    files : sequence of SourceFile
        Columns ``ancestor_concept_id`` and ``descendant_concept_id`` (all levels), or ``code`` and ``parent`` (direct
        parents).

    Raises
    ------
    DataError
        A file is unreadable or lacks a column, or no code has a descendant.
    """
    wanted = sorted(
        {code for event_set in rules.event_sets if event_set.descendants for code in event_set.codes}
    )
    tables = [_open(source, file) for file in files]
    is_cdm = all(table.is_cdm for table in tables)
    stems = {code: code.rpartition(_DOMAIN_ENDS)[2] if is_cdm else code for code in wanted}
    below = _below(tables, set(stems.values()), is_closed=is_cdm)
    descendants = {
        code: sorted(code.removesuffix(stem) + descendant for descendant in below[stem])
        for code, stem in stems.items()
        if below.get(stem)
    }
    if not descendants:
        raise DataError(
            files[0].key,
            f"no code of {BY_RULES} with descendants is an ancestor in the table",
            expected=f"rows of {plural(len(wanted), 'code')}",
            got="none",
            remedy="Check the codes, or correct cohort.rules.hierarchy.",
        )
    return descendants


@dataclass(frozen=True)
class _Pairs:
    """A file of pairs, and its columns of parents and of codes."""

    table: TableFile
    columns: tuple[str, str]
    is_cdm: bool


def _below(tables: Sequence[_Pairs], wanted: set[str], *, is_closed: bool) -> dict[str, set[str]]:
    """Return all descendants of some codes. A table with all levels is read once, any other table once for each level."""
    children: dict[str, set[str]] = {}
    expanded: set[str] = set()
    frontier = set(wanted)
    while frontier:
        for parent, code in _pairs(tables, frontier):
            children.setdefault(parent, set()).add(code)
        if is_closed:
            return children
        expanded |= frontier
        frontier = {code for parent in frontier for code in children.get(parent, ())} - expanded
    return {code: _closure(children, code) for code in wanted}


def _closure(children: Mapping[str, set[str]], code: str) -> set[str]:
    descendants: set[str] = set()
    waiting = [code]
    while waiting:
        new = children.get(waiting.pop(), set()) - descendants
        descendants |= new
        waiting += new
    return descendants


def _pairs(tables: Sequence[_Pairs], parents: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the parent and the code of each row whose parent is in ``parents``, in bounded memory."""
    wanted = pa.array(sorted(parents), pa.string())
    for table in tables:
        for batch in table.table.batches(table.columns):
            texts = [batch.column(name).cast(pa.string()) for name in table.columns]
            is_in = pc.is_in(texts[0], value_set=wanted)
            parent, code = (text.filter(is_in).to_pylist() for text in texts)
            yield from ((p, c) for p, c in zip(parent, code, strict=True) if c is not None)


def _open(source: Source, file: SourceFile) -> _Pairs:
    table = open_table(file, source.of_own_names)
    have = {name.casefold(): name for name in table.column_names}
    ancestor, descendant = (have.get(name) for name in OMOP_COLUMNS)
    if ancestor is not None and descendant is not None:
        return _Pairs(table, (ancestor, descendant), is_cdm=True)
    remedy = f"Rename them, or give a table with {' and '.join(OMOP_COLUMNS)}."
    require_columns(file.key, table.column_names, MAP_COLUMNS, remedy=remedy)
    return _Pairs(table, MAP_COLUMNS, is_cdm=False)
