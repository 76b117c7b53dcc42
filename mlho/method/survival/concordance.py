"""Concordance: how often the patient with the earlier event has the higher score."""

from typing import Any

import numpy as np
from numba import njit

from mlho.method.survival.curves import StepFunction
from mlho.method.survival.times import COMPETING, EVENT, EventTimes, Floats


def harrell(times: EventTimes, scores: Floats, *, until: float = np.inf) -> float | None:
    """Return Harrell's concordance: the share of comparable pairs in which the sample with the earlier event scores higher.

    Parameters
    ----------
    scores : float64, shape (n_samples,)
        Only their order counts; ties count half.
    until : float
        Only events up to this day count.

    Returns
    -------
    float or None
        None if no pair is comparable.

    Notes
    -----
    A pair is comparable if one has the event while the other is still observed. A sample with a competing event never has the
    event, so it is comparable with every event (Wolbers et al. 2009, Epidemiology 20).

    References
    ----------
    Harrell, F. E., Lee, K. L. and Mark, D. B. (1996). Statistics in Medicine 15.
    """
    return _concordance(times, scores, np.ones(len(times)), until)


def uno(times: EventTimes, scores: Floats, observed: StepFunction, *, until: float) -> float | None:
    """Return Uno's concordance up to a day, which does not depend on the censoring; see :func:`harrell`.

    Parameters
    ----------
    scores : float64, shape (n_samples,)
    observed : StepFunction
        Probability of still being observed, from :func:`mlho.method.survival.curves.uncensored`.

    References
    ----------
    Uno, H. et al. (2011). Statistics in Medicine 30. Competing events: Wolbers, M. et al. (2014). Biostatistics 15.
    """
    return _concordance(times, scores, 1.0 / np.maximum(observed.before(times.days), 1e-12), until)


def _concordance(times: EventTimes, scores: Floats, weights: Floats, until: float) -> float | None:
    # Latest first; within a day, samples without an event first, because they outlast the events of the day.
    is_event = times.status == EVENT
    order = np.lexsort((is_event, -times.days))
    rank = np.unique(scores, return_inverse=True)[1] + 1
    total, concordant = _count(
        times.days[order],
        is_event[order] & (times.days[order] <= until),
        (times.status == COMPETING)[order],
        rank[order].astype(np.int64),
        weights[order],
        int(rank.max(initial=0)),
    )
    return float(concordant / total) if total > 0.0 else None


@njit(cache=True, nogil=True)
def _count(
    days: Any, is_event: Any, is_competing: Any, rank: Any, weight: Any, n_ranks: int
) -> tuple[float, float]:  # pragma: no cover - compiled
    """Return the weight of comparable and of concordant pairs, by binary indexed trees over the ranks of the scores."""
    later = np.zeros(n_ranks + 1)  # samples that outlast the day
    earlier = np.zeros(n_ranks + 1)  # weights of earlier competing events
    for i in range(days.size):
        if is_competing[i]:
            _add(earlier, rank[i], weight[i])
    total, concordant = 0.0, 0.0
    start = 0
    while start < days.size:
        stop = start
        while stop < days.size and days[stop] == days[start]:
            stop += 1
        for i in range(start, stop):  # those without an event outlast the events of their day
            if not is_event[i]:
                if is_competing[i]:
                    _add(earlier, rank[i], -weight[i])
                _add(later, rank[i], 1.0)
        for i in range(start, stop):
            if is_event[i]:
                event_weight = weight[i]
                for tree, pair_weight in ((later, event_weight * event_weight), (earlier, event_weight)):
                    below, upto = _sum(tree, rank[i] - 1), _sum(tree, rank[i])
                    total += pair_weight * _sum(tree, n_ranks)
                    concordant += pair_weight * (below + 0.5 * (upto - below))
        for i in range(start, stop):
            if is_event[i]:
                _add(later, rank[i], 1.0)
        start = stop
    return total, concordant


@njit(cache=True, nogil=True)
def _add(tree: Any, place: int, value: float) -> None:  # pragma: no cover - compiled
    while place < tree.size:
        tree[place] += value
        place += place & -place


@njit(cache=True, nogil=True)
def _sum(tree: Any, place: int) -> float:  # pragma: no cover - compiled
    total = 0.0
    while place > 0:
        total += tree[place]
        place -= place & -place
    return total
