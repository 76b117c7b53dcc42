"""Permutations of the cohort by a hash: permuted labels and shadow columns, both independent of the outcome.

Samples form a ring: patients in the order of a hash of seed and patient, with each patient's samples adjacent and in
their order. With one sample per patient, a shift along the ring is a permutation of patients. With several, a patient's
samples stay adjacent: they are mapped to those of another patient, or of two if the numbers of samples differ.
Permuting only among patients with equal numbers of samples would preserve the association of that number with the outcome.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.events.matrix import ColumnBlock, move_cells
from mlho.method.selection.features import Cells
from mlho.method.splits import patient_order
from mlho.training.iterations.problem import Problem


def sample_ring(problem: Problem, purpose: str) -> NDArray[np.int64]:
    """Return the samples in ring order: int64, shape (n_samples,). The same for every iteration, and hashed once per problem."""
    if purpose not in problem.rings:
        problem.rings[purpose] = _sample_ring(problem, purpose)
    return problem.rings[purpose]


def _sample_ring(problem: Problem, purpose: str) -> NDArray[np.int64]:
    cohort = problem.cohort
    ids = np.array(cohort.unit_ids, dtype=object)
    order = patient_order(ids, seed=problem.spec.validation.seed, purpose=purpose, iteration="all")
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    return np.argsort(place[cohort.unit_of], kind="stable").astype(np.int64)


def permuted_labels(problem: Problem) -> NDArray[np.uint8]:
    """Assign the outcomes in ring order to the samples in their own order: uint8, shape (n_samples,).

    The same for every iteration of a run.
    """
    labels: NDArray[np.uint8] = problem.y[sample_ring(problem, "permuted-labels")]
    return labels


def shifted_samples(problem: Problem) -> NDArray[np.int64]:
    """Return the sample that gets the pairs of each sample in their shadows; see :func:`shadow_block`."""
    ring = sample_ring(problem, "shadow")
    (distance,) = _distances(problem, np.array([problem.n_columns]))
    moved = np.empty(ring.size, np.int64)
    moved[ring] = np.roll(ring, -int(distance))
    return moved


def shadow_block(
    problem: Problem,
    columns: NDArray[np.int64],
    samples: NDArray[np.bool_],
    numbers: Sequence[str | None] | None = None,
) -> ColumnBlock:
    """Return the cells of the columns' shadows on some samples, which are renumbered from 0 in their order.

    All cells of a code are shifted along the ring by one distance, a hash of seed and code, those of all pairs by another one. The windows and aggregates of a
    code therefore stay aligned, those of two codes do not: shadows are independent of the outcome and of the shadows of other
    codes. The shadows are the same in every iteration of a run. The cells of a column are not sorted.

    Parameters
    ----------
    columns : int64, shape (n_columns,)
    samples : bool, shape (n_samples,)
    numbers : sequence of str or None, shape (n_columns,), optional
        See :meth:`mlho.encoding.events.matrix.Matrix.column_block`. By default only the samples of the cells are read.
    """
    matrix = problem.matrix
    block = (
        matrix.column_samples(columns) if numbers is None else matrix.column_block(columns, numbers=numbers)
    )
    ring = sample_ring(problem, "shadow")
    places = np.empty(ring.size, np.int64)
    places[ring] = np.arange(ring.size)
    number = np.where(samples, np.cumsum(samples) - 1, -1).astype(np.int32)
    return move_cells(block, places, _distances(problem, columns), number[ring])


def shadow_cells(problem: Problem, features: NDArray[np.int64], samples: NDArray[np.bool_]) -> list[Cells]:
    """Return the non-zeros of the features' shadows on these samples, sorted; see :func:`shadow_block`."""
    numbers = problem.numbers_of(features)
    block = shadow_block(problem, problem.column_of(features), samples, numbers)
    found = []
    for start, stop in zip(block.indptr[:-1].tolist(), block.indptr[1:].tolist(), strict=True):
        order = start + np.argsort(block.indices[start:stop])
        values = None if block.number is None else block.number[order]
        found.append(Cells(block.indices[order], block.count[order], values))
    return found


def _distances(problem: Problem, columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Shift of each column: at least the largest number of samples per patient, so that no patient keeps its own cell."""
    n_samples = problem.cohort.n_samples
    least = int(np.bincount(problem.cohort.unit_of).max())
    n_distances = max(1, n_samples - 2 * least + 1)
    seed = problem.spec.validation.seed
    texts = (f"{seed}|shadow|{problem.shadow_of(column)}" for column in columns.tolist())
    hashes = (int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") for text in texts)
    return np.array([least + value % n_distances for value in hashes], np.int64)
