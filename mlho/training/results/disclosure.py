"""Disclosure control of the cohort tables: small counts are hidden, together with those from which they could be derived."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NO_BOUND, CategoricalColumn, Cohort, NumericColumn
from mlho.encoding.cohort.define import USED
from mlho.method.evaluation.suppression import hidden_cells
from mlho.report.result import AttritionStep, Cell, Characteristic, Period

_UNKNOWN = "unknown"  # level of the missing values of a category
_US_A_MONTH = "datetime64[M]"


def characteristics(cohort: Cohort, min_cell: int) -> list[Characteristic]:
    """Return the table of baseline characteristics by outcome.

    In each column the levels of a category add up to the number of samples with that outcome, which is published. The
    smallest other counts are therefore hidden together with a small one.
    """
    rows: list[Characteristic] = []
    for column in cohort.demographics:
        rows += (
            _numeric_rows(column, cohort, min_cell)
            if isinstance(column, NumericColumn)
            else _categorical_rows(column, cohort, min_cell)
        )
    return rows


def index_dates(cohort: Cohort, min_cell: int) -> Period | None:
    """Return the months of the first and last index dates, each reached by ``min_cell`` patients; None without dates."""
    place = max(1, min_cell) - 1
    if cohort.n_patients <= place or not cohort.n_samples or cohort.index_us[0] == NO_BOUND:
        return None
    starts = cohort.sample_starts()  # a patient's samples are sorted by date
    first, last = cohort.index_us[starts[:-1]], cohort.index_us[starts[1:] - 1]
    return Period(
        first=_month(np.partition(first, place)[place]),
        last=_month(np.partition(last, len(last) - 1 - place)[len(last) - 1 - place]),
    )


def _month(us: np.int64) -> str:
    return str(np.datetime64(int(us), "us").astype(_US_A_MONTH))


def _numeric_rows(column: NumericColumn, cohort: Cohort, min_cell: int) -> list[Characteristic]:
    """Return the quartiles, and the number of missing values if there are any."""
    is_missing = np.isnan(column.values)
    cells: list[Cell | None] = []
    groups = []
    for outcome in (0, 1):
        is_known = (cohort.outcome == outcome) & ~is_missing
        known = column.values[is_known]
        enough = known.size and cohort.n_units(is_known) >= min_cell
        quartiles = np.percentile(known, (25, 50, 75)).tolist() if enough else None
        groups.append(known)
        cells.append(
            Cell(lower_quartile=quartiles[0], median=quartiles[1], upper_quartile=quartiles[2])
            if quartiles
            else None
        )
    difference = None if None in cells else _difference_of_means(*groups)
    row = Characteristic(
        name=column.name, without_outcome=cells[0], with_outcome=cells[1], difference=difference
    )
    if not is_missing.any():
        return [row]
    counted = CategoricalColumn(column.name, ("known", "missing"), is_missing.astype(np.int16))
    missing = _categorical_rows(counted, cohort, min_cell)[1]
    return [row, missing.model_copy(update={"is_missing": True})]


def _difference_of_means(without: NDArray[np.float64], with_outcome: NDArray[np.float64]) -> float | None:
    if min(without.size, with_outcome.size) < 2:
        return None
    deviation = np.sqrt((without.var(ddof=1) + with_outcome.var(ddof=1)) / 2)
    return float((with_outcome.mean() - without.mean()) / deviation) if deviation > 0 else None


def _categorical_rows(column: CategoricalColumn, cohort: Cohort, min_cell: int) -> list[Characteristic]:
    without, with_outcome = (
        _level_cells(column, cohort, cohort.outcome == outcome, min_cell) for outcome in (0, 1)
    )
    return [
        Characteristic(
            name=column.name,
            level=level,
            is_missing=level == _UNKNOWN,
            without_outcome=a,
            with_outcome=b,
            difference=None if a is None or b is None else _difference_of_shares(a.share, b.share),
        )
        for level, a, b in zip(column.levels, without, with_outcome, strict=True)
    ]


def _difference_of_shares(without: float | None, with_outcome: float | None) -> float | None:
    assert without is not None
    assert with_outcome is not None
    variance = (without * (1 - without) + with_outcome * (1 - with_outcome)) / 2
    return (with_outcome - without) / math.sqrt(variance) if variance > 0 else None


def _level_cells(
    column: CategoricalColumn, cohort: Cohort, in_group: NDArray[np.bool_], min_cell: int
) -> list[Cell | None]:
    levels = [in_group & (column.codes == code) for code in range(len(column.levels))]
    counts = [int(np.count_nonzero(level)) for level in levels]
    hidden = hidden_cells(counts, min_cell, n_patients=[cohort.n_units(level) for level in levels])
    total = max(sum(counts), 1)
    return [None if i in hidden else Cell(n=n, share=n / total) for i, n in enumerate(counts)]


@dataclass(frozen=True)
class ShownAttrition:
    """Attrition and label ledger for display; hidden numbers are None."""

    steps: list[AttritionStep]
    label_ledger: dict[str, int | None]


def shown_attrition(
    steps: Sequence[Mapping[str, Any]], label_ledger: Mapping[str, int], min_cell: int
) -> ShownAttrition:
    """Return attrition and label ledger without small cells.

    Both describe the same rows: the rows dropped by a rule are a line of the ledger and the difference of two steps. They
    are hidden together. The used rows, and their patients, are always shown.

    Parameters
    ----------
    steps : sequence of mapping
        ``{"rule": words, "patients": n, "samples": n}``: all label rows, then the rest after each rule that dropped any.
    label_ledger : mapping of str to int
        Rows by rule, including the used ones.
    """
    drops = _drops(steps)
    hidden = _hidden_drops(drops, min_cell)
    blank = _blank_steps(drops, hidden, min_cell)
    rules = {str(steps[place]["rule"]) for place in hidden}
    return ShownAttrition(
        [
            AttritionStep(rule=step["rule"], patients=None, samples=None)
            if place in blank
            else AttritionStep(**step)
            for place, step in enumerate(steps)
        ],
        {rule: None if rule in rules and rule != USED else n for rule, n in label_ledger.items()},
    )


_Drops = dict[int, tuple[int, int]]  # place of the step: rows and patients that its rule dropped


def _drops(steps: Sequence[Mapping[str, Any]]) -> _Drops:
    return {
        place: (
            steps[place - 1]["samples"] - steps[place]["samples"],
            steps[place - 1]["patients"] - steps[place]["patients"],
        )
        for place in range(1, len(steps))
    }


def _hidden_drops(drops: _Drops, min_cell: int) -> list[int]:
    """Return the steps whose drops are hidden: small ones, and others until their sum no longer discloses them."""
    hidden = [place for place, (rows, patients) in drops.items() if _is_small(rows, patients, min_cell)]
    # A rule that dropped nothing hides nothing.
    others = sorted(
        (place for place, (rows, _) in drops.items() if place not in hidden and rows),
        key=lambda place: drops[place],
    )
    while hidden and others and not _is_vague([drops[place] for place in hidden], min_cell):
        hidden.append(others.pop(0))
    return sorted(hidden)


def _is_small(rows: int, patients: int, min_cell: int) -> bool:
    return 0 < rows < min_cell or 0 < patients < min_cell


def _is_vague(hidden: Sequence[tuple[int, int]], min_cell: int) -> bool:
    """Return whether the sum of the hidden drops may be shown: every rule dropped at least one row, but perhaps no patient."""
    rows, patients = (sum(numbers) for numbers in zip(*hidden, strict=True))
    return len(hidden) > 1 and rows - len(hidden) + 1 >= min_cell and (patients == 0 or patients >= min_cell)


def _blank_steps(drops: _Drops, hidden: Sequence[int], min_cell: int) -> range:
    """Return the steps whose numbers are hidden: those between the first and the last hidden drop.

    If all drops together are few, the first step is hidden too, so that the total cannot be derived by subtraction.
    """
    if not hidden:
        return range(0)
    is_vague = _is_vague([drops[place] for place in hidden], min_cell)
    return range(hidden[0] if is_vague else 0, hidden[-1])
