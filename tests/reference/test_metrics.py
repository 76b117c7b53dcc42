"""Metrics from R's predictions equal R's metrics.

Reference: R 4.5.0, hestiri/mlho 635d695, pROC 1.18.5, PRROC 1.4, on the Synthea demo data, split of seed 20240601
(``mlearn/*_absErr.csv``, ``*_metrics.csv``, ``*_calibration.csv``; ``bias/bias_metrics.csv`` is rounded by R).
"""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from mlho.method.bias.audit import audit
from mlho.method.bias.groups import Grouping
from mlho.method.evaluation.auroc import auroc
from mlho.method.evaluation.precision_recall import pr_davis_goadrich_of
from mlho.method.evaluation.tally import tally
from mlho.method.evaluation.thresholds import at_threshold
from tests.reference.mlho_r import bias_row_mlho_r, caliber_mlho_r, youden_mlho_r
from tests.unit.method.evaluation.one_tally import pr_integral_of

MODELS = ("glmboost", "glmboost_nodems")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def predictions_of(reference: Path, model: str):
    rows = rows_of(reference / "mlearn" / f"{model}_absErr.csv")
    return np.array([int(r["actual"]) for r in rows]), np.array([float(r["Y"]) for r in rows])


@pytest.mark.parametrize("model", MODELS)
def test_metrics_equal_r(reference, model):
    """AUROC, both PR areas, the threshold and the figures at the threshold agree within 1e-9."""
    y, p = predictions_of(reference, model)
    (expected,) = rows_of(reference / "mlearn" / f"{model}_metrics.csv")
    threshold = youden_mlho_r(y, p)
    # R alerts above its threshold, and we at or above it. Both agree, because no prediction is at a midpoint.
    result = at_threshold(y, p, threshold)

    assert threshold not in p
    assert {
        "roc": auroc(y, p),
        "roc2": auroc(y, p),
        "pr.integral": pr_integral_of(tally(y, p)),
        "pr.davis.goadrich": pr_davis_goadrich_of(tally(y, p)),
        "thresholdj": threshold,
        "J.sensitivity": result.sensitivity,
        "J.specificity": result.specificity,
        "ppv.j": result.ppv,
    } == {
        name: pytest.approx(float(expected[name]), abs=1e-9)
        for name in ("roc", "roc2", "pr.integral", "pr.davis.goadrich", "thresholdj", "J.sensitivity", "J.specificity", "ppv.j")
    }  # fmt: skip


def test_auroc_is_the_published_figure(reference):
    """The AUROC is 0.942869, as quoted in the reference's README and in the description of the method."""

    assert auroc(*predictions_of(reference, "glmboost")) == pytest.approx(0.942868525896414, abs=1e-12)


def test_caliber_of_r_has_right_closed_bins():
    """0.1 belongs to (0, 0.1] and 0.11 to (0.1, 0.2]. Empty bins have no rate."""
    table = caliber_mlho_r([1, 0, 1], [0.1, 0.11, 0.2])

    assert table[:3] == [(0.1, 1.0), (0.2, 0.5), (0.3, None)]


@pytest.mark.parametrize("model", MODELS)
def test_calibration_table_equals_r(reference, model):
    """The ten bins (a, b] agree by their upper edges; the two that are empty in R are empty here."""
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
    """The absolute error |y − p| agrees for every patient."""
    y, p = predictions_of(reference, model)
    expected = [float(r["absErr"]) for r in rows_of(reference / "mlearn" / f"{model}_absErr.csv")]

    assert np.abs(y - p) == pytest.approx(expected, abs=1e-9)


def members_of(data: Path, patients: list[str]) -> dict[str, np.ndarray]:
    """Return the groups of R's audit: all patients, and groups by 0/1 columns of the demographics."""
    with gzip.open(data / "syntheticmass" / "dems.csv.gz", "rt", newline="") as file:
        persons = {row["patient_num"]: row for row in csv.DictReader(file)}
    groups = {
        "sex1": ("sex_cd", "1"),
        "sex0": ("sex_cd", "0"),
        "black1": ("black", "1"),
        "hisp1": ("hispanic", "1"),
    }
    found = {
        name: np.array([persons[p][column] == value for p in patients])
        for name, (column, value) in groups.items()
    }
    return {"everyone": np.ones(len(patients), bool)} | found


@pytest.mark.parametrize("group", ["everyone", "sex1", "sex0", "black1", "hisp1"])
def test_bias_row_equals_r(reference, data, group):
    """Every figure of R's audit (raw) agrees for each group, up to R's rounding."""
    (expected,) = (
        r
        for r in rows_of(reference / "bias" / "bias_metrics.csv")
        if (r["model.name"], r["group"], r["month"], r["calibration"]) == ("glmboost", group, "all", "RAW")
    )
    y, p = predictions_of(reference, "glmboost")
    patients = [r["patient_num"] for r in rows_of(reference / "mlearn" / "glmboost_absErr.csv")]
    is_in = members_of(data, patients)[group]
    row = bias_row_mlho_r(y[is_in], p[is_in])

    assert int(expected["n"]) == is_in.sum()
    assert row == {name: pytest.approx(float(expected[name]), abs=6e-4) for name in row}


def test_the_audit_agrees_with_r_where_it_defines_a_figure_alike(reference, data):
    """In each group, AUROC, Brier score, RMSE, error by outcome, ECE of equal-width bins, and the rates at R's cut-off agree."""
    rows = {
        r["group"]: r
        for r in rows_of(reference / "bias" / "bias_metrics.csv")
        if (r["model.name"], r["calibration"]) == ("glmboost", "RAW")
    }
    y, p = predictions_of(reference, "glmboost")
    patients = [r["patient_num"] for r in rows_of(reference / "mlearn" / "glmboost_absErr.csv")]
    names = {
        "auroc": "auc", "brier": "brier", "rmse": "RMSE", "error_positive": "CLE_class_1",
        "error_negative": "CLE_class_0", "ece_equal_width": "ECE_equal_width", "r/sensitivity": "sens",
        "r/specificity": "spec", "r/ppv": "ppv", "r/npv": "npv", "r/accuracy": "acc",
    }  # fmt: skip
    for group, is_in in members_of(data, patients).items():
        alerts = p > youden_mlho_r(y[is_in], p[is_in])
        grouping = Grouping(group, ("in", "out"), np.where(is_in, 0, 1))
        found = audit(
            y, p, [grouping], patients=None, alerts={"r": alerts}, seed=[1], min_cell=1, n_replicates=2
        )
        figures = found.groups[1].figures

        assert {name: figures[name].value for name in names} == {
            name: pytest.approx(float(rows[group][name_of_r]), abs=1e-3) for name, name_of_r in names.items()
        }
