"""Stability of selection: small sets worked by hand, known limits, simulated truth."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlho.method.stability.agreement import bound_false_selections, nogueira_stability


def test_stability_by_hand():
    """For the sets {a,b}, {a,c}, {a,b} of 4, p = 1, 2/3, 1/3, 0 and 1 - (3/2 · (4/9)/4) / (1/2 · 1/2) = 1/3."""
    selected = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0]], dtype=bool)

    assert nogueira_stability(selected).value == pytest.approx(1 / 3, abs=1e-15)


def test_equal_sets_are_fully_stable_without_an_interval():
    """Only equal sets reach the paper's maximum of 1. The asymptotic interval has no width and is not shown."""
    selected = np.tile([True, False, True, False], (5, 1))

    estimate = nogueira_stability(selected)

    assert (estimate.value, estimate.low, estimate.high) == (1.0, None, None)
    assert estimate.reason == "no interval: all sets are equal, so its width would be zero"


@pytest.mark.parametrize(
    ("selected", "reason"),
    [
        pytest.param(np.zeros((4, 3), dtype=bool), "no feature was ever selected", id="empty sets"),
        pytest.param(np.ones((4, 3), dtype=bool), "every feature was always selected", id="full sets"),
        pytest.param(np.eye(1, 3, dtype=bool), "fewer than two iterations", id="one iteration"),
    ],
)
def test_stability_that_does_not_exist_has_a_reason(selected, reason):
    """In these cases agreement by chance is certain, so the ratio is 0/0 and the stability is absent with a reason."""
    estimate = nogueira_stability(selected)

    assert (estimate.value, estimate.low, estimate.reason) == (None, None, reason)


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8)), st.randoms())
def test_stability_is_within_its_bounds_and_blind_to_order(selected, random):
    """-1/(M-1) ≤ stability ≤ 1, and neither the order of iterations nor that of features changes it."""
    estimate = nogueira_stability(selected)
    rows, columns = list(range(selected.shape[0])), list(range(selected.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)

    other = nogueira_stability(selected[np.ix_(rows, columns)])

    assert other.value == estimate.value
    if estimate.value is not None:
        assert -1 / (selected.shape[0] - 1) - 1e-12 <= estimate.value <= 1


def test_interval_is_that_of_the_jackknife():
    """The paper's variance by the delta method agrees with the jackknife over iterations within 3 % at M = 200."""
    rng = np.random.default_rng(5)
    selected = rng.random((200, 40)) < np.linspace(0.02, 0.9, 40)

    estimate = nogueira_stability(selected)

    left_out = np.array([nogueira_stability(np.delete(selected, i, axis=0)).value for i in range(200)])
    jackknife = np.sqrt(199 / 200 * np.sum((left_out - left_out.mean()) ** 2))
    assert estimate.high - estimate.value == pytest.approx(NormalDist().inv_cdf(0.975) * jackknife, rel=0.03)


def test_interval_covers_the_planted_stability():
    """Of 300 draws with M = 100 and known probabilities, 92 to 98 % of the 95 % intervals contain the truth."""
    rng = np.random.default_rng(11)
    probability = np.linspace(0.02, 0.9, 30)
    share = probability.mean()
    truth = 1 - np.mean(probability * (1 - probability)) / (share * (1 - share))

    estimates = [nogueira_stability(rng.random((100, 30)) < probability) for _ in range(300)]

    assert 0.92 <= np.mean([each.low <= truth <= each.high for each in estimates]) <= 0.98


def make_halves(n_iterations=100, n_features=1000, n_selected=10):
    selected = np.zeros((n_iterations, n_features), dtype=bool)
    selected[:, :n_selected] = True
    return selected


def test_the_bound_is_the_papers_figure():
    """For q = 10 of p = 1000 and threshold 0.9, the bound is 100 / (0.8 · 1000) = 0.125."""
    bound = bound_false_selections(make_halves(), threshold=0.9, training_fraction=0.5)

    assert (bound.value, bound.reason) == (pytest.approx(0.125, rel=1e-12), None)


def test_the_bound_is_at_most_the_number_of_features():
    """For q = 8 of p = 8 and a threshold near one half, the formula exceeds the number of features."""
    selected = make_halves(n_features=8, n_selected=8)

    assert bound_false_selections(selected, threshold=0.51, training_fraction=0.5).value == 8.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training_fraction": 0.7}, "iterations do not train on half of the patients"),
        ({"threshold": 0.5}, "the threshold does not lie in (0.5, 1]"),
    ],
    ids=["not halves", "threshold"],
)
def test_a_bound_that_does_not_apply_says_why(changes, reason):
    """The bound is absent with a reason if the conditions of its theorem do not hold."""
    arguments = {"threshold": 0.9, "training_fraction": 0.5} | changes

    bound = bound_false_selections(make_halves(), **arguments)

    assert (bound.value, bound.reason) == (None, reason)


def test_noise_selected_at_random_stays_below_the_bound():
    """If 5 of 100 noise features are picked at random in each of 20 halves, fewer reach the threshold 0.6 than the bound allows."""
    rng = np.random.default_rng(3)
    passed = []
    for _ in range(200):
        selected = np.argsort(rng.random((20, 100)), axis=1) < 5
        passed.append(np.count_nonzero(selected.mean(axis=0) >= 0.6))
    bound = bound_false_selections(selected, threshold=0.6, training_fraction=0.5)

    assert np.mean(passed) <= bound.value
