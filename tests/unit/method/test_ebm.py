"""The explainable boosting machine's own form against interpret, which fitted it."""

import numpy as np
import pytest

from mlho.method.classifiers.ebm import EBM, _fitted


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(0)
    X = np.column_stack(
        [rng.random((500, 3)) < 0.3, rng.normal(60, 10, (500, 2)), rng.poisson(2, 500)]
    ).astype(float)
    log_odds = 1.5 * X[:, 0] - X[:, 1] + 0.05 * (X[:, 3] - 60) + 0.02 * (X[:, 3] - 60) * X[:, 2]
    return X, (rng.random(500) < 1 / (1 + np.exp(-log_odds))).astype(np.int8)


@pytest.mark.parametrize("n_interactions", [0, 3])
def test_our_form_predicts_what_interpret_predicts(cohort, n_interactions):
    """Log-odds and importances agree within 1e-12, also for values on a cut and far outside the training range."""
    from interpret.glassbox import ExplainableBoostingClassifier

    X, y = cohort
    setting = EBM().setting({"nInteractions": n_interactions, "maxRounds": 300, "nBags": 2})
    ours = _fitted(X, y, setting, 11)
    theirs = ExplainableBoostingClassifier(
        feature_types=["continuous"] * 6,
        interactions=n_interactions,
        max_bins=256,
        learning_rate=0.015,
        max_rounds=300,
        outer_bags=2,
        n_jobs=1,
        random_state=11,
    ).fit(X, y)
    cuts = ours.terms[3].cuts[0]
    on_cuts = np.repeat(X[:1], len(cuts), axis=0)
    on_cuts[:, 3] = cuts
    probe = np.vstack([X, on_cuts, X[:20] + 1e6, X[:20] - 1e6])

    assert np.abs(ours.log_odds(probe) - theirs.decision_function(probe)).max() < 1e-12
    assert len(ours.terms) == 6 + n_interactions
    assert ours.importance().sum() == pytest.approx(sum(theirs.term_importances()), abs=1e-12)
