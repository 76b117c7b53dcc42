"""Bootstrap intervals by resampling patients with all their samples."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlho.method.evaluation.metrics import ENDS, Estimate
from mlho.method.evaluation.tally import FloatArray, IntArray, Tally, checked_groups, tally

#: Figures of one replicate by name; None for a figure that does not exist.
Statistics = Callable[[Tally], Mapping[str, float | FloatArray | None]]
#: Figures of several replicates of one tally by name, with one entry for each; NaN for a figure that does not exist.
ManyStatistics = Callable[[Sequence[Tally]], Mapping[str, FloatArray]]

# Replicates with more cells in total are computed in several passes, so that the arrays of 128 KiB stay in the processor's cache.
CELLS_AT_ONCE = 2**14

# If a larger share of the replicates has no value, the others are not representative.
MAX_ABSENT_SHARE = 0.1


def bootstrap_by_patient(
    y: ArrayLike,
    p: ArrayLike,
    groups: ArrayLike | None,
    statistics: Statistics,
    *,
    n_replicates: int = 200,
    seed: int | Sequence[int],
) -> dict[str, Estimate]:
    """Return figures with percentile intervals over bootstrap samples of patients.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,)
    p : array of float in [0, 1], shape (n_samples,)
    groups : array of int, shape (n_samples,), or None
        Patient of each sample; None: each sample is a patient.
    statistics : callable
        Function from a :class:`~mlho.method.evaluation.tally.Tally` (whose counts are the weights of a replicate) to figures by name;
        None for a figure that does not exist.
    seed : int ≥ 0, or several
        Patients are numbered in the order of their codes, so that the order of rows has no effect.

    Returns
    -------
    dict of str to Estimate
        The value is that of the data themselves. An interval is absent, with the reason, if over 10 % of the
        replicates have no value or there are fewer than two patients. Array-valued figures are omitted.

    References
    ----------
    Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13; Field & Welsh (2007), JRSS B 69 (clusters).

    Examples
    --------
    >>> from mlho.method.evaluation.metrics import brier_of
    >>> y, p = [0, 1] * 50, [0.2, 0.7] * 50
    >>> figures = bootstrap_by_patient(y, p, None, lambda t: {"brier": brier_of(t)}, seed=1)
    >>> round(figures["brier"].value, 4)
    0.065
    """
    t = tally(y, p)
    patient = checked_groups(groups, t.cell.size)
    (drawn,) = replicates(
        [(t, one_by_one(statistics))], np.asarray(y) == 1, patient, n_replicates=n_replicates, seed=seed
    )
    point = {name: value for name, value in statistics(t).items() if not isinstance(value, np.ndarray)}
    return {name: percentile_estimate(value, drawn.get(name)) for name, value in point.items()}


def one_by_one(statistics: Statistics) -> ManyStatistics:
    """Return a function of several replicates that calls a function of one replicate for each."""

    def of_many(replicates: Sequence[Tally]) -> dict[str, FloatArray]:
        figures = [statistics(t) for t in replicates]
        return {
            name: np.array([math.nan if f[name] is None else f[name] for f in figures], dtype=np.float64)
            for name in figures[0]
        }

    return of_many


def replicates(
    predictions: Sequence[tuple[Tally, ManyStatistics]],
    positive: NDArray[np.bool_],
    patient: IntArray,
    *,
    n_replicates: int,
    seed: int | Sequence[int],
) -> list[dict[str, FloatArray]]:
    """Return every figure in every replicate. NaN, used only here, marks a figure without a value.

    Parameters
    ----------
    predictions : sequence of (Tally, callable)
        Predictions for the same samples, with the figures of each. All see the same draws.
    positive : array of bool, shape (n_samples,)
    patient : int64 array, shape (n_samples,)
        0-based, without gaps.
    n_replicates, seed
        As in ``bootstrap_by_patient``.

    Returns
    -------
    list of dict of str to float64 array, shape (n_replicates, ...)
        Empty dicts with fewer than two patients.
    """
    n_patients = int(patient.max()) + 1
    if n_patients < 2:
        return [{} for _ in predictions]
    rng = np.random.Generator(np.random.PCG64(seed))
    n_at_once = max(1, CELLS_AT_ONCE // max(t.p.size for t, _ in predictions))
    all_drawn: list[dict[str, list[FloatArray]]] = [{} for _ in predictions]
    for first in range(0, n_replicates, n_at_once):
        many: list[list[Tally]] = [[] for _ in predictions]
        for _ in range(first, min(first + n_at_once, n_replicates)):
            # Multinomial counts: how often each patient is drawn.
            times = np.bincount(rng.integers(0, n_patients, n_patients), minlength=n_patients)
            for (t, _), redrawn in zip(predictions, many, strict=True):
                redrawn.append(t.redrawn(times, patient, positive))
        for (_, statistics), redrawn, drawn in zip(predictions, many, all_drawn, strict=True):
            for name, values in statistics(redrawn).items():
                drawn.setdefault(name, []).append(values)
    return [{name: np.concatenate(values) for name, values in drawn.items()} for drawn in all_drawn]


def percentile_estimate(
    value: float | None, drawn: FloatArray | None, *, reason: str | None = None
) -> Estimate:
    """Return a figure with the percentile interval of its replicates.

    Parameters
    ----------
    value : float or None
        The figure of the data themselves.
    drawn : float64 array, shape (n_replicates,), or None
        NaN for a replicate without a value; None if nothing could be drawn.
    reason : str or None
        Reason if ``value`` is None.
    """
    if value is None:
        return Estimate.absent(reason or "not defined for these samples", "")
    if drawn is None or not drawn.size:
        return Estimate(
            value, None, None, None, "", "no interval: fewer than two patients, or no bootstrap replicates"
        )
    method = f"percentile bootstrap by patient, {drawn.size} replicates"
    present = drawn[~np.isnan(drawn)]
    n_absent = drawn.size - present.size
    if n_absent > MAX_ABSENT_SHARE * drawn.size or present.size < 2:
        why = f"no interval: the figure is undefined in {n_absent} of {drawn.size} replicates"
        return Estimate(value, None, None, None, method, why)
    if n_absent:
        method += f" ({n_absent} without a value)"
    low, high = _quantiles(present, ENDS)
    if low == high:
        return Estimate(value, None, None, None, method, "no interval: all replicates are equal")
    return Estimate(value, low, high, float(present.std(ddof=1)), method)


def _quantiles(values: FloatArray, shares: tuple[float, ...]) -> list[float]:
    """Return the quantiles of ``np.quantile``, bit for bit, in a tenth of its time. A run computes hundreds of intervals.

    Parameters
    ----------
    values : float64 array, shape (n,)
        Without NaN, at least two.
    shares : tuple of float in [0, 1]
    """
    last = values.size - 1
    at = [share * last for share in shares]
    places = [(int(place), min(int(place) + 1, last)) for place in at]
    ordered = np.partition(values, sorted({0, last, *(rank for pair in places for rank in pair)}))
    found = []
    for place, (before, after) in zip(at, places, strict=True):
        low, high, weight = float(ordered[before]), float(ordered[after]), place - before
        step = high - low
        found.append(low + step * weight if weight < 0.5 else high - step * (1 - weight))
    return found


def percentile_band(drawn: FloatArray | None) -> tuple[list[float | None], list[float | None]]:
    """Return pointwise (low, high) of a curve's replicates; None at points where over 10 % have no value.

    Parameters
    ----------
    drawn : float64 array, shape (n_replicates, n_points), or None
    """
    if drawn is None or drawn.ndim != 2 or not drawn.size:
        return [], []
    share_absent = np.isnan(drawn).mean(axis=0)
    usable, whole = share_absent <= MAX_ABSENT_SHARE, share_absent == 0
    ends = np.full((2, drawn.shape[1]), np.nan)
    # Both give the same bits. ``nanquantile`` loops over the points, which took a twentieth of the time of a small iteration.
    for quantile, points in ((np.quantile, whole), (np.nanquantile, usable & ~whole)):
        if points.any():
            ends[:, points] = quantile(drawn[:, points], ENDS, axis=0)
    low, high = ([float(v) if ok else None for v, ok in zip(end, usable, strict=True)] for end in ends)
    return low, high
