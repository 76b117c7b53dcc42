"""The association of each single code with the outcome: presence, count and value, over all samples."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.encoding.events.patients import frozen
from mlho.training.iterations.problem import Problem

_CELLS_AT_ONCE: Final = 4_000_000


@dataclass(frozen=True)
class Associations:
    """Figures of each code in the longest window; arrays have shape (n_codes,)."""

    n_patients: NDArray[np.int64]
    """Patients with the code."""
    n_samples: NDArray[np.int64]
    n_positive: NDArray[np.int64]
    """Samples with the code, and those of them with the outcome."""
    presence: NDArray[np.float64]
    count: NDArray[np.float64]
    value: NDArray[np.float64]
    """AUROC of one code over all samples, in either direction. In ``value`` a pair of samples that do not both have a number counts one
    half; it is 0.5 without numbers. In [0.5, 1]."""
    n_with_outcome: int
    n_without_outcome: int

    @property
    def of_positive(self) -> NDArray[np.float64]:
        """P(code | outcome)."""
        return self.n_positive / self.n_with_outcome

    @property
    def of_negative(self) -> NDArray[np.float64]:
        """P(code | no outcome)."""
        return (self.n_samples - self.n_positive) / self.n_without_outcome

    @property
    def precision(self) -> NDArray[np.float64]:
        """P(outcome | code)."""
        return self.n_positive / np.maximum(self.n_samples, 1)

    @property
    def correlation(self) -> NDArray[np.float64]:
        """Absolute correlation of the presence with the outcome (phi coefficient)."""
        n = self.n_with_outcome + self.n_without_outcome
        code, outcome = self.n_samples / n, self.n_with_outcome / n
        spread = np.sqrt(code * (1 - code) * outcome * (1 - outcome))
        return np.abs(self.n_positive / n - code * outcome) / np.where(spread > 0, spread, np.inf)


def associate(problem: Problem) -> Associations:
    """Return the figures of every code."""
    y, columns = frozen(problem.y), problem.longest_columns
    n1 = int(problem.y.sum())
    n0 = problem.cohort.n_samples - n1
    n_patients = problem.matrix.patients_per_column()[columns]
    found = np.zeros((5, len(columns)))
    for chunk in _chunks(n_patients):
        block = problem.matrix.column_block(columns[chunk])
        number = np.empty(0, np.float64) if block.number is None else block.number
        found[:, chunk] = _figures(block.indptr, block.indices, block.count, frozen(number), y, n1, n0)
    return Associations(
        n_patients=n_patients,
        n_samples=found[0].astype(np.int64),
        n_positive=found[1].astype(np.int64),
        presence=found[2],
        count=found[3],
        value=found[4],
        n_with_outcome=n1,
        n_without_outcome=n0,
    )


def _chunks(n_patients: NDArray[np.int64]) -> Iterator[slice]:
    """Yield ranges of codes of a bounded number of cells, by the number of patients."""
    start, cells = 0, 0
    for place, n in enumerate(n_patients.tolist()):
        if cells + n > _CELLS_AT_ONCE and place > start:
            yield slice(start, place)
            start, cells = place, 0
        cells += n
    if start < len(n_patients):
        yield slice(start, len(n_patients))


@njit(cache=True, nogil=True)
def _figures(
    indptr: Any, indices: Any, count: Any, number: Any, y: Any, n1: Any, n0: Any
) -> Any:  # pragma: no cover - compiled
    """Return samples, positives, and the AUROC of presence, count and value of each column; shape (5, n_columns)."""
    n_columns = indptr.size - 1
    found = np.empty((5, n_columns))
    for j in range(n_columns):
        start, stop = indptr[j], indptr[j + 1]
        labels = y[indices[start:stop]]
        positive = np.int64(0)
        for i in range(labels.size):
            positive += labels[i]
        negative = labels.size - positive
        found[0, j], found[1, j] = labels.size, positive
        a, b = positive / n1, negative / n0
        found[2, j] = (1 + abs(a - b)) / 2
        found[3, j] = found[4, j] = 0.5
        # Samples without the code are tied below: pairs with one of them are decided by presence.
        within = _wins(count[start:stop].astype(np.float64), labels)
        wins = within + positive * (n0 - negative) + (n1 - positive) * (n0 - negative) / 2
        found[3, j] = 0.5 + abs(wins / (n1 * n0) - 0.5)
        if number.size:
            known = ~np.isnan(number[start:stop])
            known_labels = labels[known]
            pairs = float(known_labels.sum()) * float(known_labels.size - known_labels.sum())
            excess = _wins(number[start:stop][known], known_labels) - pairs / 2
            found[4, j] = 0.5 + abs(excess / (n1 * n0))
    return found


@njit(cache=True, nogil=True)
def _wins(score: Any, y: Any) -> Any:  # pragma: no cover - compiled
    """Pairs of a positive and a negative in which the positive has the higher score; ties count one half."""
    order = np.argsort(score)
    wins, below, i = 0.0, 0, 0
    while i < order.size:
        stop, positive, negative = i, 0, 0
        while stop < order.size and score[order[stop]] == score[order[i]]:
            positive += y[order[stop]]
            negative += 1 - y[order[stop]]
            stop += 1
        wins += positive * (below + negative / 2)
        below += negative
        i = stop
    return wins
