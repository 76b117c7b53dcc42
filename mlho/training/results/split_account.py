"""The account of a planned split: the role of every sample in each test set, without small cells."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlho.method.evaluation.suppression import shown_counts
from mlho.report.result import LeftOut, SplitAccount, SplitSet
from mlho.training.iterations.planned import LEFT_OUT, TESTED, TRAINED, PlannedSet, planned_sets
from mlho.training.iterations.problem import Problem


def account_of_split(problem: Problem) -> SplitAccount | None:
    """Return the account of a split by date, site or given part; None where test sets are drawn.

    For each test set the counts of samples add up to the cohort. Few samples, or those of few patients, are hidden together
    with others from which they could be computed.
    """
    asked = problem.spec.validation
    if asked.is_drawn:
        return None
    sets = planned_sets(problem.spec, problem.cohort)
    return SplitAccount(
        kind=asked.split,
        column=asked.split_column,
        follow_up_days=problem.spec.cohort.outcome_days if asked.by_date else None,
        left_out_fraction=asked.test_fraction,
        iterations_each=asked.iterations // len(sets),
        test_sets=[
            _account(problem, planned, f"{place} of {len(sets)}") for place, planned in enumerate(sets, 1)
        ],
    )


def has_one_test_set(problem: Problem) -> bool:
    """Return whether all iterations are tested on the same samples."""
    return not problem.spec.validation.is_drawn and len(planned_sets(problem.spec, problem.cohort)) == 1


def set_names(problem: Problem) -> list[str]:
    """Return the name of each test set; a site or fold with few patients is named by its position."""
    sets = planned_sets(problem.spec, problem.cohort)
    return [_name(problem, planned, f"{place} of {len(sets)}") for place, planned in enumerate(sets, 1)]


def _name(problem: Problem, planned: PlannedSet, place: str) -> str:
    kind = planned.name.partition(" ")[0]
    is_value = problem.spec.validation.split == "site"
    is_small = problem.cohort.n_units(planned.role == TESTED) < problem.spec.report.min_cell
    return f"{kind} {place}" if is_value and is_small else planned.name


def _account(problem: Problem, planned: PlannedSet, place: str) -> SplitSet:
    outcome = problem.cohort.outcome
    cells = [
        (planned.role == TESTED) & (outcome == 1),
        (planned.role == TESTED) & (outcome == 0),
        planned.role == TRAINED,
        *(planned.role == rule for rule in LEFT_OUT),
    ]
    positive, negative, trained, *left_out = shown_samples(problem, cells)
    return SplitSet(
        name=_name(problem, planned, place),
        n_test_samples=None if positive is None or negative is None else positive + negative,
        n_test_positive_samples=positive,
        n_train_samples=trained,
        left_out=[
            LeftOut(rule=words, samples=n) for words, n in zip(LEFT_OUT.values(), left_out, strict=True)
        ],
    )


def shown_samples(problem: Problem, cells: Sequence[NDArray[np.bool_]]) -> list[int | None]:
    """Return the numbers of samples in cells that add up to all; small cells and complementary ones are ``None``."""
    patients, counts = [problem.cohort.n_units(cell) for cell in cells], [int(cell.sum()) for cell in cells]
    return shown_counts(counts, problem.spec.report.min_cell, n_patients=patients)
