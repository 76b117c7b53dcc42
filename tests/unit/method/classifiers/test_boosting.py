"""glmboost on data with known answers, against a plain dense implementation, and in edge cases."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from mlho.errors import DataError, SpecError
from mlho.method.classifiers import boosting
from mlho.method.classifiers.design_matrix import checked_matrix, columns_of


def plain_glmboost(X, y, n_steps, learning_rate):
    """Boost with dense arrays and the textbook formulas. Return the path and the log-odds of the rows."""
    sign = 2.0 * y - 1.0
    Z = (X - X.mean(0)) / X.std(0, ddof=1)
    design = np.column_stack([np.ones(len(y)), Z])
    norm = np.sqrt((design**2).sum(0))
    f = np.full(len(y), 0.5 * np.log(y.mean() / (1 - y.mean())))
    path = []
    for _ in range(n_steps):
        e = np.exp(-2 * sign * f)
        u = 2 * sign * e / (np.log(2) * (1 + e))
        t = design.T @ u / norm
        j = int(np.argmax(np.abs(t)))
        f = f + learning_rate * t[j] / norm[j] * design[:, j]
        path.append(j - 1)
    return path, 2 * f


def boost_with_all_columns(X, y, n_steps, learning_rate):
    """Boost as the product does, but compute every column in every step. Return path and increments."""
    columns, _ = columns_of(checked_matrix(X))
    data, indices, indptr, mean, sd = columns
    norm, norm_intercept = math.sqrt(len(y) - 1.0), math.sqrt(len(y))
    is_one = boosting._are_ones(data, indptr)
    sign, gradient, by_row = 2.0 * y - 1.0, np.zeros(len(y)), np.zeros(len(y))
    common = 0.5 * math.log(y.mean() / (1.0 - y.mean()))
    path, increments = [], []
    for _ in range(n_steps):
        total, _ = boosting._gradient(sign, common, by_row, gradient)
        pick, explained = boosting.INTERCEPT, total / norm_intercept
        for j in np.flatnonzero(sd):
            t = boosting._explained(columns, is_one, j, gradient, total, norm)
            if abs(t) > abs(explained) * (1.0 + 1e-12):
                pick, explained = int(j), t
        path.append(pick)
        if pick == boosting.INTERCEPT:
            increments.append(learning_rate * (explained / norm_intercept))
            common += increments[-1]
            continue
        increments.append(learning_rate * (explained / norm))
        slope = increments[-1] / sd[pick]
        common -= slope * mean[pick]
        cells = slice(indptr[pick], indptr[pick + 1])
        by_row[indices[cells]] += slope * data[cells]
    return path, increments


def planted(seed, n=400, m=30):
    rng = np.random.default_rng(seed)
    X = (rng.random((n, m)) < 0.2).astype(float)
    X[:, 3] = rng.normal(50.0, 10.0, n)
    log_odds = 2.5 * X[:, 7] - 2.5 * X[:, 11] + 0.1 * (X[:, 3] - 50.0)
    return X, (rng.random(n) < 1 / (1 + np.exp(-log_odds))).astype(int)


@pytest.mark.parametrize("seed", range(10))
def test_boosting_finds_the_planted_columns_first(seed):
    """For ten seeds, the three columns that determine the label are picked first, with the right signs."""
    X, y = planted(seed, n=2000)

    model = boosting.fit(X, y, 100)

    assert set(dict.fromkeys(model.path.tolist()).keys() - {boosting.INTERCEPT}) >= {3, 7, 11}
    assert set(list(dict.fromkeys(j for j in model.path.tolist() if j >= 0))[:3]) == {3, 7, 11}
    assert model.coefficients[7] > 0 > model.coefficients[11]
    assert model.coefficients[3] > 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), learning_rate=st.sampled_from([0.05, 0.1, 0.5, 1.0]))
def test_path_and_log_odds_agree_with_the_plain_dense_formulas(seed, learning_rate):
    """Path and log-odds agree with the textbook loop, from sparse and from dense columns."""
    X, y = planted(seed, n=120, m=12)
    if X.std(0).min() == 0 or y.min() == y.max():
        return
    path, log_odds = plain_glmboost(X, y, 25, learning_rate)

    for form in (X, sp.csc_array(X), sp.csr_matrix(X)):
        model = boosting.fit(form, y, 25, learning_rate=learning_rate)
        assert model.path.tolist() == path
        assert np.abs(model.log_odds(form) - log_odds).max() < 1e-10


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    learning_rate=st.sampled_from([0.05, 0.1, 1.0]),
    strength=st.sampled_from([0.0, 0.3, 3.0]),
    far=st.sampled_from([0.0, 1e3, 1e9]),
)
def test_columns_that_are_not_computed_change_no_bit(seed, learning_rate, strength, far):
    """With copies, complements, negated, constant and far columns in any order, path and increments are those with all columns computed."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 150))
    X = np.column_stack([rng.random((n, 6)) < 0.3, rng.normal(size=(n, 3)), rng.poisson(0.5, (n, 3))]).astype(
        float
    )
    y = (strength * (X[:, 0] - X[:, 6] + X[:, 9] - 0.5) + rng.logistic(size=n) > 0).astype(int)
    y[:2] = 0, 1
    shifted = np.where(rng.random((n, 1)) < 0.9, X[:, 6:8] + far, 0.0)  # a large mean, and zeros
    X = np.column_stack([X, X[:, :8], -X[:, 4:], 1.0 - X[:, :3], shifted, np.zeros(n), np.full(n, 0.1)])
    X = X[:, rng.permutation(X.shape[1])]

    path, increments = boost_with_all_columns(X, y, 60, learning_rate)
    model = boosting.fit(X, y, 60, learning_rate=learning_rate)

    assert model.path.tolist() == path
    assert model.increments.tolist() == increments


