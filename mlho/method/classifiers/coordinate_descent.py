"""Logistic regression with an elastic-net penalty, by Newton steps and coordinate descent.

Each outer step replaces the loss by its quadratic approximation at the current fit. The inner loop cycles through the
coefficients and solves for each with the others fixed. Columns are standardised implicitly: centring by weighted
means keeps the intercept fixed, and the cost of a column is its number of non-zeros. Nothing is random, and
all sums have a fixed order.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from mlho.errors import SpecError
from mlho.method.classifiers.design_matrix import (
    Floats,
    as_csc,
    centred_where_full,
    checked_labels,
    checked_matrix,
    moments,
)

#: Converged if no standardised coefficient moves by more than this in a Newton step; the remaining error is of its square.
_TOLERANCE = 1e-7
#: Tolerance of the coordinates within a Newton step.
_TOLERANCE_INNER = 1e-9
_MAX_NEWTON_STEPS = 100
_MAX_ROUNDS = 10_000


@dataclass(frozen=True, eq=False)
class ElasticNetResult:
    """A penalised logistic model, in the units of X.

    Attributes
    ----------
    coefficients : float64, shape (n_features,)
        Log odds ratio per unit of X; 0 for a constant column or one removed by the penalty.
    mean, scale : float64, shape (n_features,)
        Training mean and standard deviation (ddof 1).
    base : float
        Log-odds at the training mean.
    converged : bool
        False if the maximum number of steps was reached before convergence: use a stronger penalty.
    n_iterations : int
        Number of Newton steps.
    """

    coefficients: Floats
    mean: Floats
    scale: Floats
    base: float
    converged: bool
    n_iterations: int


def fit(X: Any, y: Any, *, c: float = 1.0, l1_ratio: float = 0.5) -> ElasticNetResult:
    """Fit a penalised logistic regression on standardised columns.

    Minimises ``Σ log(1 + exp(−s·f)) + (1/c) · (l1_ratio · ‖β‖₁ + (1 − l1_ratio)/2 · ‖β‖²)``, s = ±1, over β
    per training standard deviation and an intercept that is not penalised: scikit-learn's
    ``LogisticRegression(C=c, l1_ratio=l1_ratio)`` on scaled columns.

    Parameters
    ----------
    X : dense or SciPy sparse, shape (n_samples, n_features)
        Unscaled: columns are scaled internally. A constant column has coefficient 0.
    y : array-like of 0 and 1, shape (n_samples,)
        Both classes must be present.
    c : float above 0
        Inverse strength of the penalty.
    l1_ratio : float in [0, 1]
        0 is ridge, 1 the lasso.

    Raises
    ------
    SpecError
        c or l1_ratio out of range.
    DataError
        Cells that are not finite numbers, labels that are not 0 and 1, or a single class.

    References
    ----------
    Friedman, J., Hastie, T. and Tibshirani, R. (2010). Regularization paths for generalized linear models via
    coordinate descent. Journal of Statistical Software 33(1).
    """
    if not (c > 0.0 and math.isfinite(c)):
        raise SpecError(f"c: expected a finite number above 0; got {c}.")
    if not 0.0 <= l1_ratio <= 1.0:
        raise SpecError(f"l1_ratio: expected a number from 0 to 1; got {l1_ratio}.")
    columns = as_csc(checked_matrix(X, where="training matrix"))
    labels = checked_labels(y, columns.shape[0])
    spread = moments(columns)
    data, centre = centred_where_full(columns, spread.mean)
    beta, base, converged, n_iterations = _newton(
        data,
        columns.indices,
        columns.indptr,
        centre,
        spread.sd,
        labels.astype(np.float64),
        l1_ratio / (c * labels.size),
        (1.0 - l1_ratio) / (c * labels.size),
    )
    coefficients = np.zeros(beta.size)
    np.divide(beta, spread.sd, out=coefficients, where=spread.sd > 0)
    return ElasticNetResult(
        coefficients, spread.mean, spread.sd, float(base), bool(converged), int(n_iterations)
    )


def first_steps(
    y: Any, probabilities: Floats, newcomers: Any, *, c: float = 1.0, l1_ratio: float = 0.5
) -> Floats:
    """Return the first Newton step of each new column, if it alone were added to a fitted model.

    At the minimum a new column keeps the coefficient 0 exactly if the gradient of the loss along it does not exceed the
    penalty (Karush–Kuhn–Tucker). The gradients therefore tell for each column whether the model would use it.

    Parameters
    ----------
    y : array-like of 0 and 1, shape (n_samples,)
    probabilities : float64, shape (n_samples,)
        Output of the fitted model on the training samples.
    newcomers : dense or SciPy sparse, shape (n_samples, n_newcomers)
        Columns that are not in the model.
    c, l1_ratio : float
        Setting of the fit.

    Returns
    -------
    float64, shape (n_newcomers,)
        Log odds ratio per standard deviation after that one step; 0 for a column excluded by the penalty.
    """
    others = as_csc(checked_matrix(newcomers, where="newcomers"))
    labels = checked_labels(y, others.shape[0])
    spread = moments(others)
    data, centre = centred_where_full(others, spread.mean)
    l1, l2 = l1_ratio / (c * labels.size), (1.0 - l1_ratio) / (c * labels.size)
    steps: Floats = _slopes(
        data, others.indices, others.indptr, centre, spread.sd, labels - probabilities, probabilities, l1, l2
    )
    return steps


@njit(cache=True, nogil=True)
def _slopes(
    data: Any, indices: Any, indptr: Any, mean: Any, sd: Any, residual: Any, p: Any, l1: float, l2: float
) -> Any:  # pragma: no cover - compiled
    n_rows, n_columns = residual.size, mean.size
    steps = np.zeros(n_columns)
    total, weight = 0.0, 0.0
    for i in range(n_rows):
        total += residual[i]
        weight += p[i] * (1.0 - p[i])
    for j in range(n_columns):
        if sd[j] == 0.0:
            continue
        product = 0.0
        for k in range(indptr[j], indptr[j + 1]):
            product += data[k] * residual[indices[k]]
        slope = (product - mean[j] * total) / (sd[j] * n_rows)
        if abs(slope) > l1:
            # The curvature along a standardised column, approximated as independent of the row.
            steps[j] = math.copysign(abs(slope) - l1, slope) / (weight / n_rows + l2)
    return steps


@njit(cache=True, nogil=True)
def _newton(
    data: Any, indices: Any, indptr: Any, mean: Any, sd: Any, y: Any, l1: float, l2: float
) -> Any:  # pragma: no cover - compiled
    beta = np.zeros(mean.size)
    prevalence = y.mean()
    base = math.log(prevalence / (1.0 - prevalence))
    eta = np.full(y.size, base)
    loss = _objective(eta, y, beta, l1, l2)
    for step in range(_MAX_NEWTON_STEPS):
        new_beta, new_base, is_solved = _quadratic(
            data, indices, indptr, mean, sd, y, l1, l2, beta, base, eta
        )
        # The full step may overshoot where the quadratic approximates the loss poorly: halve it until the loss decreases.
        share = 1.0
        for _ in range(30):
            trial = beta + share * (new_beta - beta)
            trial_base = base + share * (new_base - base)
            predict_linear(data, indices, indptr, mean, sd, trial, trial_base, eta)
            trial_loss = _objective(eta, y, trial, l1, l2)
            if trial_loss <= loss * (1.0 + 1e-14):
                break
            share /= 2.0
        moved = max(abs(trial_base - base), np.abs(trial - beta).max() if beta.size else 0.0)
        beta, base, loss = trial, trial_base, trial_loss
        if moved <= _TOLERANCE and is_solved:
            return beta, base, True, step + 1
    return beta, base, False, _MAX_NEWTON_STEPS


@njit(cache=True, nogil=True)
def _objective(eta: Any, y: Any, beta: Any, l1: float, l2: float) -> float:  # pragma: no cover - compiled
    total = 0.0
    for i in range(y.size):
        margin = eta[i] if y[i] > 0.5 else -eta[i]
        total += math.log1p(math.exp(-abs(margin))) + max(-margin, 0.0)
    total /= y.size
    for j in range(beta.size):
        total += l1 * abs(beta[j]) + 0.5 * l2 * beta[j] * beta[j]
    return float(total)


@njit(cache=True, nogil=True)
def penalty(beta: Any, l1: float, l2: float) -> float:  # pragma: no cover - compiled
    """Return the elastic-net penalty of standardised coefficients."""
    total = 0.0
    for j in range(beta.size):
        total += l1 * abs(beta[j]) + 0.5 * l2 * beta[j] * beta[j]
    return total


@njit(cache=True, nogil=True)
def predict_linear(
    data: Any, indices: Any, indptr: Any, mean: Any, sd: Any, beta: Any, base: float, eta: Any
) -> None:  # pragma: no cover - compiled
    """Write base + Σ beta · (x − mean) / sd of each row into ``eta``; x is in compressed columns."""
    shift = base
    eta[:] = 0.0
    for j in range(beta.size):
        if beta[j] == 0.0:
            continue
        slope = beta[j] / sd[j]
        shift -= slope * mean[j]
        for k in range(indptr[j], indptr[j + 1]):
            eta[indices[k]] += slope * data[k]
    for i in range(eta.size):
        eta[i] += shift


@njit(cache=True, nogil=True)
def _quadratic(
    data: Any,
    indices: Any,
    indptr: Any,
    mean: Any,
    sd: Any,
    y: Any,
    l1: float,
    l2: float,
    beta: Any,
    base: float,
    eta: Any,
) -> Any:  # pragma: no cover - compiled
    """Minimise the penalised quadratic at eta. Return the new beta, the new base, and whether it converged."""
    n_rows, n_columns = y.size, beta.size
    weight = np.empty(n_rows)
    pull = np.empty(n_rows)  # weight · residual, without the common part in `shift`
    total_weight, total_pull = 0.0, 0.0
    for i in range(n_rows):
        p = 1.0 / (1.0 + math.exp(-min(max(eta[i], -36.0), 36.0)))
        # A row with a probability near 0 or 1 has no curvature; the lower bound keeps its residual finite.
        weight[i] = max(p * (1.0 - p), 1e-5)
        pull[i] = y[i] - p
        total_weight += weight[i]
        total_pull += pull[i]
    # With columns centred by weighted means, the intercept is solved in one step and stays fixed.
    step_base = total_pull / total_weight
    shift = -step_base

    new, centre, is_solved = solve_quadratic(
        data, indices, indptr, sd, weight, pull, total_weight, shift, l1, l2, beta
    )
    new_base = base + step_base
    for j in range(n_columns):
        if new[j] != beta[j]:
            new_base += (new[j] - beta[j]) * (mean[j] - centre[j]) / sd[j]
    return new, new_base, is_solved


@njit(cache=True, nogil=True)
def solve_quadratic(
    data: Any,
    indices: Any,
    indptr: Any,
    sd: Any,
    weight: Any,
    pull: Any,
    total_weight: float,
    shift: float,
    l1: float,
    l2: float,
    beta: Any,
) -> Any:  # pragma: no cover - compiled
    """Minimise a penalised quadratic by coordinates. Return the new beta, the centres of the columns, and whether it converged.

    The derivative of the quadratic by the linear predictor of row i is ``-(pull_i + weight_i · shift)``, its curvature ``weight_i``.
    ``pull`` is overwritten.
    """
    n_rows, n_columns = weight.size, beta.size
    centre = np.zeros(n_columns)
    curvature = np.zeros(n_columns)
    for j in range(n_columns):
        if sd[j] == 0.0:
            continue
        first, second = 0.0, 0.0
        for k in range(indptr[j], indptr[j + 1]):
            wx = weight[indices[k]] * data[k]
            first += wx
            second += wx * data[k]
        centre[j] = first / total_weight
        curvature[j] = max(second - centre[j] * first, 0.0) / (sd[j] * sd[j] * n_rows)

    new = beta.copy()
    is_active = new != 0.0
    is_full_round = True
    is_solved = False
    for _ in range(_MAX_ROUNDS):
        moved = 0.0
        for j in range(n_columns):
            if curvature[j] == 0.0 or not (is_full_round or is_active[j]):
                continue
            dot = 0.0
            for k in range(indptr[j], indptr[j + 1]):
                dot += data[k] * pull[indices[k]]
            # Σ weight·residual is zero after the step of the intercept, so that the centre enters only through `shift`.
            slope = (dot + shift * centre[j] * total_weight) / (sd[j] * n_rows)
            target = curvature[j] * new[j] + slope
            solved = math.copysign(max(abs(target) - l1, 0.0), target) / (curvature[j] + l2)
            change = solved - new[j]
            if change == 0.0:
                continue
            new[j] = solved
            is_active[j] = True
            moved = max(moved, abs(change))
            for k in range(indptr[j], indptr[j + 1]):
                pull[indices[k]] -= weight[indices[k]] * data[k] * change / sd[j]
            shift += change * centre[j] / sd[j]
        if moved <= _TOLERANCE_INNER:
            if is_full_round:
                is_solved = True
                break
            is_full_round = True
        else:
            is_full_round = False
    return new, centre, is_solved
