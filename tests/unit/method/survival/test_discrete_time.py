"""Hazards in intervals and hazard ratios: figures of statsmodels on the data of ``made``, and columns without a hazard ratio.

The reference numbers are from statsmodels 0.15.0: ``GLM(Binomial)`` on one row for each sample and interval, with the weight ½ for a
sample censored within the interval, and ``PHReg(ties="efron")``. Those with a penalty are from SciPy's L-BFGS-B on the same rows.
"""

import numpy as np
import pytest

from mlho.method.classifiers.discrete_time import fit, interval_ends
from mlho.method.consensus.hazards import NO_EVENT_OUTSIDE, fit_hazards
from tests.unit.method.survival.test_survival import made


def test_the_hazards_in_intervals_are_those_of_a_row_for_each():
    """Without a penalty, the coefficients and the log-odds of the four intervals up to the horizon agree within 1e-6."""
    X, times, _ = made()

    fitted = fit(X, times, c=1e9, l1_ratio=0.0, n_intervals=4)

    assert np.abs(fitted.values - [0.95175488, -0.39915145, 0.03092034, 0.04993721]).max() < 1e-6
    assert np.abs(fitted.intervals - [-1.94905677, -1.64239157, -1.10212236, -0.34531782]).max() < 1e-6
    assert fitted.converged


def test_penalised_coefficients_are_those_of_a_row_for_each():
    """The coefficients of the elastic net agree per standard deviation, and the last one is exactly 0."""
    X, times, _ = made()

    fitted = fit(X, times, c=1 / 20, l1_ratio=0.5, n_intervals=4)

    assert np.abs(fitted.values * fitted.scale - [0.33650594, -0.05586782, 0.28389954, 0.0]).max() < 1e-6
    assert fitted.values[3] == 0.0


def test_the_risk_is_one_minus_the_product_over_the_intervals():
    """The risk agrees with the product computed by hand from the hazards."""
    X, times, _ = made()
    fitted = fit(X, times, n_intervals=4)

    eta = fitted.intervals + ((X - fitted.mean) @ fitted.values)[:, None]
    risk = 1 - np.prod(1 / (1 + np.exp(eta)), axis=1)

    assert np.abs(fitted.predict_proba(X) - risk).max() < 1e-12


def test_the_horizon_ends_an_interval_and_each_has_an_event():
    """If more intervals are requested than days with events exist, each such day has one. Without later events, the last interval ends at the horizon."""
    _, times, _ = made()
    days = np.minimum(times.days, 360.0)
    early = type(times)(days, times.status, 365.0)

    for event_times, n in ((times, 7), (times, 100), (early, 3)):
        ends, n_to_horizon = interval_ends(event_times, n)
        counts, _ = np.histogram(
            event_times.days[event_times.status == 1], np.concatenate([[0.0], np.nextafter(ends, np.inf)])
        )
        assert ends[n_to_horizon - 1] == 365.0
        assert (np.diff(ends) > 0).all()
        assert (counts > 0).all()
    assert n_to_horizon == len(ends) == 3


def test_hazard_ratios_are_those_of_statsmodels():
    """For times in months, with ties by Efron, the log ratios, standard errors and p-values agree."""
    X, times, _ = made()

    found = fit_hazards(X, np.ceil(times.days / 30), times.status == 1)

    assert [hazard.log_ratio for hazard in found] == pytest.approx(
        [0.79468408, -0.45571574, 0.02696041, 0.04082055], abs=1e-7
    )
    assert [hazard.standard_error for hazard in found] == pytest.approx(
        [0.13966476, 0.24318005, 0.00537962, 0.1253281], abs=1e-7
    )
    assert [hazard.p_value for hazard in found] == pytest.approx(
        [1.27084010e-08, 6.09325008e-02, 5.39833287e-07, 7.44644171e-01], rel=1e-6
    )
    assert found[0].ratio(units=2.0, side=1) == pytest.approx(
        np.exp(2 * (0.79468408 + 1.959963985 * 0.13966476)), rel=1e-6
    )


def test_a_column_without_a_hazard_ratio_has_a_reason():
    """A column that all events have, a constant one, and a copy have no ratio; the ratios of the other columns do not change."""
    X, times, _ = made()
    is_event = times.status == 1
    has_all = np.where(is_event, 1.0, np.arange(400) % 2)
    alone = fit_hazards(X, times.days, is_event)

    found = fit_hazards(np.column_stack([X, has_all, np.ones(400), X[:, 0]]), times.days, is_event)

    assert [hazard.log_ratio for hazard in found[:4]] == pytest.approx(
        [hazard.log_ratio for hazard in alone], abs=1e-9
    )
    assert [hazard.ratio() for hazard in found[4:]] == [None] * 3
    assert [hazard.reason for hazard in found[4:]] == [
        NO_EVENT_OUTSIDE,
        *["constant, or a linear combination of earlier columns"] * 2,
    ]


def test_events_that_a_combination_separates_have_no_ratios():
    """If a sum of two columns determines the order of the events, the likelihood has no maximum."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 2))
    order = X[:, 0] + X[:, 1]

    found = fit_hazards(X, np.argsort(np.argsort(-order)) + 1.0, np.ones(200, bool))

    assert [hazard.reason for hazard in found] == [
        "the partial likelihood has no maximum: a combination of features separates the events"
    ] * 2
