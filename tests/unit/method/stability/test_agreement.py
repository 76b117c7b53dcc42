"""Stability of selection: small sets worked by hand, known limits, simulated truth."""

import json
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlho.errors import DataError
from mlho.method.stability.agreement import bound_false_selections, nogueira_stability, selection_frequency


def test_frequency_is_the_fraction_of_iterations():
    """Features selected in all, two and none of three iterations have frequencies 1, 2/3 and 0."""
    selected = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]], dtype=bool)

    assert selection_frequency(selected).tolist() == [1.0, 2 / 3, 0.0]


def test_stability_by_hand():
    """For the sets {a,b}, {a,c}, {a,b} of 4, p = 1, 2/3, 1/3, 0 and 1 - (3/2 · (4/9)/4) / (1/2 · 1/2) = 1/3."""
    selected = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0]], dtype=bool)

    assert nogueira_stability(selected).value == pytest.approx(1 / 3, abs=1e-15)


def test_equal_sets_are_fully_stable_without_an_interval():
    """Only equal sets reach the paper's maximum of 1. The asymptotic interval has no width and is not shown."""
    selected = np.tile([True, False, True, False], (5, 1))

    estimate = nogueira_stability(selected)

    assert (estimate.value, estimate.standard_error, estimate.low, estimate.high) == (1.0, 0.0, None, None)
    assert estimate.reason == "all sets are equal: the interval has no width"


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
    json.dumps(estimate.to_json(), allow_nan=False)


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


def test_standard_error_is_that_of_the_jackknife():
    """The paper's variance by the delta method agrees with the jackknife over iterations within 3 % at M = 200."""
    rng = np.random.default_rng(5)
    selected = rng.random((200, 40)) < np.linspace(0.02, 0.9, 40)

    estimate = nogueira_stability(selected)

    left_out = np.array([nogueira_stability(np.delete(selected, i, axis=0)).value for i in range(200)])
    jackknife = np.sqrt(199 / 200 * np.sum((left_out - left_out.mean()) ** 2))
    assert estimate.standard_error == pytest.approx(jackknife, rel=0.03)
    assert estimate.high - estimate.value == pytest.approx(
        NormalDist().inv_cdf(0.975) * estimate.standard_error
    )


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


def test_bounds_are_the_papers_figures():
    """For q = 10 of p = 1000, threshold 0.9 and B = 50 pairs, the bounds equal those by hand.

    Meinshausen and Bühlmann: 100 / (0.8 · 1000) = 0.125. Unimodal: 4 (0.1 + 0.01) / 1.02 · 0.01 · 10 =
    0.0431373.
    """
    bounds = bound_false_selections(
        make_halves(), threshold=0.9, training_fraction=0.5, complementary_pairs=True
    )

    assert bounds.n_selected_mean == 10
    assert bounds.meinshausen_buhlmann.value == pytest.approx(0.125, rel=1e-12)
    assert bounds.shah_samworth.value == pytest.approx(0.125, rel=1e-12)
    assert bounds.shah_samworth_unimodal.value == pytest.approx(0.0431372549, rel=1e-9)
    json.dumps(bounds.to_json(), allow_nan=False)


def test_unimodal_bound_below_three_quarters():
    """For threshold 0.7 and B = 50, the bound is 1 / (2 (0.4 - 0.01)) · 0.1 = 0.1282051."""
    bounds = bound_false_selections(
        make_halves(), threshold=0.7, training_fraction=0.5, complementary_pairs=True
    )

    assert bounds.shah_samworth_unimodal.value == pytest.approx(0.1282051282, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "bound", "reason"),
    [
        (
            {"training_fraction": 0.7},
            "meinshausen_buhlmann",
            "iterations do not train on half of the patients",
        ),
        ({"training_fraction": 0.7}, "shah_samworth", "iterations do not train on half of the patients"),
        ({"threshold": 0.5}, "meinshausen_buhlmann", "the threshold does not lie in (0.5, 1]"),
        ({"complementary_pairs": False}, "shah_samworth", "iterations are not complementary pairs"),
        (
            {"threshold": 0.505},
            "shah_samworth_unimodal",
            "the threshold is too near to one half for so few pairs",
        ),
    ],
    ids=["not halves", "not halves, pairs", "threshold", "no pairs", "few pairs"],
)
def test_a_bound_that_does_not_apply_says_why(changes, bound, reason):
    """A bound is absent with a reason if the conditions of its theorem do not hold."""
    arguments = {"threshold": 0.9, "training_fraction": 0.5, "complementary_pairs": True} | changes

    found = getattr(bound_false_selections(make_halves(), **arguments), bound)

    assert (found.value, found.reason) == (None, reason)


def test_too_large_sets_have_no_unimodal_bound():
    """The unimodal bound is absent for large sets, because Theorem 2 requires q/p of at most 1/sqrt(3)."""
    selected = make_halves(n_features=10, n_selected=8)

    bounds = bound_false_selections(selected, threshold=0.9, training_fraction=0.5, complementary_pairs=True)

    assert bounds.shah_samworth_unimodal.value is None
    assert bounds.meinshausen_buhlmann.value == pytest.approx(8.0)


def test_noise_selected_at_random_stays_below_the_bounds():
    """If 5 of 100 noise features are picked at random in each of 20 halves, fewer reach the threshold 0.6 than both bounds allow."""
    rng = np.random.default_rng(3)
    passed = []
    for _ in range(200):
        selected = np.argsort(rng.random((20, 100)), axis=1) < 5
        passed.append(np.count_nonzero(selection_frequency(selected) >= 0.6))
    bounds = bound_false_selections(selected, threshold=0.6, training_fraction=0.5, complementary_pairs=True)

    assert np.mean(passed) <= bounds.shah_samworth_unimodal.value <= bounds.meinshausen_buhlmann.value


@pytest.mark.parametrize(
    "selected", [np.zeros(3, dtype=bool), np.zeros((2, 2)), np.zeros((0, 3), dtype=bool)]
)
def test_an_invalid_table_of_sets_is_refused(selected):
    """The sets must be a two-dimensional table of booleans with at least one row."""
    with pytest.raises(DataError, match="the selected sets must be a table"):
        nogueira_stability(selected)
