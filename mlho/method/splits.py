"""Splits: the test patients of each iteration, and the fold in which each training patient is held out.

All splits follow from a hash of (seed, purpose, iteration, patient id). They are independent of the order of rows, the
partitions and the workers, and a patient who joins the cohort does not change the hashes of others.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlho.errors import DataError, SpecError, plural

Split = Literal["random", "stratified"]
Part = Literal["test", "held out", "training"]

# Folds are stored as int8; more folds than this are not useful.
MAX_FOLDS = 127


def patient_order(
    patient_ids: Sequence[str] | NDArray[np.str_] | NDArray[np.object_],
    *,
    seed: int,
    purpose: str,
    iteration: int | str,
) -> NDArray[np.int64]:
    """Return the patients in hash order.

    Parameters
    ----------
    patient_ids : sequence of str, shape (n_patients,)
        Distinct patient ids as text.
    seed : int
        Seed of the run.
    purpose : str
        Purpose of the draw (``test``, ``fold``, …), so that two draws in one iteration are independent.
    iteration : int or str
        Number of the iteration, or a short word such as ``final``.

    Returns
    -------
    ndarray of int64, shape (n_patients,)
        Indices into ``patient_ids``, ascending by (BLAKE2b-64 of the UTF-8 text ``seed|purpose|iteration|patient_id``
        read as a big-endian number, then patient id).

    Raises
    ------
    DataError
        A patient appears twice.
    SpecError
        ``purpose`` or ``iteration`` contains the separator ``|``.

    References
    ----------
    Aumasson et al. (2013), BLAKE2: simpler, smaller, fast as MD5; RFC 7693.

    Examples
    --------
    >>> patient_order(["a", "b", "c"], seed=7, purpose="test", iteration=0).tolist()
    [0, 1, 2]
    """
    ids = list(map(str, patient_ids))
    hashes = _hash_patients(ids, seed=seed, purpose=purpose, iteration=iteration)
    order = np.argsort(hashes).astype(np.int64)
    if (np.diff(hashes[order]) == 0).any():
        _refuse_repeated(ids)  # a repeated id has equal hashes
        # For equal 64-bit hashes the id decides, not the order of rows.
        order = np.array(sorted(range(len(ids)), key=lambda i: (int(hashes[i]), ids[i])), dtype=np.int64)
    return order


def _refuse_repeated(ids: Sequence[str]) -> None:
    if len(set(ids)) != len(ids):
        raise DataError(
            "splits",
            "a patient appears more than once",
            expected="each patient once",
            got=f"{plural(len(ids), 'entry', 'entries')} of {len(set(ids))} patients",
            remedy="Pass distinct patients and map the result to their samples.",
        )


def test_patients(
    patient_ids: Sequence[str] | NDArray[np.str_] | NDArray[np.object_],
    is_positive: ArrayLike,
    *,
    seed: int,
    iteration: int | str,
    test_fraction: float,
    split: Split = "random",  # noqa: PT028 - not a test function, despite its name
    purpose: str = "test",  # noqa: PT028
) -> NDArray[np.bool_]:
    """Draw the test patients of one iteration.

    Parameters
    ----------
    patient_ids : sequence of str, shape (n_patients,)
        Distinct patients of the cohort.
    is_positive : array-like of bool, shape (n_patients,)
        Whether any sample of the patient is positive.
    seed, iteration
        See :func:`patient_order`.
    test_fraction : float in (0, 1)
        Taken as the decimal number as written.
    split : {"random", "stratified"}
        ``random``: one stratum. ``stratified``: positive and negative patients are drawn separately.
    purpose : str
        Purpose of the draw.

    Returns
    -------
    ndarray of bool, shape (n_patients,)
        True for patients in the test set: in each stratum of n patients the first round(test_fraction · n) in
        hash order, rounded half to even in exact arithmetic.

    Raises
    ------
    DataError
        There are fewer than two patients, or the test set would contain no patient or all of them.
    SpecError
        The fraction or the split is invalid.

    Examples
    --------
    >>> ids = ["a", "b", "c", "d"]
    >>> test_patients(ids, [True, False, False, False], seed=7, iteration=0, test_fraction=0.5).sum().item()
    2
    """
    if split not in get_args(Split):
        raise SpecError(
            f"validation.split: expected one of {', '.join(get_args(Split))}; got {split!r}. Name one of them."
        )
    if not 0 < test_fraction < 1:
        raise SpecError(
            f"validation.testFraction: expected a fraction between 0 and 1; got {test_fraction}. "
            "Divide a percentage by 100."
        )
    positive = _positives(patient_ids, is_positive)
    order = patient_order(patient_ids, seed=seed, purpose=purpose, iteration=iteration)
    fraction = Fraction(str(float(test_fraction)))
    is_test = np.zeros(order.size, dtype=np.bool_)
    for stratum in _strata(order, positive, stratified=split == "stratified"):
        is_test[stratum[: round(fraction * stratum.size)]] = True
    if not is_test.any() or is_test.all():
        raise DataError(
            "validation.testFraction",
            "the test set is empty or contains all patients",
            expected="patients on both sides of the split",
            got=f"{int(is_test.sum())} of {is_test.size} patients in the test set",
            remedy="Use more patients or another test fraction.",
        )
    return is_test


# pytest would collect the function by its name in modules that import it.
test_patients.__test__ = False  # type: ignore[attr-defined]  # functions take attributes; mypy does not know them


def fold_of_patients(
    patient_ids: Sequence[str] | NDArray[np.str_] | NDArray[np.object_],
    is_positive: ArrayLike,
    *,
    seed: int,
    iteration: int | str,
    n_folds: int,
    split: Split = "stratified",
) -> NDArray[np.int8]:
    """Return the fold in which each training patient is held out.

    Parameters
    ----------
    patient_ids : sequence of str, shape (n_patients,)
        Distinct training patients of the iteration.
    is_positive : array-like of bool, shape (n_patients,)
        Whether any sample of the patient is positive.
    seed, iteration
        See :func:`patient_order`; the purpose is ``fold``.
    n_folds : int in [2, 127]
        At most the number of patients.
    split : {"random", "stratified"}
        Whether patients are ranked together or within their stratum.

    Returns
    -------
    ndarray of int8, shape (n_patients,)
        The patient's rank in hash order, within its stratum, modulo ``n_folds``.

    Raises
    ------
    SpecError
        ``n_folds`` is out of range or the split is unknown.
    DataError
        There are fewer patients than folds.

    Examples
    --------
    >>> ids = ["a", "b", "c", "d"]
    >>> sorted(fold_of_patients(ids, [1, 1, 0, 0], seed=7, iteration=0, n_folds=2).tolist())
    [0, 0, 1, 1]
    """
    if split not in get_args(Split):
        raise SpecError(
            f"validation.split: expected one of {', '.join(get_args(Split))}; got {split!r}. Name one of them."
        )
    if not 2 <= n_folds <= MAX_FOLDS:
        raise SpecError(
            f"validation.folds: expected between 2 and {MAX_FOLDS}; got {n_folds}. Five or ten are usual."
        )
    positive = _positives(patient_ids, is_positive)
    if positive.size < n_folds:
        raise DataError(
            "validation.folds",
            "there are more folds than training patients",
            expected=f"at least {plural(n_folds, 'patient')}",
            got=str(positive.size),
            remedy="Use fewer folds.",
        )
    order = patient_order(patient_ids, seed=seed, purpose="fold", iteration=iteration)
    fold = np.empty(order.size, dtype=np.int8)
    for stratum in _strata(order, positive, stratified=split == "stratified"):
        fold[stratum] = np.arange(stratum.size) % n_folds
    return fold


@dataclass(frozen=True)
class OneClassPart:
    """A part of an iteration whose samples are all of one class. Nothing can be fitted or evaluated on it."""

    iteration: int | str
    """Iteration."""
    fold: int | None
    """Fold; None for the test and training set of the iteration itself."""
    part: Part
    """Role of the part."""
    n_samples: int
    """Number of samples, possibly zero."""


def one_class_folds(
    fold_of_samples: Mapping[int | str, NDArray[np.int8]], y: ArrayLike
) -> tuple[OneClassPart, ...]:
    """Find the parts of all iterations with fewer than two classes, before anything is fitted.

    Parameters
    ----------
    fold_of_samples : mapping of iteration to int8 array, shape (n_samples,)
        For each sample the fold that holds it out, −1 in the iteration's test set. Folds are numbered from 0 to the
        largest that appears; an iteration whose training samples are all in fold 0 has no folds.
    y : array-like of 0/1, shape (n_samples,)
        Labels.

    Returns
    -------
    tuple of OneClassPart
        In the order of the mapping; empty if there are none. The caller refuses the run and names the remedy: fewer folds, or
        ``split: stratified``.

    Examples
    --------
    >>> one_class_folds({0: np.array([0, 1, 0, 1], dtype=np.int8)}, [1, 1, 0, 1])[0].part
    'training'
    """
    labels = np.asarray(y).astype(np.bool_)
    found: list[OneClassPart] = []

    def look(iteration: int | str, fold: int | None, part: Part, members: NDArray[np.bool_]) -> None:
        n_samples, n_positive = int(members.sum()), int(labels[members].sum())
        if n_positive in (0, n_samples):
            found.append(OneClassPart(iteration, fold, part, n_samples))

    for iteration, fold in fold_of_samples.items():
        _same_length(fold, labels)
        is_test = fold < 0
        # The final iteration has no test set; an empty one is not reported.
        if is_test.any():
            look(iteration, None, "test", is_test)
        n_folds = int(fold.max(initial=-1)) + 1
        if n_folds < 2:
            look(iteration, None, "training", ~is_test)
            continue
        for k in range(n_folds):
            look(iteration, k, "held out", fold == k)
            look(iteration, k, "training", ~is_test & (fold != k))
    return tuple(found)


def _hash_patients(
    ids: Sequence[str], *, seed: int, purpose: str, iteration: int | str
) -> NDArray[np.uint64]:
    """Return BLAKE2b-64 of every patient; the common prefix is hashed once."""
    if "|" in purpose or "|" in str(iteration):
        # Otherwise two different draws could have the same text.
        raise SpecError(
            f"splits: purpose and iteration must not contain '|'; got {purpose!r} and {iteration!r}."
        )
    start = hashlib.blake2b(f"{seed}|{purpose}|{iteration}|".encode(), digest_size=8)
    digests = bytearray()
    for patient in ids:
        hasher = start.copy()
        hasher.update(patient.encode())
        digests += hasher.digest()
    return np.frombuffer(bytes(digests), dtype=">u8").astype(np.uint64)


def _strata(
    order: NDArray[np.int64], positive: NDArray[np.bool_], *, stratified: bool
) -> list[NDArray[np.int64]]:
    return [order[positive[order]], order[~positive[order]]] if stratified else [order]


def _positives(patient_ids: Sequence[str] | NDArray[np.generic], is_positive: ArrayLike) -> NDArray[np.bool_]:
    positive = np.asarray(is_positive).astype(np.bool_)
    if positive.shape != (len(patient_ids),):
        raise DataError(
            "splits",
            "patients and their classes differ in number",
            expected=f"{len(patient_ids)} classes, one per patient",
            got=f"shape {positive.shape}",
            remedy="State for each distinct patient whether any of its samples is positive.",
        )
    if positive.size < 2:
        raise DataError(
            "splits",
            "too few patients to split",
            expected="at least 2",
            got=str(positive.size),
            remedy="Check the cohort's attrition.",
        )
    return positive


def _same_length(fold: NDArray[np.int8], labels: NDArray[np.bool_]) -> None:
    if fold.shape != labels.shape:
        raise DataError(
            "splits",
            "folds and labels differ in number",
            expected=f"shape {labels.shape}",
            got=f"shape {fold.shape}",
            remedy="Give the fold of every sample.",
        )
