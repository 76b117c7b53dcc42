"""The elastic net against scikit-learn's, and in edge cases."""

import numpy as np
import pytest
import scipy.sparse as sp

from mlho.method.classifiers import elasticnet


def cohort(seed=0, n=300, m=15):
    rng = np.random.default_rng(seed)
    X = (rng.random((n, m)) < 0.2) * rng.integers(1, 4, (n, m)).astype(float)
    X[:, 0] = rng.normal(60.0, 12.0, n)
    X[:, 1] = X[:, 2] + (rng.random(n) < 0.05)  # nearly a copy
    log_odds = 0.05 * (X[:, 0] - 60) + 1.2 * X[:, 2] - 1.5 * X[:, 3]
    return X, (rng.random(n) < 1 / (1 + np.exp(-log_odds))).astype(int)


# Below 0.03 the lasso keeps no column here, and saga then stops before its intercept has converged.
@pytest.mark.parametrize("c", [0.03, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_it_finds_the_minimum_that_scikit_learn_finds(c, l1_ratio):
    """Coefficients per standard deviation and the intercept agree with LogisticRegression on scaled columns, within 1e-6."""
    from sklearn.linear_model import LogisticRegression

    X, y = cohort()
    found = elasticnet.fit(sp.csc_array(X), y, c=c, l1_ratio=l1_ratio)
    Z = (X - X.mean(0)) / X.std(0, ddof=1)
    expected = LogisticRegression(C=c, l1_ratio=l1_ratio, solver="saga", tol=1e-9, max_iter=50_000).fit(Z, y)

    assert found.converged
    assert np.abs(found.values * found.scale - expected.coef_[0]).max() < 1e-6
    assert abs(found.base - expected.intercept_[0]) < 1e-6


def test_a_strong_penalty_leaves_the_prevalence():
    """With a very strong penalty all coefficients are 0, and every row has the training prevalence."""
    X, y = cohort()

    model = elasticnet.fit(X, y, c=1e-6, l1_ratio=1.0)

    assert (model.values == 0.0).all()
    assert model.base == pytest.approx(np.log(y.mean() / (1 - y.mean())), abs=1e-12)


def test_sparse_and_dense_columns_give_the_same_bits():
    """Sparse and dense columns give the same bits, because one kernel fits both."""
    X, y = cohort()

    assert np.array_equal(
        elasticnet.fit(X, y, c=0.5).values,
        elasticnet.fit(sp.csr_array(X), y, c=0.5).values,
    )


def test_a_separable_outcome_with_a_weak_penalty_converges():
    """For a column that equals the label, the penalty keeps the coefficient finite."""
    x = np.repeat([0.0, 1.0], 50)

    model = elasticnet.fit(x[:, None], x.astype(int), c=1e4, l1_ratio=0.5)

    assert model.converged
    assert np.isfinite(model.values).all()
