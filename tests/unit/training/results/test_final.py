"""The final model: new patients alert as often as the bundle states."""

import numpy as np
import pytest

from mlho.report.result import Spread
from mlho.report.words import rule_words
from mlho.scoring.account import AlertSummary
from mlho.scoring.checks import alert_warnings as scoring_warnings
from mlho.training.iterations.folds import cross_validate
from mlho.training.iterations.iteration import select_and_run_folds
from mlho.training.iterations.splits import FINAL
from mlho.training.results.final import alert_warnings, fit_final, training_samples
from tests.builders import INFORMATIVE, make_tables

N_NEW = 4000
TWO_CODES = {
    "features.include": list(INFORMATIVE),
    "features.aggregates": ["presence"],
    "features.demographics": [],
    "selection.nFeatures": 2,
}


@pytest.mark.parametrize("seed", [9, 10])
def test_new_patients_of_a_model_with_few_scores_alert_as_often_as_in_training(make_problem, seed):
    """Two codes give four scores. A threshold at a score of one fold, which no new patient has, would never alert."""
    problem = make_problem(TWO_CODES, tables=make_tables(600, seed=seed))
    selection, folds = select_and_run_folds(problem, FINAL)
    final = fit_final(problem, "glmboost", selection.features, cross_validate(problem, folds)["glmboost"])
    training = training_samples(problem, final)
    own = final.calibrator.apply(final.model.predict_proba(final.X))
    # A new patient has one of the four combinations of codes, as often as in training.
    new = np.random.default_rng(3).choice(own, N_NEW)

    alerts = [
        AlertSummary(
            rule=threshold.rule,
            value=threshold.value,
            alerts=int((new >= threshold.value).sum()),
            training_rate=training.alert_rates[threshold.rule],
        )
        for threshold in final.thresholds
    ]
    assert len(np.unique(own)) == 4 < len(np.unique(final.cv.scores))
    assert scoring_warnings(alerts, N_NEW, n_patients=N_NEW, n_training=600) == []
    for alert in alerts:
        assert alert.value in own
        assert 0 < alert.alerts / N_NEW == pytest.approx(alert.training_rate, abs=0.03)
    [sensitive] = [alert.value for alert in alerts if alert.rule == "fixed-sensitivity:0.8"]
    assert np.mean(own[problem.y == 1] >= sensitive) >= 0.8


def test_a_threshold_that_flags_far_more_than_on_the_test_sets_is_named():
    """Up to a factor of two is chance; a rule without a figure on the test sets is not compared."""
    thresholds = [
        {"rule": rule, "alert_rate": rate}
        for rule, rate in (("youden", 0.79), ("fixed-sensitivity:0.8", 0.81), ("fixed-alert-rate:0.1", 0.9))
    ]
    headline = {f"{rule}/alerts_per_100": Spread(mean=40.0) for rule in ("youden", "fixed-sensitivity:0.8")}

    [warning] = alert_warnings(thresholds, headline)

    assert warning.startswith(f"Threshold “{rule_words('fixed-sensitivity:0.8')}”: ")
    assert "81.0" in warning
    assert "40.0" in warning
