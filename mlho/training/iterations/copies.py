"""Weights of samples in figures: each sample once, or with a time to an event in proportion to its censoring weight."""

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.method.survival.censoring import censoring_weights, weighted_copies
from mlho.method.survival.curves import uncensored
from mlho.method.survival.times import CENSORED, EventTimes
from mlho.spec.training import TrainingSpec


def times_of(spec: TrainingSpec, cohort: Cohort) -> EventTimes | None:
    """Return the times to the event of each sample; None if the outcome is not a time to an event.

    With a split by date, the times end at the last horizon: later facts of a training sample may fall in the test period.
    """
    follow_up = cohort.follow_up
    if follow_up is None or (asked := spec.cohort.time_to_event) is None:
        return None
    days, status = follow_up.days, follow_up.status
    if spec.validation.by_date:
        last = float(asked.horizon_days[-1])
        days, status = np.minimum(days, last), np.where(days > last, CENSORED, status).astype(np.uint8)
    return EventTimes(days, status, float(asked.horizon_days[0]))


def censored_like(times: EventTimes, samples: NDArray[np.int64], spec: TrainingSpec) -> EventTimes:
    """Return the times from which the censoring of these samples is estimated.

    By default these are the times of all samples. In a split by date or site, follow-up may differ between the parts, so censoring is
    estimated within each part.
    """
    return times if spec.validation.is_drawn else times[samples]


def counted(
    times: EventTimes | None,
    samples: NDArray[np.int64],
    scores: NDArray[np.float64],
    spec: TrainingSpec,
    *,
    horizon: float | None = None,
    within: bool = False,
) -> NDArray[np.int64]:
    """Return the positions of the samples that enter figures of their scores: each once.

    With a time to an event, return the samples whose status at the horizon is known, each repeated by its censoring weight. Figures of
    these copies are corrected for censoring.

    Parameters
    ----------
    times : EventTimes or None
        Of all samples.
    samples : int64, shape (n,)
    scores : float64, shape (n,)
    horizon : float, optional
        Default: the first one.
    within : bool
        Estimate the censoring on these samples in any split: groups and periods may differ in follow-up.
    """
    if times is None:
        return np.arange(len(samples))
    sampled, day = times[samples], times.horizon if horizon is None else horizon
    observed = uncensored(sampled if within else censored_like(times, samples, spec))
    return weighted_copies(sampled, censoring_weights(sampled, observed, day), day, scores)
