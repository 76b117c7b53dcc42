"""Performance expected without labels equals the true one for calibrated probabilities, and does not detect concept drift."""

import numpy as np
import pytest

from mlho.method.evaluation.auroc import auroc
from mlho.method.evaluation.expected import expected_auroc, expected_ppv

N = 6_000


def calibrated(rng, *, shift=0.0, spread=1.0, n=N):
    """Return probabilities of a calibrated model, for patients with this mean and spread of the log-odds."""
    return 1 / (1 + np.exp(-(rng.normal(-2.5 + shift, spread, n))))


def test_the_expected_auroc_is_the_ratio_of_expected_pairs():
    """The expected AUROC equals the sum over all pairs by hand, with ties."""
    p = np.array([0.1, 0.1, 0.4, 0.7, 0.7, 0.9] * 8)
    above = (p[:, None] > p) + 0.5 * (p[:, None] == p)
    pairs = p[:, None] * (1 - p)
    np.fill_diagonal(pairs, 0.0)

    assert expected_auroc(p).value == pytest.approx((pairs * above).sum() / pairs.sum(), abs=1e-12)
    assert expected_auroc(p[::-1]).value == expected_auroc(p).value


@pytest.mark.parametrize(("shift", "spread"), [(0.0, 1.0), (0.8, 1.0), (0.0, 0.6), (-0.5, 1.5)])
def test_the_interval_holds_the_observed_auroc_and_ppv_of_shifted_patients(shift, spread):
    """Under covariate shift, about 95 % of the observed figures of 200 months lie in the interval, and the mean error of the AUROC is below 0.01."""
    rng = np.random.default_rng(5)
    inside = {"auroc": 0, "ppv": 0}
    errors = []
    for _ in range(200):
        p = calibrated(rng, shift=shift, spread=spread)
        y = rng.random(N) < p
        ranks, alerts = expected_auroc(p), expected_ppv(p, 0.2)
        observed, share = auroc(y, p), y[p >= 0.2].mean()
        errors.append(abs(observed - ranks.value))
        inside["auroc"] += ranks.low <= observed <= ranks.high
        inside["ppv"] += alerts.low <= share <= alerts.high

    assert np.mean(errors) < 0.01
    # Binomial of 200 and 0.95, 99.9 %.
    assert all(180 <= n_inside <= 199 for n_inside in inside.values()), inside


def test_concept_drift_does_not_show():
    """If the outcome loses its relation to the scores, the expected figures do not change, because the scores do not change."""
    rng = np.random.default_rng(6)
    p = calibrated(rng)
    unrelated = rng.permutation(rng.random(N) < p)

    assert auroc(unrelated, p) < 0.55
    assert expected_auroc(p).low > 0.7


def test_figures_of_few_expected_outcomes_have_a_reason():
    assert "fewer than 5" in expected_auroc(np.full(100, 0.01)).reason
    assert expected_ppv(np.full(100, 0.1), 0.5).reason == "no sample is flagged"
    few = expected_ppv(np.full(8, 0.3), 0.2)
    assert (few.value, few.low) == (pytest.approx(0.3), None)
