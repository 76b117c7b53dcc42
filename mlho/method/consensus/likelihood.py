"""The logistic log-likelihood of grouped samples, its derivatives and its maximum.

The consensus model (:mod:`mlho.method.consensus.regression`) is small but is maximised hundreds of times for its profile
limits. Two techniques make that fast: samples with equal rows form one group (with 0/1 features most do), and a
group stores only its non-zero columns. Groups are sorted by their bytes and all sums run over them in that
order, in our own loops without BLAS, so that the result does not depend on the order of the samples.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from numba import njit

from mlho.method.consensus.cholesky import dot, factor, find_dependent, invert_factored, solve

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Bounds of the squared Newton decrement and of the change of a linear predictor.
DECREMENT, MOVE = 1e-12, 1e-6
MAX_ITERATIONS = 200
# If every step lowers the likelihood only by rounding error, thirty halvings (1e-9 of a step) show it.
MAX_HALVINGS = 30
# No step changes any log odds by more than this: beyond it, the logistic curve is flat and gives no direction.
MAX_SHIFT = 20.0
# Normal quantile for the limits of all intervals.
Z_95 = NormalDist().inv_cdf(0.975)
# Enough to approximate the curvature for a few dozen coefficients; older pairs are obsolete.
MAX_PAIRS = 12


@dataclass(frozen=True)
class Groups:
    """Samples with equal rows, collapsed to groups; column 0 is the intercept.

    Row ``g`` has the columns ``indices[starts[g]:starts[g + 1]]`` (ascending) with the corresponding ``values``.
    ``n_samples`` and ``n_positive`` are per group.
    """

    starts: IntArray
    indices: IntArray
    values: FloatArray
    n_samples: FloatArray
    n_positive: FloatArray
    n_columns: int


@dataclass(frozen=True)
class Point:
    """The likelihood at one coefficient vector: the objective and its derivatives.

    ``curvature`` is the matrix used to compute steps: the information, or for Firth that of the augmented data.
    """

    beta: FloatArray
    log_likelihood: float
    objective: float
    gradient: FloatArray
    information: FloatArray
    curvature: FloatArray


@dataclass(frozen=True)
class Pair:
    """A step, the decrease of the gradient along it, and their product."""

    step: FloatArray
    fall: FloatArray
    curvature: float


@dataclass(frozen=True)
class Maximum:
    """End of the maximisation: the last point and the convergence status."""

    point: Point
    converged: bool
    separated: bool


def group_rows(X: FloatArray, y: npt.NDArray[np.int8]) -> Groups:
    """Group samples with equal rows and list the non-zero columns of each group.

    Parameters
    ----------
    X : float64, shape (n_samples, n_features)
        Finite.
    y : int8, shape (n_samples,)
        Labels, 0 or 1.
    """
    n_samples, n_features = X.shape
    if n_features == 0:
        inverse, n_groups = np.zeros(n_samples, dtype=np.int64), 1
        rows = np.zeros((1, 0))
    else:
        # Adding zero turns -0.0 into 0.0: the two are equal but have different bytes.
        clean = np.ascontiguousarray(X) + 0.0
        as_bytes = clean.view(np.dtype((np.void, clean.dtype.itemsize * n_features))).ravel()
        _, first, inverse = np.unique(as_bytes, return_index=True, return_inverse=True)
        rows, n_groups = clean[first], len(first)
    with_intercept = np.concatenate([np.ones((n_groups, 1)), rows], axis=1)
    at_row, indices = np.nonzero(with_intercept)
    starts = np.zeros(n_groups + 1, dtype=np.int64)
    np.cumsum(np.bincount(at_row, minlength=n_groups), out=starts[1:])
    return Groups(
        starts=starts,
        indices=indices.astype(np.int64),
        values=with_intercept[at_row, indices],
        n_samples=np.bincount(inverse, minlength=n_groups).astype(np.float64),
        n_positive=np.bincount(inverse, weights=y, minlength=n_groups).astype(np.float64),
        n_columns=n_features + 1,
    )


def find_aliased(groups: Groups) -> BoolArray:
    """Mark the columns that are a linear combination of earlier ones (a constant is a multiple of the intercept).

    Returns
    -------
    bool, shape (n_columns,)
        The later of two aliased columns is marked, as R's ``glm`` reports it as ``NA``.
    """
    # At zero coefficients every weight is 1/4: the information is the Gram matrix over four, exact for 0/1
    # columns.
    gram = evaluate(groups, np.zeros(groups.n_columns), penalised=False).information
    return find_dependent(gram)


def null_coefficients(groups: Groups) -> FloatArray:
    """Return the coefficients of the intercept-only model, the starting point of the maximisation."""
    n_positive = math.fsum(groups.n_positive.tolist())
    start = np.zeros(groups.n_columns)
    start[0] = math.log(n_positive / (math.fsum(groups.n_samples.tolist()) - n_positive))
    return start


def evaluate(groups: Groups, beta: FloatArray, *, penalised: bool) -> Point:
    """Compute the log-likelihood at ``beta``; with ``penalised``, Firth's objective and modified score.

    Firth adds half the log determinant of the information to the objective; its score gains h (1/2 - p)
    per sample, h being the diagonal of the hat matrix (Heinze and Schemper 2002, equation 2). This is the score
    of data with h half cases and h half controls added. Steps use the information of these data, because
    the plain one overshoots twofold where h is near one. For a singular information the objective is minus
    infinity.
    """
    parts = (groups.starts, groups.indices, groups.values)
    log_likelihood, gradient, information = _derivatives(*parts, groups.n_samples, groups.n_positive, beta)
    objective, curvature = log_likelihood, information
    if penalised:
        lower, is_definite = factor(information)
        if not is_definite:
            return Point(beta, log_likelihood, -math.inf, gradient, information, information)
        objective += float(sum(math.log(pivot) for pivot in np.diag(lower).tolist()))
        curvature = information.copy()
        _add_firth(*parts, groups.n_samples, beta, invert_factored(lower), gradient, curvature)
    return Point(beta, log_likelihood, objective, gradient, information, curvature)


def maximise(groups: Groups, start: Point, *, penalised: bool) -> Maximum:
    """Maximise from ``start`` by Newton steps (Fisher scoring if penalised) with step halving.

    Converged if the squared Newton decrement is below ``DECREMENT`` (twice the log-likelihood left to gain)
    *and* no group's linear predictor moves by ``MOVE``. A separated likelihood never meets the second condition:
    each step moves the separated groups by about one, with ever smaller gains. Such a step is
    itself a proof of separation: see :func:`_is_separating`.
    """
    point = start
    pairs: list[Pair] = []
    everything = np.arange(groups.n_columns)
    for iteration in range(1, MAX_ITERATIONS + 1):
        step = ascent_direction(point, everything, pairs)
        if step is None:
            return Maximum(point, converged=False, separated=False)
        shift = linear_predictor(groups, step)
        largest = float(np.max(np.abs(shift)))
        if not penalised and iteration > 4 and _is_separating(groups, shift, largest):
            return Maximum(point, converged=False, separated=True)
        gain = dot(step, point.gradient)
        following = climb(groups, point, step, penalised=penalised)
        if following is None:
            # No gain beyond rounding is left: this is the maximum if the step was small.
            return Maximum(point, converged=largest < 1e-4, separated=False)
        if penalised:
            remember(pairs, point, following)
        point = following
        if gain < DECREMENT and largest < MOVE:
            return Maximum(point, converged=True, separated=False)
    return Maximum(point, converged=False, separated=False)


def ascent_direction(point: Point, free: npt.NDArray[np.intp], pairs: list[Pair]) -> FloatArray | None:
    """Compute the step to the maximum of the quadratic model, in the free coefficients only; ``None`` if singular.

    Without pairs it is Newton's step. The penalised likelihood has ridges on which its curvature differs from that of
    the augmented data, and such steps converge slowly there. The curvature found by earlier steps corrects them
    (the two-loop recursion of limited-memory BFGS: Nocedal and Wright 2006, algorithm 7.4).
    """
    rest = point.gradient[free]
    weights = []
    for pair in reversed(pairs):
        weight = dot(pair.step[free], rest) / pair.curvature
        rest = rest - weight * pair.fall[free]
        weights.append(weight)
    direction = solve(point.curvature[np.ix_(free, free)], rest)
    if direction is None:
        return None
    for pair, weight in zip(pairs, reversed(weights), strict=True):
        direction = direction + pair.step[free] * (weight - dot(pair.fall[free], direction) / pair.curvature)
    return spread(direction, free, len(point.beta))


def remember(
    pairs: list[Pair], before: Point, after: Point, free: npt.NDArray[np.intp] | None = None
) -> None:
    """Store the curvature information of a step if the curvature is positive; keep only the last pairs."""
    step, fall = after.beta - before.beta, before.gradient - after.gradient
    if free is not None:
        fall = spread(fall[free], free, len(fall))
    curvature = dot(step, fall)
    if curvature > 1e-10 * math.sqrt(dot(step, step) * dot(fall, fall)) > 0.0:
        pairs.append(Pair(step, fall, curvature))
        del pairs[:-MAX_PAIRS]


def linear_predictor(groups: Groups, beta: FloatArray) -> FloatArray:
    """Compute the log odds of each group, or their change by a step."""
    eta: FloatArray = _linear_predictor(groups.starts, groups.indices, groups.values, beta)
    return eta


def spread(values: FloatArray, at: npt.NDArray[np.intp], n: int) -> FloatArray:
    """Scatter values to their positions in a zero vector of length ``n``."""
    whole = np.zeros(n)
    whole[at] = values
    return whole


def climb(groups: Groups, point: Point, step: FloatArray, *, penalised: bool) -> Point | None:
    """Take the step, halved until the objective does not decrease; ``None`` if no fraction of it is accepted."""
    slack = 1e-12 * max(1.0, abs(point.objective))
    # Where all weights are near zero, a Newton step is extremely long but its direction is still useful.
    step = step * min(1.0, MAX_SHIFT / max(MAX_SHIFT, float(np.max(np.abs(linear_predictor(groups, step))))))
    for _ in range(MAX_HALVINGS):
        following = evaluate(groups, point.beta + step, penalised=penalised)
        if following.objective >= point.objective - slack:
            return following
        step = step / 2.0
    return None


def _is_separating(groups: Groups, shift: FloatArray, largest: float) -> bool:
    """Check that a step raises positive groups, lowers negative ones and leaves mixed ones unchanged.

    A direction that worsens the fit of no sample and improves that of some defines (quasi-)complete
    separation (Albert and Anderson 1984). Newton's step converges to such a direction if one exists, so no linear
    programme is needed. The tolerance is 1e-4 of the largest shift: for data closer to separation, no useful
    interval of the coefficients exists.
    """
    if largest < 0.1:
        return False
    slack = 1e-4 * largest
    has_positive, has_negative = groups.n_positive > 0, groups.n_positive < groups.n_samples
    return bool(np.all(shift[has_positive] >= -slack) and np.all(shift[has_negative] <= slack))


@njit(cache=True, nogil=True)
def _linear_predictor(
    starts: IntArray, indices: IntArray, values: FloatArray, beta: FloatArray
) -> FloatArray:
    n_groups = starts.shape[0] - 1
    eta = np.zeros(n_groups)
    for g in range(n_groups):
        for at in range(starts[g], starts[g + 1]):
            eta[g] += values[at] * beta[indices[at]]
    return eta


@njit(cache=True, nogil=True)
def _derivatives(
    starts: IntArray,
    indices: IntArray,
    values: FloatArray,
    n_samples: FloatArray,
    n_positive: FloatArray,
    beta: FloatArray,
) -> tuple[float, FloatArray, FloatArray]:
    """Compute log-likelihood, score and information in one pass over the groups."""
    n_columns = beta.shape[0]
    gradient = np.zeros(n_columns)
    information = np.zeros((n_columns, n_columns))
    log_likelihood = 0.0
    eta = _linear_predictor(starts, indices, values, beta)
    for g in range(starts.shape[0] - 1):
        # The argument of exp is never positive: it cannot overflow, and both p and 1 - p keep full precision.
        small = math.exp(-abs(eta[g]))
        near, far = 1.0 / (1.0 + small), small / (1.0 + small)
        p, q = (near, far) if eta[g] >= 0 else (far, near)
        n_negative = n_samples[g] - n_positive[g]
        log_likelihood -= (n_negative if eta[g] >= 0 else n_positive[g]) * abs(eta[g])
        log_likelihood -= n_samples[g] * math.log1p(small)
        residual = n_positive[g] * q - n_negative * p
        weight = n_samples[g] * p * q
        first, end = starts[g], starts[g + 1]
        # The same sums in the same order; the compiler can vectorise the case of a full row.
        is_full = end - first == n_columns
        for a in range(first, end):
            gradient[indices[a]] += residual * values[a]
            weighted = weight * values[a]
            if is_full:
                for column in range(a - first + 1):
                    information[a - first, column] += weighted * values[first + column]
            else:
                for b in range(first, a + 1):
                    information[indices[a], indices[b]] += weighted * values[b]
    for i in range(n_columns):
        for j in range(i):
            information[j, i] = information[i, j]
    return log_likelihood, gradient, information


@njit(cache=True, nogil=True)
def _add_firth(
    starts: IntArray,
    indices: IntArray,
    values: FloatArray,
    n_samples: FloatArray,
    beta: FloatArray,
    covariance: FloatArray,
    gradient: FloatArray,
    curvature: FloatArray,
) -> None:
    """Add the gradient of the penalty to the score, and the added half cases and controls to the information."""
    eta = _linear_predictor(starts, indices, values, beta)
    for g in range(starts.shape[0] - 1):
        small = math.exp(-abs(eta[g]))
        near, far = 1.0 / (1.0 + small), small / (1.0 + small)
        p = near if eta[g] >= 0 else far
        form = 0.0
        for a in range(starts[g], starts[g + 1]):
            for b in range(starts[g], starts[g + 1]):
                form += values[a] * covariance[indices[a], indices[b]] * values[b]
        hat = near * far * form
        pull = n_samples[g] * hat * (0.5 - p)
        weight = n_samples[g] * hat * near * far
        for a in range(starts[g], starts[g + 1]):
            gradient[indices[a]] += pull * values[a]
            for b in range(starts[g], starts[g + 1]):
                curvature[indices[a], indices[b]] += weight * values[a] * values[b]
