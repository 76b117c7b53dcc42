"""Candidate sequences: the ordered pairs of screened codes that are ranked together with the codes."""

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.encoding.events.code_patterns import matches
from mlho.encoding.events.sequences import SequenceMatrix
from mlho.method.selection.screen import min_patients
from mlho.method.sequences.pairs import informative_pairs
from mlho.training.iterations.permutation import shifted_samples
from mlho.training.iterations.problem import Problem

NO_FEATURE = np.empty(0, np.int64)


def candidate_sequences(
    problem: Problem, train: NDArray[np.bool_], screened: NDArray[np.int64], labels: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Return the features of the pairs with the largest I(pair; Y | first, then), ascending; none without sequences.

    Codes are screened first: both codes of a pair are present in sufficiently many training patients, in the longest window, and
    so is the pair.

    Parameters
    ----------
    problem : Problem
    train : bool, shape (n_samples,)
    screened : int64, shape (n_screened,)
        Features that passed the screen.
    labels : uint8, shape (n_train,)
        Labels of the training samples, or permuted ones.
    """
    if problem.spec.features.sequences is None:
        return NO_FEATURE
    return _candidates(problem, train, screened, labels)


def shadow_sequences(
    problem: Problem, train: NDArray[np.bool_], screened: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the pairs whose shadows are the candidates: those with the most information about the outcome of other patients.

    All pairs are shifted along the ring by one distance, so that a shadow is chosen among as many pairs as a candidate is,
    although no pair of the permuted rows has an effect.
    """
    if problem.spec.features.sequences is None:
        return NO_FEATURE
    moved = shifted_samples(problem)
    own = train[moved]
    return _candidates(problem, own, screened, problem.y[moved][own])


def pair_patients(problem: Problem, columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of patients with each of these pairs; shape (n_columns,)."""
    block = problem.matrix.column_samples(columns)
    patients = problem.cohort.patient_of[block.indices]
    is_new = np.ones(len(patients), np.int64)
    is_new[1:] = patients[1:] != patients[:-1]
    starts = block.indptr[:-1]
    is_new[starts[starts < len(patients)]] = 1
    total = np.concatenate([[0], np.cumsum(is_new)])
    return np.asarray(total[block.indptr[1:]] - total[starts], np.int64)


def _candidates(
    problem: Problem, samples: NDArray[np.bool_], screened: NDArray[np.int64], labels: NDArray[np.uint8]
) -> NDArray[np.int64]:
    matrix, asked = problem.matrix, problem.spec.features.sequences
    assert isinstance(matrix, SequenceMatrix)
    assert asked is not None
    codes = _screened_codes(problem, screened)
    names = [problem.codes[code] for code in codes.tolist()]
    patients = problem.cohort.patient_of[samples]
    selection = problem.spec.selection
    found = informative_pairs(
        matrix.spans(codes, samples),
        labels,
        asked.max_candidates,
        min_patients=max(
            1, min_patients(n_distinct(patients), selection.min_prevalence, rule=selection.screen)
        ),
        co_occurrence_days=asked.co_occurrence_days,
        patient_of=patients if problem.cohort.has_repeats else None,
        starts=None if asked.start_codes is None else matches(asked.start_codes, names),
        ends=None if asked.end_codes is None else matches(asked.end_codes, names),
    )
    columns = matrix.pair_columns(codes[found.first], codes[found.then])
    return np.sort(problem.presence_of(columns))


def _screened_codes(problem: Problem, screened: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the codes whose presence in the longest window passed the screen."""
    n_windows = problem.n_windows
    longest = np.arange(len(problem.codes), dtype=np.int64) * n_windows + n_windows - 1
    return np.flatnonzero(np.isin(problem.presence_of(longest), screened))
