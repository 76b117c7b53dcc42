"""The logistic log-likelihood of grouped samples, its derivatives and its maximum.

The consensus model (:mod:`mlho.method.consensus.regression`) is small but is maximised hundreds of times for its profile
limits. Two things make that fast: samples with equal rows are one group (with 0/1 features most are), and a
group lists only its non-zero columns. Groups are sorted by their bytes and all sums run over them in that
order, in loops of our own and without BLAS: the order of the samples cannot show in any bit of the result.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from mlho.method.consensus.cholesky import dot, factor, find_dependent, invert_factored, solve

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Where every move lowers the likelihood by rounding alone, thirty halvings (1e-9 of a step) have found it.
MAX_HALVINGS = 30
# No step changes anybody's log odds by more: beyond, a logistic curve is flat and says nothing of the way.
MAX_SHIFT = 20.0
# Enough to learn the ridge of a few dozen coefficients; more are stale.
MAX_PAIRS = 12


@dataclass(frozen=True)
class Groups:
    """Samples with equal rows, as one group each; column 0 is the intercept.

    Row ``g`` has the columns ``indices[starts[g]:starts[g + 1]]`` (rising) with ``values`` alike.
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
    """The likelihood at one coefficient vector: what is maximised, and its derivatives.

    ``curvature`` is what a step is solved with: the information, or for Firth that of the augmented data.
    """

    beta: FloatArray
    log_likelihood: float
    objective: float
    gradient: FloatArray
    information: FloatArray
    curvature: FloatArray


@dataclass(frozen=True)
class Pair:
    """A step, how far the gradient fell along it, and their product."""

    step: FloatArray
    fall: FloatArray
    curvature: float


@dataclass(frozen=True)
class Maximum:
    """Where the climb ended, and the step that it would take next."""

    point: Point
    converged: bool
    separated: bool
    n_iterations: int


def group_rows(X: FloatArray, y: npt.NDArray[np.int8]) -> Groups:
    """Collapse samples with equal rows and list the non-zero columns of each group.

    Parameters
    ----------
    X : float64, shape (n_samples, n_features)
        Finite.
    y : int8, shape (n_samples,)
        0 or 1.
    """
    n_samples, n_features = X.shape
    if n_features == 0:
        inverse, n_groups = np.zeros(n_samples, dtype=np.int64), 1
        rows = np.zeros((1, 0))
    else:
        # Adding zero turns -0.0 into 0.0, which are equal but have other bytes.
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
    """Mark the columns that are a linear combination of earlier ones (a constant: of the intercept).

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
    """Give the coefficients of the model with the intercept alone, where a climb starts."""
    n_positive = math.fsum(groups.n_positive.tolist())
    start = np.zeros(groups.n_columns)
    start[0] = math.log(n_positive / (math.fsum(groups.n_samples.tolist()) - n_positive))
    return start


def evaluate(groups: Groups, beta: FloatArray, *, penalised: bool) -> Point:
    """Compute the log-likelihood at ``beta``; with ``penalised``, Firth's objective and modified score.

    Firth adds half the log determinant of the information to what is maximised; its score gains h (1/2 - p)
    per sample, h being the diagonal of the hat matrix (Heinze and Schemper 2002, equation 2). It is the score
    of data to which h half cases and h half controls were added; their information makes the steps, because
    the plain one overshoots twofold where h is near one. A singular information has the objective minus
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


def maximise(
    groups: Groups, start: Point, *, penalised: bool, max_iterations: int, decrement: float, move: float
) -> Maximum:
    """Climb from ``start`` by Newton steps (Fisher scoring where penalised) with halving.

    Converged when the squared Newton decrement is below ``decrement`` (twice the log-likelihood left to gain)
    *and* no group's linear predictor moves by ``move``. The second is what a separated likelihood never
    meets: there each step moves the separated groups by about one while ever less is gained. Such a step is
    itself the proof: see :func:`_is_separating`.
    """
    point = start
    pairs: list[Pair] = []
    everything = np.arange(groups.n_columns)
    for iteration in range(1, max_iterations + 1):
        step = ascent_direction(point, everything, pairs)
        if step is None:
            return Maximum(point, converged=False, separated=False, n_iterations=iteration)
        shift = linear_predictor(groups, step)
        largest = float(np.max(np.abs(shift)))
        if not penalised and iteration > 4 and _is_separating(groups, shift, largest):
            return Maximum(point, converged=False, separated=True, n_iterations=iteration)
        gain = dot(step, point.gradient)
        following = climb(groups, point, step, penalised=penalised)
        if following is None:
            # No rounding is left to gain: the top, if the step was small.
            return Maximum(point, converged=largest < 1e-4, separated=False, n_iterations=iteration)
        if penalised:
            remember(pairs, point, following)
        point = following
        if gain < decrement and largest < move:
            return Maximum(point, converged=True, separated=False, n_iterations=iteration)
    return Maximum(point, converged=False, separated=False, n_iterations=max_iterations)


