"""Cross-validation, the record of an iteration, and features over iterations."""

import json

import numpy as np
import pytest

from mlho.method.evaluation.auroc import auroc
from mlho.store.memory import MemoryStore
from mlho.training.iterations.folds import cross_validate
from mlho.training.iterations.iteration import best_of, finish_iteration, select_and_run_folds
from mlho.training.iterations.problem import FeatureName
from mlho.training.iterations.splits import partition
from mlho.training.results.confidence_table import count_returns
from mlho.training.results.records import CoefficientRecord, record_iteration
from tests.builders import make_tables, run_inline, write_tables


def test_cross_validation_scores_every_training_sample_once(make_problem):
    """Scores are those of the chosen setting, in the order of samples, and the AUROCs are those of the folds."""
    problem = make_problem()
    _, folds = select_and_run_folds(problem, 1)
    cv = cross_validate(problem, folds)["glmboost"]
    train = problem.samples_of(partition(problem.spec, problem.cohort, 1).is_train)

    assert cv.samples.tolist() == np.flatnonzero(train).tolist()
    assert cv.auroc.shape == (2, 3)
    fold = folds[1]
    assert cv.auroc[0, 1] == auroc(problem.y[fold.samples], fold.by_classifier["glmboost"][0])
    place = np.searchsorted(cv.samples, fold.samples)
    assert cv.scores[place].tolist() == fold.by_classifier["glmboost"][cv.chosen].tolist()
    assert cv.mean == cv.auroc.mean(axis=1).max()


def test_folds_in_another_order_choose_the_same(make_problem):
    """The order in which folds finish does not change the scores."""
    problem = make_problem()
    _, folds = select_and_run_folds(problem, 1)
    first, second = (cross_validate(problem, ordered)["glmboost"] for ordered in (folds, folds[::-1]))

    assert first.scores.tolist() == second.scores.tolist()
    assert first.chosen == second.chosen


@pytest.mark.parametrize("c", [0.001, 0.01])
def test_scores_of_folds_are_shrunk_as_those_of_the_model(make_problem, c):
    """With a strong penalty, the log-odds of held-out samples spread as far in the folds as those of the model, so that the calibrator fits it."""
    ridge = {"classifier": "elasticnet", "grid": {"c": [c], "l1Ratio": [0]}}
    problem = make_problem({"candidates": [ridge]}, tables=make_tables(900, seed=9))
    outcome = finish_iteration(problem, 1, *select_and_run_folds(problem, 1)).candidates["elasticnet"]

    in_folds, of_model = (np.std(np.log(p / (1 - p))) for p in (outcome.cv.scores, outcome.probabilities))

    assert in_folds / of_model == pytest.approx(1, abs=0.1)


def test_an_iteration_is_recorded_as_plain_numbers(make_problem):
    """The counts add up, the record is equal after a round trip through JSON, and the planted codes have odds ratios above one."""
    problem = make_problem()
    record = record_iteration(problem, finish_iteration(problem, 1, *select_and_run_folds(problem, 1)))
    result = record.result

    assert result.n_train_samples + result.n_test_samples == problem.cohort.n_samples
    assert result.n_train_patients + result.n_test_patients == 300
    assert type(record).model_validate_json(record.model_dump_json()) == record
    by_code = {
        problem.name_of(feature).code: value
        # The demographics' coefficients follow the features'.
        for feature, value in zip(record.coefficients.features, record.coefficients.log_odds, strict=False)
    }
    assert by_code["E11"] > 0.3
    assert by_code["I10"] > 0.3


def test_a_run_of_trees_alone_has_confidence_scores_and_a_consensus(tmp_path):
    """In a run of trees, glmboost is fitted as if it were a candidate with its default grid, but it is not compared and cannot win."""
    data = write_tables(tmp_path / "data", make_tables(300, seed=9))
    trees = {"classifier": "xgboost", "grid": {"nRounds": [10], "maxDepth": [1]}}
    alone, both = (
        run_inline(data, MemoryStore(), {"candidates": candidates, "consensus.minConfidence": 50})
        for candidates in ([trees], [trees, {"classifier": "glmboost"}])
    )
    result, other = (
        json.loads(home.run.store.get(f"runs/{home.run.run_id}/result.json")) for home in (alone, both)
    )

    assert [candidate["classifier"] for candidate in result["candidates"]] == ["xgboost"]
    assert result["final_model"]["classifier"] == "xgboost"
    assert result["lineage"]["spec"]["consensus"]["classifier"] == "glmboost"
    assert [feature["confidence"] for feature in result["features"]] == [
        feature["confidence"] for feature in other["features"]
    ]
    assert result["stability"]["false_features"] == other["stability"]["false_features"]
    assert result["stability"]["n_consensus"] >= 1


def test_the_first_of_equal_candidates_is_best():
    """Among equal candidates, their order decides."""
    assert best_of({"b": 0.7, "a": 0.7, "c": 0.6}) == "b"


def fit_of(features, log_odds):
    return CoefficientRecord(
        features=features, demographics=["age"], log_odds=log_odds, scale=[1.0] * len(log_odds)
    )


def test_features_are_counted_over_the_planned_iterations():
    """The figures are counted by hand: in two of four iterations an odds ratio is above one, and in one below."""
    fits = [fit_of([2, 5], [0.5, 0.2, 0.1]), fit_of([5], [0.4, 0.1]), fit_of([2, 5], [0.0, -0.1, 0.0])]
    returns = count_returns([[5, 2], [5], [2, 5]], fits, n_iterations_planned=4)

    assert returns.keys == [2, 5, "age"]
    assert returns.n_features == 2
    assert returns.selected.tolist() == [[True, True], [False, True], [True, True]]
    confidence = returns.confidence_of(1)
    assert (confidence.n_seen, confidence.n_positive, confidence.n_negative) == (3, 2, 1)
    assert confidence.score == 0  # 100 · (2 − 2 · 1) / 4
    assert returns.confidence_of(0).n_seen == 1
    assert returns.confidence_of(0).reason == "no interval: only one iteration used it"
    assert returns.confidence_of(2).score == 50
    assert (returns.median_rank(0), returns.median_rank(1)) == (1.5, 1.0)
    assert returns.consensus(50) == ["age"]


@pytest.mark.parametrize(
    ("name", "id_", "words"),
    [
        (FeatureName("E11", None, "presence"), "E11|all|presence", "E11: ever recorded"),
        (
            FeatureName("E11", 730, "count", "Type 2 diabetes"),
            "E11|730d|count",
            "Type 2 diabetes (E11): number of times recorded, in the 730 days before the index date",
        ),
    ],
)
def test_a_feature_is_named_in_words(name, id_, words):
    """The name has code, window and aggregate, and the description if there is one."""
    assert (name.id, name.words) == (id_, words)
