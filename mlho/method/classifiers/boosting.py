"""Component-wise L2 boosting of the logistic loss: MLHO's default classifier.

Each step fits every standardised column alone to the gradient, selects the one that explains most of it, and
moves its coefficient by a small amount. A few steps select a few features. The columns stay
sparse: a standardised column's product with the gradient follows from its non-zeros and the gradient's total.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.errors import SpecError
from mlho.method.classifiers import log_odds
from mlho.method.classifiers.design_matrix import (
    Columns,
    Floats,
    checked_labels,
    checked_matrix,
    columns_of,
    per_unit,
)

#: Column number of the intercept in a path.
INTERCEPT = -1

#: Columns whose explained gradient agrees within this relative difference are tied, and the first one wins. Otherwise
#: rounding would choose between a column and its complement.
_TIE = 1e-12

#: Rounding of the bounds on columns that are not computed: relative, and absolute per n^1.5; see ``_boost``.
_RELATIVE, _ABSOLUTE = 1e-6, 1e-14


@dataclass(frozen=True, eq=False)
class GLMBoostResult:
    """A boosted logistic model, in the units of X."""

    intercept: float
    """Log-odds of a row of zeros."""
    coefficients: Floats
    """Log odds ratio per unit of X; 0 for a column that was never selected. Shape (n_features,)."""
    mean: Floats
    scale: Floats
    """Training mean and standard deviation (ddof 1); the odds ratio per standard deviation is ``exp(coefficients * scale)``. Shape
    (n_features,)."""
    base: float
    """Log-odds at the training mean."""
    offset: float
    """Start of boosting: half the log-odds of the training prevalence."""
    path: NDArray[np.int64]
    """Column selected by each step; -1 is the intercept. Shape (n_steps,)."""
    increments: Floats
    """Change of the standardised coefficient by each step, in half log-odds per standard deviation as in R's mboost. Shape (n_steps,)."""
    learning_rate: float
    """Fraction of the fitted step that is applied."""
    dropped: NDArray[np.int64]
    """Columns that are constant in training, with coefficient 0. Shape (n_dropped,)."""

    @property
    def n_steps(self) -> int:
        """Number of boosting steps taken."""
        return int(self.path.size)

    def after(self, n_steps: int) -> "GLMBoostResult":
        """Return the model after the first ``n_steps`` steps, bit-identical to ``fit`` with that many steps."""
        if not 1 <= n_steps <= self.n_steps:
            raise SpecError(
                f"n_steps: expected 1 to {self.n_steps}, the number of fitted steps; got {n_steps}."
            )
        return _result(
            self.path[:n_steps],
            self.increments[:n_steps],
            mean=self.mean,
            scale=self.scale,
            offset=self.offset,
            learning_rate=self.learning_rate,
            dropped=self.dropped,
        )

    def log_odds(self, X: Any) -> Floats:
        """Return the log-odds of y = 1 for each row, shape (n_samples,)."""
        matrix = checked_matrix(X, n_features=self.coefficients.size)
        return log_odds.log_odds(matrix, self.coefficients, self.mean, self.base)

    def predict_proba(self, X: Any) -> Floats:
        """Return P(y = 1) for each row, shape (n_samples,), bit-identical for any batch, sparse or dense."""
        return log_odds.probabilities(self.log_odds(X))


