"""The profile of a logistic likelihood along one coefficient: its limits and the likelihood-ratio statistic."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlho.method.consensus import likelihood
from mlho.method.consensus.cholesky import dot, solve
from mlho.method.consensus.likelihood import Z_95, FloatArray, Groups, Pair, Point

# Bounds of the squared Newton decrement. The quadratic model adds the remaining gain, with an error of about its power 3/2. The
# curvature of Fisher scoring differs slightly from that model, so the penalised likelihood uses a smaller bound.
_DECREMENT, _PENALISED_DECREMENT = 1e-6, 1e-9
_MAX_CLIMBS = 100
# The last Newton correction squares this error, relative to the critical value.
_ROOT_TOLERANCE = 1e-4
_MAX_ROOT_STEPS = 60


@dataclass(frozen=True)
class Interval:
    """Limits on the log odds ratio of one column; a limit that does not exist is ``None``."""

    name: str
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ProfileInterval(Interval):
    """Limits at which the profile likelihood falls to its critical value, and the test of no effect."""

    p_value: float | None


@dataclass(frozen=True)
class Ridge:
    """A point of the profile: the maximum over the other coefficients with one coefficient fixed.

    ``slope`` is the derivative of the profile: the score of the fixed coefficient, where all other scores are zero.
    """

    point: Point
    height: float
    slope: float


def profile_interval(
    groups: Groups, top: Point, column: int, *, name: str, error: float, penalised: bool
) -> ProfileInterval:
    """Find both limits and test the coefficient against zero; the parameters are those of :func:`profile_limit`."""
    low, high = (
        profile_limit(groups, top, column, error=error, upward=upward, penalised=penalised)
        for upward in (False, True)
    )
    statistic = likelihood_ratio(groups, top, column, penalised=penalised)
    # A chi-square with one degree of freedom is a squared normal.
    p_value = None if statistic is None else math.erfc(math.sqrt(statistic / 2))
    return ProfileInterval(name, low, high, p_value)


def profile_limit(
    groups: Groups, top: Point, column: int, *, error: float, upward: bool, penalised: bool
) -> float | None:
    """Find the coefficient at which the signed root of twice the drop of the profile reaches 1.96.

    Parameters
    ----------
    top : Point
        The maximum.
    column : int
        0 is the intercept.
    error : float
        Standard error of the coefficient; the search starts at Wald's limit.

    Returns
    -------
    float or None
        The coefficient at the limit; ``None`` if the profile does not fall that far within the range of
        floats.
    """
    middle = float(top.beta[column])
    value = middle + (1 if upward else -1) * min(Z_95 * error, _first_reach(groups, top, column))
    inside, outside = middle, None
    point = top
    for _ in range(_MAX_ROOT_STEPS):
        ridge = _hold(groups, point, column, value, penalised=penalised)
        guess = None
        if ridge is None:
            outside = value
        else:
            point = ridge.point
            root = math.sqrt(max(0.0, 2 * (top.objective - ridge.height)))
            descends = ridge.slope < 0 if upward else ridge.slope > 0
            if root > 0 and descends:
                guess = value + (root - Z_95) * root / ridge.slope
                if abs(root - Z_95) < _ROOT_TOLERANCE * Z_95:
                    return guess
            inside, outside = (value, outside) if root < Z_95 else (inside, value)
        value = _next_value(guess, middle, inside, outside)
    return None


def likelihood_ratio(groups: Groups, top: Point, column: int, *, penalised: bool) -> float | None:
    """Compute twice the log-likelihood lost if the coefficient is set to zero; ``None`` if that fit fails."""
    ridge = _hold(groups, top, column, 0.0, penalised=penalised)
    return None if ridge is None else max(0.0, 2 * (top.objective - ridge.height))


def _first_reach(groups: Groups, top: Point, column: int) -> float:
    """Return the distance that the coefficient can move along the tangent before the log odds of a group change by five.

    With nearly separated labels, Wald's limit is far beyond that distance, and the tangent is useless there.
    """
    along = _tangent(top, column, 1.0, _others(groups, column))
    if along is None:
        return math.inf
    along[column] = 1.0
    return 5.0 / float(np.max(np.abs(likelihood.linear_predictor(groups, along))))


def _next_value(guess: float | None, middle: float, inside: float, outside: float | None) -> float:
    """Accept Newton's guess inside the bracket; else bisect the bracket, or double the reach."""
    if outside is not None:
        low, high = min(inside, outside), max(inside, outside)
        return guess if guess is not None and low < guess < high else (low + high) / 2
    farthest = middle + 3 * (inside - middle)
    if guess is None or abs(guess - middle) > abs(farthest - middle) or guess == inside:
        return farthest
    return guess


def _hold(groups: Groups, point: Point, column: int, value: float, *, penalised: bool) -> Ridge | None:
    """Maximise over the other coefficients with one fixed at ``value``, starting along the tangent of the profile."""
    free = _others(groups, column)
    moved = _move(groups, point, column, value, free, penalised=penalised)
    pairs: list[Pair] = []
    for _ in range(_MAX_CLIMBS):
        if moved is None:
            return None
        step = likelihood.ascent_direction(moved, free, pairs)
        if step is None:
            return None
        gain = dot(step, moved.gradient)
        if gain < (_PENALISED_DECREMENT if penalised else _DECREMENT):
            slope = float(moved.gradient[column]) - dot(moved.curvature[column], step)
            return Ridge(moved, moved.objective + gain / 2, slope)
        following = likelihood.climb(groups, moved, step, penalised=penalised)
        if following is None:
            # Rounding ends the maximisation just below the maximum; anywhere else it has failed.
            return Ridge(moved, moved.objective, float(moved.gradient[column])) if gain < 1e-4 else None
        if penalised:
            likelihood.remember(pairs, moved, following, free)
        moved = following
    return None


def _move(
    groups: Groups, point: Point, column: int, value: float, free: npt.NDArray[np.intp], *, penalised: bool
) -> Point | None:
    """Move one coefficient to ``value``, and the others as predicted by the quadratic model."""
    along = _tangent(point, column, value - float(point.beta[column]), free)
    if along is None:
        return None
    straight = point.beta.copy()
    straight[column] = value
    tangent = likelihood.evaluate(groups, straight + along, penalised=penalised)
    # Over a long distance the tangent can deviate from the ridge more than a straight line does.
    if abs(tangent.objective - point.objective) < 10:
        return tangent
    alone = likelihood.evaluate(groups, straight, penalised=penalised)
    return tangent if tangent.objective >= alone.objective else alone


def _tangent(point: Point, column: int, distance: float, free: npt.NDArray[np.intp]) -> FloatArray | None:
    """Return the best change of the other coefficients under the quadratic model, if one coefficient moves by ``distance``."""
    right = point.gradient[free] - distance * point.curvature[column, free]
    along = solve(point.curvature[np.ix_(free, free)], right)
    return None if along is None else likelihood.spread(along, free, len(point.beta))


def _others(groups: Groups, column: int) -> npt.NDArray[np.intp]:
    return np.flatnonzero(np.arange(groups.n_columns) != column)
