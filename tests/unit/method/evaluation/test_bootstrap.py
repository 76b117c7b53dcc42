"""Bootstrap by patient."""

import math
from functools import partial

import numpy as np
import pytest

from mlho.method.evaluation.bootstrap import bootstrap_by_patient, percentile_band, percentile_estimate
from mlho.method.evaluation.figures import CalibrationBasis
from mlho.method.evaluation.metrics import ENDS, brier_of
from mlho.method.evaluation.tally import tally
from mlho.method.evaluation.thresholds import confusion_of
from tests.unit.method.evaluation.one_tally import (
    accuracy_figures,
    average_precision_of,
    calibration_figures,
    decision_figures,
    discrimination_figures,
    operating_figures,
)
from tests.unit.method.evaluation.predictions import calibrated_predictions


def figures_of(t):
    return {"brier": brier_of(t), "average_precision": average_precision_of(t)}


def sensitivity_of(t):
    tp, _, fn, _ = confusion_of(t, 0.5)
    return {"sensitivity": tp / (tp + fn) if tp + fn else None}


def test_the_value_is_that_of_the_data():
    """Only the interval comes from the replicates, and the method names their number."""
    y, p = calibrated_predictions(0)
    estimate = bootstrap_by_patient(y, p, None, figures_of, seed=1)["brier"]

    assert estimate.value == brier_of(tally(y, p))
    assert estimate.low < estimate.value < estimate.high
    assert estimate.method == "percentile bootstrap by patient, 200 replicates"


@pytest.mark.parametrize("seed", range(3))
def test_a_replicate_is_the_repeated_rows(seed):
    """Every figure of weighted samples equals that of a table with the rows repeated and left out accordingly."""
    y, p = calibrated_predictions(seed)
    p = np.round(p, 2)
    times = np.random.default_rng(seed).poisson(1.0, y.size)
    weighted = tally(y, p).redrawn(times, np.arange(y.size), y == 1)
    repeated = tally(np.repeat(y, times), np.repeat(p, times))

    at_threshold = partial(operating_figures, thresholds={"a": 0.3})
    for figures in (accuracy_figures, decision_figures, discrimination_figures, at_threshold):
        expected = figures(repeated)
        for name, value in figures(weighted).items():
            assert value == pytest.approx(expected[name], abs=1e-12), name


def test_calibration_of_a_replicate_is_that_of_the_repeated_rows():
    """Intercepts and slope, started from those of the data, converge to those of the replicate."""
    y, p = calibrated_predictions(4)
    times = np.random.default_rng(4).poisson(1.0, y.size)
    fixed = CalibrationBasis.prepare(tally(y, p))
    replicate = calibration_figures(tally(y, p).redrawn(times, np.arange(y.size), y == 1), fixed)
    alone = tally(np.repeat(y, times), np.repeat(p, times))
    expected = calibration_figures(alone, CalibrationBasis.prepare(alone))

    for name in ("in_the_large", "intercept", "slope", "ece_equal_width", "mce_equal_width"):
        assert replicate[name] == pytest.approx(expected[name], abs=1e-9), name


def test_standard_error_of_a_mean_is_the_textbook_one():
    """A Brier score is a mean of squares: the standard error is sd/√n, within 10 % with 2,000 replicates."""
    y, p = calibrated_predictions(1)
    estimate = bootstrap_by_patient(y, p, None, figures_of, n_replicates=2000, seed=2)["brier"]

    assert estimate.standard_error == pytest.approx(((y - p) ** 2).std() / math.sqrt(y.size), rel=0.1)


def test_order_of_rows_does_not_show():
    """Patients are drawn by the order of their codes, so any order of rows gives the same bits."""
    y, p = calibrated_predictions(2)
    patient = np.arange(y.size) // 2
    order = np.random.default_rng(0).permutation(y.size)

    assert bootstrap_by_patient(y, p, patient, figures_of, seed=3) == bootstrap_by_patient(
        y[order], p[order], patient[order], figures_of, seed=3
    )


def test_the_seed_decides():
    """The same seed gives the same interval, and another seed gives another interval."""
    y, p = calibrated_predictions(2)
    first, again, other = (
        bootstrap_by_patient(y, p, None, figures_of, seed=s) for s in ([7, 1], [7, 1], [7, 2])
    )

    assert first == again
    assert first != other


