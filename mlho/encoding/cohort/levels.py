"""Rare levels of a category. They are merged before any learning, so that no output of a run names one."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.encoding.cohort.cohort import CategoricalColumn

UNKNOWN: Final = "unknown"  # the level of missing values
OTHER: Final = "other"  # the level that collects rare levels
# Replacements for a level that training merged or never saw, and for a missing value: the first of these that is a level,
# else the reference. Training and scoring use the same order, so a patient gets the same score in both.
OF_UNSEEN: Final = (OTHER, UNKNOWN)
OF_MISSING: Final = (UNKNOWN, OTHER)


@dataclass(frozen=True)
class Merged:
    """Result of merging the rare levels of a column."""

    column: CategoricalColumn
    """The column after merging. Every level has at least ``min_cell`` patients, unless it is the only one."""
    n_levels: int
    """Number of merged levels."""
    into: str
    """Level that replaces them; empty if none was merged."""


def merge_rare_levels(
    column: CategoricalColumn, patient_of: NDArray[np.integer[Any]], *, min_cell: int
) -> Merged:
    """Merge the levels with fewer than ``min_cell`` patients into ``other``.

    If they have fewer than ``min_cell`` patients even together, ``other`` would itself be a rare level. They are then
    merged into ``unknown`` if that level is kept, else into the reference.

    Parameters
    ----------
    column : CategoricalColumn
        Column of the whole cohort, because the set of levels must not depend on the fold.
    min_cell : int
        Minimum number of patients per level; 0 or 1 merges nothing.

    Examples
    --------
    >>> sex = CategoricalColumn("sex", ("F", "M", "X", "Y"), np.array([0, 0, 1, 1, 2, 3], np.int16))
    >>> merge_rare_levels(sex, np.arange(6), min_cell=2).column.levels
    ('F', 'M', 'other')
    >>> merge_rare_levels(sex, np.arange(6), min_cell=3).into
    'other'
    """
    n_patients = patients_by_level(column, patient_of)
    rare = [level for level, n in zip(column.levels, n_patients, strict=True) if n < min_cell]
    if not rare:
        return Merged(column, 0, "")
    kept = [level for level in column.levels if level not in rare]
    target = _target(column, rare, kept, patient_of, min_cell)
    texts = [target if level in rare else level for level in column.levels]
    return Merged(renumbered(column.name, texts, column.codes), len(rare), target)


def patients_by_level(column: CategoricalColumn, patient_of: NDArray[np.integer[Any]]) -> list[int]:
    """Return the number of distinct patients of each level."""
    pairs = np.unique(np.stack([column.codes.astype(np.int64), patient_of.astype(np.int64)]), axis=1)
    return np.bincount(pairs[0], minlength=len(column.levels)).tolist()


def _target(
    column: CategoricalColumn,
    rare: list[str],
    kept: list[str],
    patient_of: NDArray[np.integer[Any]],
    min_cell: int,
) -> str:
    joined = [number for number, level in enumerate(column.levels) if level in rare or level == OTHER]
    n_joined = n_distinct(patient_of[np.isin(column.codes, joined)])
    if n_joined >= min_cell or not kept:
        return OTHER
    return UNKNOWN if UNKNOWN in kept else _most_frequent(kept, column)


def _most_frequent(among: list[str], column: CategoricalColumn) -> str:
    counts = np.bincount(column.codes, minlength=len(column.levels)).tolist()
    return min(among, key=lambda level: (-counts[column.levels.index(level)], level))


def renumbered(name: str, texts: list[str], codes: NDArray[np.integer[Any]]) -> CategoricalColumn:
    """Return a column with only the levels that occur: the most frequent first, the others in alphabetical order.

    Parameters
    ----------
    texts : list of str
        Level of each code; equal texts are merged into one level.
    codes : int, shape (n_samples,)
    """
    counts = np.bincount(codes, minlength=len(texts)).tolist()
    n_by_level: dict[str, int] = {}
    for text, count in zip(texts, counts, strict=True):
        if count:
            n_by_level[text] = n_by_level.get(text, 0) + count
    reference = min(n_by_level, key=lambda text: (-n_by_level[text], text))
    ordered = (reference, *sorted(n_by_level.keys() - {reference}))
    position = {text: number for number, text in enumerate(ordered)}
    renumber = np.array([position.get(text, 0) for text in texts], np.int16)
    return CategoricalColumn(name, ordered, renumber[codes])