def fit(X: Any, y: Any, n_steps: int, learning_rate: float = 0.1) -> GLMBoostResult:
    """Boost a logistic model, one column per step.

    Parameters
    ----------
    X : dense or SciPy sparse, shape (n_samples, n_features)
        Unscaled: columns are centred and scaled internally by their training mean and standard deviation (ddof
        1). A constant column is dropped without an error.
    y : array-like of 0 and 1, shape (n_samples,)
        Both classes must be present.
    n_steps : int, at least 1
        Number of steps; R's ``mstop``.
    learning_rate : float in (0, 1]
        R's ``nu``.

    Returns
    -------
    GLMBoostResult
        In original units. Ties within 1e-12 go to the first column, with the intercept before all others.

    Raises
    ------
    SpecError
        Step count or learning rate out of range.
    DataError
        Cells that are not finite numbers, labels that are not 0 and 1, or a single class.

    References
    ----------
    Bühlmann, P. and Yu, B. (2003). Boosting with the L2 loss. JASA 98, 324–339. Bühlmann, P. and Hothorn, T.
    (2007). Boosting algorithms: regularization, prediction and model fitting. Statistical Science 22,
    477–505. R's ``mboost::glmboost(family = Binomial())`` on centred, scaled columns gives the same path.

    Examples
    --------
    >>> model = fit([[0.0, 1.0], [0.0, 3.0], [1.0, 2.0], [1.0, 2.0]], [0, 0, 1, 1], n_steps=3)
    >>> model.path.tolist(), model.coefficients.round(3).tolist()
    ([0, 0, 0], [1.498, 0.0])
    """
    if isinstance(n_steps, bool) or int(n_steps) != n_steps or n_steps < 1:
        raise SpecError(f"n_steps: expected a whole number of at least 1; got {n_steps}.")
    if not 0.0 < learning_rate <= 1.0:
        raise SpecError(f"learning_rate: expected a number in (0, 1]; got {learning_rate}.")
    matrix = checked_matrix(X, where="training matrix")
    labels = checked_labels(y, matrix.shape[0])
    columns, spread = columns_of(matrix)
    prevalence = int(labels.sum()) / labels.size
    offset = 0.5 * math.log(prevalence / (1.0 - prevalence))
    path, increments = _boost(columns, 2.0 * labels - 1.0, offset, int(n_steps), float(learning_rate), _TIE)
    return _result(
        path,
        increments,
        mean=spread.mean,
        scale=spread.sd,
        offset=offset,
        learning_rate=float(learning_rate),
        dropped=np.flatnonzero(spread.is_constant),
    )


def first_steps(
    X: Any, y: Any, path: NDArray[np.int64], newcomers: Any, learning_rate: float = 0.1
) -> Floats:
    """Return the effect of each new column, added alone, at the step that would first select it.

    Up to that step boosting with the new column equals boosting without it. Following the path once therefore shows for
    each new column whether the model would use it.

    Parameters
    ----------
    X : dense or SciPy sparse, shape (n_samples, n_features)
        The training matrix.
    y : array-like of 0 and 1, shape (n_samples,)
    path : int64, shape (n_steps,)
        Steps of :func:`fit` on X and y.
    newcomers : dense or SciPy sparse, shape (n_samples, n_newcomers)
        Columns that are not in the model.
    learning_rate : float in (0, 1]
        Learning rate of the fit.

    Returns
    -------
    float64, shape (n_newcomers,)
        Log odds ratio per standard deviation after that one step; 0 for a column that no step would select.
    """
    matrix = checked_matrix(X, where="training matrix")
    labels = checked_labels(y, matrix.shape[0])
    prevalence = int(labels.sum()) / labels.size
    gained: Floats = _first_steps(
        columns_of(matrix)[0],
        columns_of(checked_matrix(newcomers, where="newcomers"))[0],
        2.0 * labels - 1.0,
        0.5 * math.log(prevalence / (1.0 - prevalence)),
        path,
        float(learning_rate),
        _TIE,
    )
    return gained


def _result(
    path: NDArray[np.int64],
    increments: Floats,
    *,
    mean: Floats,
    scale: Floats,
    offset: float,
    learning_rate: float,
    dropped: NDArray[np.int64],
) -> GLMBoostResult:
    """Sum the steps in order; the result is doubled, because boosting uses half log-odds."""
    start = 0.0
    standardised = [0.0] * mean.size
    for column, increment in zip(path.tolist(), increments.tolist(), strict=True):
        if column == INTERCEPT:
            start += increment
        else:
            standardised[column] += increment
    coefficients = per_unit(2.0 * np.asarray(standardised), scale)
    base = 2.0 * (offset + start)
    return GLMBoostResult(
        intercept=intercept_at_zero(base, coefficients, mean),
        coefficients=coefficients,
        mean=mean,
        scale=scale,
        base=base,
        offset=offset,
        path=path,
        increments=increments,
        learning_rate=learning_rate,
        dropped=dropped,
    )


def intercept_at_zero(base: float, coefficients: Floats, mean: Floats) -> float:
    """Return the log-odds of a row of zeros from those at the mean, correctly rounded."""
    return math.fsum([base, *(-coefficients * mean).tolist()])


