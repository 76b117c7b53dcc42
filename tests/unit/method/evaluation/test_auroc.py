"""AUROC, its standard errors and its curve."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mlho.errors import DataError
from mlho.method.evaluation.auroc import auroc, auroc_estimate, roc_curve_of, thinned
from mlho.method.evaluation.tally import tally
from tests.unit.method.evaluation.predictions import tied_predictions

TIED_SCORES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=40)


def auroc_by_pairs(y, p):
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a, i in zip(p, y, strict=True)
        for b, j in zip(p, y, strict=True)
        if i and not j
    ]
    return sum(pairs) / len(pairs)


def test_auroc_of_a_worked_example():
    """Of four pairs, three are won and one is tied: 3.5 / 4."""

    assert auroc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8]) == 0.875


@given(TIED_SCORES)
def test_auroc_counts_every_pair(samples):
    """The AUROC equals the count over all pairs, with ties as a half."""
    y, p = [s[0] for s in samples], [s[1] / 6 for s in samples]
    if len(set(y)) < 2:
        return

    assert auroc(y, p) == pytest.approx(auroc_by_pairs(y, p), abs=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_auroc_equals_scikit_learn(seed):
    """The AUROC equals scikit-learn's."""
    y, p = tied_predictions(seed)

    assert auroc(y, p) == pytest.approx(roc_auc_score(y, p), abs=1e-14)


def test_direction_is_never_flipped():
    """A model that ranks backwards has exactly 1 − AUROC (R's pROC would report 0.875)."""

    assert auroc([0, 0, 1, 1], [-0.1, -0.4, -0.4, -0.8]) == 0.125


def test_order_of_rows_does_not_show():
    """Value and standard errors have the same bits in any order of rows."""
    y, p = tied_predictions(1)
    patient = np.arange(y.size) // 2
    order = np.random.default_rng(0).permutation(y.size)

    assert auroc_estimate(y, p) == auroc_estimate(y[order], p[order])
    assert auroc_estimate(y, p, groups=patient) == auroc_estimate(y[order], p[order], groups=patient[order])


def test_delong_of_a_worked_example():
    """The placements are (1, 1/2) for positives and for negatives. Both variances are 1/8, halved and added 1/8."""
    estimate = auroc_estimate([0, 0, 1, 1], [0.1, 0.5, 0.3, 0.9])

    assert estimate.value == 0.75
    assert estimate.standard_error == pytest.approx(math.sqrt(1 / 8), abs=1e-15)
    assert estimate.low == pytest.approx(0.75 - 1.959963984540054 * math.sqrt(1 / 8), abs=1e-12)
    assert estimate.high == 1.0
    assert estimate.method == "Wald, DeLong"


def test_clustered_equals_delong_when_each_patient_has_one_sample():
    """If each patient has one sample, Obuchowski's variance equals DeLong's."""
    from mlho.method.evaluation.auroc import _clustered_variance, _delong_variance

    y, p = tied_predictions(2)
    t = tally(y, p)
    clustered = _clustered_variance(t, y.astype(float), np.arange(y.size), y.size, auroc(y, p))

    assert clustered == pytest.approx(_delong_variance(t, auroc(y, p)), rel=1e-12)
    assert auroc_estimate(y, p, groups=np.arange(y.size) * 7) == auroc_estimate(y, p)


