"""Cox proportional hazards with an elastic-net penalty, as a classifier of the risk up to a horizon.

With competing events, the hazard is cause-specific: samples leave at a competing event as if censored. The predicted risk is then
too high, which the calibrator corrects.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.grids import GRIDS, Setting
from mlho.method.classifiers.base import FittedClassifier, TimeClassifier, TrainingData
from mlho.method.classifiers.coordinate_descent import (
    Penalty,
    Quadratic,
    penalty_at,
    penalty_of,
    predict_linear,
    solve_quadratic,
)
from mlho.method.classifiers.design_matrix import Columns, Floats, Matrix, columns_of, per_unit
from mlho.method.classifiers.linear import FittedHazard
from mlho.method.survival.times import EVENT, EventTimes

#: Converged if no standardised coefficient moves by more than this in a step.
_TOLERANCE = 1e-8
_MAX_STEPS = 500
#: Log cumulative hazard from which the risk is 1 in float64.
_LARGEST = 6.5


@dataclass(frozen=True, eq=False)
class FittedCox(FittedHazard):
    """A Cox model. ``values`` are log hazard ratios; ``base`` is the log cumulative hazard up to the horizon at the training mean.

    The risk is ``1 − exp(−exp(base + Σ_j values_j · (x_j − mean_j)))``.
    """

    name: ClassVar[str] = "cox"

    def _log_odds(self, matrix: Matrix) -> Floats:
        logs: Floats = log_odds_of_hazard(super()._log_odds(matrix))
        return logs

    def _contributions(self, matrix: Matrix) -> Floats:
        """Return the contributions of the features to the log-odds, in proportion to their contributions to the log hazard.

        They are the integrated gradients from the training mean to the row (Sundararajan et al. 2017), which have a closed form for
        log-odds of a linear predictor.
        """
        parts = super()._contributions(matrix)
        _to_log_odds(parts, log_odds_of_hazard(np.array([self.base]))[0])
        return parts


class Cox(TimeClassifier):
    """Cox regression with L1 and L2 penalties. Simpler means a stronger penalty, then a larger L1 share."""

    name = "cox"
    parameters = GRIDS["cox"]
    fitted = FittedCox

    def _fit_settings(self, data: TrainingData, settings: Sequence[Setting]) -> list[FittedClassifier]:
        return [
            fit(data.matrix, data.labels, c=setting["c"], l1_ratio=setting["l1Ratio"]) for setting in settings
        ]


def fit(matrix: Matrix, times: EventTimes, *, c: float = 1.0, l1_ratio: float = 0.5) -> FittedCox:
    """Fit a penalised Cox model on standardised columns.

    Minimises ``−log partial likelihood + (1/c) · (l1_ratio · ‖β‖₁ + (1 − l1_ratio)/2 · ‖β‖²)`` over β per training standard
    deviation, with Breslow's treatment of ties and his estimate of the baseline hazard.

    References
    ----------
    Simon, N. et al. (2011). Regularization paths for Cox's proportional hazards model via coordinate descent. Journal of Statistical
    Software 39(5). The quadratic used here is an upper bound of the loss near the current fit.
    """
    columns, spread = columns_of(matrix)
    ordered = _Ordered(
        order=np.argsort(times.days, kind="stable"),
        place=np.unique(times.days, return_inverse=True)[1].astype(np.int64),
        is_event=times.status == EVENT,
    )
    beta, eta, converged = _newton(columns, ordered, penalty_of(c, l1_ratio, len(times)))
    hazard, _ = _hazards(eta, ordered)
    before = hazard[times.days <= times.horizon]
    return FittedCox(
        values=per_unit(beta, spread.sd),
        mean=spread.mean,
        scale=spread.sd,
        base=math.log(float(before.max())),  # above 0: the input check requires an event up to the horizon
        horizon=float(times.horizon),
        converged=bool(converged),
    )


@njit(cache=True, nogil=True)
def log_odds_of_hazard(u: Any) -> Any:  # pragma: no cover - compiled
    """Return the log-odds of the risk 1 − exp(−exp(u)), a scalar at a time."""
    result = np.empty(u.size)
    for i in range(u.size):
        if u[i] < -36.0:
            result[i] = u[i]
        else:
            result[i] = math.log(math.expm1(math.exp(min(u[i], _LARGEST))))
    return result


@njit(cache=True, nogil=True)
def _to_log_odds(parts: Any, at_base: float) -> None:  # pragma: no cover - compiled
    """Turn contributions to a log cumulative hazard into contributions to the log-odds, in place; the last column is the base."""
    last = parts.shape[1] - 1
    log_hazard = np.empty(1)
    for i in range(parts.shape[0]):
        base, total = parts[i, last], 0.0
        for j in range(last):
            total += parts[i, j]
        log_hazard[0] = total + base
        log_odds = log_odds_of_hazard(log_hazard)[0]
        if abs(total) > 1e-6:
            slope = (log_odds - at_base) / total
        else:  # the derivative at the base
            hazard = math.exp(min(base, _LARGEST))
            slope = hazard / -math.expm1(-hazard)
        added = 0.0
        for j in range(last):
            parts[i, j] *= slope
            added += parts[i, j]
        parts[i, last] = log_odds - added


class _Ordered(NamedTuple):
    """The samples by day: their order, the rank of each sample's day among the distinct days, and whether it has the event."""

    order: NDArray[np.int64]
    place: NDArray[np.int64]
    is_event: NDArray[np.bool_]


