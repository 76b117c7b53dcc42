"""Hazard ratios of the consensus features: Cox regression without a penalty, with intervals for clinical use.

As for the odds ratios, intervals and p values are conditional on the selected features and too optimistic, and samples are treated as
independent.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from mlho.method.consensus.cholesky import FloatArray, dot, find_dependent, invert, solve
from mlho.method.consensus.likelihood import Z_95

NO_EVENT_OUTSIDE: Final = "no hazard ratio: all events are at its lowest or all at its highest value"
_ALIASED: Final = "constant, or a linear combination of earlier columns"
_NOT_CONVERGED: Final = (
    "the partial likelihood has no maximum: a combination of features separates the events"
)
# Bounds of the squared Newton decrement and of a coefficient per standard deviation, beyond which there is no maximum.
_DECREMENT, _LARGEST = 1e-12, 30.0
# Without a maximum the steps do not shrink: coefficients per standard deviation still move by _MOVE at a decrement below
# _SLOW_DECREMENT.
_SLOW_DECREMENT, _MOVE = 1e-8, 1e-3
_MAX_STEPS = 50


@dataclass(frozen=True)
class HazardRatio:
    """Effect of one column."""

    log_ratio: float | None
    standard_error: float | None
    """Per unit of the column, as ``log_ratio``; both are None if there is no estimate."""
    sd: float
    """Standard deviation (ddof 1)."""
    reason: str | None = None
    """Reason why there is no estimate."""

    @property
    def p_value(self) -> float | None:
        """P value of the two-sided Wald test of no effect."""
        if self.log_ratio is None or self.standard_error is None:
            return None
        return math.erfc(abs(self.log_ratio / self.standard_error) / math.sqrt(2))

    def ratio(self, *, units: float = 1.0, side: int = 0) -> float | None:
        """Return the hazard ratio for this number of units, or, with side −1 or 1, a limit of its 95 % Wald interval."""
        if self.log_ratio is None or self.standard_error is None:
            return None
        log_ratio = (self.log_ratio + side * Z_95 * self.standard_error) * units
        return math.exp(min(max(log_ratio, -690.0), 690.0))


def fit_hazards(X: npt.ArrayLike, days: npt.ArrayLike, is_event: npt.ArrayLike) -> tuple[HazardRatio, ...]:
    """Fit a Cox regression by Newton's method, ties by Efron's approximation.

    Parameters
    ----------
    X : array of numbers, shape (n_samples, n_features)
        Finite, in any unit.
    days : array of numbers, shape (n_samples,)
        Until the event or the end of observation.
    is_event : array of bool, shape (n_samples,)
        All others, including those with a competing event, count as censored: the ratios are of the cause-specific hazard.

    Returns
    -------
    tuple of HazardRatio
        For each column. A column that is constant, aliased, or has all events at one of its extremes gets a reason.

    References
    ----------
    Cox, D. R. (1972). Journal of the Royal Statistical Society B 34. Efron, B. (1977). JASA 72. The same as R's
    ``survival::coxph``.
    """
    matrix, ends = np.asarray(X, np.float64), np.asarray(days, np.float64)
    events = np.asarray(is_event, np.bool_)
    n, n_columns = matrix.shape
    sd = matrix.std(axis=0, ddof=1) if n > 1 else np.zeros(n_columns)
    reasons: dict[int, str] = {}
    for j in range(n_columns):
        event_values = matrix[events, j]
        if sd[j] > 0 and (
            not event_values.size
            or event_values.min() == event_values.max() in (matrix[:, j].min(), matrix[:, j].max())
        ):
            reasons[j] = NO_EVENT_OUTSIDE
    left = [j for j in range(n_columns) if j not in reasons]
    scaled = (matrix[:, left] - matrix[:, left].mean(axis=0)) / np.where(sd[left] > 0, sd[left], 1.0)
    # Longest first, so that those at risk on a day are a prefix.
    order = np.lexsort((np.arange(n), -ends))
    scaled = np.ascontiguousarray(scaled[order])
    dependent = find_dependent(_gram(scaled)) | (sd[left] == 0)
    reasons |= {left[at]: _ALIASED for at in np.flatnonzero(dependent).tolist()}
    scaled = np.ascontiguousarray(scaled[:, ~dependent])
    fitted = [j for j, is_out in zip(left, dependent.tolist(), strict=True) if not is_out]
    fit = _maximise(scaled, ends[order], events[order])
    if fit is None:
        reasons |= dict.fromkeys(fitted, _NOT_CONVERGED)
        fitted = []
    beta, covariance, is_moving = fit or (np.empty(0), np.empty((0, 0)), np.empty(0, np.bool_))
    reasons |= {fitted[at]: _NOT_CONVERGED for at in np.flatnonzero(is_moving).tolist()}
    place = {j: at for at, j in enumerate(fitted)}
    return tuple(
        HazardRatio(None, None, float(sd[j]), reasons[j])
        if j in reasons
        else HazardRatio(
            float(beta[place[j]] / sd[j]),
            math.sqrt(covariance[place[j], place[j]]) / float(sd[j]),
            float(sd[j]),
        )
        for j in range(n_columns)
    )


def _maximise(X: FloatArray, days: FloatArray, is_event: npt.NDArray[np.bool_]) -> Any:
    """Return coefficients and covariance of standardised columns, and which coefficients have no maximum; None if there is no maximum at all."""
    beta = np.zeros(X.shape[1])
    value, slope, information = _evaluate(X, days, is_event, beta)
    for _ in range(_MAX_STEPS):
        step = solve(information, slope)
        if step is None:
            return None
        decrement, is_moving = dot(slope, step), np.abs(step) > _MOVE
        if decrement <= _DECREMENT or (decrement <= _SLOW_DECREMENT and is_moving.any()):
            covariance = invert(information)
            return None if covariance is None else (beta, covariance, is_moving)
        share = 1.0
        for _ in range(30):
            trial = beta + share * step
            found = _evaluate(X, days, is_event, trial)
            if found[0] >= value - 1e-12 * abs(value):
                break
            share /= 2.0
        beta, (value, slope, information) = trial, found
        if np.abs(beta).max() > _LARGEST:
            return None
    return None


@njit(cache=True, nogil=True)
def _gram(X: Any) -> Any:  # pragma: no cover - compiled
    n, k = X.shape
    gram = np.zeros((k, k))
    for i in range(n):
        for a in range(k):
            for b in range(a + 1):
                gram[a, b] += X[i, a] * X[i, b]
    return gram


@njit(cache=True, nogil=True)
def _evaluate(X: Any, days: Any, is_event: Any, beta: Any) -> Any:  # pragma: no cover - compiled
    """Return log partial likelihood, gradient and information; samples are in descending order of days."""
    n, k = X.shape
    value, slope, information = 0.0, np.zeros(k), np.zeros((k, k))
    weight, first, second = 0.0, np.zeros(k), np.zeros((k, k))
    mean = np.zeros(k)
    start = 0
    while start < n:
        stop, n_events = start, 0
        own_weight, own_first, own_second = 0.0, np.zeros(k), np.zeros((k, k))
        while stop < n and days[stop] == days[start]:
            eta = 0.0
            for a in range(k):
                eta += X[stop, a] * beta[a]
            risk = math.exp(min(eta, 600.0))
            weight += risk
            for a in range(k):
                first[a] += risk * X[stop, a]
                for b in range(a + 1):
                    second[a, b] += risk * X[stop, a] * X[stop, b]
            if is_event[stop]:
                n_events += 1
                value += eta
                own_weight += risk
                for a in range(k):
                    slope[a] += X[stop, a]
                    own_first[a] += risk * X[stop, a]
                    for b in range(a + 1):
                        own_second[a, b] += risk * X[stop, a] * X[stop, b]
            stop += 1
        for place in range(n_events):
            share = place / n_events  # of the tied events that have already left the risk set
            total = weight - share * own_weight
            value -= math.log(total)
            for a in range(k):
                mean[a] = (first[a] - share * own_first[a]) / total
                slope[a] -= mean[a]
                for b in range(a + 1):
                    information[a, b] += (second[a, b] - share * own_second[a, b]) / total - mean[a] * mean[b]
        start = stop
    return value, slope, information