@njit(cache=True, nogil=True)
def _boost(
    columns: Columns, sign: Any, offset: float, n_steps: int, learning_rate: float, tie: float
) -> Any:  # pragma: no cover - compiled
    """Return path and increments.

    With u the gradient and z a standardised column of length 1, a step selects the largest |z′u|. By Cauchy and Schwarz

        |z′u| ≤ |z′v| + ‖u − v‖    for the gradient v of any earlier step.

    The bound of a column is |z′v| when last computed plus all distances since. If it is below the |z′u| of another column,
    the column cannot be selected, and is not computed. The result is the same to the last bit as with all
    columns computed, because the test allows for

    - rounding in z′u, at most 1e-14·n^1.5·(1 + |mean|/sd): a sum of n terms has a relative error of n·1.1e-16 of their absolute
      sum, |u| is at most 2/ln 2 per row, and two values of z′u are compared;
    - rounding in ‖u − v‖, in the length of z and in sums of distances, together (n + n_steps)·1e-15 relative: far below 1e-6
      (for an sd above 1e-150, the squares of which do not underflow);
    - ties: with p columns, each within the tolerance of the one before, a column could affect the choice among columns
      (1 + tolerance)^p times larger: the factor 1 + 1e-6 + p·tolerance excludes it.
    """
    data, indices, indptr, mean, sd = columns
    n_rows, n_columns = sign.size, mean.size
    path = np.empty(n_steps, dtype=np.int64)
    increments = np.empty(n_steps)
    gradient = np.zeros(n_rows)
    # f = common + by_row: a step shifts all rows equally, and in addition the rows with a non-zero in the column.
    common = offset
    by_row = np.zeros(n_rows)
    # A standardised column has Σz² = n − 1 by construction; the intercept's column of ones has n.
    norm, norm_intercept = math.sqrt(n_rows - 1.0), math.sqrt(float(n_rows))
    is_one = _are_ones(data, indptr)
    bound = np.where(sd == 0.0, -np.inf, np.inf)  # a constant column is never computed
    margin, rounding = 1.0 + _RELATIVE + n_columns * tie, _ABSOLUTE * n_rows**1.5
    pick = -1
    for step in range(n_steps):
        total, distance = _gradient(sign, common, by_row, gradient)
        # The column of the last step is often still among the largest, so that few others reach it.
        reached = abs(_explained(columns, is_one, pick, gradient, total, norm)) if pick >= 0 else 0.0
        pick, explained, best = -1, total / norm_intercept, abs(total / norm_intercept)
        for j in range(n_columns):
            bound[j] += distance
            if bound[j] * margin < max(best, reached):
                continue
            t = _explained(columns, is_one, j, gradient, total, norm)
            bound[j] = abs(t) + rounding * (1.0 + abs(mean[j]) / sd[j])
            if abs(t) > best * (1.0 + tie):
                pick, explained, best = j, t, abs(t)
        path[step] = pick
        if pick < 0:
            increments[step] = learning_rate * (explained / norm_intercept)
            common += increments[step]
            continue
        increments[step] = learning_rate * (explained / norm)
        slope = increments[step] / sd[pick]
        common -= slope * mean[pick]
        for k in range(indptr[pick], indptr[pick + 1]):
            by_row[indices[k]] += slope * data[k]
    return path, increments


@njit(cache=True, nogil=True)
def _first_steps(
    columns: Columns, others: Columns, sign: Any, offset: float, path: Any, learning_rate: float, tie: float
) -> Any:  # pragma: no cover - compiled
    data, indices, indptr, mean, sd = columns
    n_rows = sign.size
    gained = np.zeros(others.sd.size)
    gradient = np.zeros(n_rows)
    common = offset
    by_row = np.zeros(n_rows)
    norm, norm_intercept = math.sqrt(n_rows - 1.0), math.sqrt(float(n_rows))
    is_one, is_one2 = _are_ones(data, indptr), _are_ones(others.data, others.indptr)
    for pick in path:
        total, _ = _gradient(sign, common, by_row, gradient)
        if pick < 0:
            explained = total / norm_intercept
        else:
            explained = _explained(columns, is_one, pick, gradient, total, norm)
        for j in range(others.sd.size):
            if others.sd[j] == 0.0 or gained[j] != 0.0:
                continue
            t = _explained(others, is_one2, j, gradient, total, norm)
            if abs(t) > abs(explained) * (1.0 + tie):
                # Doubled, because boosting uses half log-odds.
                gained[j] = 2.0 * learning_rate * (t / norm)
        if pick < 0:
            common += learning_rate * (explained / norm_intercept)
            continue
        slope = learning_rate * (explained / norm) / sd[pick]
        common -= slope * mean[pick]
        for k in range(indptr[pick], indptr[pick + 1]):
            by_row[indices[k]] += slope * data[k]
    return gained


