"""Advice on a model in use depends on the figures only."""

import dataclasses

import numpy as np
import pytest

from mlho.method.evaluation.auroc import auroc_estimate
from mlho.method.evaluation.calibration import fit_calibrator
from mlho.method.evaluation.expected import expected_auroc
from mlho.report.advice import Findings, advise
from mlho.report.parts import Estimate


def near(value, half=0.02):
    return Estimate(value=value, low=value - half, high=value + half)


HOLDS = Findings(
    trained=0.76,
    expected=near(0.755),
    observed=near(0.75),
    shift=near(0.05, 0.1),
    slope=near(1.02, 0.1),
    log_loss={"intercept": -0.0001, "line": -0.0002},
)
CASES = {
    "nothing is wrong": ({}, "hold", "no relevant miscalibration"),
    "the relation changed": (
        {"observed": near(0.70)},
        "retrain",
        "the association between features and outcome has changed",
    ),
    "the relation changed in few samples": (
        {"observed": near(0.70), "few": "fewer than 100 samples with or without the outcome"},
        "hold",
        "With fewer than 100 samples with or without the outcome, this is too uncertain to advise retraining",
    ),
    "the labels are exchanged": (
        {"observed": near(0.26)},
        "retrain",
        "Check the labels first: an AUROC below 0.5 is also found if 0 and 1 are exchanged.",
    ),
    "the labels are those of others": (
        {"observed": near(0.51)},
        "retrain",
        "Check the labels first: an AUROC near 0.5 is also found if they belong to other patients or dates.",
    ),
    "the patients changed": ({"observed": near(0.70), "expected": near(0.71)}, "hold", "harder to rank"),
    "a loss that chance explains": ({"observed": near(0.72, 0.05)}, "hold", ""),
    "an alarm on a small recent loss": (
        {"observed": near(0.72, 0.05), "expected": near(0.77, 0.01), "alarm": "2026-03-01"},
        "retrain",
        "alarm of 2026-03-01",
    ),
    "a loss that the uncertainty of training explains": (
        {"observed": near(0.70), "trained_margin": 0.07},
        "hold",
        "compared with 0.760 ± 0.070 in training: the uncertainty of both can explain the difference",
    ),
    "a loss beyond the uncertainty of training": (
        {"observed": near(0.68), "trained_margin": 0.07},
        "retrain",
        "the association between features and outcome has changed",
    ),
    "an alarm that the uncertainty of training explains": (
        {"observed": near(0.72), "expected": near(0.77, 0.01), "alarm": "2026-03-01", "trained_margin": 0.05},
        "hold",
        "the uncertainty of both can explain the difference",
    ),
    "probabilities too high": (
        {"shift": near(-0.4, 0.1), "log_loss": {"intercept": 0.01, "line": 0.009}},
        "recalibrate",
        "Calibration in the large is",
    ),
    "probabilities too extreme": (
        {"slope": near(0.7, 0.1), "log_loss": {"intercept": 0.0, "line": 0.004}},
        "recalibrate",
        "The calibration slope is",
    ),
    "too few samples to assess calibration": (
        {
            "shift": near(-0.4, 0.1),
            "log_loss": {"intercept": 0.01, "line": 0.009},
            "unassessed": "fewer than 200 samples with or without the outcome",
        },
        "hold",
        "cannot be assessed (fewer than 200 samples with or without the outcome), so recalibration is not advised",
    ),
    "nothing is wrong in few samples": (
        {"unassessed": "fewer than 200 samples with or without the outcome"},
        "hold",
        "the calibration cannot be assessed (fewer than 200",
    ),
    "a correction that helps nobody outside its fit": ({"shift": near(-0.4, 0.1)}, "hold", ""),
    "significant and too small to matter": ({"shift": near(-0.05, 0.01)}, "hold", ""),
    "vanished features": ({"vanished": 2}, "retrain", "Check the source of the codes first"),
    "no labels": ({"observed": None}, "hold", "found no evidence against the model"),
    "no labels, shifted features": (
        {"observed": None, "shifted": 16, "compared": 44},
        "hold",
        "16 of 44 features are shifted: the patients, or how they are recorded, differ from training. This does not show that the model",
    ),
    "no labels, missing columns": (
        {"observed": None, "missing": 3},
        "hold",
        "3 columns have many more missing values",
    ),
    "no labels, other scores": ({"observed": None, "score_psi": 0.4}, "hold", "mlho evaluate"),
    "no labels, harder patients": ({"observed": None, "expected": near(0.70)}, "hold", "mlho evaluate"),
}


@pytest.mark.parametrize(("changes", "action", "words"), CASES.values(), ids=CASES)
def test_the_advice_follows_from_the_findings(changes, action, words):
    found = advise(dataclasses.replace(HOLDS, **changes))

    assert found.action == action
    assert words in found.reason
    assert found.gain
    assert (found.correction is None) == (action != "recalibrate")


def test_no_gain_is_stated_from_few_samples():
    """With too few samples the absence of a loss does not show that another model would be no better."""
    few = dataclasses.replace(HOLDS, few="fewer than 100 samples with or without the outcome")

    assert advise(HOLDS).gain == "No gain is expected from another model."
    assert advise(few).gain == "The gain from another model is too uncertain to state."


def test_a_model_of_few_patients_is_rarely_retrained_if_nothing_has_changed():
    """Retraining is advised for at most 8 of 100 models of 600 patients; for 27 if the AUROC of training counted as exact."""
    rng = np.random.default_rng(4)

    def cohort(n):
        p = 1 / (1 + np.exp(2.5 - rng.normal(size=n)))
        return (rng.random(n) < p).astype(int), p

    def is_advised() -> bool:
        y, p = cohort(600)
        trained, calibrator = auroc_estimate(y, p), fit_calibrator(y, p)
        later, score = cohort(6000)
        expected, observed = (
            Estimate(value=figure.value, low=figure.low, high=figure.high)
            for figure in (expected_auroc(calibrator.apply(score)), auroc_estimate(later, score))
        )
        margin = (trained.high - trained.low) / 2
        found = Findings(trained.value, expected, observed=observed, trained_margin=margin)
        return advise(found).action == "retrain"

    assert sum(is_advised() for _ in range(100)) <= 8


def test_the_correction_is_the_simplest_that_the_figures_call_for():
    shifted = {"shift": near(-0.4, 0.1), "log_loss": {"intercept": 0.01, "line": 0.02}}
    tilted = {**shifted, "slope": near(0.7, 0.1)}

    assert advise(dataclasses.replace(HOLDS, **shifted)).correction == "intercept"
    assert advise(dataclasses.replace(HOLDS, **tilted)).correction == "line"


def test_vanished_features_state_the_observed_auroc_if_there_are_labels():
    with_labels = advise(dataclasses.replace(HOLDS, vanished=2))
    without = advise(dataclasses.replace(HOLDS, vanished=2, observed=None))

    assert with_labels.gain.startswith("The AUROC is 0.750")
    assert without.gain.startswith("The AUROC expected without labels is 0.755")
