"""Training and test patients of each iteration and fold."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.errors import DataError, plural
from mlho.method.splits import OneClassPart, fold_of_patients, one_class_folds, test_patients
from mlho.spec.training import Validation

FINAL: Final = "final"
Iteration = int | str


@dataclass(frozen=True)
class Partition:
    """The patients of one iteration.

    Attributes
    ----------
    is_test : bool, shape (n_patients,)
        All False in the final iteration, which trains on all patients.
    fold : int8, shape (n_patients,)
        Fold that holds out a training patient; −1 for test patients.
    """

    is_test: NDArray[np.bool_]
    fold: NDArray[np.int8]

    @property
    def is_train(self) -> NDArray[np.bool_]:
        """Training patients."""
        return ~self.is_test


def partition(asked: Validation, cohort: Cohort, iteration: Iteration) -> Partition:
    """Split the patients of one iteration by the hash of (seed, purpose, iteration, patient)."""
    ids = np.array(cohort.patient_ids, dtype=object)
    positive = cohort.positive_patients()
    is_test = np.zeros(len(ids), np.bool_)
    if iteration != FINAL:
        is_test = test_patients(
            ids,
            positive,
            seed=asked.seed,
            iteration=iteration,
            test_fraction=asked.test_fraction,
            split=asked.split,
        )
    fold = np.full(len(ids), -1, np.int8)
    fold[~is_test] = fold_of_patients(
        ids[~is_test],
        positive[~is_test],
        seed=asked.seed,
        iteration=iteration,
        n_folds=asked.folds,
        split=asked.split,
    )
    return Partition(is_test, fold)


def check_splits(asked: Validation, cohort: Cohort) -> None:
    """Refuse a run in which a test set, fold or training part has one class only, before anything is fitted.

    Raises
    ------
    DataError
        The message gives the number of such parts and the remedy.
    """
    found = [part for iteration in _iterations(asked) for part in _one_class(asked, cohort, iteration)]
    if found:
        first = found[0]
        fold = "" if first.fold is None else f", fold {first.fold + 1}"
        raise DataError(
            "validation",
            "a part of a split has one class only",
            expected="samples with and without the outcome in every part",
            got=f"{plural(len(found), 'part')} with one class, the first: iteration {first.iteration}{fold}, {first.part}, {plural(first.n_samples, 'sample')}",
            remedy="Use fewer folds, validation.split: stratified, or a larger cohort.",
        )


def _iterations(asked: Validation) -> Iterator[Iteration]:
    yield from range(1, asked.iterations + 1)
    yield FINAL


def _one_class(asked: Validation, cohort: Cohort, iteration: Iteration) -> tuple[OneClassPart, ...]:
    fold_of_samples = partition(asked, cohort, iteration).fold[cohort.patient_of]
    return one_class_folds({iteration: fold_of_samples}, cohort.outcome)


def seed_of(seed: int, purpose: str, iteration: Iteration, fold: int | None = None) -> int:
    """Derive a 31-bit seed for a classifier or a bootstrap from the run's seed, its purpose, iteration and fold."""
    text = f"{seed}|{purpose}|{iteration}|{'' if fold is None else fold}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