@njit(cache=True, nogil=True)
def _hazards(eta: Any, ordered: _Ordered) -> Any:  # pragma: no cover - compiled
    """Return Breslow's cumulative hazard at each sample's day, and the mean negative log partial likelihood."""
    order, place, is_event = ordered
    n = eta.size
    n_days = place[order[n - 1]] + 1
    at_risk, n_events = np.zeros(n_days), np.zeros(n_days)
    largest = eta.max()
    loss = 0.0
    for i in order:
        at_risk[place[i]] += math.exp(eta[i] - largest)
        if is_event[i]:
            n_events[place[i]] += 1.0
            loss -= eta[i] - largest
    for day in range(n_days - 2, -1, -1):
        at_risk[day] += at_risk[day + 1]
    hazard = np.zeros(n_days)
    total = 0.0
    for day in range(n_days):
        if n_events[day] > 0.0:
            loss += n_events[day] * math.log(at_risk[day])
            total += n_events[day] / at_risk[day]
        hazard[day] = total
    by_sample = np.empty(n)
    scale = math.exp(-largest)
    for i in range(n):
        by_sample[i] = hazard[place[i]] * scale
    return by_sample, loss / n


@njit(cache=True, nogil=True)
def _newton(columns: Columns, ordered: _Ordered, penalty: Penalty) -> Any:  # pragma: no cover - compiled
    is_event = ordered.is_event
    n, n_columns = is_event.size, columns.sd.size
    beta = np.zeros(n_columns)
    eta = np.zeros(n)
    hazard, loss = _hazards(eta, ordered)
    for _ in range(_MAX_STEPS):
        weight, pull = np.empty(n), np.empty(n)
        total_weight = 0.0
        for i in range(n):
            # An upper bound of the curvature: the partial likelihood subtracts the means of the risk sets.
            expected = math.exp(eta[i]) * hazard[i]
            weight[i] = expected
            pull[i] = (1.0 if is_event[i] else 0.0) - expected
            total_weight += expected
        new, _, is_solved = solve_quadratic(
            columns, Quadratic(weight, pull, total_weight, 0.0), penalty, beta
        )
        share = 1.0
        old_beta, old_loss = beta.copy(), loss + penalty_at(beta, penalty)
        for _ in range(30):
            beta = old_beta + share * (new - old_beta)
            predict_linear(columns, beta, 0.0, eta)
            hazard, loss = _hazards(eta, ordered)
            if loss + penalty_at(beta, penalty) <= old_loss + 1e-14 * abs(old_loss):
                break
            share /= 2.0
        moved = np.abs(beta - old_beta).max() if n_columns else 0.0
        if moved <= _TOLERANCE and is_solved:
            return beta, eta, True
    return beta, eta, False
