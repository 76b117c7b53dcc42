"""The explainable boosting machine in our form against interpret, which fitted it."""

import warnings

import numpy as np
import pytest

from mlho.method.classifiers.ebm import EBM


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(0)
    X = np.column_stack(
        [rng.random((500, 3)) < 0.3, rng.normal(60, 10, (500, 2)), rng.poisson(2, 500)]
    ).astype(np.float32)
    log_odds = 1.5 * X[:, 0] - X[:, 1] + 0.05 * (X[:, 3] - 60) + 0.02 * (X[:, 3] - 60) * X[:, 2]
    X[::9, 3] = np.nan  # an unknown value
    return X.astype(float), (rng.random(500) < 1 / (1 + np.exp(-np.nan_to_num(log_odds)))).astype(np.int8)


IS_VALUE = np.array([False, False, False, True, True, False])


@pytest.mark.parametrize("n_interactions", [0, 3])
def test_our_form_predicts_like_interpret(cohort, n_interactions):
    """Log-odds and importances agree within 1e-12: at the cuts, far outside the training range, and for a row with only missing values."""
    from interpret.glassbox import ExplainableBoostingClassifier

    X, y = cohort
    setting = EBM().setting({"nInteractions": n_interactions, "maxRounds": 300, "nBags": 2})
    ours = EBM().fit(X, y, setting, seed=11, value_columns=IS_VALUE)
    missing = np.where(IS_VALUE | (X != 0), X, np.nan)  # the matrix of trees in interpret's form
    expected = ExplainableBoostingClassifier(
        feature_types=["continuous"] * 6,
        interactions=n_interactions,
        max_bins=256,
        learning_rate=0.015,
        max_rounds=300,
        outer_bags=2,
        n_jobs=1,
        random_state=11,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected.fit(missing, y)
    cuts = ours.terms[3].cuts[0].astype(np.float32)
    on_cuts = np.repeat(X[:1], len(cuts), axis=0)
    on_cuts[:, 3] = cuts
    nothing = np.full((1, 6), np.nan)
    probe = np.vstack([X, on_cuts, X[:20] + 2.0**20, X[:20] - 2.0**20]).astype(np.float32).astype(float)
    as_missing = np.vstack([np.where(IS_VALUE | (probe != 0), probe, np.nan), nothing])
    ours_of = ours.log_odds(np.vstack([probe, ours.empty_row]))

    assert np.abs(ours_of - expected.decision_function(as_missing)).max() < 1e-12
    assert len(ours.terms) == 6 + n_interactions
    assert ours.weight.sum() == pytest.approx(sum(expected.term_importances()), abs=1e-12)
