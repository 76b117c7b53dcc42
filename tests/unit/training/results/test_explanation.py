"""The explanation of the final model: contributions and typical rows."""

import json

import numpy as np
import pytest
import scipy.sparse as sp

from mlho.encoding.cohort.cohort import Cohort
from mlho.method.classifiers import CLASSIFIERS
from mlho.training.iterations.iteration import finish_iteration, select_and_run_folds
from mlho.training.results.explanation import (
    ExplainedColumn,
    drawn_samples,
    explain_rows,
    mean_contributions,
    typical_rows,
)
from tests.builders import CREATININE, make_tables, run_inline, write_tables


def cohort_of(n_samples_by_patient):
    n = len(n_samples_by_patient)
    patient_of = np.repeat(np.arange(n, dtype=np.int32), n_samples_by_patient)
    return Cohort(
        patient_ids=tuple(f"p{i:04d}" for i in range(n)),
        birth_us=np.zeros(n, np.int64),
        patient_of=patient_of,
        index_us=np.arange(len(patient_of)),
        outcome=np.zeros(len(patient_of), np.uint8),
    )


def test_at_most_so_many_samples_are_drawn_by_hash():
    """Whole patients are drawn by a hash with the seed. A new patient does not change the draw of the others."""
    cohort = cohort_of([1, 2, 3] * 100)

    drawn = drawn_samples(cohort, seed=7, most=50)

    assert 45 <= len(drawn) <= 50
    assert (np.diff(drawn) > 0).all()
    patients = np.unique(cohort.patient_of[drawn])
    assert np.array_equal(drawn, np.flatnonzero(np.isin(cohort.patient_of, patients)))
    assert np.array_equal(drawn, drawn_samples(cohort, seed=7, most=50))
    assert not np.array_equal(drawn, drawn_samples(cohort, seed=8, most=50))
    assert drawn_samples(cohort, seed=7, most=600).tolist() == list(range(600))


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("glmboost", {"nSteps": 100}),
        ("elasticnet", {}),
        ("xgboost", {"maxDepth": 2, "nRounds": 30}),
        ("ebm", {"maxRounds": 500}),
    ],
)
def test_mean_contributions_are_log_odds_for_every_classifier(name, setting):
    """A binary column with an odds ratio of e² changes the log-odds by at most 2·2·q·(1 − q) on average (some models shrink it)."""
    rng = np.random.default_rng(3)
    X = sp.csc_array((rng.random((4000, 5)) < 0.3).astype(np.float64))
    y = (rng.random(4000) < 1 / (1 + np.exp(1.0 - 2.0 * X.toarray()[:, 0]))).astype(np.int8)
    (classifier,) = (candidate for candidate in CLASSIFIERS.values() if candidate.name == name)
    model = classifier.fit(X, y, setting, seed=1)

    mean = mean_contributions(model, X, np.arange(0, 4000, 3))

    direct = np.abs(model.contributions(X.toarray()[::3])[:, :-1]).mean(axis=0)
    assert mean == pytest.approx(direct, rel=1e-9)
    assert 0.1 < mean[0] < 1.0
    assert mean[1:].max() < mean[0] / 4


def test_typical_rows_are_of_low_middle_and_high_risk():
    """Rows are taken by rank among the allowed ones; without an allowed row there is none."""
    scores = np.linspace(1, 0, 101)

    assert typical_rows(scores, range(101)) == [
        (90, "Lower risk"),
        (50, "Intermediate risk"),
        (10, "Higher risk"),
    ]
    assert typical_rows(scores, []) == []


def test_contributions_add_up_to_the_log_odds(make_problem):
    """Base, shown contributions and the rest add up exactly to the prediction."""
    problem = make_problem()
    outcome = finish_iteration(problem, 1, *select_and_run_folds(problem, 1)).candidates["glmboost"]
    rows = np.eye(outcome.model.n_features)[:3]
    columns = [ExplainedColumn(str(number), str(number), str) for number in range(rows.shape[1])]
    for profile in explain_rows(outcome, rows, ["a", "b", "c"], columns, synthetic=True):
        total = profile.base + sum(part.contribution for part in profile.contributions) + profile.others
        assert profile.probability == pytest.approx(1 / (1 + np.exp(-total)), abs=1e-9)


def test_a_profile_shows_a_latest_value_in_its_unit(tmp_path):
    """Creatinine is shown around 1. Relative to the median it would be around 0, and negative for half of the patients."""
    changes = {
        "features.aggregates": ["presence", "last"],
        "candidates": [{"classifier": "glmboost", "grid": {"nSteps": [300]}}],
        "report.realProfiles": True,
    }

    home = run_inline(write_tables(tmp_path / "data", make_tables(400, seed=5)), tmp_path / "store", changes)

    result = json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))
    values = {
        contribution["feature"]: contribution["value"]
        for profile in result["final_model"]["profiles"]
        for contribution in profile["contributions"]
    }
    assert 0.2 < float(values[f"{CREATININE}|all|last"].split(",")[0]) < 2.5
    assert values["E11|all|presence"] in ("yes", "no")
