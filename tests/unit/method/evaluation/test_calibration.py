"""Calibration line, calibrator, bins and the smooth curve."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mlho.errors import DataError
from mlho.method.evaluation.calibration import PlattCalibrator, fit_calibrator
from mlho.method.evaluation.calibration_curve import SPAN, smoother_of
from mlho.method.evaluation.tally import tally
from tests.unit.method.evaluation.one_tally import curve_of, distances_of, line_of
from tests.unit.method.evaluation.predictions import two_groups


@dataclass(frozen=True)
class Curve:
    predicted: np.ndarray
    observed: np.ndarray
    ici: float
    e50: float
    e90: float
    emax: float


def calibration_curve(y, p) -> Curve:
    t = tally(y, p)
    smoother = smoother_of(t)
    observed = curve_of(smoother, t)
    return Curve(smoother.grid, observed, *distances_of(t, smoother.distance(t, observed)))


def logit(p):
    return np.log(p / (1 - p))


def expit(x):
    return 1 / (1 + np.exp(-x))


def make_predictions(seed: int, n: int = 400, *, intercept: float = 0.0, slope: float = 1.0):
    """Draw outcomes whose risk has this intercept and slope on the logit of the prediction."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-1.0, 1.2, n)
    return (rng.random(n) < expit(intercept + slope * x)).astype(int), expit(x)


def test_a_fit_that_leaves_all_information_is_absent_with_a_reason():
    """Newton's method runs away from predictions next to 1, to where every weight rounds to zero."""
    y, p = [0, 0, 1], [0.9977045101377732, 0.9999999999999702, 0.9996109070287972]

    assert line_of(y, p, fixed_slope=True).reason == "the logistic regression on the logit did not converge"


def test_line_through_two_predictions_has_a_closed_form():
    """For two distinct predictions, the line passes through both observed rates."""
    line = line_of(*two_groups())
    observed = logit(np.array([3 / 20, 21 / 30]))
    slope = (observed[1] - observed[0]) / (logit(0.8) - logit(0.2))

    assert line.slope == pytest.approx(slope, abs=1e-12)
    assert line.intercept == pytest.approx(observed[0] - slope * logit(0.2), abs=1e-12)


def test_calibration_in_the_large_makes_the_mean_right():
    """If every logit is shifted by it, the mean prediction is the prevalence."""
    y, p = make_predictions(1, intercept=0.7)
    large = line_of(y, p, fixed_slope=True)

    shifted = expit(logit(p) + large.intercept)
    assert shifted.mean() == pytest.approx(y.mean(), abs=1e-12)
    assert large.slope == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_line_equals_an_unpenalised_logistic_regression(seed):
    """The calibration line equals the logistic regression of scikit-learn."""
    y, p = make_predictions(seed, slope=0.6)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(p)[:, None], y)
    line = line_of(y, p)

    assert line.slope == pytest.approx(model.coef_[0, 0], abs=1e-5)
    assert line.intercept == pytest.approx(model.intercept_[0], abs=1e-5)


def test_planted_intercept_and_slope_come_back():
    """For 50,000 overconfident predictions, slope 0.5 and intercept −0.25 are found within three standard errors."""
    y, p = make_predictions(5, 50_000, intercept=-0.25, slope=0.5)
    line = line_of(y, p)

    design = np.stack([np.ones(len(p)), logit(p)])
    weight = expit(line.intercept + line.slope * logit(p))
    information = (design * weight * (1 - weight)) @ design.T
    of_intercept, of_slope = np.sqrt(np.diag(np.linalg.inv(information)))
    assert abs(line.slope - 0.5) < 3 * of_slope < 0.05
    assert abs(line.intercept + 0.25) < 3 * of_intercept < 0.06


