"""Coarse figures of the training data about a model, for the tests that the bundle carries.

No figure is of fewer patients than the smallest permitted cell, and none is of one patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from mlho.model.golden import ColumnStatistics

MIN_Z: Final = (
    5.0  # of a strong association; without an association, about one column in two million reaches it
)
MAX_CORRELATION: Final = (
    0.3  # with every other column: beyond it, another column may explain or reverse the association
)
MAX_ASSOCIATIONS: Final = 10
MIN_PATIENTS: Final = 20  # with the column, or the smallest cell if that is larger
_N_CANDIDATES: Final = 40


@dataclass(frozen=True)
class Association:
    """A column that by itself has a strong association with the outcome."""

    column: str
    direction: Literal["higher", "lower"]
    """``higher``: more of the column goes with more of the outcome."""
    low: float | None
    """A low number of the column; None: absent."""
    high: float
    """A high number."""


@dataclass(frozen=True)
class GroupFigure:
    """AUROC in one group of a demographic, over the test sets."""

    name: str
    level: str
    mean: float
    high: float | None


@dataclass(frozen=True)
class Evidence:
    """Figures of the training data and of the out-of-fold scores."""

    associations: tuple[Association, ...] = ()
    groups: tuple[GroupFigure, ...] = ()
    outcome_rate: float | None = None
    mean_probability: float | None = None
    """Share of samples with the outcome, and mean calibrated out-of-fold probability. None: without calibrator."""
    slope: float | None = None
    """Of the outcome on the logit of the calibrated out-of-fold probability."""
    own_auroc: float | None = None
    unseen_auroc: float | None = None
    """Of the model on its training samples, and out of fold."""


def associations_of(
    design: Any,
    y: NDArray[np.integer[Any]],
    columns: Sequence[str],
    statistics: Sequence[ColumnStatistics],
    *,
    is_number: NDArray[np.bool_],
    is_value: NDArray[np.bool_] | None,
    n_patients: int,
    min_cell: int,
) -> tuple[Association, ...]:
    """Return the columns that by themselves have a strong association with the outcome, the strongest first.

    Parameters
    ----------
    design : scipy sparse, shape (n_samples, n_columns)
        The training matrix.
    y : 0 or 1, shape (n_samples,)
    is_number : bool, shape (n_columns,)
        Columns of measured numbers: they go from a low to a high number, the others from absent to a high number.
    is_value : bool, shape (n_columns,), or None
        Columns in which an absent cell is missing; None: in no column.
    min_cell : int
        Minimum number of patients behind a published statistic.
    """
    X = design.tocsc().astype(np.float64)
    z = _z_scores(X, y.astype(np.float64), np.zeros(X.shape[1], np.bool_) if is_value is None else is_value)
    order = [place for place in np.argsort(-np.abs(z), kind="stable").tolist() if abs(z[place]) >= MIN_Z]
    candidates = order[:_N_CANDIDATES]
    alone = candidates and _is_alone(X, candidates)
    found = []
    for place, is_alone in zip(candidates, alone, strict=True):
        numbers, n_with = statistics[place].quantiles, statistics[place].prevalence * n_patients
        low = numbers[0] if is_number[place] else None
        if (
            not is_alone
            or n_with <= max(MIN_PATIENTS, min_cell)
            or low == numbers[-1]
            or (low is None and numbers[-1] <= 0)
        ):
            continue
        found.append(Association(columns[place], "higher" if z[place] > 0 else "lower", low, numbers[-1]))
    return tuple(found[:MAX_ASSOCIATIONS])


def _z_scores(X: Any, y: NDArray[np.float64], is_value: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the correlation of each column with the outcome, times the square root of the number of samples."""
    stored = X.copy()
    stored.data = np.ones_like(stored.data)
    squared = X.copy()
    squared.data = squared.data**2
    ones = np.ones(X.shape[0])
    n = np.where(is_value, stored.T @ ones, float(X.shape[0]))
    total_y = np.where(is_value, stored.T @ y, y.sum())
    total, total_squared, total_xy = X.T @ ones, squared.T @ ones, X.T @ y
    variance = (total_squared * n - total**2) * (total_y * n - total_y**2)
    covariance = total_xy * n - total * total_y
    z = np.zeros(X.shape[1])
    np.divide(
        covariance * np.sqrt(n), np.sqrt(np.maximum(variance, 0.0)), out=z, where=variance > 1e-9 * n**2
    )
    return z


def _is_alone(X: Any, candidates: Sequence[int]) -> list[bool]:
    """Return for each candidate whether its correlation with every other column is small; an absent cell counts as zero."""
    n = float(X.shape[0])
    ones = np.ones(X.shape[0])
    squared = X.copy()
    squared.data = squared.data**2
    mean = (X.T @ ones) / n
    deviation = np.sqrt(np.maximum((squared.T @ ones) / n - mean**2, 0.0))
    chosen = list(candidates)
    products = (X[:, chosen].T @ X).toarray() / n - np.outer(mean[chosen], mean)
    scale = np.outer(deviation[chosen], deviation)
    correlation = np.zeros_like(products)
    np.divide(products, scale, out=correlation, where=scale > 0)
    correlation[np.arange(len(chosen)), chosen] = 0.0
    return [bool(largest) for largest in np.abs(correlation).max(axis=1, initial=0.0) <= MAX_CORRELATION]
