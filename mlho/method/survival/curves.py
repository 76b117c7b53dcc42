"""Step functions of time under censoring: cumulative incidence, and the probability of not being censored."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlho.method.survival.times import CENSORED, EVENT, EventTimes, Floats


@dataclass(frozen=True, eq=False)
class StepFunction:
    """A right-continuous step function."""

    at: Floats
    """Ascending. Shape (n_steps,)."""
    values: Floats
    """Value from each step on. Shape (n_steps,)."""
    start: float
    """Value before the first step."""

    def __call__(self, x: Floats | float) -> Floats:
        """Return the values at x."""
        return self._of(np.searchsorted(self.at, x, side="right"))

    def before(self, x: Floats | float) -> Floats:
        """Return the left limits at x."""
        return self._of(np.searchsorted(self.at, x, side="left"))

    def _of(self, n_steps: NDArray[np.int64] | np.int64) -> Floats:
        return np.asarray(np.concatenate([[self.start], self.values])[n_steps])


def cumulative_incidence(times: EventTimes) -> StepFunction:
    """Return the probability of the event up to each day (Aalen–Johansen).

    A competing event is not censoring: after it the event is impossible. Without competing events this is one minus the
    Kaplan–Meier estimate.

    References
    ----------
    Aalen, O. and Johansen, S. (1978). Scandinavian Journal of Statistics 5.

    Examples
    --------
    >>> times = EventTimes(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 0, 1, 2], np.uint8), 3.0)
    >>> cumulative_incidence(times).values.tolist()
    [0.25, 0.25, 0.625, 0.625]
    """
    at, place = np.unique(times.days, return_inverse=True)
    n_at_risk = _at_risk(place, len(at))
    n_events = np.bincount(place[times.status == EVENT], minlength=len(at))
    n_any = np.bincount(place[times.status != CENSORED], minlength=len(at))
    free = np.cumprod(1.0 - n_any / n_at_risk)
    free_before = np.concatenate([[1.0], free[:-1]])
    return StepFunction(at, np.cumsum(free_before * n_events / n_at_risk), 0.0)


def uncensored(times: EventTimes) -> StepFunction:
    """Return the probability of still being observed after each day (Kaplan–Meier of the censoring).

    Events precede censoring on the same day, so samples with an event on a day are not at risk of being censored on it.
    """
    at, place = np.unique(times.days, return_inverse=True)
    n_censored = np.bincount(place[times.status == CENSORED], minlength=len(at))
    n_any = np.bincount(place[times.status != CENSORED], minlength=len(at))
    n_at_risk = _at_risk(place, len(at)) - n_any
    return StepFunction(at, np.cumprod(1.0 - n_censored / np.maximum(n_at_risk, 1)), 1.0)


def _at_risk(place: NDArray[np.int64], n_days: int) -> Floats:
    """Return the number of samples observed up to each day or longer."""
    counts = np.bincount(place, minlength=n_days)
    return np.cumsum(counts[::-1])[::-1].astype(np.float64)