def ascent_direction(point: Point, free: npt.NDArray[np.intp], pairs: list[Pair]) -> FloatArray | None:
    """Compute the step to the top of the quadratic model, in the free coefficients only; ``None`` if singular.

    Without pairs it is Newton's. The penalised likelihood has ridges on which its curvature is not that of
    the augmented data, and steps by that alone creep; what earlier steps found of the curvature corrects them
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
    """Keep what a step found of the curvature, where it is that of a hill; only the last pairs."""
    step, fall = after.beta - before.beta, before.gradient - after.gradient
    if free is not None:
        fall = spread(fall[free], free, len(fall))
    curvature = dot(step, fall)
    if curvature > 1e-10 * math.sqrt(dot(step, step) * dot(fall, fall)) > 0.0:
        pairs.append(Pair(step, fall, curvature))
        del pairs[:-MAX_PAIRS]


def linear_predictor(groups: Groups, beta: FloatArray) -> FloatArray:
    """Compute each group's log odds, or its change by a step."""
    eta: FloatArray = _linear_predictor(groups.starts, groups.indices, groups.values, beta)
    return eta


def spread(values: FloatArray, at: npt.NDArray[np.intp], n: int) -> FloatArray:
    """Put values at their places among ``n``, zeros elsewhere."""
    whole = np.zeros(n)
    whole[at] = values
    return whole


def climb(groups: Groups, point: Point, step: FloatArray, *, penalised: bool) -> Point | None:
    """Take the step, halved until it does not descend; ``None`` when no part of it ascends."""
    slack = 1e-12 * max(1.0, abs(point.objective))
    # Where all weights are near zero a Newton step is astronomical; its direction is still good.
    step = step * min(1.0, MAX_SHIFT / max(MAX_SHIFT, float(np.max(np.abs(linear_predictor(groups, step))))))
    for _ in range(MAX_HALVINGS):
        following = evaluate(groups, point.beta + step, penalised=penalised)
        if following.objective >= point.objective - slack:
            return following
        step = step / 2.0
    return None


def _is_separating(groups: Groups, shift: FloatArray, largest: float) -> bool:
    """Check that a step raises positive groups, lowers negative ones and leaves mixed ones where they are.

    A direction along which nothing gets worse and something better is the definition of (quasi-)complete
    separation (Albert and Anderson 1984); Newton's step converges to one where it exists, so no linear
    programme is needed. Checked to 1e-4 of the largest shift: data that miss separation by less have
    coefficients that no interval can hold.
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
    """Log-likelihood, score, and the information, in one pass over the groups."""
    n_columns = beta.shape[0]
    gradient = np.zeros(n_columns)
    information = np.zeros((n_columns, n_columns))
    log_likelihood = 0.0
    eta = _linear_predictor(starts, indices, values, beta)
    for g in range(starts.shape[0] - 1):
        # exp of a negative number only: neither tail overflows, and both p and 1 - p keep all their digits.
        small = math.exp(-abs(eta[g]))
        near, far = 1.0 / (1.0 + small), small / (1.0 + small)
        p, q = (near, far) if eta[g] >= 0 else (far, near)
        n_negative = n_samples[g] - n_positive[g]
        log_likelihood -= (n_negative if eta[g] >= 0 else n_positive[g]) * abs(eta[g])
        log_likelihood -= n_samples[g] * math.log1p(small)
        residual = n_positive[g] * q - n_negative * p
        weight = n_samples[g] * p * q
        first, end = starts[g], starts[g + 1]
        # The same sums in the same order; the full row is the case that the compiler can make vectors of.
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
    """Add the pull of the penalty to the score, and the added half cases and controls to the information."""
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