def test_rows_repeated_within_the_patient_add_no_certainty():
    """If each row is repeated three times under its patient, the interval does not change."""
    y, p = calibrated_predictions(3)
    once = bootstrap_by_patient(y, p, np.arange(y.size), figures_of, seed=4)["brier"]
    thrice = bootstrap_by_patient(
        np.repeat(y, 3), np.repeat(p, 3), np.repeat(np.arange(y.size), 3), figures_of, seed=4
    )["brier"]

    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=1e-12)


def test_a_figure_that_often_does_not_exist_has_no_interval():
    """With one positive of 40, about 37 % of the replicates do not contain it, so the sensitivity has no interval."""
    y = np.arange(40) == 0
    estimate = bootstrap_by_patient(y, np.full(40, 0.6), None, sensitivity_of, seed=5)["sensitivity"]

    assert (estimate.value, estimate.low) == (1.0, None)
    assert estimate.reason.startswith("no interval: the figure is undefined in ")


def test_a_few_replicates_without_the_figure_are_reported():
    """With four positives of 40, about 2 % of the replicates contain none. The interval exists, and the method mentions these replicates."""
    y = np.isin(np.arange(40), [0, 12, 27, 39])
    estimate = bootstrap_by_patient(
        y, np.linspace(0.1, 0.9, 40), None, sensitivity_of, n_replicates=500, seed=6
    )

    assert estimate["sensitivity"].low is not None
    assert "without a value)" in estimate["sensitivity"].method


def test_a_figure_that_does_not_exist_is_absent():
    """Without any positive, the sensitivity is absent with a reason."""
    estimate = bootstrap_by_patient([0, 0], [0.1, 0.2], None, sensitivity_of, seed=1)["sensitivity"]

    assert (estimate.value, estimate.reason) == (None, "not defined for these samples")


def test_one_patient_has_no_interval():
    """With one patient, the replicates do not vary, so there is no interval."""
    estimate = bootstrap_by_patient([0, 1], [0.1, 0.2], [5, 5], figures_of, seed=1)["brier"]

    assert estimate.value is not None
    assert estimate.reason == "no interval: fewer than two patients, or no bootstrap replicates"


def test_interval_covers_the_truth():
    """The expected Brier score of calibrated risks, E r(1 − r) = 2/15, is in 90–99 % of 150 intervals."""
    rng = np.random.default_rng(8)
    covered = []
    for i in range(150):
        risk = rng.beta(1, 4, 120)
        estimate = bootstrap_by_patient(
            rng.random(120) < risk, risk, None, lambda t: {"brier": brier_of(t)}, seed=[9, i]
        )["brier"]
        covered.append(estimate.low <= 2 / 15 <= estimate.high)

    assert 0.90 <= np.mean(covered) <= 0.99


def test_percentiles_of_known_replicates():
    """For the replicates 0 … 100, the limits are 2.5 and 97.5."""
    estimate = percentile_estimate(50.0, np.arange(101.0))

    assert (estimate.low, estimate.high) == pytest.approx((2.5, 97.5))


@pytest.mark.parametrize("n_replicates", [2, 3, 19, 20, 41, 200, 1000])
def test_the_ends_of_an_interval_are_those_of_numpy_to_the_last_bit(n_replicates):
    """The shorter path gives the same interval, also for replicates with equal values and zeros of both signs."""
    rng = np.random.default_rng(n_replicates)
    for size in (1e-9, 1.0, 1e9):
        drawn = rng.normal(size=n_replicates) * size
        for values in (drawn, np.round(drawn / size, 1), np.where(drawn > 0, 0.0, -0.0), -np.abs(drawn)):
            found = percentile_estimate(0.5, values)
            low, high = np.quantile(values, ENDS)

            expected = [None, None] if low == high else [low, high]
            assert [found.low, found.high] == expected
            assert (
                low == high or np.array([found.low, found.high]).tobytes() == np.array([low, high]).tobytes()
            )


def test_a_band_has_the_percentiles_of_the_replicates_that_have_a_value():
    """To the last bit, at points that all replicates have, and at points that some lack."""
    drawn = np.random.default_rng(1).normal(size=(200, 30))
    drawn[:15, 10:] = np.nan
    low, high = np.nanquantile(drawn, [0.5 - 0.95 / 2, 0.5 + 0.95 / 2], axis=0)

    assert percentile_band(drawn) == (low.tolist(), high.tolist())


def test_a_band_is_absent_where_the_curve_is():
    """Where the curve is missing in half of the replicates, the limits of the band are None."""
    drawn = np.column_stack([np.arange(100.0), np.where(np.arange(100) % 2, np.nan, 1.0)])

    assert percentile_band(drawn) == ([pytest.approx(2.475), None], [pytest.approx(96.525), None])
    assert percentile_band(None) == ([], [])
