"""Rankings by mutual information against planted truths, a brute-force oracle, and laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from mlho.errors import DataError, SpecError
from mlho.method.selection.jmi import TIE, cut_as_mlho_r, rank, rank_columns
from mlho.method.selection.levels import ColumnBlock, columns_from_dense, cut_levels

RANKINGS = ["jmi", "mim", "mrmr", "cmim", "jmim"]


# --- the oracle: definitions, one pair at a time -------------------------------------------------------------------


def information(a, b):
    """Return I(A;B) in nats from two lists of hashable levels."""
    n = len(a)
    total = 0.0
    for level_a in set(a):
        for level_b in set(b):
            both = sum(x == level_a and z == level_b for x, z in zip(a, b, strict=True))
            if both:
                total += both / n * np.log(both * n / (a.count(level_a) * b.count(level_b)))
    return total


def score_by_definition(ranking, column, picked, y, *, corrected=False):
    n, n_levels = len(y), len(set(column))
    bias = (lambda n_cells: n_cells / (2 * n)) if corrected else (lambda n_cells: 0.0)
    relevance = information(column, y) - bias(n_levels - 1)
    if not picked or ranking == "mim":
        return relevance
    joint = [
        information(list(zip(column, w, strict=True)), y) - bias(n_levels * len(set(w)) - 1) for w in picked
    ]
    match ranking:
        case "jmi":
            return sum(joint)
        case "jmim":
            return min(joint)
        case "mrmr":
            shared = [information(column, w) - bias((n_levels - 1) * (len(set(w)) - 1)) for w in picked]
            return relevance - np.mean(shared)
        case "cmim":
            relevances = [information(w, y) - bias(len(set(w)) - 1) for w in picked]
            return min(relevance, *(j - i for j, i in zip(joint, relevances, strict=True)))


def agrees_with_definition(result, levels, y, ranking, *, corrected=False):
    """Assert that each pick has the largest score by definition, the lowest index among equal ones, and that score.

    The previous picks are taken from the result, so that a tie within rounding cannot lead to different paths.
    """
    columns = [column.tolist() for column in levels.T]
    for step, pick in enumerate(result.order.tolist()):
        picked = [columns[j] for j in result.order[:step]]
        left = [j for j in range(len(columns)) if j not in result.order[:step]]
        scores = {
            j: score_by_definition(ranking, columns[j], picked, y.tolist(), corrected=corrected) for j in left
        }
        best = max(scores.values())
        assert result.scores[step] == pytest.approx(scores[pick], abs=1e-11)
        assert pick in [j for j in left if scores[j] >= best - 2 * TIE]
        assert not [j for j in left if j < pick and scores[j] >= best - TIE / 2]


@st.composite
def problems(draw, largest=3):
    """Draw a small count matrix, labels with both classes under a mask, and the mask or None."""
    n_samples, n_columns = draw(st.integers(2, 14)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.integers(0, largest + 1, size=(n_samples, n_columns)) * (
        rng.random((n_samples, n_columns)) < draw(st.sampled_from([0.2, 0.6, 1.0]))
    )
    y = rng.integers(0, 2, size=n_samples)
    mask = rng.random(n_samples) < 0.7 if draw(st.booleans()) else None
    at = rng.permutation(n_samples)[:2]
    y[at] = [0, 1]
    if mask is not None:
        mask[at] = True
    return X, y, mask


FORMS = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "float": lambda X: X.astype(float),
    "csr": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_array,
    "explicit zeros": lambda X: sparse.csc_array(
        (X.T.ravel(), np.tile(np.arange(X.shape[0]), X.shape[1]), np.arange(X.shape[1] + 1) * X.shape[0]),
        shape=X.shape,
    ),
}


@settings(max_examples=150, deadline=None)
@given(
    problem=problems(),
    mode=st.sampled_from(["presence", "levels", "counts"]),
    ranking=st.sampled_from(RANKINGS),
    form=st.sampled_from(sorted(FORMS)),
)
def test_every_ranking_agrees_with_brute_force(problem, mode, ranking, form):
    """For every mode, mask and form of the matrix, picks and scores are those of the definition."""
    X, y, mask = problem
    levels = {"presence": X > 0, "levels": cut_levels(X, (1, 2)), "counts": X}[mode]
    kept = slice(None) if mask is None else mask

    result = rank(FORMS[form](X), y, X.shape[1], mode=mode, mask=mask, ranking=ranking, cut_points=(1, 2))

    assert sorted(result.order.tolist()) == list(range(X.shape[1]))
    agrees_with_definition(result, levels[kept], y[kept], ranking)


@settings(max_examples=60, deadline=None)
@given(problem=problems(largest=40), ranking=st.sampled_from(RANKINGS))
def test_many_levels_agree_with_brute_force(problem, ranking):
    """Picks and scores are also those of the definition with about as many levels as samples."""
    X, y, mask = problem
    kept = slice(None) if mask is None else mask

    result = rank(X, y, X.shape[1], mode="counts", mask=mask, ranking=ranking)

    agrees_with_definition(result, X[kept], y[kept], ranking)


@settings(max_examples=100, deadline=None)
@given(problem=problems(), ranking=st.sampled_from(RANKINGS))
def test_corrected_rankings_agree_with_brute_force(problem, ranking):
    """Each information is reduced by its bias, which depends on the observed levels. If all columns have two, there is no correction."""
    X, y, mask = problem
    kept = slice(None) if mask is None else mask
    has_more = any(len(set(column)) > 2 for column in X[kept].T)

    result = rank_columns(columns_from_dense(X), y, X.shape[1], mask=mask, ranking=ranking, correct_bias=True)

    agrees_with_definition(result, X[kept], y[kept], ranking, corrected=has_more)


def make_counts(seed, *, n_samples=300, n_columns=40, largest=4):
    rng = np.random.default_rng(seed)
    largest_of_column = rng.integers(1, largest + 1, size=n_columns)
    X = rng.integers(0, largest_of_column + 1, size=(n_samples, n_columns))
    X *= rng.random((n_samples, n_columns)) < 0.3
    return X, (X[:, 0] + X[:, 1] + rng.random(n_samples) > 1).astype(int)


@pytest.mark.parametrize("mode", ["presence", "levels", "counts"])
@pytest.mark.parametrize("ranking", RANKINGS)
def test_row_order_does_not_show(mode, ranking):
    """The ranking has the same bytes with the rows in any order."""
    X, y = make_counts(5)
    shuffle = np.random.default_rng(1).permutation(len(y))

    ordered = rank(X, y, 40, mode=mode, ranking=ranking)
    shuffled = rank(X[shuffle], y[shuffle], 40, mode=mode, ranking=ranking)

    assert shuffled.order.tobytes() == ordered.order.tobytes()
    assert shuffled.scores.tobytes() == ordered.scores.tobytes()


@pytest.mark.parametrize("mode", ["presence", "levels", "counts"])
def test_mask_is_the_same_as_leaving_rows_out(mode):
    """Samples outside the mask do not count, not even as levels."""
    X, y = make_counts(6)
    mask = np.random.default_rng(2).random(len(y)) < 0.6

    masked, left_out = rank(X, y, 40, mode=mode, mask=mask), rank(X[mask], y[mask], 40, mode=mode)

    assert masked.order.tolist() == left_out.order.tolist()
    assert masked.scores.tobytes() == left_out.scores.tobytes()


@pytest.mark.parametrize("seed", range(10))
def test_ranking_finds_the_planted_features(seed):
    """For ten seeds, the two codes that determine the label together are ranked before all noise."""
    rng = np.random.default_rng(seed)
    X = (rng.random((2000, 60)) < 0.2).astype(int)
    y = (rng.random(2000) < 0.05 + 0.4 * X[:, 17] + 0.4 * X[:, 41]).astype(int)

    assert set(rank(X, y, 2).order.tolist()) == {17, 41}


def test_jmi_prefers_information_that_the_first_pick_lacks():
    """Column 1 repeats column 0. Column 2 has less information than column 1, but information that column 0 lacks, so it is picked second."""
    X = np.array([[1, 1, 0]] * 4 + [[0, 0, 1]] + [[0, 0, 0]] * 3)
    y = np.array([1, 1, 1, 1, 1, 0, 0, 0])

    assert rank(X, y, 3, ranking="mim").order.tolist() == [0, 1, 2]
    assert rank(X, y, 3, ranking="jmi").order.tolist() == [0, 2, 1]


def test_scores_restart_after_the_first_pick():
    """The first score is I(X;Y), and the second is I((X,W);Y) alone, without the first relevance."""
    X = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
    y = np.array([1, 1, 0, 0])

    result = rank(X, y, 2)

    assert result.order.tolist() == [0, 1]
    assert result.scores == pytest.approx([np.log(2), np.log(2)], abs=1e-15)


def test_equal_columns_are_picked_from_the_left():
    """Ties go to the lowest index, also between a column and its complement."""
    X = np.array([[0, 0, 1], [0, 0, 1], [1, 1, 0], [1, 1, 0], [1, 1, 0]])
    y = np.array([0, 0, 1, 1, 0])

    for ranking in ("jmi", "mim", "jmim"):
        assert rank(X, y, 3, ranking=ranking).order.tolist() == [0, 1, 2]


def test_columns_without_information_score_zero():
    """A column that is 0 or 1 in all samples has no information and is picked last."""
    X = np.array([[0, 1, 1], [0, 1, 0], [0, 1, 1], [0, 1, 0]])

    result = rank(X, [1, 0, 1, 0], 3, ranking="mim")

    assert result.order.tolist() == [2, 0, 1]
    assert result.scores.tolist() == [pytest.approx(np.log(2)), 0.0, 0.0]


@pytest.mark.parametrize("ranking", RANKINGS)
def test_more_features_than_columns_ranks_all(ranking):
    """If fewer columns exist than features are requested, all columns are ranked."""
    X, y = make_counts(7, n_columns=4)

    assert len(rank(X, y, 200, ranking=ranking).order) == 4


def test_repeated_entries_of_a_sparse_matrix_add_up():
    """Two stored ones in one cell are a count of two, and the caller's matrix does not change."""
    coo = ([1, 1, 1, 3], ([0, 0, 1, 2], [0, 0, 0, 1]))
    X = sparse.csc_matrix((4, 2), dtype=np.int64)
    X.data, X.indices, X.indptr = np.array([1, 1, 1, 3]), np.array([0, 0, 1, 2]), np.array([0, 3, 4])
    X.has_canonical_format = False
    dense = np.zeros((4, 2), dtype=np.int64)
    np.add.at(dense, coo[1], coo[0])

    result, expected = rank(X, [1, 0, 0, 1], 2, mode="counts"), rank(dense, [1, 0, 0, 1], 2, mode="counts")

    assert result.scores.tolist() == expected.scores.tolist()
    assert X.data.tolist() == [1, 1, 1, 3]  # the caller's matrix is unchanged


