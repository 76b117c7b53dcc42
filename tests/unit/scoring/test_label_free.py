"""Performance without labels in a scoring run."""

import dataclasses

import numpy as np
import pytest

from mlho.method.evaluation.calibration import PlattCalibrator
from mlho.method.evaluation.expected import expected_auroc, expected_ppv
from mlho.report.monitoring import ASSUMES
from mlho.scoring.label_free import expected_performance
from mlho.store.memory import MemoryStore
from scheduler.cli.show_scores import alerts_table, sentences
from tests.unit.scoring.conftest import score_inline


def test_a_scoring_run_states_the_expected_performance_and_its_limit(trained):
    """The figures are those of the run's scores, and the summary states their assumption."""
    scored = score_inline(trained.folder, MemoryStore())
    found, p = scored.scores["expected"], scored.table()["probability"].to_numpy()

    assert found["auroc"]["value"] == round(expected_auroc(p).value, 4)
    assert found["training_auroc"] == trained.bundle.document.metrics["auroc"]["mean"]
    youden = next(threshold.value for threshold in trained.bundle.thresholds if threshold.rule == "youden")
    assert found["ppv"]["youden"]["value"] == round(expected_ppv(p, youden).value, 4)
    text = " ".join(sentences(scored.scores))
    assert f"Expected AUROC without labels {found['auroc']['value']:.3f}" in text
    assert ASSUMES in text


def test_the_risk_of_a_time_to_an_event_is_shown_with_its_horizon(trained):
    """A risk without its horizon has no meaning. A bundle of outcomes of 0 and 1 has none."""
    scores = score_inline(trained.folder, MemoryStore()).scores

    assert scores["horizons"] == []
    assert next(sentences(scores)).endswith(f" of {scores['outcome']}.")
    assert next(sentences({**scores, "horizons": [365, 1825]})).endswith(
        f" of {scores['outcome']} within 365 days of the index date, and in further columns within 1,825 days."
    )


@pytest.mark.parametrize(
    ("n", "calibrator", "reason"),
    [
        (109, PlattCalibrator(0.0, 1.0), "fewer than 110 samples"),
        (500, PlattCalibrator(0.0, 1.0, "not calibrated: one class only"), "not calibrated"),
    ],
    ids=["few samples", "no calibrator"],
)
def test_scores_without_a_basis_have_a_reason(trained, n, calibrator, reason):
    document = trained.bundle.document.model_copy(update={"calibrator": calibrator})

    found = expected_performance(np.full(n, 0.1), document)

    assert found.auroc.value is None
    assert reason in found.auroc.reason


def test_a_ppv_of_few_alerts_is_not_shown(trained):
    """Ten alerts could identify persons, so the figure is hidden."""
    thresholds = (dataclasses.replace(trained.bundle.thresholds[0], rule="youden", value=0.5),)
    document = trained.bundle.document.model_copy(update={"thresholds": thresholds})

    found = expected_performance(np.array([0.1] * 490 + [0.6] * 10), document)

    assert found.ppv["youden"].reason == "fewer than 11 alerts"


def test_an_expected_ppv_without_interval_has_its_reason_in_the_table_of_alerts():
    """The table is what a user of ``mlho show`` sees."""
    estimates = {
        "youden": {"value": 0.2, "low": 0.16, "high": 0.24, "reason": None},
        "fixed-alert-rate:0.1": {"value": 0.07, "low": None, "high": None, "reason": "no interval: few"},
        "fixed-sensitivity:0.8": {"value": None, "low": None, "high": None, "reason": "fewer than 11 alerts"},
    }
    alerts = [{"rule": rule, "value": 0.3, "alerts": 50} for rule in estimates]

    table = alerts_table({"samples": 1000, "alerts": alerts, "expected": {"ppv": estimates}})

    assert list(table.columns[-1].cells) == [
        "20 % (16–24 %)",
        "7 % (no interval: few)",
        "– (fewer than 11 alerts)",
    ]
