"""Time to event: figures of scikit-survival, planted truths, and invariance under censoring and competing events.

The reference numbers are from scikit-survival 0.28.0 on the data of ``made``: CoxPHSurvivalAnalysis(ties="breslow"),
CoxnetSurvivalAnalysis(normalize=False) on columns scaled by their standard deviation (ddof 1), concordance_index_censored,
concordance_index_ipcw, cumulative_dynamic_auc, brier_score, kaplan_meier_estimator and cumulative_incidence_competing_risks.
"""

import numpy as np
import pytest

from mlho.method.classifiers.cox import fit
from mlho.method.evaluation.auroc import auroc
from mlho.method.survival.censoring import censoring_weights, weighted_copies
from mlho.method.survival.concordance import harrell, uno
from mlho.method.survival.curves import cumulative_incidence, uncensored
from mlho.method.survival.horizons import figures_at, observed_risk, weighted_auroc
from mlho.method.survival.times import EventTimes

HORIZON = 365.0


def made(n=400):
    """Return exponential times with hazards of two codes and an age, and exponential censoring; no two times are equal."""
    rng = np.random.default_rng(20261130)
    columns = [rng.random(n) < 0.3, rng.random(n) < 0.1, rng.normal(60, 12, n), rng.random(n) < 0.5]
    X = np.column_stack(columns).astype(float)
    log_hazard = 0.9 * X[:, 0] - 0.8 * X[:, 1] + 0.03 * (X[:, 2] - 60)
    event = rng.exponential(400 / np.exp(log_hazard))
    censored = rng.exponential(500, n)
    times = EventTimes(np.minimum(event, censored), (event <= censored).astype(np.uint8), HORIZON)
    return X, times, event


def competing(times):
    """Return the times with two fifths of the events as competing ones."""
    rng = np.random.default_rng(5)
    is_other = (times.status == 1) & (rng.random(len(times)) < 0.4)
    return EventTimes(times.days, np.where(is_other, 2, times.status).astype(np.uint8), times.horizon)


@pytest.fixture(scope="module")
def unpenalised():
    X, times, _ = made()
    return fit(X, times, c=1e9, l1_ratio=0.0)


def test_cox_has_the_coefficients_and_the_hazard_of_scikit_survival(unpenalised):
    """Without a penalty, the log hazard ratios and Breslow's cumulative hazard at 365 days agree within 1e-6."""
    X, *_ = made()
    expected = [0.78831958, -0.43069344, 0.02664466, 0.04383469]
    hazard = np.log1p(np.exp(unpenalised.log_odds(X[:3])))  # −log(1 − risk)

    assert np.abs(unpenalised.values - expected).max() < 1e-6
    assert hazard == pytest.approx([1.255296086, 0.906911571, 0.716381982], abs=1e-6)
    assert unpenalised.converged


def test_ties_are_treated_as_by_breslow():
    """With times in months, many patients have an event in the same month, and coefficients and concordance agree."""
    X, times, _ = made()
    months = EventTimes(np.ceil(times.days / 30), times.status, 12.0)

    fitted = fit(X, months, c=1e9, l1_ratio=0.0)

    assert np.abs(fitted.values - [0.74527429, -0.43447194, 0.02521853, 0.03607398]).max() < 1e-6
    assert harrell(months, fitted.log_odds(X)) == pytest.approx(0.6394694298903411, abs=1e-12)


@pytest.mark.parametrize(
    ("alpha", "l1_ratio", "expected"),
    [
        (0.05, 0.5, [0.29356261, -0.07497775, 0.25691205, 0.0]),
        (0.01, 0.5, [0.33470107, -0.11711339, 0.30384029, 0.0132226]),
        (20 / 400, 0.0, [0.31932192, -0.11713974, 0.28951273, 0.01953791]),
    ],
    ids=["elastic net", "weaker", "ridge"],
)
def test_penalised_coefficients_are_those_of_scikit_survival(alpha, l1_ratio, expected):
    """The coefficients agree per standard deviation; c is the inverse of the penalty on the sum over the samples."""
    X, times, _ = made()

    fitted = fit(X, times, c=1 / (alpha * len(times)), l1_ratio=l1_ratio)

    assert np.abs(fitted.values * fitted.scale - expected).max() < 2e-5


def test_figures_are_those_of_scikit_survival(unpenalised):
    """Both concordances, AUROC and Brier score at the horizons, and Kaplan–Meier agree with scikit-survival."""
    X, times, _ = made()
    scores, observed = unpenalised.log_odds(X), uncensored(times)

    assert harrell(times, scores) == pytest.approx(0.6307698147585789, abs=1e-12)
    assert uno(times, scores, observed, until=365.0) == pytest.approx(0.6287225967513895, abs=1e-9)
    for horizon, expected in ((180.0, 0.66052531), (365.0, 0.71956276)):
        at = figures_at(times, unpenalised.predict_proba(X), observed, horizon)
        assert at.auroc == pytest.approx(expected, abs=1e-8)
    assert figures_at(times, unpenalised.predict_proba(X), observed, 365.0).brier == pytest.approx(
        0.19488216, abs=1e-7
    )
    assert observed_risk(times, 365.0) == pytest.approx(1 - 0.3324816182975754, abs=1e-12)


