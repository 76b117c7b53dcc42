"""Inverse probability of censoring weights: samples with known status also represent similar samples that were censored."""

import numpy as np
from numpy.typing import NDArray

from mlho.method.survival.curves import StepFunction
from mlho.method.survival.times import UNKNOWN, EventTimes, Floats


def censoring_weights(times: EventTimes, observed: StepFunction, horizon: float) -> Floats:
    """Return the weight of each sample in a figure at the horizon; 0 if its status there is unknown.

    Parameters
    ----------
    observed : StepFunction
        Probability of still being observed, from :func:`mlho.method.survival.curves.uncensored`.

    Notes
    -----
    A weight is one over the probability of being observed until the status was known: until the event, or until the horizon. It
    assumes that censoring does not depend on the risk.

    References
    ----------
    Uno, H. et al. (2007). Journal of the American Statistical Association 102.
    """
    is_known = times.status_at(horizon) != UNKNOWN
    weights = np.zeros(len(times))
    weights[is_known] = 1.0 / observed.before(np.minimum(times.days[is_known], horizon))
    return weights


def weighted_copies(times: EventTimes, weights: Floats, horizon: float, scores: Floats) -> NDArray[np.int64]:
    """Return positions of samples, ascending, each repeated by its weight, rounded so that the totals are preserved.

    Unweighted figures of the copies approximate the weighted figures of the samples. The cumulative weights are rounded in the
    order of status and score: up to any score, the number of copies with a status differs from the sum of the weights by at most
    one.

    Examples
    --------
    >>> times = EventTimes(np.array([1.0, 2.0, 5.0, 5.0, 5.0]), np.array([1, 0, 0, 0, 0], np.uint8), 4.0)
    >>> weighted_copies(times, np.array([1.0, 0.0, 4 / 3, 4 / 3, 4 / 3]), 4.0, np.arange(5.0)).tolist()
    [0, 2, 3, 3, 4]
    """
    order = np.lexsort((np.arange(len(times)), scores, times.status_at(horizon)))
    ends = np.floor(np.cumsum(weights[order]) + 0.5).astype(np.int64)
    counts = np.zeros(len(times), np.int64)
    counts[order] = np.diff(ends, prepend=0)
    return np.repeat(np.arange(len(times)), counts)
