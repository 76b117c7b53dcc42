"""Declared directions: xgboost and EBM follow them even against the data; other columns have no constraint."""

import numpy as np
import pytest

from mlho.method.classifiers import classifier_named

N = 3_000
SETTINGS = {
    "xgboost": {"maxDepth": 3, "nRounds": 80, "learningRate": 0.2},
    "ebm": {"nInteractions": 2, "nBags": 2, "maxRounds": 300},
}


@pytest.fixture(scope="module")
def data():
    """Return data whose risk is lowest in the middle of the first two columns, with a tenth of the values missing."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(N, 3))
    y = (
        rng.random(N) < 1 / (1 + np.exp(1.5 - X[:, 0] ** 2 - 0.5 * X[:, 1] ** 2 - X[:, 0] * X[:, 1]))
    ).astype(int)
    X[rng.random((N, 3)) < 0.1] = np.nan
    return X, y


def steps(model, X, column):
    """Return the changes of the log-odds while a column rises and the others stay constant; shape (n_rows, n_steps)."""
    rows = np.repeat(X[:200, None, :], 41, axis=1)
    rows[:, :, column] = np.linspace(-3, 3, 41)
    return np.diff(model.log_odds(rows.reshape(-1, 3)).reshape(200, 41), axis=1)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_declared_direction_is_obeyed_against_the_data(name, data):
    """The log-odds never fall with column 0 and never rise with column 1, in every row, also within pairs and with missing values. A reread model agrees."""
    X, y = data
    kind = classifier_named(name)
    is_value, setting = np.ones(3, np.bool_), kind.setting(SETTINGS[name])
    free = kind.fit(X, y, setting, seed=3, value_columns=is_value)
    bound = kind.constrained(np.array([1, -1, 0], np.int8)).fit(X, y, setting, seed=3, value_columns=is_value)

    assert steps(free, X, 0).min() < -0.1
    assert steps(bound, X, 0).min() >= -1e-6
    assert steps(bound, X, 1).max() <= 1e-6
    assert np.ptp(bound.log_odds(X)) > 0.5
    restored = type(bound).from_files(bound.to_files())
    assert restored.log_odds(X).tolist() == bound.log_odds(X).tolist()


@pytest.mark.parametrize("name", SETTINGS)
def test_no_direction_changes_no_bit(name, data):
    X, y = data
    kind = classifier_named(name)
    fits = [
        variant.fit(X, y, kind.setting(SETTINGS[name]), seed=3, value_columns=np.ones(3, np.bool_)).to_files()
        for variant in (kind, kind.constrained(np.zeros(3, np.int8)))
    ]

    assert fits[0] == fits[1]
