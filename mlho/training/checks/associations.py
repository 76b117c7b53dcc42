"""The association of each single code and demographic with the outcome: presence, count and numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.encoding.cohort.cohort import Cohort, NumericColumn
from mlho.encoding.events.patients import frozen
from mlho.training.iterations.problem import Problem

_CELLS_AT_ONCE: Final = 4_000_000
_Z: Final = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Associations:
    """Figures of columns: codes in their windows, or levels of demographics. Arrays have shape (n_columns,)."""

    n_patients: NDArray[np.int64]
    """Patients with the code."""
    n_samples: NDArray[np.int64]
    n_positive: NDArray[np.int64]
    """Samples with the code, and those of them with the outcome."""
    auroc: Mapping[str, NDArray[np.float64]]
    """AUROC in either direction, in [0.5, 1]: of ``presence`` and ``count`` over all samples, of each number (such as ``last`` or
    ``recency``) over the samples that have it."""
    error: Mapping[str, NDArray[np.float64]]
    """Standard error of each AUROC without an association, with patients as the independent unit; infinite without a pair."""
    low: Mapping[str, NDArray[np.float64]]
    """Lower 95 % limit of the AUROC of each number: few samples may have it."""
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
    """Return the figures of every code in every window, in the order of the columns of the matrix."""
    y, columns = frozen(problem.y), np.arange(problem.n_columns, dtype=np.int64)
    n1 = int(problem.y.sum())
    n0 = problem.cohort.n_samples - n1
    n_patients = problem.matrix.patients_per_column()
    found = np.zeros((4, len(columns)))
    numbers = {name: np.zeros((3, len(columns))) for name in sorted(problem.matrix.numbers)}
    for chunk in _chunks(n_patients):
        block = problem.matrix.column_block(columns[chunk], numbers=[None] * len(columns[chunk]))
        found[:, chunk] = _figures(block.indptr, block.indices, block.count, y, n1, n0)
        for name, figures in numbers.items():
            block = problem.matrix.column_block(columns[chunk], numbers=[name] * len(columns[chunk]))
            assert block.number is not None
            figures[:, chunk] = _figures_of_numbers(block.indptr, block.indices, frozen(block.number), y)
    clustering = np.sqrt(np.maximum(found[0], 1) / np.maximum(n_patients, 1))
    of_all = clustering * _null_error(np.array([n1]), np.array([n0]))
    return Associations(
        n_patients=n_patients,
        n_samples=found[0].astype(np.int64),
        n_positive=found[1].astype(np.int64),
        auroc={"presence": found[2], "count": found[3]} | {name: of[0] for name, of in numbers.items()},
        error={"presence": of_all, "count": of_all}
        | {name: clustering * _null_error(of[1], of[2]) for name, of in numbers.items()},
        low={name: _lower_limit(of[0], of[1], of[2], clustering) for name, of in numbers.items()},
        n_with_outcome=n1,
        n_without_outcome=n0,
    )


def associate_demographics(cohort: Cohort) -> tuple[list[tuple[str, str | None]], Associations]:
    """Return demographic and level of each column, and their figures. A number is one column, without a level and without samples."""
    names: list[tuple[str, str | None]] = []
    n1 = int(cohort.outcome.sum())
    n0 = cohort.n_samples - n1
    rows = []
    for column in cohort.demographics:
        if isinstance(column, NumericColumn):
            known = np.flatnonzero(~np.isnan(column.values)).astype(np.int32)
            cells = np.array([0, len(known)]), known, frozen(column.values[known])
            value, *sizes = _figures_of_numbers(*cells, frozen(cohort.outcome))[:, 0]
            names.append((column.name, None))
            rows.append((n_distinct(cohort.patient_of[known]), 0, 0, 0.5, value, *sizes, len(known)))
            continue
        for code, level in enumerate(column.levels):
            of_level = column.codes == code
            n, k = int(of_level.sum()), int(cohort.outcome[of_level].sum())
            presence = (1 + abs(k / n1 - (n - k) / n0)) / 2
            names.append((column.name, level))
            rows.append((n_distinct(cohort.patient_of[of_level]), n, k, presence, 0.5, n1, n0, n))
    figures = np.array(rows, np.float64).reshape(-1, 8).T
    clustering = np.sqrt(np.maximum(figures[7], 1) / np.maximum(figures[0], 1))
    error = clustering * _null_error(figures[5], figures[6])
    counts = figures[:3].astype(np.int64)
    return names, Associations(
        n_patients=counts[0],
        n_samples=counts[1],
        n_positive=counts[2],
        auroc={"presence": figures[3], "value": figures[4]},
        error={"presence": error, "value": error},
        low={"value": _lower_limit(figures[4], figures[5], figures[6], clustering)},
        n_with_outcome=n1,
        n_without_outcome=n0,
    )


def _null_error(n1: NDArray[Any], n0: NDArray[Any]) -> NDArray[np.float64]:
    """Return the standard error of the AUROC without an association (Mann-Whitney)."""
    pairs = n1 * n0
    variance = np.full(len(pairs), np.inf)
    np.divide((n1 + n0 + 1) / 12, pairs, out=variance, where=pairs > 0)
    return np.sqrt(variance)


def _lower_limit(
    auroc: NDArray[np.float64], n1: NDArray[Any], n0: NDArray[Any], clustering: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the lower 95 % limit of an AUROC (standard error of Hanley and McNeil 1982); 1 if it is 1."""
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (n1 - 1) * (q1 - auroc**2) + (n0 - 1) * (q2 - auroc**2)
    return np.asarray(auroc - _Z * clustering * np.sqrt(np.maximum(variance, 0) / np.maximum(n1 * n0, 1)))


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
    indptr: Any, indices: Any, count: Any, y: Any, n1: Any, n0: Any
) -> Any:  # pragma: no cover - compiled
    """Return samples, positives, and the AUROC of presence and count of each column; shape (4, n_columns)."""
    n_columns = indptr.size - 1
    found = np.empty((4, n_columns))
    for j in range(n_columns):
        start, stop = indptr[j], indptr[j + 1]
        labels = y[indices[start:stop]]
        positive = np.int64(0)
        for i in range(labels.size):
            positive += labels[i]
        negative = labels.size - positive
        found[0, j], found[1, j] = labels.size, positive
        found[2, j] = (1 + abs(positive / n1 - negative / n0)) / 2
        # Samples without the code are tied below: pairs with one of them are decided by presence.
        within = _wins(count[start:stop].astype(np.float64), labels)
        wins = within + positive * (n0 - negative) + (n1 - positive) * (n0 - negative) / 2
        found[3, j] = 0.5 + abs(wins / (n1 * n0) - 0.5)
    return found


@njit(cache=True, nogil=True)
def _figures_of_numbers(indptr: Any, indices: Any, number: Any, y: Any) -> Any:  # pragma: no cover - compiled
    """Return the AUROC of the number among the samples that have it, and how many have it with and without the outcome; shape (3, n_columns)."""
    n_columns = indptr.size - 1
    found = np.empty((3, n_columns))
    for j in range(n_columns):
        start, stop = indptr[j], indptr[j + 1]
        known = ~np.isnan(number[start:stop])
        labels = y[indices[start:stop]][known]
        positive = np.int64(0)
        for i in range(labels.size):
            positive += labels[i]
        negative = labels.size - positive
        found[0, j], found[1, j], found[2, j] = 0.5, positive, negative
        if positive and negative:
            wins = _wins(number[start:stop][known], labels)
            found[0, j] = 0.5 + abs(wins / (positive * negative) - 0.5)
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
