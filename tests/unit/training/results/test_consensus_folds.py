"""A model on the consensus is evaluated by its own procedure, on patients who had no influence on it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mlho.errors import DataError
from mlho.method.evaluation.auroc import auroc
from mlho.method.evaluation.calibration import fit_calibrator
from mlho.spec.training import Validation
from mlho.steps.learn.held_out import held_out_together
from mlho.store.memory import MemoryStore
from mlho.training.iterations.iteration import finish_iteration, select_and_run_folds
from mlho.training.iterations.splits import FINAL
from mlho.training.results import consensus_performance
from mlho.training.results.consensus_folds import (
    Choice,
    choose,
    consensus_of,
    others,
    run_consensus_fold,
    vote,
)
from mlho.training.results.consensus_performance import judge_consensus
from mlho.training.results.records import record_iteration
from tests.builders import make_tables, run_inline, write_tables

CONSENSUS = {
    "final.features": "consensus",
    "validation.folds": 3,
    "validation.iterations": 4,
    "candidates": [
        {"classifier": "glmboost", "grid": {"nSteps": [5, 50]}},
        {"classifier": "elasticnet"},
    ],
}


@pytest.fixture
def problem(make_problem):
    """Return a problem with three folds and two classifiers to choose from."""
    return make_problem(CONSENSUS)


def folds_of(problem, n_subsamples=4):
    found = {}
    for held in held_out_together(problem.spec.validation):
        votes = [vote(problem, held, number) for number in range(1, n_subsamples + 1)]
        found[held] = run_consensus_fold(problem, held, votes)
    return found


def record_of(problem):
    return record_iteration(problem, finish_iteration(problem, 1, *select_and_run_folds(problem, 1)))


@pytest.mark.parametrize(("n_folds", "n_pairs"), [(3, 3), (4, 6), (5, 10), (10, 20), (20, 40)])
def test_every_fold_is_held_out_alone_and_with_at_most_four_others(n_folds, n_pairs):
    """Each pair is held out once. Altogether there are at most three times as many tasks as folds."""
    held = held_out_together(Validation(folds=n_folds))
    pairs = [group for group in held if len(group) == 2]

    assert [group for group in held if len(group) == 1] == [(fold,) for fold in range(n_folds)]
    assert len(pairs) == len(set(pairs)) == n_pairs
    for fold in range(n_folds):
        assert sum(fold in pair for pair in pairs) == min(n_folds - 1, 4)


@pytest.mark.parametrize("held", [(0,), (0, 2)], ids=["outer", "outer and inner"])
def test_held_out_patients_have_no_influence(held, problem):
    """With inverted outcomes of the held-out patients, votes, consensus and scores are equal to the bit."""
    hidden = problem.samples_of(~others(problem, held))
    outcome = np.where(hidden, 1 - problem.y, problem.y).astype(np.uint8)
    other = replace(problem, cohort=replace(problem.cohort, outcome=outcome))
    first, second = ([vote(variant, held, number) for number in (1, 2, 3)] for variant in (problem, other))
    fold, same = run_consensus_fold(problem, held, first), run_consensus_fold(other, held, second)

    assert hidden.any()
    for a, b in zip(first, second, strict=True):
        assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))
    assert fold.features.tolist() == same.features.tolist()
    assert fold.scores.samples.tolist() == np.flatnonzero(hidden).tolist()
    for name, scores in fold.scores.by_classifier.items():
        assert np.array_equal(scores, same.scores.by_classifier[name])


def test_subsamples_differ_and_are_of_the_others(problem):
    """Each subsample is another draw from the patients outside the held-out folds."""
    votes = [vote(problem, (1,), number) for number in (1, 2)]

    assert not np.array_equal(votes[0].log_odds, votes[1].log_odds)
    assert np.array_equal(vote(problem, (1,), 2).log_odds, votes[1].log_odds)


def test_the_choice_for_an_outer_fold_ignores_its_patients(problem):
    """Inverted outcomes of an outer fold change the table of the final choice, but not that of the fold itself."""
    folds = folds_of(problem)
    hidden = problem.samples_of(~others(problem, (0,)))
    outcome = np.where(hidden, 1 - problem.y, problem.y).astype(np.uint8)
    other = replace(problem, cohort=replace(problem.cohort, outcome=outcome))

    mine, same = choose(problem, folds, 0), choose(other, folds, 0)
    assert (mine.classifier, mine.chosen) == (same.classifier, same.chosen)
    assert np.array_equal(mine.auroc, same.auroc)
    assert mine.auroc.shape[1] == 2
    assert not np.array_equal(choose(problem, folds, None).auroc, choose(other, folds, None).auroc)


def test_the_pooled_predictions_are_those_of_the_folds_held_out(problem):
    """Every sample is predicted once, by the choice for its outer fold. The headline has the AUROC of these predictions, and calibration is cross-fitted."""
    folds = folds_of(problem)
    performance, cv = judge_consensus(problem, folds, [record_of(problem)])

    pooled, final = np.empty(problem.cohort.n_samples), choose(problem, folds, None)
    assert cv.samples.tolist() == list(range(problem.cohort.n_samples))
    for fold in range(3):
        fold_scores, choice = folds[(fold,)].scores, choose(problem, folds, fold)
        expected = fold_scores.by_classifier[choice.classifier][choice.chosen]
        pooled[fold_scores.samples] = expected
        assert performance.headline_auroc[fold].value == auroc(problem.y[fold_scores.samples], expected)
        final_scores = fold_scores.by_classifier[final.classifier][final.chosen]
        assert np.array_equal(cv.scores[fold_scores.samples], final_scores)
    assert performance.headline["auroc"].mean == auroc(problem.y, pooled)
    assert performance.headline["auroc"].low < performance.headline["auroc"].mean
    alerts = performance.headline["fixed-alert-rate:0.1/alerts_per_100"]
    assert alerts.mean == pytest.approx(10, abs=4)
    assert alerts.mean != 10.0  # 10 would mean that thresholds were chosen on the test samples
    assert [test_set.name for test_set in performance.test_sets] == [
        "outer fold 1",
        "outer fold 2",
        "outer fold 3",
    ]


def test_a_calibrator_is_that_of_one_classifier_and_setting(problem, monkeypatch):
    """If an outer fold chooses another setting than the final model, neither calibrator mixes the scores of both: five steps shrink the risks, fifty do not."""
    folds = folds_of(problem)
    few, many = (Choice("glmboost", place, np.full((2, 3), 0.7)) for place in (0, 1))
    monkeypatch.setattr(consensus_performance, "choose", lambda _, __, fold: few if fold == 0 else many)
    seen = []
    monkeypatch.setattr(consensus_performance, "audit_test_sets", lambda *args: seen.extend(args[2]))

    _, cv = judge_consensus(problem, folds, [record_of(problem)])

    of_few, of_many = (np.empty(problem.cohort.n_samples) for _ in range(2))
    for fold in range(3):
        scores = folds[(fold,)].scores
        of_few[scores.samples], of_many[scores.samples] = scores.by_classifier["glmboost"]
    assert np.array_equal(cv.scores, of_many)
    for fold, own in enumerate((of_few, of_many, of_many)):
        held = folds[(fold,)].scores.samples
        rest = np.setdiff1d(np.arange(problem.cohort.n_samples), held)
        calibrator = fit_calibrator(problem.y[rest], own[rest])
        assert seen[fold].calibrated == pytest.approx(calibrator.apply(own[held]), rel=1e-9)


def test_without_a_confident_feature_the_demographics_remain(make_problem):
    """With an empty consensus, the model uses the demographics only; without demographics, every patient gets the prevalence."""
    strict = {**CONSENSUS, "consensus.minConfidence": 100}
    problem = make_problem(strict)
    nobody = [replace(vote(problem, (0,), n), log_odds=np.zeros((2, 6))) for n in (1, 2)]
    fold = run_consensus_fold(problem, (0,), nobody)
    alone = replace(problem, cohort=replace(problem.cohort, demographics=()))
    constant = run_consensus_fold(alone, (0,), nobody)

    assert consensus_of(problem, nobody).size == 0
    assert np.unique(fold.scores.by_classifier["glmboost"]).size > 10
    train = ~problem.samples_of(problem.partition(FINAL).fold == 0)
    assert np.unique(constant.scores.by_classifier["elasticnet"]).tolist() == [problem.y[train].mean()]


def by_chance(tables):
    """Return the tables with outcomes that are independent of the features."""
    labels = tables.labels
    shuffled = np.random.default_rng(4).permutation(labels.column("label").to_numpy())
    place = labels.column_names.index("label")
    return replace(tables, labels=labels.set_column(place, "label", [shuffled]))


def test_empty_consensus_models_are_counted(tmp_path):
    """The warning counts the empty models. The bundle has only demographics and passes its own tests, except the floor of the AUROC and the alert rate."""
    data = write_tables(tmp_path, by_chance(make_tables(300, seed=5)))
    strict = {**CONSENSUS, "consensus.minConfidence": 100, "selection.nFeatures": 1}
    home = run_inline(data, MemoryStore(), strict)
    result = json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))

    empty = [test_set for test_set in result["test_sets"] if test_set["n_features"] == 0]
    assert result["final_model"]["n_features"] == 0
    assert result["final_model"]["n_demographics"] > 0
    assert any(
        warning.startswith(f"In {len(empty)} of 3 test sets no feature") for warning in result["warnings"]
    )
    assert any(
        warning.startswith("No feature has a sufficient confidence score") for warning in result["warnings"]
    )
    # The outcome is random, so the AUROC may be below its floor. Demographics alone give few scores, so more than the alert rate may share the highest.
    failed = [test["name"] for test in result["final_model"]["tests"] if not test["passed"]]
    assert all(name.startswith(("floor.auroc", "alerts.fixed-alert-rate:")) for name in failed), failed


def test_a_subsample_with_one_class_is_refused(problem):
    """A subsample with one class is refused before any fit, and the error names the field."""
    cohort = replace(problem.cohort, outcome=np.zeros_like(problem.y))

    with pytest.raises(DataError, match=r"final\.features: a subsample .* one class only"):
        vote(replace(problem, cohort=cohort), (0,), 1)


def test_result_and_bundle_are_of_the_consensus_procedure(tmp_path):
    """Headline, thresholds, calibrator and ``cv_auroc`` come from the outer folds, and no candidate is marked as final.

    The choices of the outer folds differ from that of the final model, so that headline and ``cv_auroc`` are near each other, not equal.
    """
    tables = make_tables(300, seed=5)
    data, store = write_tables(tmp_path, tables), MemoryStore()
    home, ranked = (
        run_inline(data, store, CONSENSUS),
        run_inline(data, store, {**CONSENSUS, "final.features": "ranking"}),
    )
    result, other = (
        json.loads(store.get(f"runs/{run.finished.run_id}/result.json")) for run in (home, ranked)
    )

    assert result["headline"]["auroc"]["mean"] == pytest.approx(
        result["final_model"]["cv_auroc"]["value"], abs=0.01
    )
    assert result["final_model"]["n_features"] == sum(
        feature["in_consensus"] for feature in result["features"] if feature["kind"] == "feature"
    )
    assert result["final_model"]["calibrator"] != other["final_model"]["calibrator"]
    assert result["final_model"]["thresholds"] != other["final_model"]["thresholds"]
    assert result["winners"] == other["winners"]
    assert not any(candidate["is_final"] for candidate in result["candidates"])
    assert [candidate["is_final"] for candidate in other["candidates"]].count(True) == 1
    assert "outer fold" in result["summary"][1]
