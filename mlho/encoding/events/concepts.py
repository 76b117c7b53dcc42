"""Descriptions and reference ranges of codes, from the concepts table or from descriptions in the events."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlho.errors import DataError, plural
from mlho.sources.arrow import as_numpy, is_given
from mlho.sources.base import Source
from mlho.sources.events import number_column, text_column
from mlho.sources.files import SourceFile
from mlho.sources.omop.columns import concepts_of
from mlho.sources.omop.folder import OMOP_NAME
from mlho.sources.omop.views import iter_concepts
from mlho.sources.reading import open_table, read_columns
from mlho.tables import CONCEPTS, EVENTS, ColumnKind, check_type, is_text


@dataclass(frozen=True)
class Concepts:
    """Descriptions and reference ranges of codes. A code may be in any of the three mappings, or in none."""

    descriptions: Mapping[str, str] = field(default_factory=dict)
    """Code to text."""
    low: Mapping[str, float] = field(default_factory=dict)
    high: Mapping[str, float] = field(default_factory=dict)
    """Reference range, in the unit of the code's values, both bounds inclusive. By code."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """Code to parent, for codes of the events that are counted as their parent (``features.rollUp``)."""

    def with_roll_up(self, parents: Mapping[str, str], descriptions: Mapping[str, str]) -> "Concepts":
        """Return these concepts with a map of codes to parents, which also describes parents without a description."""
        words = dict(sorted({**descriptions, **self.descriptions}.items()))
        return replace(self, descriptions=words, parents=parents)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; ``parents`` only if there are any."""
        return {name: dict(value) for name, value in vars(self).items() if value or name != "parents"}


def concepts_of_run(
    source: Source, files: Sequence[SourceFile], used: Callable[[], Sequence[str]], *, in_events: bool
) -> Concepts:
    """Read the concepts table, or otherwise the descriptions in the events of a ``dbmart``.

    Parameters
    ----------
    files : sequence of SourceFile
        The concepts table, or the events.
    used : callable
        Returns the codes to describe, which only the table of an OMOP CDM needs.
    in_events : bool
        Whether the files are the events.
    """
    if in_events:
        return Concepts(descriptions=harvest_descriptions(source, files))
    return (
        read_concept_names(source, files, used())
        if source.name == OMOP_NAME
        else read_concepts(source, files)
    )


def read_concepts(source: Source, files: Sequence[SourceFile]) -> Concepts:
    """Read the concepts table.

    Parameters
    ----------
    source : Source
        Source whose column names the files use.
    files : sequence of SourceFile
        Files with a column ``code`` and any of ``description``, ``low`` and ``high``; other columns are ignored.

    Raises
    ------
    DataError
        A file is unreadable or lacks the code, a column has a wrong type, rows of one code differ, or the lower bound of a
        range exceeds the upper one.
    """
    by_field: dict[str, dict[str, Any]] = {"description": {}, "low": {}, "high": {}}
    differing: set[str] = set()
    for file in files:
        codes, columns = _read_file(source, file)
        for name, values in columns.items():
            known = by_field[name]
            for code, value in zip(codes, values, strict=True):
                if code is None or value is None:
                    continue
                if known.setdefault(code, value) != value:
                    if name == "description" and source.takes_first_description:
                        known[code] = min(known[code], value)
                    else:
                        differing.add(code)
    where = files[0].key if files else "concepts"
    _refuse_differing(where, len(differing))
    _refuse_upside_down(where, by_field["low"], by_field["high"])
    return Concepts(*(dict(sorted(by_field[name].items())) for name in ("description", "low", "high")))


def read_concept_names(source: Source, files: Sequence[SourceFile], codes: Sequence[str]) -> Concepts:
    """Read the names of used codes from the table ``concept`` of an OMOP CDM, which may have any size.

    Parameters
    ----------
    source : Source
        For the form of CSV files only.
    files : sequence of SourceFile
        Files with ``concept_id`` and ``concept_name``.
    codes : sequence of str
        As :func:`mlho.sources.omop.columns.code_of` writes them. A code whose concept is not in the table has no description.

    Raises
    ------
    DataError
        A file is unreadable, lacks a column, or names one concept in two ways.
    """
    wanted = sorted({concept for code in codes for concept in concepts_of(code)})
    names: dict[int, str] = {}
    differing: set[int] = set()
    for file in files:
        for ids, texts in iter_concepts(source, file, wanted):
            for concept, text in zip(ids, texts, strict=True):
                if names.setdefault(concept, text) != text:
                    differing.add(concept)
    _refuse_differing(files[0].key if files else "concept", len(differing))
    parts = {code: [names.get(concept) for concept in concepts_of(code)] for code in sorted(codes)}
    return Concepts({code: _words(words) for code, words in parts.items() if words and words[0] is not None})


def _words(names: Sequence[str | None]) -> str:
    return ": ".join(name if name is not None else "a value without a name" for name in names)


def harvest_descriptions(source: Source, files: Sequence[SourceFile]) -> dict[str, str]:
    """Collect the descriptions of the codes in the events, as in R MLHO's ``dbmart``.

    A separate pass over two columns, for runs without a concepts table. If a code has several descriptions, the most
    frequent one is used, with ties broken alphabetically, so that the result does not depend on the files.

    Parameters
    ----------
    source : Source
        Source whose column names the files use.
    files : sequence of SourceFile
        Event files; files without descriptions are skipped.

    Returns
    -------
    dict of code to description, sorted by code
    """
    code, description = source.column(EVENTS, "code"), source.column(EVENTS, "description")
    counts: Counter[tuple[str, str]] = Counter()
    for file in files:
        table = open_table(file, source)
        if not {code, description} <= set(table.column_names):
            continue
        for name in (code, description):
            check_type(file.key, name, table.type_of(name), ColumnKind.TEXT)
        names = [code, description]
        texts = [name for name in names if is_text(table.type_of(name))]
        for batch in table.batches(names, dictionaries=texts):
            counts.update(_pairs(text_column(batch.column(code)), text_column(batch.column(description))))
    best: dict[str, str] = {}
    for (text, words), n in sorted(counts.items()):
        if text not in best or n > counts[text, best[text]]:
            best[text] = words
    return best


def _pairs(codes: Any, descriptions: Any) -> dict[tuple[str, str], int]:
    """Count the (code, description) pairs of one batch, ignoring rows in which either is missing."""
    given = is_given(codes) & is_given(descriptions)
    n_words = max(len(descriptions.dictionary), 1)
    left = as_numpy(codes.indices)[given].astype(np.int64)
    right = as_numpy(descriptions.indices)[given].astype(np.int64)
    keys, counts = np.unique(left * n_words + right, return_counts=True)
    texts, words = codes.dictionary.to_pylist(), descriptions.dictionary.to_pylist()
    pairs: Counter[tuple[str, str]] = Counter()
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        pairs[texts[key // n_words], words[key % n_words]] += count
    return pairs


def _read_file(source: Source, file: SourceFile) -> tuple[list[str | None], dict[str, list[Any]]]:
    """Read the codes and the columns present in the file, by our names; null for missing values."""
    table = open_table(file, source)
    have = table.column_names
    source.require(CONCEPTS, file.key, have)
    names = {
        ours: file_column for ours, file_column in source.columns(CONCEPTS).items() if file_column in have
    }
    for ours, file_column in names.items():
        kind = CONCEPTS.column(ours).kind
        if file.is_parquet or kind is not ColumnKind.NUMBER:
            check_type(file.key, file_column, table.type_of(file_column), kind)
    arrays = read_columns(table, list(names.values()))
    columns: dict[str, list[Any]] = {}
    for ours, file_column in names.items():
        if ours in ("low", "high"):
            numbers = number_column(arrays[file_column], where=file.key, name=file_column, form=source.format)
            columns[ours] = _numbers(numbers)
        else:
            columns[ours] = text_column(arrays[file_column]).cast(pa.string()).to_pylist()
    return columns.pop("code"), columns


def _numbers(array: Any) -> list[float | None]:
    values: NDArray[np.float64] = as_numpy(array)
    given = is_given(array) & np.isfinite(values)
    return [value if ok else None for value, ok in zip(values.tolist(), given.tolist(), strict=True)]


def _refuse_differing(where: str, n_codes: int) -> None:
    if n_codes:
        raise DataError(
            where,
            "a code has differing rows",
            expected="one description and one reference range for each code",
            got=f"{plural(n_codes, 'code')} with several",
            remedy="Keep one row for each code.",
        )


def _refuse_upside_down(where: str, low: Mapping[str, float], high: Mapping[str, float]) -> None:
    n_codes = sum(value > high[code] for code, value in low.items() if code in high)
    if n_codes:
        raise DataError(
            where,
            "the bounds of a reference range are swapped",
            expected="'low' not above 'high'",
            got=f"{plural(n_codes, 'code')} with a higher 'low'",
            remedy="Correct the ranges.",
        )
