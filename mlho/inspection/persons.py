"""Checks of demographics: numbers stored as text, and levels that differ only in spelling. Pure."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.counts import shown_count
from mlho.encoding.cohort.persons import AGE, Persons, RawColumn
from mlho.errors import DataError, plural
from mlho.printable import folded

# A number with common additions: "45y", "90+", ">89", "45,5", "1.234,5".
_LIKE_A_NUMBER: Final = re.compile(
    r"\s*[<>≥≤~]?=?\s*[-+]?\d+([.,]\d{3})*([.,]\d+)?\s*(\+|y|yr|yrs|year|years|yo)?\s*", re.IGNORECASE
)
_MOSTLY: Final = 0.8  # minimum share of the rows with a value


def judge_numbers(
    persons: Persons, where: str, *, categorical: Collection[str], min_cell: int
) -> tuple[list[DataError], list[str]]:
    """Find columns whose texts are mostly numbers, and which would become categories.

    Returns
    -------
    errors, warnings
        An age that is not a number is an error; in other columns it may be intended.
    """
    errors: list[DataError] = []
    warnings: list[str] = []
    for column in persons.columns:
        if column.has_leading_zeros:
            warnings.append(
                f"{where}: column {column.name!r} is read as numbers, so leading zeros of some values are lost. If the values are "
                "codes, name it in features.categorical."
            )
        if column.levels is None or column.name in categorical:
            continue
        rows = _rows_by_level(column)
        n_given = int(rows.sum())
        is_like = np.array([_LIKE_A_NUMBER.fullmatch(level) is not None for level in column.levels], np.bool_)
        if not n_given or rows[is_like].sum() < _MOSTLY * n_given:
            continue
        n_other = int(rows[[not _is_number(level) for level in column.levels]].sum())
        got = f"text that is not a number in {shown_count(n_other, 'row', min_cell)} of {n_given:,}"
        remedy = (
            "Write plain numbers, with the decimal separator of data.format.decimal (a point unless stated) and without "
            "units or signs such as + or >"
        )
        if column.name == AGE:
            errors.append(
                DataError(
                    where,
                    f"column {column.name!r} is text that is mostly numbers",
                    expected="age in years as a number",
                    got=got,
                    remedy=f"{remedy}.",
                )
            )
        else:
            warnings.append(
                f"{where}: column {column.name!r} would count as a category: it has {got}. {remedy}, or name it in "
                "features.categorical."
            )
    return errors, warnings


def judge_levels(persons: Persons, where: str, *, min_cell: int) -> list[str]:
    """Warn about levels that differ only in case, white space or Unicode form, and about a level that is the first letter of another."""
    return [
        sentence
        for column in persons.columns
        if column.levels is not None
        for sentence in _variants(column, where, min_cell)
    ]


def _variants(column: RawColumn, where: str, min_cell: int) -> Iterator[str]:
    assert column.levels is not None
    rows = dict(zip(column.levels, _rows_by_level(column).tolist(), strict=True))
    groups: dict[str, list[str]] = defaultdict(list)
    for level in column.levels:
        if rows[level]:
            groups[folded(level)].append(level)
    for group in _joined_by_initial(groups):
        if len(group) < 2:
            continue
        large = [level for level in group if rows[level] >= min_cell]
        named = ", ".join(map(repr, large)) or "levels of few patients"
        hidden = (
            f" and {len(group) - len(large)} of few patients" if large and len(large) < len(group) else ""
        )
        yield (
            f"{where}: column {column.name!r} has {plural(len(group), 'level')} that may be the same ({named}{hidden}). Each is a "
            "level of its own; write them alike."
        )


def _joined_by_initial(groups: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Yield groups of levels. A single letter joins the only longer name that begins with it: ``f`` and ``female``."""
    names = set(groups)
    target = {}
    for name in names:
        longer = [other for other in names if len(name) == 1 and len(other) > 1 and other.startswith(name)]
        target[name] = longer[0] if len(longer) == 1 else name
    joined: dict[str, list[str]] = defaultdict(list)
    for name in sorted(groups):
        joined[target[name]] += groups[name]
    yield from joined.values()


def _rows_by_level(column: RawColumn) -> NDArray[Any]:
    assert column.levels is not None
    return np.bincount(column.values[column.values >= 0], minlength=len(column.levels))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