def test_extreme_predictions_still_converge():
    """Among predictions of 1e-12 and of exactly 0 and 1, halving Newton's step reaches the maximum of the likelihood."""
    y = np.array([0, 1] * 10 + [0, 1, 1, 0])
    p = np.array([0.3, 0.6] * 10 + [0.0, 1.0, 1e-12, 1 - 1e-12])
    line = line_of(y, p)

    x = np.log(np.clip(p, 1e-15, 1)) - np.log1p(-np.clip(p, 0, 1 - 1e-15))
    residual = y - expit(line.intercept + line.slope * x)
    assert residual.sum() == pytest.approx(0, abs=1e-9)
    assert (residual * x).sum() == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize(
    ("y", "p", "reason"),
    [
        pytest.param([1, 1], [0.2, 0.4], "one class only: 2 of 2 samples are positive", id="one class"),
        pytest.param([0, 1], [0.4, 0.4], "all predictions are equal", id="constant"),
        pytest.param([0, 0, 1], [0.1, 0.2, 0.3], "the predictions separate the classes", id="separated"),
        pytest.param(
            [0, 0, 1, 1], [0.1, 0.2, 0.2, 0.3], "the predictions separate the classes", id="touching"
        ),
        pytest.param(
            [1, 0, 0], [0.1, 0.2, 0.3], "the predictions separate the classes", id="separated backwards"
        ),
    ],
)
def test_line_that_does_not_exist_says_why(y, p, reason):
    """A line that does not exist is absent with the reason, and the calibrator is the identity with the same reason."""
    assert line_of(y, p).reason == reason
    assert fit_calibrator(y, p) == PlattCalibrator(0.0, 1.0, f"not calibrated: {reason}")


def test_constant_predictions_have_calibration_in_the_large():
    """Calibration in the large exists for constant predictions: logit(1/2) − logit(0.2)."""

    assert line_of([0, 1], [0.2, 0.2], fixed_slope=True).intercept == pytest.approx(math.log(4), abs=1e-12)


def test_calibrated_predictions_have_intercept_0_and_slope_1():
    """On the data of the fit, calibrated predictions have intercept 0 and slope 1, up to rounding."""
    y, p = make_predictions(2, intercept=0.4, slope=0.7)
    line = line_of(y, fit_calibrator(y, p).apply(p))

    assert line.intercept == pytest.approx(0.0, abs=1e-9)
    assert line.slope == pytest.approx(1.0, abs=1e-9)


def test_a_backward_model_is_not_turned_round():
    """A negative slope would reverse the ranking, so the calibrator is the identity with the reason."""
    y, p = make_predictions(3, slope=-1.0)

    assert fit_calibrator(y, p) == PlattCalibrator(
        0.0, 1.0, "not calibrated: the outcome becomes rarer as the prediction rises"
    )


def test_order_of_rows_does_not_show_in_the_calibrator():
    """Any order of rows gives a calibrator with the same bits."""
    y, p = make_predictions(4)
    order = np.random.default_rng(0).permutation(y.size)

    assert fit_calibrator(y, p) == fit_calibrator(y[order], p[order])


CALIBRATORS = st.builds(PlattCalibrator, intercept=st.floats(-20, 20), slope=st.floats(0.01, 20))
PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=50)


@given(CALIBRATORS, PROBABILITIES)
def test_calibrated_values_do_not_depend_on_their_batch(calibrator, p):
    """Single values, slices and strided arrays have the same bits as the whole."""
    together = calibrator.apply(p)

    assert together.tolist() == [calibrator.apply([value])[0] for value in p]
    assert together[1:].tolist() == calibrator.apply(p[1:]).tolist()
    assert together[::2].tolist() == calibrator.apply(np.array(p)[::2]).tolist()


@given(CALIBRATORS, PROBABILITIES)
def test_calibration_keeps_the_order_and_is_never_certain(calibrator, p):
    """For any intercept and slope, calibrated values are non-decreasing and strictly between 0 and 1."""
    calibrated = calibrator.apply(sorted(p))

    assert (np.diff(calibrated) >= 0).all()
    assert ((calibrated > 0) & (calibrated < 1)).all()


def test_the_identity_returns_its_input():
    """The identity does not compute the logit; it only changes 0 and 1."""

    assert PlattCalibrator(0.0, 1.0).apply([0.1, 0.3, 0.0]).tolist() == [0.1, 0.3, 1e-15]


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1])
def test_the_calibrator_refuses_invalid_probabilities(value):
    """Missing or out-of-range values raise an error with their count and never give a NaN."""
    with pytest.raises(DataError, match="got 1 that are not"):
        PlattCalibrator(0.1, 1.1).apply([0.5, value])


def test_calibrator_takes_mapped_memory_and_leaves_its_input_alone():
    """Read-only input of any shape is accepted and not changed."""
    p = np.array([[0.2, 0.4], [0.6, 0.8]])
    p.flags.writeable = False

    assert PlattCalibrator(1.0, 2.0).apply(p).shape == (2, 2)
    assert p.tolist() == [[0.2, 0.4], [0.6, 0.8]]


