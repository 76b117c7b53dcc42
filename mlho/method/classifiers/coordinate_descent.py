"""Minimisation with an elastic-net penalty, by Newton steps and coordinate descent.

Each outer step replaces the loss by its quadratic approximation at the current fit. The inner loop cycles through the
coefficients and solves for each with the others fixed. Columns are standardised implicitly: centring by weighted
means keeps the intercept fixed, and the cost of a column is its number of non-zeros. Nothing is random, and
all sums have a fixed order.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from mlho.method.classifiers.design_matrix import (
    Columns,
    Floats,
    checked_labels,
    checked_matrix,
    columns_of,
)

#: Converged if no standardised coefficient moves by more than this in a Newton step; the remaining error is of the order of its
#: square.
_TOLERANCE = 1e-7
#: Tolerance of the coordinates within a Newton step.
_TOLERANCE_INNER = 1e-9
_MAX_NEWTON_STEPS = 100
_MAX_ROUNDS = 10_000


class Penalty(NamedTuple):
    """Weights of |β| and of β²/2 in the mean loss, per standardised coefficient."""

    l1: float
    l2: float


def penalty_of(c: float, l1_ratio: float, n_samples: int) -> Penalty:
    """Convert a setting, which penalises the loss summed over the samples, to the penalty of the mean loss."""
    return Penalty(l1_ratio / (c * n_samples), (1.0 - l1_ratio) / (c * n_samples))


class Quadratic(NamedTuple):
    """A quadratic in the linear predictor: its derivative at row i is ``-(pull_i + weight_i · shift)``, its curvature ``weight_i``."""

    weight: Floats
    pull: Floats
    total_weight: float
    shift: float


def first_steps(
    y: Any, probabilities: Floats, newcomers: Any, *, c: float = 1.0, l1_ratio: float = 0.5
) -> Floats:
    """Return the first Newton step of each new column, if it alone were added to a fitted model.

    At the minimum a new column keeps the coefficient 0 exactly if the gradient of the loss along it does not exceed the
    penalty (Karush–Kuhn–Tucker). The gradients therefore show for each column whether the model would use it.

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
    others = checked_matrix(newcomers, where="newcomers")
    labels = checked_labels(y, others.shape[0])
    steps: Floats = _slopes(
        columns_of(others)[0],
        labels - probabilities,
        probabilities,
        penalty_of(c, l1_ratio, labels.size),
    )
    return steps


@njit(cache=True, nogil=True)
def _slopes(columns: Columns, residual: Any, p: Any, penalty: Penalty) -> Any:  # pragma: no cover - compiled
    data, indices, indptr, mean, sd = columns
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
        if abs(slope) > penalty.l1:
            # The curvature along a standardised column, approximated as independent of the row.
            steps[j] = math.copysign(abs(slope) - penalty.l1, slope) / (weight / n_rows + penalty.l2)
    return steps


@njit(cache=True, nogil=True)
def fit_logistic(columns: Columns, y: Any, penalty: Penalty) -> Any:  # pragma: no cover - compiled
    """Return the coefficients per standard deviation, the log-odds at the mean, whether they converged, and the Newton steps."""
    beta = np.zeros(columns.sd.size)
    prevalence = y.mean()
    base = math.log(prevalence / (1.0 - prevalence))
    eta = np.full(y.size, base)
    loss = _objective(eta, y, beta, penalty)
    for step in range(_MAX_NEWTON_STEPS):
        new_beta, new_base, is_solved = _quadratic(columns, y, penalty, beta, base, eta)
        # The full step may overshoot where the quadratic approximates the loss poorly: halve it until the loss decreases.
        share = 1.0
        for _ in range(30):
            trial = beta + share * (new_beta - beta)
            trial_base = base + share * (new_base - base)
            predict_linear(columns, trial, trial_base, eta)
            trial_loss = _objective(eta, y, trial, penalty)
            if trial_loss <= loss * (1.0 + 1e-14):
                break
            share /= 2.0
        moved = max(abs(trial_base - base), np.abs(trial - beta).max() if beta.size else 0.0)
        beta, base, loss = trial, trial_base, trial_loss
        if moved <= _TOLERANCE and is_solved:
            return beta, base, True, step + 1
    return beta, base, False, _MAX_NEWTON_STEPS


@njit(cache=True, nogil=True)
def _objective(eta: Any, y: Any, beta: Any, penalty: Penalty) -> float:  # pragma: no cover - compiled
    l1, l2 = penalty
    total = 0.0
    for i in range(y.size):
        margin = eta[i] if y[i] > 0.5 else -eta[i]
        total += math.log1p(math.exp(-abs(margin))) + max(-margin, 0.0)
    total /= y.size
    for j in range(beta.size):
        total += l1 * abs(beta[j]) + 0.5 * l2 * beta[j] * beta[j]
    return float(total)


@njit(cache=True, nogil=True)
def penalty_at(beta: Any, penalty: Penalty) -> float:  # pragma: no cover - compiled
    """Return the elastic-net penalty of standardised coefficients."""
    l1, l2 = penalty
    total = 0.0
    for j in range(beta.size):
        total += l1 * abs(beta[j]) + 0.5 * l2 * beta[j] * beta[j]
    return total


@njit(cache=True, nogil=True)
def predict_linear(columns: Columns, beta: Any, base: float, eta: Any) -> None:  # pragma: no cover - compiled
    """Write base + Σ beta · (x − mean) / sd of each row into ``eta``."""
    data, indices, indptr, mean, sd = columns
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
    columns: Columns, y: Any, penalty: Penalty, beta: Any, base: float, eta: Any
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
        columns, Quadratic(weight, pull, total_weight, shift), penalty, beta
    )
    new_base = base + step_base
    for j in range(n_columns):
        if new[j] != beta[j]:
            new_base += (new[j] - beta[j]) * (columns.mean[j] - centre[j]) / columns.sd[j]
    return new, new_base, is_solved


@njit(cache=True, nogil=True)
def solve_quadratic(
    columns: Columns, quadratic: Quadratic, penalty: Penalty, beta: Any
) -> Any:  # pragma: no cover - compiled
    """Minimise a penalised quadratic by coordinate descent.

    Return the new beta, the centres of the columns, and whether it converged. ``pull`` is overwritten.
    """
    data, indices, indptr, _, sd = columns
    weight, pull, total_weight, shift = quadratic
    l1, l2 = penalty
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
            # Σ weight·residual is zero after the step of the intercept, so the centre enters only through `shift`.
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
