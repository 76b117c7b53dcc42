"""Exact Shapley values of shallow trees, from tables of each leaf.

A leaf contributes only to the Shapley values of the features on its path. They depend on the row only through one bit for each of
these features: whether the row meets all conditions of the path on it. The values for all patterns of these bits are therefore
computed once for a model. A tree in turn depends on the row only through the outcomes of its tests, and rows with equal outcomes
have equal values: each distinct pattern of outcomes is computed once in a chunk of rows. Patients' rows are sparse, so there are
few patterns.

References
----------
Lundberg et al. 2020, "From local explanations to global understanding with explainable AI for trees": the game, path-dependent, with
the cover of the training data. Yang 2021, "Fast TreeSHAP": the tables of the leaves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: Tests of a tree: their outcomes are the bits of one word.
MAX_TESTS: Final = 63
#: Different features on a path: the table of a leaf has 2^n patterns.
MAX_ON_PATH: Final = 6
# The dense rows and the values of a chunk fit into the second-level cache for 200 features.
_ROWS: Final = 1024
_SLOTS: Final = 4 * _ROWS


@dataclass(frozen=True)
class Tree:
    """A binary tree by node; the root is node 0. A row goes left if its number is below the cut."""

    left: Sequence[int]
    right: Sequence[int]
    """Children; ``left`` is -1 in a leaf."""
    feature: Sequence[int]
    cut: Sequence[float]
    """The cut of a test, in float32; the value of a leaf."""
    absent_left: Sequence[int]
    """Whether a row without the number goes left."""
    cover: Sequence[float]
    """Weight of the training rows."""


class _Tests(NamedTuple):
    """The tests of all trees, in the order of features.

    ``first`` has the first test of each feature. The others have one entry for each test: its tree, bit and cut, and whether
    absent numbers go left.
    """

    first: NDArray[np.int64]
    tree: NDArray[np.int64]
    bit: NDArray[np.uint64]
    cut: NDArray[np.float32]
    absent_left: NDArray[np.bool_]


class _Features(NamedTuple):
    """The features that the trees test.

    ``feature`` lists them tree after tree; ``first`` is the position in it at which each tree begins.
    """

    first: NDArray[np.int64]
    feature: NDArray[np.int64]


class _Leaves(NamedTuple):
    """The leaves of the trees.

    ``first`` is the first leaf of each tree. For each leaf: the number of features on its path, their positions among the tree's
    features, the mask and outcome of their tests, and the start of its values in ``table``.
    """

    first: NDArray[np.int64]
    n_on_path: NDArray[np.int64]
    place: NDArray[np.int64]
    mask: NDArray[np.uint64]
    wanted: NDArray[np.uint64]
    table_start: NDArray[np.int64]
    table: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ShapleyTables:
    """Tables of all leaves of a model; made by :func:`shapley_tables`."""

    n_features: int
    tests: _Tests
    absent: NDArray[np.uint64]
    """Outcomes of the tests of each tree for a row without numbers. Shape (n_trees,)."""
    features: _Features
    leaves: _Leaves

    def values(self, rows: Any) -> NDArray[np.float64]:
        """Compute the Shapley values of rows.

        Parameters
        ----------
        rows : scipy.sparse.csr_array of float32, shape (n_rows, n_features)
            An absent cell is an absent number.

        Returns
        -------
        float64, shape (n_rows, n_features)
            Sums over the trees in order. The values of a row do not depend on other rows.
        """
        out = np.zeros((rows.shape[0], self.n_features))
        for start in range(0, rows.shape[0], _ROWS):
            stop = min(start + _ROWS, rows.shape[0])
            outcomes = np.repeat(self.absent[:, None], stop - start, axis=1)
            _test(rows.indptr[start : stop + 1], rows.indices, rows.data, outcomes, self.tests)
            _add(outcomes, self.absent, out[start:stop], self.features, self.leaves)
        return out


@dataclass
class _Condition:
    """All tests of a path on one feature: their bits, the outcomes that lead to the leaf, and the share of the cover that has them."""

    place: int
    mask: int = 0
    wanted: int = 0
    share: float = 1.0


def shapley_tables(trees: Sequence[Tree], n_features: int) -> ShapleyTables | None:
    """Compute the tables of a model.

    Returns
    -------
    ShapleyTables or None
        None if a tree has more than ``MAX_TESTS`` tests or ``MAX_ON_PATH`` features on a path.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> stump = Tree([1, -1, -1], [2, -1, -1], [0, 0, 0], [0.5, -1.0, 1.0], [1, 0, 0], [4.0, 3.0, 1.0])
    >>> tables = shapley_tables([stump], 1)
    >>> tables.values(sp.csr_array(np.array([[0.0], [1.0]], np.float32))).ravel().tolist()
    [-0.5, 1.5]
    """
    tests: list[tuple[int, int, int, float, bool]] = []  # feature, tree, bit, cut, side of absent numbers
    absent: list[int] = []
    features: list[int] = []
    leaves: list[tuple[float, list[_Condition]]] = []
    starts: list[tuple[int, int]] = [(0, 0)]
    for number, tree in enumerate(trees):
        inner = [node for node, child in enumerate(tree.left) if child >= 0]
        bits = {node: bit for bit, node in enumerate(inner)}
        tree_features = sorted({tree.feature[node] for node in inner})
        paths = list(_paths(tree, bits, {feature: place for place, feature in enumerate(tree_features)}))
        if len(inner) > MAX_TESTS or any(len(conditions) > MAX_ON_PATH for _, conditions in paths):
            return None
        tests += [
            (tree.feature[node], number, bit, tree.cut[node], bool(tree.absent_left[node]))
            for node, bit in bits.items()
        ]
        absent.append(sum(bool(tree.absent_left[node]) << bit for node, bit in bits.items()))
        features += tree_features
        leaves += paths
        starts.append((len(features), len(leaves)))
    tests.sort()
    first = np.array(starts, np.int64)
    return ShapleyTables(
        n_features,
        _Tests(
            first=np.searchsorted([test[0] for test in tests], np.arange(n_features + 1)),
            tree=np.array([test[1] for test in tests], np.int64),
            bit=np.array([test[2] for test in tests], np.uint64),
            cut=np.array([test[3] for test in tests], np.float32),
            absent_left=np.array([test[4] for test in tests], np.bool_),
        ),
        np.array(absent, np.uint64),
        _Features(np.ascontiguousarray(first[:, 0]), np.array(features, np.int64)),
        _leaves(leaves, np.ascontiguousarray(first[:, 1])),
    )


def _leaves(leaves: Sequence[tuple[float, list[_Condition]]], first: NDArray[np.int64]) -> _Leaves:
    """Return the arrays of the leaves, given by their values and conditions, with their tables."""
    n_on_path = np.array([len(conditions) for _, conditions in leaves], np.int64)
    shape = (len(leaves), MAX_ON_PATH)
    place, share = np.zeros(shape, np.int64), np.zeros(shape)
    mask, wanted = np.zeros(shape, np.uint64), np.zeros(shape, np.uint64)
    for number, (_, conditions) in enumerate(leaves):
        for column, own_condition in enumerate(conditions):
            place[number, column], share[number, column] = own_condition.place, own_condition.share
            mask[number, column], wanted[number, column] = own_condition.mask, own_condition.wanted
    sizes = n_on_path << n_on_path
    table_start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    table = np.empty(int(table_start[-1]))
    value = np.array([own_value for own_value, _ in leaves], np.float64)
    _fill_tables(value, n_on_path, share, _weights(), table_start, table)
    return _Leaves(first, n_on_path, place, mask, wanted, table_start, table)


def _paths(
    tree: Tree, bits: Mapping[int, int], places: Mapping[int, int]
) -> Iterator[tuple[float, list[_Condition]]]:
    """Yield the value of each leaf and the conditions of its path, by feature."""
    waiting: list[tuple[int, list[tuple[int, bool]]]] = [(0, [])]
    while waiting:
        node, path = waiting.pop()
        left, right = tree.left[node], tree.right[node]
        if left >= 0:
            waiting += [(right, [*path, (node, False)]), (left, [*path, (node, True)])]
            continue
        conditions: dict[int, _Condition] = {}
        for parent, is_left in path:
            feature = tree.feature[parent]
            condition = conditions.setdefault(feature, _Condition(places[feature]))
            child = tree.left[parent] if is_left else tree.right[parent]
            condition.mask |= 1 << bits[parent]
            condition.wanted |= is_left << bits[parent]
            condition.share *= tree.cover[child] / tree.cover[parent]
        yield tree.cut[node], list(conditions.values())


def _weights() -> NDArray[np.float64]:
    """Return the weight of a coalition of s among n features: ``s! (n - s - 1)! / n!``."""
    weights = np.zeros((MAX_ON_PATH + 1, MAX_ON_PATH))
    for n in range(1, MAX_ON_PATH + 1):
        for s in range(n):
            weights[n, s] = 1 / (n * comb(n - 1, s))
    return weights


@njit(cache=True, nogil=True)
def _fill_tables(
    value: Any, n_on_path: Any, share: Any, weights: Any, table_start: Any, table: Any
) -> None:  # pragma: no cover - compiled
    """Fill the values of each leaf, pattern of met conditions and feature: the sum over coalitions of the others, as a polynomial in their number."""
    terms = np.zeros(MAX_ON_PATH + 1)
    for leaf in range(value.size):
        n = n_on_path[leaf]
        for pattern in range(1 << n):
            for j in range(n):
                terms[:] = 0.0
                terms[0] = 1.0
                for k in range(n):
                    if k == j:
                        continue
                    is_met = (pattern >> k) & 1
                    for s in range(n - 1, -1, -1):
                        before = terms[s - 1] if s > 0 and is_met == 1 else 0.0
                        terms[s] = terms[s] * share[leaf, k] + before
                total = 0.0
                for s in range(n):
                    total += terms[s] * weights[n, s]
                met = float((pattern >> j) & 1)
                table[table_start[leaf] + pattern * n + j] = total * (met - share[leaf, j]) * value[leaf]


@njit(cache=True, nogil=True)
def _test(
    indptr: Any,
    indices: Any,
    data: Any,
    outcomes: Any,
    tests: _Tests,
) -> None:  # pragma: no cover - compiled
    """Change the outcomes of the tests on stored cells, where they differ from those of an absent number."""
    first, tree, bit, cut, absent_left = tests
    for row in range(outcomes.shape[1]):
        for cell in range(indptr[row], indptr[row + 1]):
            feature = indices[cell]
            for test in range(first[feature], first[feature + 1]):
                if (data[cell] < cut[test]) != absent_left[test]:
                    outcomes[tree[test], row] ^= np.uint64(1) << bit[test]


@njit(cache=True, nogil=True)
def _add(
    outcomes: Any,
    absent: Any,
    out: Any,
    of_trees: _Features,
    leaves: _Leaves,
) -> None:  # pragma: no cover - compiled
    """Add the values of all trees.

    Each pattern of outcomes is computed once and kept in a hash table. Its values are differences from those of a row without
    numbers, a pattern that many trees have.
    """
    first_feature, features = of_trees
    n_rows = outcomes.shape[1]
    slot_of, key_of = np.empty(_SLOTS, np.int32), np.empty(_SLOTS, np.uint64)
    found, empty, without = np.empty((n_rows, MAX_TESTS)), np.empty(MAX_TESTS), np.zeros(out.shape[1])
    for tree in range(outcomes.shape[0]):
        start, n_in_tree = first_feature[tree], first_feature[tree + 1] - first_feature[tree]
        _of_pattern(absent[tree], tree, leaves, empty[:n_in_tree])
        for k in range(n_in_tree):
            without[features[start + k]] += empty[k]
        slot_of[:] = -1
        n_found = 0
        for row in range(n_rows):
            key = outcomes[tree, row]
            if key == absent[tree]:
                continue
            # Multiplicative hash (Knuth): the upper 12 bits number one of the 4,096 slots.
            slot = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(52))
            while slot_of[slot] >= 0 and key_of[slot] != key:
                slot = (slot + 1) & (_SLOTS - 1)
            pattern = slot_of[slot]
            if pattern < 0:
                pattern = n_found
                n_found += 1
                slot_of[slot], key_of[slot] = pattern, key
                values = found[pattern, :n_in_tree]
                _of_pattern(key, tree, leaves, values)
                values -= empty[:n_in_tree]
            for k in range(n_in_tree):
                out[row, features[start + k]] += found[pattern, k]
    out += without


@njit(cache=True, nogil=True)
def _of_pattern(key: Any, tree: Any, leaves: _Leaves, values: Any) -> None:  # pragma: no cover - compiled
    """Sum the values of a tree's leaves for one pattern of outcomes, by feature of the tree."""
    first, n_on_path, place, mask, wanted, table_start, table = leaves
    values[:] = 0.0
    for leaf in range(first[tree], first[tree + 1]):
        n = n_on_path[leaf]
        met = 0
        for k in range(n):
            if key & mask[leaf, k] == wanted[leaf, k]:
                met |= 1 << k
        start = table_start[leaf] + met * n
        for k in range(n):
            values[place[leaf, k]] += table[start + k]
