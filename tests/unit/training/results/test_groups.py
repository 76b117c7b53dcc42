"""Performance in groups: figures by hand, small groups without any, and nothing that gives a small cell away."""

from types import SimpleNamespace

import numpy as np
import pytest

from mlho.encoding.cohort.cohort import CategoricalColumn, Cohort, NumericColumn
from mlho.training.results.groups import Predictions, judge_groups

N = 400


def problem_of(*columns, outcome, min_cell=11):
    n = len(outcome)
    cohort = Cohort(
        patient_ids=tuple(f"{i:04d}" for i in range(n)),
        birth_us=np.zeros(n, np.int64),
        patient_of=np.arange(n, dtype=np.int32),
        index_us=np.zeros(n, np.int64),
        outcome=np.array(outcome, np.uint8),
        demographics=columns,
    )
    spec = SimpleNamespace(report=SimpleNamespace(min_cell=min_cell))
    return SimpleNamespace(cohort=cohort, y=cohort.outcome, spec=spec)


def sex(codes):
    return CategoricalColumn("sex", ("f", "m"), np.array(codes, np.int16))


def test_figures_of_a_group_are_those_of_its_own_samples():
    """Women are ranked perfectly, men wrongly; the outcome of men is twice as frequent as predicted."""
    outcome = np.tile([0, 1], N // 2)
    is_man = np.repeat([0, 1], N // 2)
    p = np.where(is_man == 1, np.where(outcome == 1, 0.2, 0.3), np.where(outcome == 1, 0.8, 0.2))
    tested = [Predictions(np.arange(N), p, {"youden": 0.5})] * 3

    women, men = judge_groups(problem_of(sex(is_man), outcome=outcome), tested, 0.3)

    assert (women.level, women.n_samples, women.n_positive_samples) == ("f", 200, 100)
    assert women.figures["auroc"].mean == 1
    assert women.figures["observed_expected"].mean == pytest.approx(1)
    assert women.figures["youden/sensitivity"].mean == 1
    assert women.figures["youden/alerts_per_100"].mean == 50
    assert men.figures["auroc"].mean == 0
    assert men.figures["observed_expected"].mean == pytest.approx(2)
    assert "youden/ppv" not in men.figures  # no patient is flagged


def test_a_group_that_is_small_in_any_test_set_has_no_figures():
    """The sets that happen to have enough of its patients with the outcome would show the outcome as too frequent."""
    outcome = np.tile([0, 1], N // 2)
    is_man = np.arange(N) < 40
    problem = problem_of(sex(is_man), outcome=outcome)
    every = np.arange(N)
    tested = [Predictions(every, np.full(N, 0.5), {}), Predictions(every[20:], np.full(N - 20, 0.5), {})]

    women, men = judge_groups(problem, tested, 0.3)

    assert women.figures
    assert not men.figures
    assert men.reason == "fewer than 11 patients with or without the outcome in a test set"
    assert men.n_samples == 40  # enough in the cohort


def test_ages_are_put_into_bands_and_small_ones_are_hidden_with_another():
    """Five patients under 18 hide the next smallest band; a missing age is in none."""
    age = np.concatenate([[10.0] * 5, [30.0] * 95, [50.0] * 140, [70.0] * 140, [np.nan] * 20])
    outcome = np.tile([0, 1], N // 2)
    problem = problem_of(NumericColumn("age", age), outcome=outcome)

    groups = judge_groups(problem, [], 0.3)

    assert [(own.level, own.n_samples) for own in groups] == [
        ("under 18", None),
        ("18–39", None),
        ("40–64", 140),
        ("65–79", 140),
    ]