def test_competing_events_have_the_incidence_of_scikit_survival():
    """The incidence is Aalen–Johansen's. With the competing events as censoring, the risk would be much higher."""
    _, times, _ = made()
    competing_times = competing(times)
    as_censored = EventTimes(competing_times.days, (competing_times.status == 1).astype(np.uint8), HORIZON)

    assert cumulative_incidence(competing_times)(365.0) == pytest.approx(0.3851236523977812, abs=1e-12)
    assert observed_risk(as_censored, 365.0) > 0.45


def test_weights_correct_for_censoring():
    """AUROC and prevalence at the horizon agree with those of 20,000 samples whose events are all known, within sampling error.

    Without weights, the samples whose status is known have a prevalence that is 0.1 too high.
    """
    X, times, event = made(20_000)
    is_event, score = event <= HORIZON, 0.9 * X[:, 0] - 0.8 * X[:, 1] + 0.03 * X[:, 2]
    weights = censoring_weights(times, uncensored(times), HORIZON)
    status = times.status_at(HORIZON)
    truth = auroc(is_event, score)

    weighted = weighted_auroc(status == 1, score, weights)
    prevalence = weights[status == 1].sum() / weights.sum()

    assert weighted == pytest.approx(truth, abs=0.006)
    assert prevalence == pytest.approx(is_event.mean(), abs=0.006)
    assert observed_risk(times, HORIZON) == pytest.approx(is_event.mean(), abs=0.006)
    assert (status[status >= 0] == 1).mean() > is_event.mean() + 0.09


def test_copies_give_the_figures_of_the_weights():
    """The AUROC of the copies is the weighted one within 0.0005, and their number is the sum of the weights within one."""
    X, times, _ = made(2_000)
    weights = censoring_weights(times, uncensored(times), HORIZON)
    status, score = times.status_at(HORIZON), X[:, 2] + 20 * X[:, 0]
    copies = weighted_copies(times, weights, HORIZON, score)

    assert len(copies) == pytest.approx(weights.sum(), abs=1)
    assert (status[copies] == 1).sum() == pytest.approx(weights[status == 1].sum(), abs=1)
    assert auroc(status[copies] == 1, score[copies]) == pytest.approx(
        weighted_auroc(status == 1, score, weights), abs=0.0005
    )
    assert (np.diff(copies) >= 0).all()


def test_without_censoring_every_sample_counts_once():
    """Without censoring, all weights are one, the copies are the samples, and the figures are the unweighted ones."""
    X, _, event = made()
    times = EventTimes(event, np.ones(400, np.uint8), HORIZON)
    weights = censoring_weights(times, uncensored(times), HORIZON)

    assert (weights == 1.0).all()
    assert np.array_equal(weighted_copies(times, weights, HORIZON, X[:, 2]), np.arange(400))
    assert figures_at(times, X[:, 2] / 200, uncensored(times), HORIZON).auroc == pytest.approx(
        auroc(event <= HORIZON, X[:, 2]), abs=1e-12
    )


def test_concordance_is_that_of_all_pairs():
    """The concordance equals that of all pairs one by one, with ties of days and scores, censoring and competing events."""
    rng = np.random.default_rng(3)
    days, score = rng.integers(1, 12, 120).astype(float), rng.integers(0, 6, 120).astype(float)
    times = EventTimes(days, rng.integers(0, 3, 120).astype(np.uint8), 10.0)
    pairs = concordant = 0.0
    for i in np.flatnonzero((times.status == 1) & (days <= 10.0)):
        for j in range(120):
            outlasts = days[j] > days[i] or (days[j] == days[i] and times.status[j] != 1)
            if outlasts or (times.status[j] == 2 and days[j] < days[i]):
                pairs += 1
                concordant += (score[i] > score[j]) + 0.5 * (score[i] == score[j])

    assert harrell(times, score, until=10.0) == pytest.approx(concordant / pairs, abs=1e-12)


def test_groups_of_a_good_model_are_calibrated():
    """For a Cox model fitted on other samples of the same hazards, predicted and observed risk agree in every fifth of the risks."""
    X, times, _ = made(8_000)
    half = np.arange(8_000) < 4_000
    fitted = fit(X[half], times[half], c=1e3, l1_ratio=0.0)

    at = figures_at(times[~half], fitted.predict_proba(X[~half]), uncensored(times), HORIZON)

    assert at.observed_expected == pytest.approx(1.0, abs=0.06)
    assert all(abs(group.predicted - group.observed) < 0.06 for group in at.groups)
    assert [group.predicted for group in at.groups] == sorted(group.predicted for group in at.groups)
    assert sorted(place for group in at.groups for place in group.samples) == list(range(4_000))


def test_without_an_event_or_a_pair_a_figure_is_absent():
    """If all samples are censored before the horizon, AUROC and concordance are absent, and the observed risk is 0."""
    times = EventTimes(np.array([5.0, 6.0, 7.0]), np.zeros(3, np.uint8), 10.0)

    at = figures_at(times, np.array([0.1, 0.2, 0.3]), uncensored(times), 10.0)

    assert at.auroc is None
    assert at.observed == 0.0
    assert harrell(times, np.array([0.1, 0.2, 0.3])) is None
