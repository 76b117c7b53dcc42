"""Disclosure control of the cohort tables: small counts are hidden, together with those from which they could be derived."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import CategoricalColumn, Cohort, NumericColumn
from mlho.encoding.cohort.define import USED
from mlho.method.evaluation.suppression import hidden_cells
from mlho.report.result import AttritionStep, Characteristic

_MIN_SD = 2  # minimum number of values for a standard deviation


def characteristics(cohort: Cohort, min_cell: int) -> list[Characteristic]:
    """Return the table of baseline characteristics by outcome.

    In each column the levels of a category add up to the number of samples with that outcome, which is published. The
    smallest other counts are therefore hidden together with a small one.
    """
    rows: list[Characteristic] = []
    for column in cohort.demographics:
        if isinstance(column, NumericColumn):
            rows.append(_numeric_row(column, cohort, min_cell))
        else:
            rows += _categorical_rows(column, cohort, min_cell)
    return rows


def _n_patients(cohort: Cohort, samples: NDArray[np.bool_]) -> int:
    return int(np.unique(cohort.patient_of[samples]).size)


def _numeric_row(column: NumericColumn, cohort: Cohort, min_cell: int) -> Characteristic:
    shown = []
    for outcome in (0, 1):
        is_known = (cohort.outcome == outcome) & ~np.isnan(column.values)
        known = column.values[is_known]
        enough = _n_patients(cohort, is_known) >= min_cell and known.size >= _MIN_SD
        shown.append(f"mean {known.mean():.1f} (SD {known.std(ddof=1):.1f})" if enough else None)
    return Characteristic(name=column.name, without_outcome=shown[0], with_outcome=shown[1])


def _categorical_rows(column: CategoricalColumn, cohort: Cohort, min_cell: int) -> list[Characteristic]:
    without, with_outcome = (
        _level_cells(column, cohort, cohort.outcome == outcome, min_cell) for outcome in (0, 1)
    )
    return [
        Characteristic(name=column.name, level=level, without_outcome=a, with_outcome=b)
        for level, a, b in zip(column.levels, without, with_outcome, strict=True)
    ]


def _level_cells(
    column: CategoricalColumn, cohort: Cohort, in_group: NDArray[np.bool_], min_cell: int
) -> list[str | None]:
    levels = [in_group & (column.codes == code) for code in range(len(column.levels))]
    counts = [int(np.count_nonzero(level)) for level in levels]
    hidden = hidden_cells(counts, min_cell, n_patients=[_n_patients(cohort, level) for level in levels])
    total = max(sum(counts), 1)
    return [None if i in hidden else f"{n:,} ({100 * n / total:.1f} %)" for i, n in enumerate(counts)]


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
    min_cell : int
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
    """Return the steps whose drops are hidden: small ones, and others until their sum is no longer disclosive."""
    hidden = [place for place, (rows, patients) in drops.items() if _is_small(rows, patients, min_cell)]
    others = sorted((place for place in drops if place not in hidden), key=lambda place: drops[place])
    while hidden and others and not _is_vague([drops[place] for place in hidden], min_cell):
        hidden.append(others.pop(0))
    return sorted(hidden)


def _is_small(rows: int, patients: int, min_cell: int) -> bool:
    return 0 < rows < min_cell or 0 < patients < min_cell


def _is_vague(hidden: Sequence[tuple[int, int]], min_cell: int) -> bool:
    """Tell whether the sum of the hidden drops may be shown: every rule dropped at least one row, but perhaps no patient."""
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