def test_large_counts_are_levels_too():
    """Large, distant counts are renumbered, and the ranking is the same."""
    X, y = make_counts(8)

    near, far = rank(X, y, 40, mode="counts"), rank(X * 500_000_001, y, 40, mode="counts")

    assert near.order.tolist() == far.order.tolist()
    assert near.scores.tobytes() == far.scores.tobytes()


def test_level_codes_may_be_read_only_and_mixed():
    """Read-only level codes, with columns of 0/1 and of more levels, give the same ranking as the counts."""
    X, y = make_counts(9)
    block = columns_from_dense(X)
    block = ColumnBlock(block.n_samples, block.indptr, block.indices, block.values.astype(np.uint8))

    result = rank_columns(block, y, 40)

    assert not block.values.flags.writeable
    assert result.scores.tobytes() == rank(X, y, 40, mode="counts").scores.tobytes()


def test_columns_of_zeros_and_ones_stay_bits():
    """Level codes of 0/1 give the same scores as presence."""
    X, y = make_counts(10)
    block = columns_from_dense((X > 0).astype(int))

    for correct_bias in (False, True):
        ranked = rank_columns(block, y, 40, correct_bias=correct_bias)
        assert ranked.scores.tobytes() == rank(X, y, 40).scores.tobytes()


def test_mlho_r_cuts_the_ascending_scores():
    """The cut sorts by the rounded score, then by more patients, then by the earlier step."""
    order, scores = [3, 0, 2, 1, 4], [0.30, 2.0004, 2.0001, 1.5, 1.5]
    n_patients = [10, 7, 12, 5, 9]

    cut = cut_as_mlho_r(order, scores, n_patients, 4)

    assert cut.order.tolist() == [3, 4, 1, 2]
    assert cut.scores.tolist() == [0.30, 1.5, 1.5, 2.0001]


