"""The complete evaluation of one set of predictions."""

import json

import numpy as np
import pytest

from mlho.errors import DataError
from mlho.method.evaluation.auroc import auroc_estimate
from mlho.method.evaluation.calibration_curve import smoother_of
from mlho.method.evaluation.evaluation import evaluate
from mlho.method.evaluation.figures import CALIBRATION_FIGURES
from mlho.method.evaluation.metrics import brier_of
from mlho.method.evaluation.precision_recall import pr_davis_goadrich_of
from mlho.method.evaluation.tally import tally
from mlho.method.evaluation.thresholds import at_threshold
from tests.unit.method.evaluation.one_tally import average_precision_of, curve_of, distances_of, line_of


def make_predictions(seed: int = 0, n: int = 240):
    rng = np.random.default_rng(seed)
    risk = rng.beta(1, 3, n)
    return (rng.random(n) < risk).astype(int), risk, np.arange(n) // 2


def absent_values(node, path=""):
    """Yield the path and the reason of every estimate without a value."""
    if isinstance(node, dict):
        if "value" in node and node["value"] is None:
            yield path, node["reason"]
        for key, child in node.items():
            yield from absent_values(child, f"{path}/{key}")


def test_the_evaluation_agrees_with_the_single_functions():
    """The evaluation has the same figures as the single functions."""
    y, p, patient = make_predictions()
    result = evaluate(y, p, groups=patient, thresholds={"youden": 0.3}, seed=1, n_replicates=20)
    t = tally(y, p)
    smoother = smoother_of(t)

    assert (result.n_samples, result.n_positive, result.n_patients) == (240, y.sum(), 120)
    assert result.figures["auroc"] == auroc_estimate(y, p, groups=patient)
    assert result.figures["average_precision"].value == average_precision_of(t)
    assert result.figures["pr_davis_goadrich"].value == pr_davis_goadrich_of(t)
    assert result.figures["brier"].value == brier_of(t)
    assert result.thresholds["youden"].performance == at_threshold(y, p, 0.3)
    assert result.thresholds["youden"].figures["ppv"].value == at_threshold(y, p, 0.3).ppv
    raw = result.calibration["raw"].figures
    assert set(raw) == set(CALIBRATION_FIGURES)
    assert raw["slope"].value == pytest.approx(line_of(y, p).slope, abs=1e-9)
    assert raw["ici"].value == distances_of(t, smoother.distance(t, curve_of(smoother, t)))[0]
    without_interval = {name for name, e in {**result.figures, **raw}.items() if e.low is None}
    assert without_interval == {"pr_davis_goadrich"}


def test_thresholds_are_on_the_scale_of_the_calibrated_probability():
    """Alerts and the decision curve use the scale of a bundle's output: the calibrated probability if there is a calibrator."""
    y, p, patient = make_predictions()
    calibrated = p**2
    result = evaluate(
        y, p, groups=patient, thresholds={"a": 0.09}, calibrated=calibrated, seed=1, n_replicates=20
    )
    report = result.thresholds["a"]

    assert report.performance == at_threshold(y, calibrated, 0.09)
    assert report.performance.n_true_positive == at_threshold(y, p, 0.3).n_true_positive
    assert report.figures["ppv"].low < report.figures["ppv"].value == report.performance.ppv


def test_json_is_plain_and_complete():
    """The evaluation serialises without NaN, and the curves and their bands have consistent lengths."""
    y, p, patient = make_predictions()
    result = evaluate(y, p, groups=patient, thresholds={"a": 0.2}, calibrated=p**1.2, seed=1, n_replicates=20)
    plain = result.to_json()

    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert set(plain["calibration"]) == {"raw", "calibrated"}
    assert plain["decision"]["on"] == "calibrated"
    for band in (plain["roc"]["band"], plain["pr"]["band"], plain["decision"]["band"]):
        assert len(band["at"]) == len(band["low"]) == len(band["high"]) > 0
    curve = plain["calibration"]["raw"]["curve"]
    assert len(curve["predicted"]) == len(curve["observed"]) == len(curve["band"]["low"])
    assert len(json.dumps(plain)) < 45_000


def test_order_of_rows_does_not_show():
    """Any order of rows gives the same JSON, byte by byte."""
    y, p, patient = make_predictions()
    order = np.random.default_rng(3).permutation(y.size)
    first, second = (
        evaluate(
            y[o],
            p[o],
            groups=patient[o],
            thresholds={"a": 0.2},
            calibrated=p[o] ** 1.2,
            seed=1,
            n_replicates=10,
        )
        for o in (np.arange(y.size), order)
    )

    assert json.dumps(first.to_json()) == json.dumps(second.to_json())


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_absent_everywhere_with_reasons(label):
    """With one class, figures that need both are absent with a reason, without an error or a NaN. The Brier score exists."""
    _, p, patient = make_predictions()
    result = evaluate(np.full(240, label), p, groups=patient, thresholds={"a": 0.2}, seed=1, n_replicates=10)
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    absent = dict(absent_values(plain))

    assert absent["/figures/auroc"] == f"one class only: {240 * label} of 240 samples are positive"
    assert absent["/calibration/raw/figures/slope"] == absent["/figures/auroc"]
    assert all(reason and reason != "not defined for these samples" for reason in absent.values())
    assert ("/figures/average_precision" in absent) == (label == 0)
    assert plain["roc"] is None
    assert result.figures["brier"].low is not None