def test_intercept_coefficients_and_scale_are_in_original_units():
    """Intercept + X·coefficients is the log-odds, and coefficients times scale are per standard deviation."""
    X, y = planted(1)

    model = boosting.fit(X, y, 50)

    assert np.abs(model.intercept + X @ model.coefficients - model.log_odds(X)).max() < 1e-12
    assert np.allclose(model.scale, X.std(0, ddof=1), rtol=1e-13, atol=0)
    assert np.array_equal(model.predict_proba(X), boosting.fit(sp.csc_array(X), y, 50).predict_proba(X))


def test_units_of_a_column_change_its_coefficient_and_nothing_else():
    """A column in grams instead of kilograms has a thousandth of the coefficient, and path and probabilities stay the same."""
    X, y = planted(2)
    in_grams = X.copy()
    in_grams[:, 3] *= 1000.0

    first, other = boosting.fit(X, y, 60), boosting.fit(in_grams, y, 60)

    assert np.array_equal(first.path, other.path)
    assert other.coefficients[3] * 1000.0 == pytest.approx(first.coefficients[3], rel=1e-12)
    assert np.abs(first.predict_proba(X) - other.predict_proba(in_grams)).max() < 1e-12


def test_the_first_steps_of_a_long_fit_are_a_short_fit():
    """``after(20)`` of a fit with 150 steps equals a fit with 20 steps to the last bit."""
    X, y = planted(3)
    cut, short = boosting.fit(X, y, 150).after(20), boosting.fit(X, y, 20)

    assert np.array_equal(cut.coefficients, short.coefficients)
    assert np.array_equal(cut.path, short.path)
    assert (cut.intercept, cut.base, cut.n_steps) == (short.intercept, short.base, 20)


def test_constant_columns_are_dropped_and_change_nothing():
    """Columns of zeros, of ones, and of a constant whose computed mean is inexact are listed as dropped and have coefficient 0."""
    X, y = planted(4)
    constants = np.column_stack([np.zeros(400), np.ones(400), np.full(400, 0.1)])

    model = boosting.fit(np.column_stack([constants, X]), y, 40)

    assert model.dropped.tolist() == [0, 1, 2]
    assert (model.coefficients[:3] == 0.0).all()
    assert np.array_equal(model.coefficients[3:], boosting.fit(X, y, 40).coefficients)


def test_of_equal_columns_the_first_is_picked():
    """A copy and a complement explain as much as the column itself, and neither is ever picked."""
    X, y = planted(5)
    doubled = np.column_stack([X, X[:, 7], 1.0 - X[:, 7]])

    model = boosting.fit(doubled, y, 80)

    assert 7 in model.path
    assert not {30, 31} & set(model.path.tolist())
    assert model.path.tolist() == boosting.fit(X, y, 80).path.tolist()


def test_a_column_far_from_zero_keeps_its_digits():
    """A birth date in seconds gives the same probabilities as the same date relative to its mean."""
    rng = np.random.default_rng(6)
    born = rng.integers(-1000, 1000, 500).astype(float)
    y = (rng.random(500) < 1 / (1 + np.exp(-born / 400.0))).astype(int)

    near = boosting.fit(born[:, None], y, 50)
    far = boosting.fit(born[:, None] + 1e9, y, 50)

    assert np.abs(near.predict_proba(born[:, None]) - far.predict_proba(born[:, None] + 1e9)).max() < 1e-6


def test_with_enough_steps_it_is_the_unpenalised_logistic_regression():
    """With enough steps on one binary column, the coefficient is the log odds ratio of the 2 × 2 table: ln(30·40 / (10·20))."""
    x = np.repeat([1.0, 1.0, 0.0, 0.0], [30, 10, 20, 40])
    y = np.repeat([1, 0, 1, 0], [30, 10, 20, 40])

    model = boosting.fit(x[:, None], y, 5000)

    assert model.coefficients[0] == pytest.approx(np.log(6.0), abs=1e-9)
    assert model.intercept == pytest.approx(np.log(20 / 40), abs=1e-9)


def test_a_separable_outcome_stays_finite():
    """For a column that equals the label, thousands of steps cause no overflow."""
    x = np.repeat([0.0, 1.0], 50)

    model = boosting.fit(x[:, None], x.astype(int), 20_000, learning_rate=1.0)

    assert np.isfinite(model.coefficients).all()
    assert ((model.predict_proba(x[:, None]) - x) ** 2).max() < 1e-6


@pytest.mark.parametrize("n_steps", [0, -1, 1.5, True])
def test_a_step_count_out_of_range_is_refused(n_steps):
    """The number of steps must be a whole number of at least 1."""
    with pytest.raises(SpecError, match="n_steps"):
        boosting.fit(*planted(0), n_steps)


@pytest.mark.parametrize("learning_rate", [0.0, -0.1, 1.1, float("nan")])
def test_a_learning_rate_out_of_range_is_refused(learning_rate):
    """The learning rate must be above 0 and at most 1."""
    with pytest.raises(SpecError, match="learning_rate"):
        boosting.fit(*planted(0), 10, learning_rate=learning_rate)


def test_more_steps_than_were_fitted_are_refused():
    """A prefix cannot have more steps than the fit."""
    with pytest.raises(SpecError, match="1 to 10"):
        boosting.fit(*planted(0), 10).after(11)


def test_text_is_refused_without_showing_it():
    """For a column of text, the error does not show its values."""
    _, y = planted(0)

    with pytest.raises(DataError, match="cells that are not numbers") as refusal:
        boosting.fit(np.full((400, 2), "secret"), y, 10)

    assert "secret" not in str(refusal.value)
