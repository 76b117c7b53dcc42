"""Metrics from R's predictions equal R's metrics.

Reference: R 4.5.0, hestiri/mlho 635d695, pROC 1.18.5, PRROC 1.4, on the Synthea demo data, split of seed 20240601
(``mlearn/*_absErr.csv``, ``*_metrics.csv``, ``*_calibration.csv``; ``bias/bias_metrics.csv`` is rounded by R).
"""

import csv
from pathlib import Path

import numpy as np
import pytest

from mlho.method.evaluation.auroc import auroc
from mlho.method.evaluation.metrics import brier
from mlho.method.evaluation.precision_recall import pr_davis_goadrich, pr_integral
from mlho.method.evaluation.reliability import caliber_mlho_r
from mlho.method.evaluation.thresholds import at_threshold, youden_mlho_r

MODELS = ("glmboost", "glmboost_nodems")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def predictions_of(reference: Path, model: str):
    rows = rows_of(reference / "mlearn" / f"{model}_absErr.csv")
    return np.array([int(r["actual"]) for r in rows]), np.array([float(r["Y"]) for r in rows])


@pytest.mark.parametrize("model", MODELS)
def test_metrics_equal_r(reference, model):
    """AUROC, both PR areas, the threshold and what it does: all within 1e-9."""
    y, p = predictions_of(reference, model)
    (expected,) = rows_of(reference / "mlearn" / f"{model}_metrics.csv")
    threshold = youden_mlho_r(y, p).value
    # R alerts above its threshold, we at or above: the same, because no prediction lies on a midpoint.
    result = at_threshold(y, p, threshold)

    assert threshold not in p
    assert {
        "roc": auroc(y, p),
        "roc2": auroc(y, p),
        "pr.integral": pr_integral(y, p),
        "pr.davis.goadrich": pr_davis_goadrich(y, p),
        "thresholdj": threshold,
        "J.sensitivity": result.sensitivity,
        "J.specificity": result.specificity,
        "ppv.j": result.ppv,
    } == {
        name: pytest.approx(float(expected[name]), abs=1e-9)
        for name in ("roc", "roc2", "pr.integral", "pr.davis.goadrich", "thresholdj", "J.sensitivity", "J.specificity", "ppv.j")
    }  # fmt: skip


def test_auroc_is_the_published_figure(reference):
    """0.942869, as the reference's README and the method description quote it."""

    assert auroc(*predictions_of(reference, "glmboost")) == pytest.approx(0.942868525896414, abs=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_calibration_table_equals_r(reference, model):
    """Ten (a, b] bins against their upper edges; the two empty ones are empty here too."""
    table = caliber_mlho_r(*predictions_of(reference, model))
    expected = [
        (
            float(r["predicted.probability"]),
            float(r["true.bin.probability"]) if r["true.bin.probability"] else None,
        )
        for r in rows_of(reference / "mlearn" / f"{model}_calibration.csv")
    ]

    assert [edge for edge, _ in table] == pytest.approx([edge for edge, _ in expected], abs=1e-12)
    assert [rate for _, rate in table] == [
        None if r is None else pytest.approx(r, abs=1e-9) for _, r in expected
    ]


@pytest.mark.parametrize("model", MODELS)
def test_error_per_patient_equals_r(reference, model):
    """|y − p| of every patient."""
    y, p = predictions_of(reference, model)
    expected = [float(r["absErr"]) for r in rows_of(reference / "mlearn" / f"{model}_absErr.csv")]

    assert np.abs(y - p) == pytest.approx(expected, abs=1e-9)


def test_bias_row_of_everyone_equals_r(reference):
    """R's audit of the whole test set (raw, everyone), to the digits that R rounds to."""
    (expected,) = (
        r
        for r in rows_of(reference / "bias" / "bias_metrics.csv")
        if (r["model.name"], r["group"], r["month"], r["calibration"])
        == ("glmboost", "everyone", "all", "RAW")
    )
    y, p = predictions_of(reference, "glmboost")
    result = at_threshold(y, p, youden_mlho_r(y, p).value)

    assert brier(y, p) == pytest.approx(float(expected["brier"]), abs=6e-6)
    assert auroc(y, p) == pytest.approx(float(expected["auc"]), abs=6e-4)
    for name, value in (
        ("sens", result.sensitivity),
        ("spec", result.specificity),
        ("acc", result.accuracy),
        ("ppv", result.ppv),
        ("npv", result.npv),
    ):
        assert value == pytest.approx(float(expected[name]), abs=6e-4)
