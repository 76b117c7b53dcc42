"""Splits: patients are drawn by hash only."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.errors import DataError, SpecError
from mlho.method import splits
from mlho.method.splits import OneClassPart, fold_of_patients, one_class_folds, patient_order

PATIENTS = st.lists(st.text(max_size=6), min_size=4, max_size=40, unique=True)


def hash_of(text):
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def test_order_is_that_of_the_published_hash():
    """The order is that of BLAKE2b-64 of 'seed|purpose|iteration|patient', big-endian, so a split can be checked by hand."""
    patients = ["p-1", "p-2", "p-3", "Ünal", "5"]
    expected = sorted(range(5), key=lambda i: hash_of(f"7|test|3|{patients[i]}"))

    assert patient_order(patients, seed=7, purpose="test", iteration=3).tolist() == expected


def test_split_of_a_known_cohort_never_changes():
    """The split is pinned, because a change would move patients in all earlier runs."""
    patients = [f"{i}" for i in range(10)]

    drawn = splits.test_patients(patients, [False] * 10, seed=7, iteration=0, test_fraction=0.3)
    folds = fold_of_patients(patients, [i < 5 for i in range(10)], seed=7, iteration="final", n_folds=2)

    assert np.flatnonzero(drawn).tolist() == [4, 6, 9]
    assert folds.tolist() == [0, 0, 1, 0, 1, 0, 1, 0, 1, 0]


@given(patients=PATIENTS, data=st.data(), split=st.sampled_from(["random", "stratified"]))
def test_order_of_rows_does_not_show(patients, data, split):
    """The same patients in any order get the same split and the same folds."""
    positive = {p: data.draw(st.booleans()) for p in patients}
    shuffled = data.draw(st.permutations(patients))

    def draw(ids):
        classes = [positive[p] for p in ids]
        fold = fold_of_patients(ids, classes, seed=7, iteration=1, n_folds=2, split=split)
        in_test = splits.test_patients(ids, classes, seed=7, iteration=1, test_fraction=0.5, split=split)
        return {p: (bool(t), int(f)) for p, t, f in zip(ids, in_test, fold, strict=True)}

    assert draw(patients) == draw(shuffled)


@given(patients=PATIENTS, data=st.data(), n_folds=st.integers(2, 4))
def test_folds_differ_by_at_most_one_patient_in_each_stratum(patients, data, n_folds):
    """Folds are assigned by rank modulo k, within positives and within negatives."""
    positive = np.array([data.draw(st.booleans()) for _ in patients])

    fold = fold_of_patients(patients, positive, seed=1, iteration=0, n_folds=n_folds)

    assert fold.dtype == np.int8
    for stratum in (positive, ~positive):
        sizes = np.bincount(fold[stratum], minlength=n_folds)
        assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize(
    ("n_patients", "test_fraction", "n_test"),
    [(10, 0.3, 3), (5, 0.3, 2), (15, 0.3, 4), (25, 0.3, 8), (45, 0.7, 32), (11, 0.5, 6), (13, 0.5, 6)],
)
def test_size_of_the_test_set_is_rounded_half_to_even(n_patients, test_fraction, n_test):
    """The arithmetic is exact: 0.3 · 15 is 4.5, hence 4; 0.3 · 25 is 7.5, hence 8; 0.7 · 45 is 31.5, hence 32."""
    patients = [str(i) for i in range(n_patients)]

    drawn = splits.test_patients(
        patients, np.zeros(n_patients), seed=7, iteration=0, test_fraction=test_fraction
    )

    assert drawn.sum() == n_test


def test_stratified_split_keeps_the_share_of_positives():
    """The test set has three tenths of the positive patients and three tenths of the negative ones."""
    positive = np.arange(100) < 20

    drawn = splits.test_patients(
        [str(i) for i in range(100)], positive, seed=7, iteration=0, test_fraction=0.3, split="stratified"
    )

    assert (drawn[positive].sum(), drawn[~positive].sum()) == (6, 24)


def test_draws_of_other_seeds_iterations_and_purposes_differ():
    """Other seeds, iterations and purposes give nearly independent orders."""
    patients = [str(i) for i in range(400)]
    base = patient_order(patients, seed=7, purpose="test", iteration=0)

    for other in (
        patient_order(patients, seed=8, purpose="test", iteration=0),
        patient_order(patients, seed=7, purpose="fold", iteration=0),
        patient_order(patients, seed=7, purpose="test", iteration=1),
    ):
        # By chance 36 of 120 are in both, with a standard deviation of about 4.
        assert 16 < len(set(base[:120]) & set(other[:120])) < 56


def test_equal_hashes_are_ordered_by_patient(monkeypatch):
    """If two patients have the same hash, the id decides, in any order of rows."""
    monkeypatch.setattr(splits, "_hash_patients", lambda ids, **_: np.zeros(len(ids), dtype=np.uint64))

    order = patient_order(["b", "c", "a"], seed=7, purpose="test", iteration=0)

    assert order.tolist() == [2, 0, 1]


def test_one_class_parts_are_found_before_fitting():
    """A test set, a held-out fold and its training part with one class are each named with their size."""
    y = [1, 0, 1, 1, 0, 1]
    good = np.array([0, 0, 1, 1, 1, 0], dtype=np.int8)
    bad = np.array([-1, 0, -1, 1, 1, 0], dtype=np.int8)
    bad_fold = np.array([1, 0, 1, 1, 0, 1], dtype=np.int8)

    assert one_class_folds({0: good}, y) == ()
    assert one_class_folds({0: good, 1: bad}, y) == (OneClassPart(1, None, "test", 2),)
    assert one_class_folds({"final": bad_fold}, y) == (
        OneClassPart("final", 0, "held out", 2),
        OneClassPart("final", 0, "training", 4),
        OneClassPart("final", 1, "held out", 4),
        OneClassPart("final", 1, "training", 2),
    )


def test_one_class_training_without_folds_is_found():
    """An iteration without cross-validation also needs both classes for its fit."""
    assert one_class_folds({0: np.array([-1, -1, 0, 0], dtype=np.int8)}, [0, 1, 1, 1]) == (
        OneClassPart(0, None, "training", 2),
    )


@pytest.mark.parametrize(
    ("patients", "positive", "test_fraction", "split", "error", "words"),
    [
        (["a"], [1], 0.5, "random", DataError, "too few patients"),
        (["a", "b"], [1, 0], 0.1, "random", DataError, "empty or contains all"),
        (["a", "b"], [1, 0], 0.9, "random", DataError, "empty or contains all"),
        (["a", "a"], [1, 0], 0.5, "random", DataError, "more than once"),
        (["a", "b"], [1], 0.5, "random", DataError, "differ in number"),
        (["a", "b"], [1, 0], 30, "random", SpecError, "Divide a percentage by 100"),
        (["a", "b"], [1, 0], 0.5, "temporal", SpecError, "validation.split"),
    ],
    ids=["one", "empty", "everyone", "twice", "lengths", "percentage", "unknown"],
)
def test_each_mistake_in_a_split_has_its_own_error(patients, positive, test_fraction, split, error, words):
    """Each mistake in the arguments of a split has its own message and error class."""
    with pytest.raises(error, match=words):
        splits.test_patients(
            patients, positive, seed=7, iteration=0, test_fraction=test_fraction, split=split
        )


@pytest.mark.parametrize(
    ("n_folds", "error", "words"),
    [
        (1, SpecError, "validation.folds"),
        (128, SpecError, "validation.folds"),
        (4, DataError, "Use fewer folds"),
    ],
)
def test_number_of_folds_must_fit(n_folds, error, words):
    """The number of folds must be between two and the number of training patients."""
    with pytest.raises(error, match=words):
        fold_of_patients(["a", "b", "c"], [1, 0, 1], seed=7, iteration=0, n_folds=n_folds)


def test_separator_in_a_purpose_is_refused():
    """With a separator in the purpose, two draws could hash the same text."""
    with pytest.raises(SpecError, match="must not contain"):
        patient_order(["a", "b"], seed=7, purpose="test|1", iteration=0)