def test_mlho_r_is_a_ranking_by_name():
    """``mlho-r`` ranks all columns by jmi and cuts; the numbers of patients may be given."""
    X, y = make_counts(11)
    full = rank(X, y, 40)
    n_patients = (X > 0).sum(axis=0)

    expected = cut_as_mlho_r(full.order, full.scores, n_patients, 10)

    assert rank(X, y, 10, ranking="mlho-r").order.tolist() == expected.order.tolist()
    counted = rank(X, y, 10, mode="counts", ranking="mlho-r")
    assert len(counted.order) == 10
    given_patients = rank(X, y, 10, ranking="mlho-r", n_patients_by_column=n_patients)
    assert given_patients.order.tolist() == expected.order.tolist()


GOOD = np.array([[0, 1], [1, 0], [1, 1]])


@pytest.mark.parametrize(
    ("X", "y", "options", "error", "words"),
    [
        (GOOD - 1, [0, 1, 1], {}, DataError, "negative"),
        (GOOD + 0.5, [0, 1, 1], {}, DataError, "fractional"),
        (np.where(GOOD == 0, np.nan, 1.0), [0, 1, 1], {}, DataError, "missing"),
        (sparse.csr_array(GOOD * -1), [0, 1, 1], {}, DataError, "negative"),
        (GOOD * 2**40, [0, 1, 1], {"mode": "counts"}, DataError, "larger"),
        (np.array([["a"], ["b"], ["c"]]), [0, 1, 1], {}, DataError, "dtype"),
        (GOOD[:, :0], [0, 1, 1], {}, DataError, "no columns"),
        (GOOD[0], [0, 1], {}, DataError, "two dimensions"),
        (GOOD, [0, 1], {}, DataError, "labels"),
        (GOOD, [0, 1, 2], {}, DataError, "0 and 1 only"),
        (GOOD, [0, 1, np.nan], {}, DataError, "0 and 1 only"),
        (GOOD, [1, 1, 1], {}, DataError, "one class only"),
        (GOOD, [0, 1, 1], {"mask": np.array([False, True, True])}, DataError, "2 positive and 0 negative"),
        (GOOD, [0, 1, 1], {"mask": np.array([0, 1])}, DataError, "mask"),
        (GOOD, [0, 1, 1], {"mode": "binary"}, SpecError, "selection.mode"),
        (GOOD, [0, 1, 1], {"ranking": "relief"}, SpecError, "selection.ranking"),
        (GOOD, [0, 1, 1], {"mode": "levels", "cut_points": (2, 1)}, SpecError, "cutPoints"),
        (GOOD, [0, 1, 1], {"ranking": "mlho-r", "n_patients_by_column": [1]}, DataError, "patients"),
    ],
)
def test_each_mistake_in_a_ranking_has_its_own_error(X, y, options, error, words):
    """Each mistake in the arguments of a ranking has its own message and error class, and all are ValueErrors."""
    with pytest.raises(error, match=words):
        rank(X, y, 2, **options)
    assert issubclass(error, ValueError)


@pytest.mark.parametrize("n_features", [0, -1, 2.5, True])
def test_number_of_features_must_be_one_or_more(n_features):
    """The number of features must be a whole number of at least 1."""
    with pytest.raises(SpecError, match="nFeatures"):
        rank(GOOD, [0, 1, 1], n_features)
