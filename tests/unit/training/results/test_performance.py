"""Reported figures are those of models built like the final model."""

import json

import numpy as np
import pytest

from mlho.report.result import Result
from mlho.results import Run
from mlho.store.local import LocalStore
from scheduler.controller.run_thread import outcome_of
from tests.builders import make_tables, run_inline, write_tables

TWO = {
    "candidates": [
        {"classifier": "glmboost", "grid": {"nSteps": [1]}},
        {"classifier": "xgboost", "grid": {"maxDepth": [2], "nRounds": [20]}},
    ],
    "validation.iterations": 3,
}


class Home:
    """A place that gives the address of a run's outputs."""

    def uri(self, run_id, name):
        return f"store/{run_id}/{name}"


@pytest.fixture(scope="module")
def weak(tmp_path_factory):
    """Return a run whose final model is one step of glmboost, which loses to xgboost in every iteration."""
    folder = tmp_path_factory.mktemp("weak")
    data = write_tables(folder / "data", make_tables(400, seed=5))
    home = run_inline(data, LocalStore(folder / "store"), {**TWO, "final.classifier": "glmboost"})
    result = json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))
    return home, result


def of_candidate(result, classifier):
    return next(candidate for candidate in result["candidates"] if candidate["classifier"] == classifier)


def test_the_headline_is_that_of_the_final_model_and_not_of_the_winners(weak):
    """Figures, curves and AUROCs are those of the final model, and the winners have their own section."""
    _, result = weak
    candidates = [
        next(c for c in i["candidates"] if c["classifier"] == "glmboost") for i in result["iterations"]
    ]

    assert {i["winner"] for i in result["iterations"]} == {"xgboost"}
    assert result["final_model"]["classifier"] == "glmboost"
    assert result["headline"] == of_candidate(result, "glmboost")["test"]
    assert result["winners"] == of_candidate(result, "xgboost")["test"]
    assert result["winners"]["auroc"]["mean"] > result["headline"]["auroc"]["mean"] + 0.05
    aurocs = [c["evaluation"]["figures"]["auroc"]["value"] for c in candidates]
    assert [e["value"] for e in result["headline_auroc"]] == aurocs
    assert result["headline"]["auroc"]["mean"] == pytest.approx(np.mean(aurocs))
    for line, value in zip(result["curves"]["roc"], aurocs, strict=True):
        assert np.trapezoid(line["y"], line["x"]) == pytest.approx(value, abs=1e-3)
    for test_set, candidate in zip(result["test_sets"], candidates, strict=True):
        tried = candidate["evaluation"]["thresholds"]
        assert test_set["thresholds"] == {rule: report["threshold"] for rule, report in tried.items()}


def test_the_bundle_and_its_card_say_the_same(weak):
    """The metrics of the bundle are the headline, with rates at thresholds and net benefit. The card mentions the winners as another procedure."""
    home, result = weak
    bundle = home.bundle()
    document, card = json.loads(bundle["bundle.json"]), bundle["model_card.md"].decode()

    assert document["metrics"] == {k: v for k, v in result["headline"].items() if v["mean"] is not None}
    assert document["performance"]["decisionCurve"] == result["curves"]["decision"]
    assert f"| AUROC | {result['headline']['auroc']['mean']:.3f} |" in card
    assert f"had an AUROC of {result['winners']['auroc']['mean']:.3f}" in card
    assert "net benefit" in card


def test_summary_status_and_notebook_say_the_same(weak):
    """Summary, status of the custom resource and tables for notebooks have the AUROC of the headline."""
    home, result = weak
    sentences, mean = result["summary"], result["headline"]["auroc"]["mean"]
    status = outcome_of(Home(), home.run, {})
    run = Run("x", None, Result.model_validate(result))

    assert f"glmboost, had an AUROC of {mean:.2f}" in sentences[1]
    (rival,) = [sentence for sentence in sentences if sentence.startswith("Another procedure")]
    assert f"{result['winners']['auroc']['mean']:.2f}" in rival
    assert status["metrics"]["auroc"] == f"{mean:.3f}"
    assert run.headline.set_index("metric").loc["auroc", "mean"] == mean
    assert set(run.test_sets["classifier"]) == {"glmboost"}


def test_with_one_candidate_there_is_no_other_procedure(tmp_path):
    """With one candidate, the winners are the headline, and the summary does not repeat it."""
    data = write_tables(tmp_path / "data", make_tables(300, seed=5))
    home = run_inline(data, LocalStore(tmp_path / "store"))
    result = json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))

    assert result["winners"] == result["headline"]
    assert not any("Another procedure" in sentence for sentence in result["summary"])


def test_iterations_and_the_final_model_have_thresholds_on_one_scale(weak):
    """Thresholds of the final model are near those of the iterations. On the raw scale of one step, near one half, they would be much higher."""
    _, result = weak
    final = {threshold["rule"]: threshold["value"] for threshold in result["final_model"]["thresholds"]}

    for rule, value in final.items():
        tried = [test_set["thresholds"][rule] for test_set in result["test_sets"]]
        assert value == pytest.approx(np.mean(tried), rel=0.25), rule
