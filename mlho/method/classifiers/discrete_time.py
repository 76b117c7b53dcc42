"""Logistic regression of the hazard in intervals of time, as a classifier of the risk up to a horizon.

The log-odds of an event in an interval, given none before, are an intercept of the interval plus a linear predictor of the
features. In the usual formulation, a sample is a row in each interval in which it is at risk. The rows of a sample share their
features, so they are summed and never stored. A competing event counts as the end of observation.
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
from mlho.method.classifiers.cox import log_odds_of_hazard
from mlho.method.classifiers.design_matrix import Columns, Floats, Matrix, columns_of, per_unit
from mlho.method.classifiers.files import ModelFields
from mlho.method.classifiers.linear import FittedHazard
from mlho.method.survival.times import EVENT, EventTimes

#: Converged if no standardised coefficient moves by more than this in a step.
_TOLERANCE = 1e-8
_MAX_STEPS = 500
#: Bound of the log-odds of an interval: beyond it the hazard is 0 or 1 in float64.
_BOUND = 36.0


@dataclass(frozen=True, eq=False)
class FittedDiscreteTime(FittedHazard):
    """A model of the hazard in intervals. ``values`` are log odds ratios of the hazard; ``base`` is 0.

    The risk is ``1 − Π_k (1 − h_k)`` with ``logit h_k = intervals_k + Σ_j values_j · (x_j − mean_j)``.
    """

    name: ClassVar[str] = "discreteTime"

    intervals: Floats
    """Log-odds of the hazard at the training mean in each interval up to the horizon. Shape (n_intervals,)."""

    def _log_odds(self, matrix: Matrix) -> Floats:
        return self._of_predictor(super()._log_odds(matrix))

    def _of_predictor(self, eta: Floats) -> Floats:
        """Return the log-odds of the risk at values of the linear predictor."""
        logs: Floats = log_odds_of_hazard(_log_cumulative(eta, self.intervals))
        return logs

    def _contributions(self, matrix: Matrix) -> Floats:
        """Return the contributions to the log-odds, in proportion to those to the linear predictor: integrated gradients, as for ``cox``."""
        parts = super()._contributions(matrix)
        total = _sum_rows(parts)
        log_odds = self._of_predictor(total)
        step = 1e-4  # of the numerical derivative at the training mean
        below, at_mean, above = self._of_predictor(np.array([-step, 0.0, step])).tolist()
        is_far = np.abs(total) > 1e-6
        slope = np.full(total.size, (above - below) / (2.0 * step))
        np.divide(log_odds - at_mean, total, out=slope, where=is_far)
        parts[:, :-1] *= slope[:, None]
        parts[:, -1] = log_odds - _sum_rows(parts)
        return parts

    def _fields(self) -> dict[str, Any]:
        return super()._fields() | {"intervals": self.intervals}

    @classmethod
    def _attributes(cls, fields: ModelFields) -> dict[str, Any]:
        intervals = fields.floats("intervals")
        if not intervals.size:
            fields.refuse("intervals is empty")
        return super()._attributes(fields) | {"intervals": intervals}


class DiscreteTime(TimeClassifier):
    """Logistic hazards in intervals with L1 and L2 penalties. Simpler means a stronger penalty, a larger L1 share, fewer intervals."""

    name = "discreteTime"
    parameters = GRIDS["discreteTime"]
    fitted = FittedDiscreteTime

    def _fit_settings(self, data: TrainingData, settings: Sequence[Setting]) -> list[FittedClassifier]:
        return [
            fit(
                data.matrix,
                data.labels,
                c=setting["c"],
                l1_ratio=setting["l1Ratio"],
                n_intervals=int(setting["nIntervals"]),
            )
            for setting in settings
        ]


def interval_ends(times: EventTimes, n_intervals: int) -> tuple[Floats, int]:
    """Return the last days of the intervals, and the number of those up to the horizon.

    They are quantiles of the days of events, so every interval has an event. The horizon is the end of an interval.

    Examples
    --------
    >>> times = EventTimes(np.arange(1.0, 9.0), np.ones(8, np.uint8), 4.5)
    >>> interval_ends(times, 2)
    (array([2. , 4.5, 6. , 8. ]), 2)
    """
    days, shares = times.days[times.status == EVENT], np.arange(1, n_intervals + 1) / n_intervals
    before, after = (
        np.unique(np.quantile(side, shares, method="inverted_cdf")) if side.size else side
        for side in (days[days <= times.horizon], days[days > times.horizon])
    )
    before[-1] = times.horizon  # not empty: the input check requires an event up to the horizon
    return np.concatenate([before, after]), before.size


def fit(
    matrix: Matrix, times: EventTimes, *, c: float = 1.0, l1_ratio: float = 0.5, n_intervals: int = 10
) -> FittedDiscreteTime:
    """Fit penalised logistic hazards on standardised columns.

    Minimises ``Σ loss of the rows + (1/c) · (l1_ratio · ‖β‖₁ + (1 − l1_ratio)/2 · ‖β‖²)`` over β per training standard deviation
    and one intercept for each interval. A row is a sample in an interval in which it is at risk; a sample that is censored within
    an interval counts half in it, as in a life table.

    References
    ----------
    Prentice, R. L. and Gloeckler, L. A. (1978). Biometrics 34. Allison, P. D. (1982). Sociological Methodology 13. Life table: Cutler,
    S. J. and Ederer, F. (1958). Journal of Chronic Diseases 8.
    """
    columns, spread = columns_of(matrix)
    ends, n_to_horizon = interval_ends(times, n_intervals)
    is_event = times.status == EVENT
    last = np.minimum(np.searchsorted(ends, times.days), ends.size - 1).astype(np.int64)
    share = np.where(is_event | (times.days >= ends[last]), 1.0, 0.5)
    at_risk = _AtRisk(np.argsort(-last, kind="stable"), last, share, is_event)
    beta, intervals, converged = _newton(columns, at_risk, ends.size, penalty_of(c, l1_ratio, len(times)))
    return FittedDiscreteTime(
        values=per_unit(beta, spread.sd),
        mean=spread.mean,
        scale=spread.sd,
        base=0.0,
        horizon=float(times.horizon),
        intervals=intervals[:n_to_horizon],
        converged=bool(converged),
    )


class _AtRisk(NamedTuple):
    """The samples in the intervals in which they are at risk.

    ``order`` sorts them by ``last``, the last interval, from the latest; ``share`` is the weight of a sample in that interval.
    """

    order: NDArray[np.int64]
    last: NDArray[np.int64]
    share: Floats
    is_event: NDArray[np.bool_]


@njit(cache=True, nogil=True)
def _sum_rows(parts: Any) -> Any:  # pragma: no cover - compiled
    """Sum all columns but the last, from left to right."""
    total = np.zeros(parts.shape[0])
    for i in range(parts.shape[0]):
        for j in range(parts.shape[1] - 1):
            total[i] += parts[i, j]
    return total


@njit(cache=True, nogil=True)
def _log_cumulative(eta: Any, intervals: Any) -> Any:  # pragma: no cover - compiled
    """Return the log of −log of the probability of no event in the intervals, a scalar at a time."""
    result = np.empty(eta.size)
    largest = intervals.max()
    for i in range(eta.size):
        total, top = 0.0, largest + eta[i]
        if top < -30.0:  # log1p(exp(z)) is exp(z)
            for interval in intervals:
                total += math.exp(interval - largest)
            result[i] = top + math.log(total)
        else:
            for interval in intervals:
                total += _softplus(interval + eta[i])
            result[i] = math.log(total)
    return result


@njit(cache=True, nogil=True)
def _softplus(z: float) -> float:  # pragma: no cover - compiled
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


@njit(cache=True, nogil=True)
def _probability(z: float) -> float:  # pragma: no cover - compiled
    return 1.0 / (1.0 + math.exp(-min(max(z, -_BOUND), _BOUND)))


@njit(cache=True, nogil=True)
def _solve_intervals(eta: Any, at_risk: _AtRisk, intervals: Any) -> float:  # pragma: no cover - compiled
    """Solve for the intercept of each interval with the predictor fixed, in place. Return the mean loss."""
    order, last, share, is_event = at_risk
    loss = 0.0
    for k in range(intervals.size):
        n_at_risk, n_events = 0, 0.0
        for i in order:
            if last[i] < k:
                break
            n_at_risk += 1
            if last[i] == k and is_event[i]:
                n_events += 1.0
        at = intervals[k]
        for _ in range(100):
            slope, curvature = n_events, 1e-12
            for i in order[:n_at_risk]:
                weight = share[i] if last[i] == k else 1.0
                p = _probability(at + eta[i])
                slope -= weight * p
                curvature += weight * p * (1.0 - p)
            step = min(max(slope / curvature, -2.0), 2.0)
            moved = min(max(at + step, -_BOUND), _BOUND) - at
            at += moved
            if abs(moved) <= 1e-10:
                break
        intervals[k] = at
        for i in order[:n_at_risk]:
            loss += (share[i] if last[i] == k else 1.0) * _softplus(at + eta[i])
            if last[i] == k and is_event[i]:
                loss -= at + eta[i]
    return float(loss / eta.size)


@njit(cache=True, nogil=True)
def _newton(
    columns: Columns, at_risk: _AtRisk, n_intervals: int, penalty: Penalty
) -> Any:  # pragma: no cover - compiled
    _, last, share, is_event = at_risk
    n, n_columns = is_event.size, columns.sd.size
    beta, eta = np.zeros(n_columns), np.zeros(n)
    intervals = np.full(n_intervals, -3.0)
    loss = _solve_intervals(eta, at_risk, intervals)
    for _ in range(_MAX_STEPS):
        weight, pull = np.zeros(n), np.zeros(n)
        total_weight = 0.0
        for i in range(n):
            for k in range(last[i] + 1):
                exposure = share[i] if k == last[i] else 1.0
                p = _probability(intervals[k] + eta[i])
                weight[i] += exposure * p * (1.0 - p)
                pull[i] -= exposure * p
            if is_event[i]:
                pull[i] += 1.0
            total_weight += weight[i]
        # Centred over all intervals at once, the curvature is an upper bound of that with the intervals solved for.
        new, _, is_solved = solve_quadratic(
            columns, Quadratic(weight, pull, total_weight, 0.0), penalty, beta
        )
        part = 1.0
        old_beta, old_loss = beta.copy(), loss + penalty_at(beta, penalty)
        for _ in range(30):
            beta = old_beta + part * (new - old_beta)
            predict_linear(columns, beta, 0.0, eta)
            loss = _solve_intervals(eta, at_risk, intervals)
            if loss + penalty_at(beta, penalty) <= old_loss + 1e-14 * abs(old_loss):
                break
            part /= 2.0
        moved = np.abs(beta - old_beta).max() if n_columns else 0.0
        if moved <= _TOLERANCE and is_solved:
            return beta, intervals, True
    return beta, intervals, False
