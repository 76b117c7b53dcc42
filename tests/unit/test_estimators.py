"""The scikit-learn estimators: scikit-learn's checks, common tools around them, and equality with the functions that they wrap."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from mlho.errors import DataError, SpecError
from mlho.estimators import GLMBoostClassifier, MSMRSelector
from mlho.method.classifiers import boosting
from mlho.method.selection import jmi


@parametrize_with_checks(
    [MSMRSelector(), MSMRSelector(ranking="mlho-r", screen="mlho-r"), GLMBoostClassifier()]
)
def test_scikit_learns_own_checks_pass(estimator, check):
    """Every check of the installed scikit-learn passes, without exceptions."""
    check(estimator)


def cohort(seed=0, n=500, m=40):
    """Return codes and a label that depends on I10 and E11. Z99 is in no sample."""
    rng = np.random.default_rng(seed)
    counts = (rng.random((n, m)) < 0.15) * rng.integers(1, 4, (n, m))
    names = [f"C{j:02d}" for j in range(m)]
    names[5], names[17], names[30] = "I10", "E11", "Z99"
    counts[:, 30] = 0
    X = pd.DataFrame(counts, columns=names)
    log_odds = 3.0 * (X["I10"] > 0) + 2.5 * (X["E11"] > 0) - 1.5
    return X, np.where(rng.random(n) < 1 / (1 + np.exp(-log_odds)), "ill", "well")


@pytest.mark.parametrize("seed", range(5))
def test_the_selector_finds_the_planted_codes(seed):
    """The selector keeps the two of forty columns that determine the label."""
    X, y = cohort(seed)

    selector = MSMRSelector(n_features=2).fit(X, y)

    assert set(selector.get_feature_names_out()) == {"I10", "E11"}
    assert selector.transform(X).shape == (500, 2)


@pytest.mark.parametrize("mode", ["presence", "levels", "counts"])
def test_the_selector_is_the_screen_and_the_ranking(mode):
    """The selector's columns and scores equal those of ``jmi.rank`` on the screened columns, for dense, sparse and pandas input."""
    X, y = cohort()
    passes = [j for j in range(40) if j != 30]
    expected = jmi.rank(X.to_numpy()[:, passes], y == "well", 10, mode=mode)

    for form in (X, X.to_numpy(), sp.csr_matrix(X.to_numpy()), sp.csc_array(X.to_numpy())):
        selector = MSMRSelector(n_features=10, mode=mode).fit(form, y)
        assert selector.order_.tolist() == [passes[j] for j in expected.order]
        assert np.array_equal(selector.scores_, expected.scores)


def test_presence_is_a_value_other_than_zero():
    """For presence, any nonzero value counts, also negative or fractional. The modes that need counts reject such values."""
    X, y = cohort()
    scaled = X.to_numpy() * -0.5

    assert MSMRSelector(5).fit(scaled, y).order_.tolist() == MSMRSelector(5).fit(X, y).order_.tolist()
    with pytest.raises(DataError, match="whole numbers"):
        MSMRSelector(5, mode="counts").fit(scaled, y)


def test_a_screen_that_nothing_passes_is_an_error():
    """If no column passes the screen, the error states the remedy, and no empty matrix is returned."""
    X, y = cohort()

    with pytest.raises(DataError, match=r"0 of 40.*Lower min_prevalence"):
        MSMRSelector(min_prevalence=0.9).fit(X, y)


@pytest.mark.parametrize(
    "wrong",
    [{"n_features": 0}, {"min_prevalence": 5}, {"mode": "bits"}, {"ranking": "best"}, {"screen": "strict"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_parameters_out_of_range_are_refused_in_fit(wrong):
    """The constructor accepts any parameter, and ``fit`` rejects values out of range, as scikit-learn requires."""
    with pytest.raises(SpecError):
        MSMRSelector(**wrong).fit(*cohort())


def test_the_classifier_is_glmboost():
    """Coefficients, intercept and probabilities equal those of ``glmboost.fit``, with the same bits for dense, sparse and pandas input."""
    X, y = cohort()
    expected = boosting.fit(X.to_numpy(), y == "well", 30, learning_rate=0.2)

    for form in (X, X.to_numpy(), sp.csr_matrix(X.to_numpy()), sp.csc_array(X.to_numpy())):
        model = GLMBoostClassifier(30, learning_rate=0.2).fit(form, y)
        assert np.array_equal(model.coef_, expected.coefficients[None])
        assert model.intercept_.tolist() == [expected.intercept]
        assert model.classes_.tolist() == ["ill", "well"]
        assert np.array_equal(model.predict_proba(form)[:, 1], expected.predict_proba(X.to_numpy()))


def test_both_work_in_a_pipeline_under_a_grid_search():
    """Selector and classifier work in a pipeline with a grid search on sparse input, with selection inside every fold."""
    X, y = cohort()
    pipeline = make_pipeline(MSMRSelector(), GLMBoostClassifier())
    grid = {"msmrselector__n_features": [2, 10], "glmboostclassifier__n_steps": [20, 50]}

    search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=3).fit(sp.csr_matrix(X.to_numpy()), y)

    assert search.best_score_ > 0.75
    assert set(search.best_params_) == set(grid)
    assert set(search.best_estimator_[0].order_[:2]) == {5, 17}


def test_set_output_gives_pandas_with_names():
    """The output as a DataFrame keeps the index and the column names, in the order of X."""
    X, y = cohort()
    X.index = [f"patient {i}" for i in range(500)]

    out = clone(MSMRSelector(n_features=2)).set_output(transform="pandas").fit(X, y).transform(X)

    assert out.equals(X[["I10", "E11"]])


@pytest.mark.parametrize("kind", [MSMRSelector, GLMBoostClassifier])
def test_other_than_two_classes_are_refused(kind):
    """Targets with one class or with three classes are rejected."""
    X, _ = cohort()

    with pytest.raises(ValueError, match="Only binary classification"):
        kind().fit(X, np.arange(500) % 3)
    with pytest.raises(DataError, match="one class only"):
        kind().fit(X, np.ones(500, dtype=int))
