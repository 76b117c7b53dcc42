"""Performance in groups: the final model's procedure by sex, age band and every other categorical demographic."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.encoding.cohort.cohort import CategoricalColumn, Cohort, NumericColumn
from mlho.method.evaluation.auroc import auroc
from mlho.method.evaluation.suppression import shown_counts
from mlho.report.result import GroupPerformance, Spread
from mlho.training.iterations.problem import Problem
from mlho.training.results.performance import spread_over

# The bands of children, younger and older adults, and the two bands of geriatric medicine.
AGE_BANDS: Final = (
    ("under 18", 18.0),
    ("18–39", 40.0),
    ("40–64", 65.0),
    ("65–79", 80.0),
    ("80 and over", math.inf),
)
OBSERVED_EXPECTED: Final = "observed_expected"


@dataclass(frozen=True)
class Predictions:
    """Predictions on one test set.

    Attributes
    ----------
    samples : int64, shape (n_test_samples,)
    calibrated : float64, shape (n_test_samples,)
    thresholds : mapping of rule to float or None
        On the calibrated probability.
    """

    samples: NDArray[np.int64]
    calibrated: NDArray[np.float64]
    thresholds: Mapping[str, float | None]


@dataclass(frozen=True)
class _Group:
    name: str
    level: str
    is_in: NDArray[np.bool_]


def judge_groups(
    problem: Problem, tested: Iterable[Predictions], test_fraction: float | None
) -> list[GroupPerformance]:
    """Evaluate every group on the test sets.

    Parameters
    ----------
    problem : Problem
    tested : iterable of Predictions
        One entry a test set; only one of them is in memory.
    test_fraction : float or None
        Share of the patients in a test set, for the intervals of the means; None where test sets are not drawn.

    Returns
    -------
    list of GroupPerformance
        In the order of the demographics and their levels. A figure is a mean over the test sets; a group has figures if it has
        ``report.minCell`` patients with and without the outcome in each of them.
    """
    groups = list(_groups(problem.cohort))
    values: list[list[dict[str, float]]] = [[] for _ in groups]
    n_sets = 0
    for own in tested:
        n_sets += 1
        for group, found in zip(groups, values, strict=True):
            figures = _figures(problem, own, group.is_in[own.samples])
            if figures:
                found.append(figures)
    counts = _counts(problem, groups)
    return [
        _performance(group, counts[place], values[place], n_sets, problem.spec.report.min_cell, test_fraction)
        for place, group in enumerate(groups)
    ]


def demographic_groups(cohort: Cohort) -> dict[str, list[tuple[str, NDArray[np.bool_]]]]:
    """Return the levels of each categorical demographic and the age bands, with the samples in them."""
    found: dict[str, list[tuple[str, NDArray[np.bool_]]]] = {}
    for own in _groups(cohort):
        found.setdefault(own.name, []).append((own.level, own.is_in))
    return found


def _groups(cohort: Cohort) -> Iterator[_Group]:
    for column in cohort.demographics:
        if isinstance(column, CategoricalColumn):
            for code, level in enumerate(column.levels):
                yield _Group(column.name, level, column.codes == code)
        elif column.name == "age":
            yield from _age_bands(column)


def _age_bands(column: NumericColumn) -> Iterator[_Group]:
    low = -math.inf
    for level, high in AGE_BANDS:
        is_in = (column.values >= low) & (column.values < high)
        low = high
        if is_in.any():
            yield _Group(column.name, level, is_in)


def _figures(problem: Problem, tested: Predictions, is_in: NDArray[np.bool_]) -> dict[str, float]:
    """Return the figures of a group on one test set; none if it has too few patients there."""
    samples, p = tested.samples[is_in], tested.calibrated[is_in]
    y, patients = problem.y[samples], problem.cohort.unit_of[samples]
    fewest = min(n_distinct(patients[y == outcome]) for outcome in (0, 1))
    if fewest < max(1, problem.spec.report.min_cell):
        return {}
    found = {"auroc": auroc(y, p), OBSERVED_EXPECTED: float(y.sum()) / max(math.fsum(p), 1e-12)}
    for rule, threshold in tested.thresholds.items():
        if threshold is not None:
            found |= {f"{rule}/{name}": value for name, value in _rates(y == 1, p >= threshold).items()}
    return found


def _rates(is_positive: NDArray[np.bool_], is_alert: NDArray[np.bool_]) -> dict[str, float]:
    hits, alerts, n = int((is_positive & is_alert).sum()), int(is_alert.sum()), is_alert.size
    n_positive = int(is_positive.sum())
    rates = {
        "sensitivity": hits / n_positive,
        "specificity": 1 - (alerts - hits) / (n - n_positive),
        "alerts_per_100": 100 * alerts / n,
    }
    return rates | ({"ppv": hits / alerts} if alerts else {})


def _counts(problem: Problem, groups: Sequence[_Group]) -> list[tuple[int | None, int | None]]:
    """Return samples, and samples with the outcome, of each group; None where small or where another one would follow."""
    cohort, min_cell = problem.cohort, problem.spec.report.min_cell
    shown: list[tuple[int | None, int | None]] = [(None, None)] * len(groups)
    for name in dict.fromkeys(group.name for group in groups):
        places = [place for place, group in enumerate(groups) if group.name == name]
        by_outcome = []
        for outcome in (0, 1):
            cells = [groups[place].is_in & (cohort.outcome == outcome) for place in places]
            patients = [n_distinct(cohort.unit_of[cell]) for cell in cells]
            by_outcome.append(
                shown_counts([int(cell.sum()) for cell in cells], min_cell, n_patients=patients)
            )
        for place, without, positive in zip(places, *by_outcome, strict=True):
            if without is not None and positive is not None:
                shown[place] = (without + positive, positive)
    return shown


def _performance(
    group: _Group,
    counts: tuple[int | None, int | None],
    values: Sequence[Mapping[str, float]],
    n_sets: int,
    min_cell: int,
    test_fraction: float | None,
) -> GroupPerformance:
    """Average the figures over the test sets.

    A group that is too small in any test set has none: the sets in which it happens to have enough patients with the outcome
    would show the outcome as more frequent than it is.
    """
    figures: dict[str, Spread] = {}
    if n_sets and len(values) == n_sets:
        figures = {
            name: spread_over([own.get(name) for own in values], test_fraction, name)
            for name in dict.fromkeys(name for own in values for name in own)
        }
    fewest = max(1, min_cell)
    few = f"fewer than {fewest} patients with or without the outcome in a test set"
    return GroupPerformance(
        name=group.name,
        level=group.level,
        n_samples=counts[0],
        n_positive_samples=counts[1],
        figures=figures,
        reason=None if figures else few,
    )