@njit(cache=True, nogil=True)
def _gradient(
    sign: Any, common: float, by_row: Any, gradient: Any
) -> tuple[float, float]:  # pragma: no cover - compiled
    """Write the gradient. Return its total, and its distance from the one before."""
    # 2y·e^(−2yf) / (ln 2 · (1 + e^(−2yf))), in a form that does not overflow to inf / inf for a large margin.
    total, squares = 0.0, 0.0
    for i in range(sign.size):
        before = gradient[i]
        gradient[i] = 2.0 * sign[i] / (math.log(2.0) * (1.0 + math.exp(2.0 * sign[i] * (common + by_row[i]))))
        total += gradient[i]
        squares += (gradient[i] - before) ** 2
    return total, math.sqrt(squares)


@njit(cache=True, nogil=True)
def _explained(
    columns: Columns, is_one: Any, j: int, gradient: Any, total: float, norm: float
) -> float:  # pragma: no cover - compiled
    """Return the scalar product of the gradient and a standardised column of length 1."""
    data, indices, indptr, mean, sd = columns
    product = _product(data, is_one[j], indices, indptr[j], indptr[j + 1], gradient)
    explained: float = (product - mean[j] * total) / (sd[j] * norm)
    return explained


@njit(cache=True, nogil=True)
def _are_ones(data: Any, indptr: Any) -> Any:  # pragma: no cover - compiled
    """Columns whose stored cells are all 1, as in presence: bool, shape (n_columns,)."""
    found = np.ones(indptr.size - 1, np.bool_)
    for j in range(found.size):
        for k in range(indptr[j], indptr[j + 1]):
            if data[k] != 1.0:
                found[j] = False
                break
    return found


@njit(cache=True, nogil=True)
def _product(
    data: Any, is_one: bool, indices: Any, start: int, stop: int, gradient: Any
) -> float:  # pragma: no cover - compiled
    """Return the scalar product of a column and the gradient. If all cells are 1, a sum without reading them gives the same result three times as fast."""
    if is_one:
        return _sum(indices, start, stop, gradient)
    return _dot(data, indices, start, stop, gradient)


@njit(cache=True, nogil=True)
def _dot(
    data: Any, indices: Any, start: int, stop: int, gradient: Any
) -> float:  # pragma: no cover - compiled
    # Four partial sums, combined in a fixed order: a single one would wait for each addition before the next. Unsigned
    # positions need no test for negative ones.
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    k = start
    while k + 3 < stop:
        a += data[k] * gradient[np.uint64(indices[k])]
        b += data[k + 1] * gradient[np.uint64(indices[k + 1])]
        c += data[k + 2] * gradient[np.uint64(indices[k + 2])]
        d += data[k + 3] * gradient[np.uint64(indices[k + 3])]
        k += 4
    while k < stop:
        a += data[k] * gradient[np.uint64(indices[k])]
        k += 1
    return (a + b) + (c + d)


@njit(cache=True, nogil=True)
def _sum(indices: Any, start: int, stop: int, gradient: Any) -> float:  # pragma: no cover - compiled
    """Return the same bits as ``_dot`` for cells that are all 1."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    k = start
    while k + 3 < stop:
        a += gradient[np.uint64(indices[k])]
        b += gradient[np.uint64(indices[k + 1])]
        c += gradient[np.uint64(indices[k + 2])]
        d += gradient[np.uint64(indices[k + 3])]
        k += 4
    while k < stop:
        a += gradient[np.uint64(indices[k])]
        k += 1
    return (a + b) + (c + d)
