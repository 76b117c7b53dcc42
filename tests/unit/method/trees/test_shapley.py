"""Shapley values of trees: the definition on a hand-made tree, and xgboost's own on fitted trees."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
import scipy.sparse as sp

from mlho.method.classifiers import classifier_named, xgboost
from mlho.method.trees.shapley import MAX_ON_PATH, Tree, shapley_tables

#: Feature 0 is tested twice on a path.
#:     0: x0 < 2 ── 1: x1 < 0.5 ── 3: x0 < 1 ── leaves 7 and 8
#:              └─ leaf 2        └─ leaf 4
TREE = Tree(
    left=[1, 3, -1, 7, -1, -1, -1, -1, -1],
    right=[2, 4, -1, 8, -1, -1, -1, -1, -1],
    feature=[0, 1, 0, 0, 0, 0, 0, 0, 0],
    cut=[2.0, 0.5, 1.5, 1.0, -0.7, 0.0, 0.0, 0.3, -2.0],
    absent_left=[1, 0, 0, 1, 0, 0, 0, 0, 0],
    cover=[10.0, 7.0, 3.0, 5.0, 2.0, 0.0, 0.0, 1.0, 4.0],
)
ROWS = [[np.nan, np.nan], [0.5, 0.0], [1.0, 0.25], [3.0, 1.0], [np.nan, 0.0], [0.0, np.nan]]


def expected_score(tree, row, known, node=0):
    """Return the score of a row of which some features are known; the others are averaged by cover."""
    left, right = tree.left[node], tree.right[node]
    if left < 0:
        return tree.cut[node]
    feature = tree.feature[node]
    if feature in known:
        number = row[feature]
        is_left = tree.absent_left[node] if np.isnan(number) else number < tree.cut[node]
        return expected_score(tree, row, known, left if is_left else right)
    return (
        sum(tree.cover[child] * expected_score(tree, row, known, child) for child in (left, right))
        / (tree.cover[node])
    )


def by_definition(tree, row, n_features):
    """Return the mean gain of each feature over all orders in which the features become known."""
    values = np.zeros(n_features)
    for feature in range(n_features):
        others = [other for other in range(n_features) if other != feature]
        for size in range(n_features):
            weight = factorial(size) * factorial(n_features - size - 1) / factorial(n_features)
            for known in combinations(others, size):
                with_it = expected_score(tree, row, {*known, feature})
                values[feature] += weight * (with_it - expected_score(tree, row, set(known)))
    return values


def stored(rows):
    """Return rows with NaN for absent numbers as CSR whose stored cells are the numbers."""
    dense = np.array(rows, np.float32)
    known = ~np.isnan(dense)
    indptr = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
    return sp.csr_array((dense[known], np.nonzero(known)[1], indptr), shape=dense.shape)


def test_values_are_those_of_the_definition():
    """The values equal the definition for a tree that tests a feature twice on a path, with numbers at a cut and absent ones."""
    values = shapley_tables([TREE, TREE], 2).values(stored(ROWS))

    assert values == pytest.approx(np.array([2 * by_definition(TREE, row, 2) for row in ROWS]), abs=1e-14)


def test_the_values_of_a_row_do_not_depend_on_the_others():
    """A row alone has the same bits as among 3,000 rows, which are computed in chunks."""
    rows = np.random.default_rng(3).choice([np.nan, 0.0, 0.5, 1.0, 1.5, 2.5], size=(3000, 2))
    tables = shapley_tables([TREE], 2)
    together = tables.values(stored(rows))

    for number in (0, 1, 1023, 1024, 2999):
        assert np.array_equal(tables.values(stored(rows[[number]]))[0], together[number])


@pytest.mark.parametrize(("depth", "is_by_tables"), [(1, True), (4, True), (6, True), (8, False)])
def test_fitted_trees_have_the_values_of_xgboost(depth, is_by_tables):
    """The values agree within float32 accuracy, with value columns and absent codes; deep trees are explained by xgboost itself."""
    rng = np.random.default_rng(5)
    is_value = np.array([True, True, *[False] * 10])
    X = np.where(rng.random((1500, 12)) < 0.3, 1.0, 0.0)
    X[:, 0] = np.where(rng.random(1500) < 0.3, np.nan, rng.normal(size=1500))
    X[:, 1] = rng.integers(0, 5, 1500)
    y = (rng.random(1500) < 1 / (1 + np.exp(-np.nan_to_num(X[:, 0]) - X[:, 2] + X[:, 3] * X[:, 1]))).astype(
        int
    )
    kind = classifier_named("xgboost")
    setting = kind.setting({"maxDepth": depth, "nRounds": 10, "minChildWeight": 0})
    fitted = kind.fit(X, y, setting, seed=1, value_columns=is_value)

    ours, expected = fitted.contributions(X), fitted._predicted(fitted.checked(X), pred_contribs=True)

    assert (xgboost._shapley_tables(fitted.model, 12) is not None) is is_by_tables
    assert np.abs(ours[:, :-1] - expected[:, :-1]).max() < 2e-6


def test_trees_beyond_the_tables_have_none():
    """A path with one more feature than the tables can hold has no tables."""
    n = MAX_ON_PATH + 1  # node k < n tests feature k: left is a leaf, right the next node, finally a leaf
    chain = Tree(
        left=[*range(n + 1, 2 * n + 1), *[-1] * (n + 1)],
        right=[*range(1, n + 1), *[-1] * (n + 1)],
        feature=[*range(n), *[0] * (n + 1)],
        cut=[0.5] * (2 * n + 1),
        absent_left=[1] * (2 * n + 1),
        cover=[1.0] * (2 * n + 1),
    )

    assert shapley_tables([chain], n) is None
