"""Overall accuracy and the error per patient."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from mlho.errors import DataError
from mlho.method.evaluation.metrics import Estimate, brier_of, error_distribution, log_loss_of
from mlho.method.evaluation.tally import tally
from tests.unit.method.evaluation.one_tally import mean_absolute_error_of, scaled_brier_of
from tests.unit.method.evaluation.predictions import calibrated_predictions


def test_figures_of_a_worked_example():
    """For y = (0, 1, 1) and p = (0.2, 0.5, 0.9), the squares are 0.04 + 0.25 + 0.01, and the distances 0.2 + 0.5 + 0.1."""
    y, p = [0, 1, 1], [0.2, 0.5, 0.9]

    assert brier_of(tally(y, p)) == pytest.approx(0.1, abs=1e-15)
    assert scaled_brier_of(tally(y, p)) == pytest.approx(1 - 0.1 / (2 / 9), abs=1e-15)
    assert log_loss_of(tally(y, p)) == pytest.approx(
        -(math.log(0.8) + math.log(0.5) + math.log(0.9)) / 3, abs=1e-15
    )
    assert mean_absolute_error_of(tally(y, p)) == pytest.approx(0.8 / 3, abs=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_scikit_learn(seed):
    """Brier score and log loss equal scikit-learn's."""
    y, p = calibrated_predictions(seed)

    assert brier_of(tally(y, p)) == pytest.approx(brier_score_loss(y, p), abs=1e-14)
    assert log_loss_of(tally(y, p)) == pytest.approx(sklearn_log_loss(y, p), abs=1e-14)


def test_a_wrong_certainty_costs_34_5():
    """A prediction of 1 for a negative is clipped at 1e-15, so the log loss is finite."""

    assert log_loss_of(tally([0], [1.0])) == pytest.approx(-math.log(1e-15), abs=0.2)


def test_scaled_brier_of_the_prevalence_is_zero():
    """Predicting the prevalence for all samples is the reference of the scaled Brier score."""

    assert scaled_brier_of(tally([0, 0, 0, 1], [0.25] * 4)) == pytest.approx(0.0, abs=1e-15)


def test_scaled_brier_of_one_class_is_absent():
    """With one class, the reference itself would be perfect, so the scaled Brier score is absent."""

    assert scaled_brier_of(tally([1, 1], [0.2, 0.4])) is None


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=30), st.randoms())
def test_order_of_rows_does_not_show(samples, random):
    """Brier score, log loss and mean absolute error have the same bits in any order of rows."""
    shuffled = list(samples)
    random.shuffle(shuffled)
    for figure in (brier_of, log_loss_of, mean_absolute_error_of):
        assert figure(tally(*zip(*samples, strict=True))) == figure(tally(*zip(*shuffled, strict=True)))


@pytest.mark.parametrize("p", [[-0.1], [1.1], [math.inf], [math.nan]])
def test_invalid_probabilities_are_refused(p):
    """Values out of range, infinite or missing are refused, and the error does not show them."""
    with pytest.raises(DataError, match="numbers from 0 to 1; got 1 sample outside it"):
        brier_of(tally([1], p))


def test_error_distribution_counts_by_class():
    """Positives at 0.9 and 0.4 have errors of 0.1 and 0.6, and negatives at 0.3 have an error of 0.3."""
    y = [1] * 30 + [0] * 15
    p = [0.9] * 15 + [0.4] * 15 + [0.3] * 15
    distribution = error_distribution(y, p)

    positive = distribution["positive"]
    assert positive.n == 30
    assert {e: c for e, c in zip(positive.bin_edges, positive.counts, strict=False) if c} == {
        0.05: 15,
        0.6: 15,
    }
    assert positive.quantiles[0.25] == pytest.approx(0.1)
    assert positive.quantiles[0.95] == pytest.approx(0.6)
    assert positive.reason is None
    assert distribution["negative"].quantiles[0.5] == 0.3


def test_small_bins_are_not_shown():
    """The bins with 5 and 7 patients are None, empty bins are 0, and large ones have a count."""
    y = np.zeros(62, dtype=int)
    p = np.repeat([0.02, 0.52, 0.92], [50, 5, 7])
    counts = error_distribution(y, p)["negative"].counts

    assert (counts[0], counts[10], counts[18]) == (50, None, None)
    assert sum(c == 0 for c in counts) == 17


def test_bins_of_errors_are_small_by_their_patients():
    """A bin with twenty samples of three patients is hidden, together with the next smallest bin."""
    p = np.repeat([0.02, 0.22, 0.52], [50, 30, 20])
    groups = np.r_[np.arange(80), np.arange(20) % 3]
    counts = error_distribution(np.zeros(100, dtype=int), p, groups=groups)["negative"].counts

    assert (counts[0], counts[4], counts[10]) == (50, None, None)


def test_a_single_small_bin_takes_another_with_it():
    """A second bin is hidden, because otherwise the total minus the shown counts would be the hidden count."""
    p = np.repeat([0.02, 0.22, 0.52], [50, 20, 3])
    result = error_distribution(np.zeros(73, dtype=int), p)["negative"]

    assert (result.counts[0], result.counts[4], result.counts[10]) == (50, None, None)
    assert result.reason == "counts below 11, and counts that would reveal them, are suppressed"


def test_a_small_class_shows_no_quantiles():
    """With ten positives, quantiles would reveal single errors, so they are absent with a reason."""
    result = error_distribution([1] * 10 + [0] * 20, [0.4] * 30)["positive"]

    assert result.quantiles is None
    assert "fewer than 11 patients of this class" in result.reason


def test_results_are_plain_json():
    """The results are serialisable as JSON, without NaN and numpy types."""
    distribution = error_distribution(*calibrated_predictions(0))["negative"]

    assert json.loads(json.dumps(distribution.to_json(), allow_nan=False))["n"] == distribution.n
    assert Estimate.absent("why").to_json() == {
        "value": None, "low": None, "high": None, "standard_error": None, "method": "", "reason": "why",
    }  # fmt: skip
