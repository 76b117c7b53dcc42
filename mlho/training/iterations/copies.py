"""What figures count: each sample once, or with a time to an event in proportion to its censoring weight."""

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.method.survival.censoring import censoring_weights, weighted_copies
from mlho.method.survival.curves import uncensored
from mlho.method.survival.times import EventTimes
from mlho.spec.training import TrainingSpec


def times_of(spec: TrainingSpec, cohort: Cohort) -> EventTimes | None:
    """Return the times to the event of each sample, if the outcome is one."""
    own = cohort.follow_up
    if own is None or (asked := spec.cohort.time_to_event) is None:
        return None
    return EventTimes(own.days, own.status, float(asked.horizon_days[0]))


def counted(
    times: EventTimes | None,
    samples: NDArray[np.int64],
    scores: NDArray[np.float64],
    *,
    horizon: float | None = None,
) -> NDArray[np.int64]:
    """Return the positions among these samples that figures of their scores count: each once.

    With a time to an event those whose status at the horizon is known, each as often as its censoring weight says: figures of these
    copies are corrected for censoring.

    Parameters
    ----------
    times : EventTimes or None
        Of all samples, from which the censoring is estimated.
    samples : int64, shape (n,)
    scores : float64, shape (n,)
    horizon : float, optional
        Default: the first one.
    """
    if times is None:
        return np.arange(len(samples))
    own, day = times[samples], times.horizon if horizon is None else horizon
    return weighted_copies(own, censoring_weights(own, uncensored(times), day), day, scores)