def test_intervals_can_be_left_out():
    """Without replicates, only the AUROC has an interval, and the bands are empty."""
    y, p, patient = make_predictions()
    result = evaluate(y, p, groups=patient, thresholds={}, seed=1, n_replicates=0)

    assert result.figures["auroc"].low is not None
    assert (result.figures["brier"].value, result.figures["brier"].low) == (brier_of(tally(y, p)), None)
    assert result.roc_band.at == ()


def test_a_missing_threshold_has_a_reason():
    """A threshold of None has an entry with the reason and without figures."""
    y, p, patient = make_predictions()
    report = evaluate(y, p, groups=patient, thresholds={"a": None}, seed=1, n_replicates=2).thresholds["a"]

    assert (report.performance, report.figures) == (None, {})
    assert report.reason == "the training predictions gave no threshold"


def test_calibrated_predictions_are_drawn_with_the_same_patients():
    """With the identity as calibrator, the calibrated figures equal the raw ones, including the intervals."""
    y, p, patient = make_predictions()
    result = evaluate(y, p, groups=patient, thresholds={}, calibrated=p, seed=1, n_replicates=10)

    assert result.calibration["raw"].figures == result.calibration["calibrated"].figures


def test_one_patient_has_values_without_intervals():
    """Two samples of one patient give values without bootstrap intervals."""
    plain = evaluate([0, 1], [0.2, 0.7], groups=[3, 3], thresholds={"a": 0.5}, seed=1).to_json()

    assert plain["figures"]["auroc"]["value"] == 1.0
    assert plain["figures"]["brier"]["low"] is None
    json.dumps(plain, allow_nan=False)


def test_calibrated_predictions_out_of_range_are_refused():
    """Calibrated predictions are checked in the same way as raw ones."""
    with pytest.raises(DataError, match="predictions are probabilities"):
        evaluate([0, 1], [0.2, 0.7], groups=None, thresholds={}, calibrated=[0.2, 1.7], seed=1)


def test_merging_predictions_for_replicates_moves_intervals_less_than_replicates_do(monkeypatch):
    """Above 2,000 distinct predictions, merging moves the limits by less than 3 % of the width; other 200 draws move them by about 5 %."""
    y, p, patient = make_predictions(n=20_000)
    options = {"groups": patient, "thresholds": {"own": 0.3}, "seed": 1, "calibrated": p**1.1}
    merged = evaluate(y, p, **options)
    monkeypatch.setattr("mlho.method.evaluation.evaluation.REPLICATE_CELLS", 20_000)
    exact = evaluate(y, p, **options)

    pairs = [(exact.figures[name], merged.figures[name]) for name in exact.figures]
    for form in ("raw", "calibrated"):
        figures = exact.calibration[form].figures
        pairs += [(figures[name], merged.calibration[form].figures[name]) for name in figures]
    pairs += [
        (figure, merged.thresholds["own"].figures[name])
        for name, figure in exact.thresholds["own"].figures.items()
    ]
    assert len(pairs) == 43
    for exact_figure, merged_figure in pairs:
        assert exact_figure.value == merged_figure.value
        if exact_figure.low is not None:
            assert max(
                abs(exact_figure.low - merged_figure.low), abs(exact_figure.high - merged_figure.high)
            ) < 0.03 * (exact_figure.high - exact_figure.low)


def test_merged_predictions_keep_counts_edges_and_order():
    """No cell crosses an edge, counts add up, and the cells ascend strictly, also with ties."""
    rng = np.random.default_rng(2)
    p = np.round(rng.beta(1, 3, 5_000), 3)
    whole = tally((rng.random(5_000) < p).astype(int), p)
    cells = whole.merged(50, edges=[0.1, 0.25], n_extreme=20)

    assert 50 < cells.p.size < 150 < whole.p.size
    assert (cells.n.sum(), cells.n_positive.sum()) == (5_000, whole.n_positive.sum())
    assert (np.diff(cells.p) > 0).all()
    np.testing.assert_array_equal(cells.p[cells.cell] >= 0.25, p >= 0.25)
    np.testing.assert_array_equal(np.bincount(cells.cell), cells.n)
    assert cells.p[0] == p.min()
    assert cells.p[-1] == p.max()