def test_rows_repeated_within_the_patient_add_no_certainty():
    """If each row is repeated three times under its patient, the standard error does not change."""
    y, p = tied_predictions(3)
    patient = np.repeat(np.arange(y.size), 3)

    repeated = auroc_estimate(np.repeat(y, 3), np.repeat(p, 3), groups=patient)

    assert repeated.standard_error == pytest.approx(auroc_estimate(y, p).standard_error, rel=1e-12)
    assert repeated.standard_error > 1.7 * auroc_estimate(np.repeat(y, 3), np.repeat(p, 3)).standard_error


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        pytest.param([0, 0, 0], "one class only: 0 of 3 samples are positive", id="no positive"),
        pytest.param([1, 1, 1], "one class only: 3 of 3 samples are positive", id="no negative"),
    ],
)
def test_one_class_is_absent_with_its_reason(y, reason):
    """With one class, the estimate is absent with a reason, neither NaN nor 0.5, and the plain function raises an error."""
    estimate = auroc_estimate(y, [0.1, 0.2, 0.3])

    assert (estimate.value, estimate.low, estimate.high, estimate.standard_error) == (None, None, None, None)
    assert estimate.reason == reason
    with pytest.raises(DataError, match="both classes are needed"):
        auroc(y, [0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("y", "p", "reason"),
    [
        pytest.param([0, 0, 1], [0.1, 0.9, 0.5], "a class has fewer than two patients", id="one positive"),
        pytest.param([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "the estimated variance is zero", id="separated"),
    ],
)
def test_interval_that_does_not_exist_says_why(y, p, reason):
    """The value exists, but the interval is absent with the reason and does not have zero width."""
    estimate = auroc_estimate(y, p)

    assert estimate.value is not None
    assert estimate.low is None
    assert estimate.reason == f"no interval: {reason}"


def test_one_patient_with_all_positives_has_no_clustered_interval():
    """The variance between patients cannot be estimated from one patient."""
    estimate = auroc_estimate([1, 1, 0, 0, 0], [0.4, 0.6, 0.5, 0.2, 0.3], groups=[7, 7, 1, 2, 3])

    assert estimate.value == pytest.approx(5 / 6)
    assert estimate.reason == "no interval: a class has fewer than two patients"


def test_delong_interval_covers_the_truth():
    """For binormal scores, the 95 % interval contains the true area in 92–98 % of 400 simulations."""
    rng = np.random.default_rng(11)
    truth = NormalDist().cdf(1 / math.sqrt(2))
    y = np.repeat([0, 1], [60, 40])
    estimates = [auroc_estimate(y, rng.normal(y, 1.0)) for _ in range(400)]

    assert 0.92 <= np.mean([e.low <= truth <= e.high for e in estimates]) <= 0.98


def test_clustered_interval_covers_where_delong_does_not():
    """With five strongly correlated samples per patient, the clustered interval has about its nominal coverage, and DeLong's is below 80 %."""
    rng = np.random.default_rng(12)
    truth = NormalDist().cdf(1 / math.sqrt(2))
    patient = np.repeat(np.arange(80), 5)
    y = (patient % 2).astype(int)
    covered = {"clustered": [], "independent": []}
    for _ in range(200):
        score = y + math.sqrt(0.8) * rng.normal(size=80)[patient] + math.sqrt(0.2) * rng.normal(size=400)
        for name, groups in (("clustered", patient), ("independent", None)):
            e = auroc_estimate(y, score, groups=groups)
            covered[name].append(e.low <= truth <= e.high)

    assert 0.90 <= np.mean(covered["clustered"]) <= 0.99
    assert np.mean(covered["independent"]) < 0.80


def test_roc_curve_has_the_auroc_under_it():
    """The trapezoids under the whole curve give the AUROC, and the ends are (0, 0) and (1, 1)."""
    y, p = tied_predictions(4)
    curve = roc_curve_of(tally(y, p), max_points=None)

    assert np.trapezoid(curve.true_positive_rate, curve.false_positive_rate) == pytest.approx(
        auroc(y, p), abs=1e-14
    )
    assert (curve.false_positive_rate[0], curve.true_positive_rate[0]) == (0.0, 0.0)
    assert (curve.false_positive_rate[-1], curve.true_positive_rate[-1]) == (1.0, 1.0)


def test_thinned_roc_curve_looks_the_same():
    """At most 200 of 20,001 points remain, with the ends, the area within 0.002, and the curve nowhere more than 0.02 away."""
    y, p = tied_predictions(5, n=20_000, decimals=9)
    t = tally(y, p)
    whole, thin = roc_curve_of(t, max_points=None), roc_curve_of(t)

    assert thin.true_positive_rate.size <= 200
    assert (thin.false_positive_rate[-1], thin.true_positive_rate[-1]) == (1.0, 1.0)
    assert np.trapezoid(thin.true_positive_rate, thin.false_positive_rate) == pytest.approx(
        auroc(y, p), abs=2e-3
    )
    at = np.linspace(0, 1, 501)
    assert np.abs(
        np.interp(at, thin.false_positive_rate, thin.true_positive_rate)
        - np.interp(at, whole.false_positive_rate, whole.true_positive_rate)
    ).max() < 0.02  # fmt: skip


def test_one_class_has_no_roc_curve():
    """With one class, the ROC curve is None."""

    assert roc_curve_of(tally([1, 1], [0.2, 0.3])) is None


def test_thinning_keeps_short_curves_whole():
    """Thinning removes no point of a curve that has few enough."""

    assert thinned(np.array([0.0, 0.1, 1.0]), np.array([0.0, 0.5, 1.0]), 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        pytest.param([0, 1], [0.5], "one prediction for each outcome", id="lengths differ"),
        pytest.param([], [], "one prediction for each outcome, at least one", id="empty"),
        pytest.param([0, 2], [0.5, 0.5], "outcomes are 0 or 1.*got 1 sample", id="third class"),
        pytest.param([0, math.nan], [0.5, 0.5], "outcomes are 0 or 1", id="missing outcome"),
        pytest.param(
            [0, 1], [0.5, math.nan], "predictions are finite numbers.*got 1 sample", id="missing prediction"
        ),
    ],
)
def test_bad_input_is_refused(y, p, message):
    """The error for invalid outcomes or predictions says what was expected and how many samples are wrong."""
    with pytest.raises(DataError, match=message):
        auroc(y, p)


def test_groups_of_another_length_are_refused():
    """The number of patient codes must equal the number of samples."""
    with pytest.raises(DataError, match=r"one code for each sample.*shape \(3,\)"):
        auroc_estimate([0, 1], [0.1, 0.2], groups=[1, 2, 3])
