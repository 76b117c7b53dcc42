"""Candidate sequences: the ordered pairs of screened codes that are ranked together with the codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.encoding.events.code_patterns import matches
from mlho.encoding.events.sequences import SequenceMatrix
from mlho.method.selection.screen import min_patients
from mlho.method.sequences.pairs import Pairs, informative_pairs
from mlho.method.sequences.significance import is_significant
from mlho.training.iterations.permutation import shifted_samples
from mlho.training.iterations.problem import Problem

# At least half of the places in a selection are reserved for codes.
_MAX_SHARE: Final = 0.5
# Times in days, of about a month, a season, a year and three years, by which pairs are also evaluated if durations are asked for: a pair that is always
# in order may differ in them only.
_TIMES: Final = (30, 90, 365, 1095)


@dataclass(frozen=True, eq=False)
class CandidateSequences:
    """Candidate pairs."""

    significant: NDArray[np.int64]
    """Features of the pairs that are selected before all others, the one with the most information first, each followed by its bands in
    sufficiently many samples. Shape (n_significant,)."""
    information: NDArray[np.float64]
    """I(pair; Y | first, then) of these pairs in nats. Shape (n_significant,)."""
    ranked: NDArray[np.int64]
    """Features of the other pairs and of the durations of all, which are ranked together with the codes, ascending. Shape (n_ranked,)."""

    @property
    def features(self) -> NDArray[np.int64]:
        """All candidates, ascending."""
        return np.sort(np.concatenate([self.significant, self.ranked]))


_NO_CANDIDATES: Final = CandidateSequences(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))


def candidate_sequences(
    problem: Problem, train: NDArray[np.bool_], screened: NDArray[np.int64], labels: NDArray[np.uint8]
) -> CandidateSequences:
    """Return the pairs with the largest I(pair; Y | first, then); none without sequences.

    Codes are screened first: both codes of a pair are present in sufficiently many training patients, in the longest window, and
    so is the pair. With durations, pairs are also evaluated by whether the longest time between their events exceeds a month, a season,
    a year or three years.

    Parameters
    ----------
    train : bool, shape (n_samples,)
    screened : int64, shape (n_screened,)
        Features that passed the screen.
    labels : uint8, shape (n_train,)
        Labels of the training samples, or permuted ones.
    """
    if problem.spec.features.sequences is None:
        return _NO_CANDIDATES
    return _candidates(problem, train, screened, labels)


def shadow_sequences(
    problem: Problem, train: NDArray[np.bool_], screened: NDArray[np.int64]
) -> CandidateSequences:
    """Return the pairs whose shadows are the candidates: those with the most information about the outcome of other patients.

    All pairs are shifted along the ring by one distance, so that a shadow is chosen among as many pairs as a candidate is,
    although no pair of the permuted rows has an effect.
    """
    if problem.spec.features.sequences is None:
        return _NO_CANDIDATES
    moved = shifted_samples(problem)
    moved_train = train[moved]
    return _candidates(problem, moved_train, screened, problem.y[moved][moved_train])


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
) -> CandidateSequences:
    matrix, asked = problem.matrix, problem.spec.features.sequences
    assert isinstance(matrix, SequenceMatrix)
    assert asked is not None
    # The codes whose presence in the longest window passed the screen.
    codes = np.flatnonzero(np.isin(problem.presence_of(problem.longest_columns), screened))
    names = [problem.codes[code] for code in codes.tolist()]
    patients = problem.cohort.patient_of[samples]
    selection, n_patients = problem.spec.selection, n_distinct(patients)
    least = max(1, min_patients(n_patients, selection.min_prevalence, rule=selection.screen))
    informative = partial(
        informative_pairs,
        matrix.spans(codes, samples),
        labels,
        asked.max_candidates,
        min_patients=least,
        patient_of=patients if problem.cohort.has_repeats else None,
        starts=None if asked.start_codes is None else matches(asked.start_codes, names),
        ends=None if asked.end_codes is None else matches(asked.end_codes, names),
    )
    found = informative(co_occurrence_days=asked.co_occurrence_days)
    first, then = codes[found.first], codes[found.then]
    is_first = is_significant(found.information, n_units=n_patients, n_tests=found.n_screened)
    is_first[int(_MAX_SHARE * selection.n_features / (1 + matrix.n_bands)) :] = False
    bands = range(1 + matrix.n_bands)
    columns = np.stack([matrix.pair_columns(first, then, part=band)[is_first] for band in bands], axis=1)
    n_samples = np.diff(matrix.column_samples(columns.ravel(), samples).indptr).reshape(columns.shape)
    is_kept = n_samples >= least
    significant = problem.presence_of(columns[is_kept])
    times = [days for days in _TIMES if days > asked.co_occurrence_days] if matrix.durations else []
    if times:
        by_time = [found, *(informative(co_occurrence_days=days) for days in times)]
        first, then = (codes[places] for places in _best_of(by_time, len(codes), asked.max_candidates))
    parts = range(1 + len(matrix.durations))
    ranked = [problem.presence_of(matrix.pair_columns(first, then, part=part)) for part in parts]
    return CandidateSequences(
        significant,
        np.repeat(found.information[is_first], np.count_nonzero(is_kept, axis=1)),
        np.setdiff1d(np.concatenate(ranked), significant),
    )


def _best_of(
    found: Sequence[Pairs], n_codes: int, n_pairs: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs with the most information in any of these lists, each once."""
    keys = np.concatenate([pairs.first * n_codes + pairs.then for pairs in found])
    information = np.concatenate([pairs.information for pairs in found])
    order = np.lexsort((keys, -information))
    _, places = np.unique(keys[order], return_index=True)
    return np.divmod(keys[order][np.sort(places)[:n_pairs]], n_codes)
