"""Training and test patients of each iteration and fold."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.errors import DataError, plural
from mlho.method.splits import OneClassPart, fold_of_patients, one_class_folds, test_patients
from mlho.spec.training import TrainingSpec, Validation
from mlho.training.iterations.planned import (
    SHORTER_HORIZONS,
    TESTED,
    TRAINED,
    outcomes_of,
    planned_sets,
    refuse_unusable,
)

FINAL: Final = "final"
LATER: Final = "later"  # the temporal check, which trains on all samples before its date
Iteration = int | str


@dataclass(frozen=True)
class Partition:
    """The units of one iteration: patients, or persons where ``cohort.groupBy`` names them."""

    is_test: NDArray[np.bool_]
    """All False in the final iteration, which trains on all units. Shape (n_units,)."""
    fold: NDArray[np.int8]
    """Fold that holds out a training unit; −1 for the others. Shape (n_units,)."""
    unit_of: NDArray[np.int32]
    """Unit of each sample. Shape (n_samples,)."""
    is_used: NDArray[np.bool_] | None = None
    """False for the samples that a planned split leaves out; None where every sample counts. Shape (n_samples,)."""

    @property
    def is_train(self) -> NDArray[np.bool_]:
        """Training units."""
        return self.fold >= 0

    @property
    def train(self) -> NDArray[np.bool_]:
        """Training samples."""
        return self.samples_of(self.is_train)

    @property
    def test(self) -> NDArray[np.bool_]:
        """Test samples."""
        return self.samples_of(self.is_test)

    def held(self, fold: int) -> NDArray[np.bool_]:
        """Return the samples that a fold holds out of training."""
        return self.samples_of(self.fold == fold)

    def trained_without(self, fold: int) -> NDArray[np.bool_]:
        """Training samples of the other folds."""
        return self.samples_of(self.is_train & (self.fold != fold))

    def samples_of(self, units: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the samples of these units, without those that the split leaves out."""
        samples = units[self.unit_of]
        return samples if self.is_used is None else samples & self.is_used


def partition(spec: TrainingSpec, cohort: Cohort, iteration: Iteration) -> Partition:
    """Split the units of one iteration by the hash of (seed, purpose, iteration, id), or by a planned test set."""
    if iteration != FINAL and not spec.validation.is_drawn:
        return _planned(spec, cohort, iteration)
    asked, ids, positive = spec.validation, np.array(cohort.unit_ids, dtype=object), cohort.positive_units()
    is_test = np.zeros(len(ids), np.bool_)
    if iteration != FINAL:
        is_test = test_patients(
            ids,
            positive,
            seed=asked.seed,
            iteration=iteration,
            test_fraction=asked.test_fraction,
            split=asked.drawn_as,
        )
    fold = _folds(asked, ids, positive, ~is_test, iteration)
    return Partition(is_test, fold, cohort.unit_of)


def _planned(spec: TrainingSpec, cohort: Cohort, iteration: Iteration) -> Partition:
    """Take the test sets in turn, and draw the training units of an iteration from those that may be trained on."""
    asked, ids = spec.validation, np.array(cohort.unit_ids, dtype=object)
    sets = planned_sets(spec, cohort)
    role = sets[0 if iteration == LATER else (int(iteration) - 1) % len(sets)].role
    is_test, is_train = (np.zeros(len(ids), np.bool_) for _ in range(2))
    is_test[cohort.unit_of[role == TESTED]] = True
    is_train[cohort.unit_of[role == TRAINED]] = True
    positive = cohort.positive_units(role == TRAINED)
    if iteration != LATER:
        is_train[is_train] = ~test_patients(
            ids[is_train],
            positive[is_train],
            seed=asked.seed,
            iteration=iteration,
            test_fraction=asked.test_fraction,
            split="stratified",
            purpose="left out",
        )
    fold = _folds(asked, ids, positive, is_train, iteration)
    return Partition(is_test, fold, cohort.unit_of, (role == TESTED) | (role == TRAINED))


def _folds(
    asked: Validation,
    ids: NDArray[np.object_],
    positive: NDArray[np.bool_],
    is_train: NDArray[np.bool_],
    iteration: Iteration,
) -> NDArray[np.int8]:
    fold = np.full(len(ids), -1, np.int8)
    fold[is_train] = fold_of_patients(
        ids[is_train],
        positive[is_train],
        seed=asked.seed,
        iteration=iteration,
        n_folds=asked.folds,
        split=asked.drawn_as,
    )
    return fold


def check_splits(spec: TrainingSpec, cohort: Cohort, iterations: Sequence[Iteration] | None = None) -> None:
    """Refuse a run in which a test set, fold or training part has one class only, before anything is fitted.

    Parameters
    ----------
    iterations : sequence, optional
        Drawn iterations to check; default: all of them, and the final one. Planned test sets are always checked.

    Raises
    ------
    DataError
        The message gives the number of such parts and the remedy.
    """
    if not spec.validation.is_drawn:
        refuse_unusable(spec, cohort, planned_sets(spec, cohort))
    refuse_one_class(spec, cohort, iterations or [*range(1, spec.validation.iterations + 1), FINAL])


def refuse_one_class(spec: TrainingSpec, cohort: Cohort, iterations: Sequence[Iteration]) -> None:
    """Refuse iterations in which a test set, fold or training part has one class only; see :func:`check_splits`."""
    for place, (status, when) in enumerate(outcomes_of(spec, cohort)):
        found = [
            part
            for iteration in iterations
            for part in _one_class(partition(spec, cohort, iteration), iteration, status, has_folds=not place)
        ]
        if found:
            _refuse_one_class(found, when)


def _refuse_one_class(found: Sequence[OneClassPart], when: str) -> NoReturn:
    first = found[0]
    fold = "" if first.fold is None else f", fold {first.fold + 1}"
    raise DataError(
        "validation",
        "a part of a split has one class only",
        expected=f"samples with and without the outcome{when} in every part",
        got=f"{plural(len(found), 'part')} with one class, the first: iteration {first.iteration}{fold}, {first.part}, {plural(first.n_samples, 'sample')}",
        remedy="Use fewer folds, validation.split: stratified, or a larger cohort."
        + (f" {SHORTER_HORIZONS}" if when else ""),
    )


def _one_class(
    parts: Partition, iteration: Iteration, status: NDArray[Any], *, has_folds: bool
) -> tuple[OneClassPart, ...]:
    """Return the parts without a sample of status 1 or without one of status 0; another status is unknown.

    Without ``has_folds`` the folds are one part: at a later horizon nothing is measured in each.
    """
    fold_of_samples = np.where(parts.test, -1, parts.fold[parts.unit_of]).astype(np.int8)
    counted = parts.test | parts.train
    folds = {iteration: fold_of_samples[counted] if has_folds else np.minimum(fold_of_samples[counted], 0)}
    lacking = one_class_folds(folds, status[counted] == 1)
    return lacking or one_class_folds(folds, status[counted] == 0)


def seed_of(seed: int, purpose: str, iteration: Iteration, fold: int | None = None) -> int:
    """Derive a 31-bit seed for a classifier or a bootstrap from the run's seed, its purpose, iteration and fold."""
    text = f"{seed}|{purpose}|{iteration}|{'' if fold is None else fold}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