def test_calibrator_of_known_values():
    """Intercept 1 and slope 2 at p = 0.5 and 0.8 give 1/(1+e⁻¹) and 16e/(1+16e)."""
    calibrated = PlattCalibrator(1.0, 2.0).apply([0.5, 0.8])

    assert calibrated.tolist() == pytest.approx(
        [1 / (1 + math.exp(-1)), 16 * math.e / (1 + 16 * math.e)], abs=1e-15
    )


def test_curve_follows_any_straight_line():
    """The local line reproduces an observed risk of 0.2 + 0.5·p exactly, and the distances are those of that line."""
    p = np.repeat(np.arange(1, 10) / 10, 1000)
    y = np.concatenate([np.repeat([1, 0], [200 + 50 * i, 800 - 50 * i]) for i in range(1, 10)])
    curve = calibration_curve(y, p)
    distance = np.abs(0.2 - 0.5 * p)

    assert curve.observed == pytest.approx(0.2 + 0.5 * curve.predicted, abs=1e-12)
    assert curve.ici == pytest.approx(distance.mean(), abs=1e-12)
    assert (curve.e50, curve.e90) == pytest.approx(
        (np.quantile(distance, 0.5), np.quantile(distance, 0.9)), abs=1e-12
    )
    assert curve.emax == pytest.approx(0.25, abs=1e-12)


def local_line(y, p, at):
    """Return the local line at one point: tricube weights over the nearest 75 %, least squares by lstsq, clipped to [0, 1]."""
    distance = np.abs(p - at)
    bandwidth = np.sort(distance)[math.ceil(SPAN * p.size) - 1] * (1 + 1e-6)
    weight = np.sqrt(np.clip(1 - (distance / bandwidth) ** 3, 0, 1) ** 3)
    design = np.column_stack([np.ones(p.size), p - at]) * weight[:, None]
    return min(max(np.linalg.lstsq(design, y * weight)[0][0], 0), 1)


def test_curve_equals_a_weighted_regression_at_each_point():
    """The curve equals a brute-force regression at every grid point."""
    y, p = make_predictions(6, n=60)
    curve = calibration_curve(y, p)

    assert curve.observed == pytest.approx([local_line(y, p, at) for at in curve.predicted], abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_curve_of_weighted_samples_is_that_of_repeated_ones(seed):
    """For the weights of a bootstrap replicate, the curve equals that of the repeated samples, on the grid of the data."""
    y, p = make_predictions(seed, n=80)
    t = tally(y, p)
    times = np.random.default_rng(seed).poisson(1.0, y.size)
    smoother = smoother_of(t)
    curve = curve_of(smoother, t.redrawn(times, np.arange(y.size), y == 1))

    repeated_y, repeated_p = np.repeat(y, times), np.repeat(p, times)
    assert curve == pytest.approx([local_line(repeated_y, repeated_p, at) for at in smoother.grid], abs=1e-9)


@pytest.mark.parametrize("n", [400, 20_000])
def test_curve_has_at_most_50_points_from_end_to_end(n):
    """The curve has at most 50 points from the lowest to the highest prediction, also with more distinct predictions than smoothing cells."""
    y, p = make_predictions(7, n=n)
    curve = calibration_curve(y, p)

    assert curve.predicted.size <= 50
    assert (curve.predicted[0], curve.predicted[-1]) == (p.min(), p.max())
    assert ((curve.observed >= 0) & (curve.observed <= 1)).all()


def test_ici_distinguishes_calibrated_and_miscalibrated_predictions():
    """For 20,000 samples, the ICI is below 0.01 if calibrated, and about 0.1 if the logits are shifted by 0.7."""

    assert calibration_curve(*make_predictions(8, 20_000)).ici < 0.01
    assert 0.08 < calibration_curve(*make_predictions(8, 20_000, intercept=0.7)).ici < 0.15


def test_joining_neighbours_changes_little(monkeypatch):
    """With 5,000 distinct predictions in 500 cells, the ICI is that of the fit without joining, within 1e-4."""
    y, p = make_predictions(9, n=5000)
    joined = calibration_curve(y, p).ici
    monkeypatch.setattr("mlho.method.evaluation.calibration_curve.MAX_CELLS", 10_000)

    assert joined == pytest.approx(calibration_curve(y, p).ici, abs=1e-4)


def test_constant_predictions_are_as_far_off_as_the_prevalence():
    """For constant predictions, the curve has one point, and the ICI is |0.5 − 0.2|."""
    curve = calibration_curve([0, 1], [0.2, 0.2])

    assert (curve.predicted.tolist(), curve.observed.tolist()) == ([0.2], [0.5])
    assert curve.ici == pytest.approx(0.3)
