"""Times to an event, with censoring and competing events."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.errors import DataError, plural

Floats = NDArray[np.float64]

CENSORED: Final = 0
EVENT: Final = 1
COMPETING: Final = 2
#: Status at a horizon of a sample that was censored before it.
UNKNOWN: Final = -1


@dataclass(frozen=True, eq=False)
class EventTimes:
    """Observations after the index date of each sample."""

    days: Floats
    """Days from the index date to the event, the competing event or the end of observation; above 0. Shape (n_samples,)."""
    status: NDArray[np.uint8]
    """``CENSORED``, ``EVENT`` or ``COMPETING``: what happened at ``days``. An event on the last day of observation counts as observed.
    Shape (n_samples,)."""
    horizon: float
    """Day up to which a classifier predicts the risk."""

    def __len__(self) -> int:
        return len(self.days)

    def __getitem__(self, where: Any) -> "EventTimes":
        """Return the times of these samples: a mask, positions or a slice."""
        return EventTimes(self.days[where], self.status[where], self.horizon)

    def status_at(self, horizon: float) -> NDArray[np.int8]:
        """Return 1 for an event up to the horizon, 0 for none, ``UNKNOWN`` for a sample that was censored before it.

        A sample with a competing event up to the horizon has no event.

        Examples
        --------
        >>> times = EventTimes(np.array([10.0, 20.0, 30.0, 20.0]), np.array([1, 0, 1, 2], np.uint8), 25.0)
        >>> times.status_at(25.0).tolist()
        [1, -1, 0, 0]
        """
        is_over = self.days <= horizon
        status = np.zeros(len(self), np.int8)
        status[is_over & (self.status == EVENT)] = 1
        status[(self.days < horizon) & (self.status == CENSORED)] = UNKNOWN
        return status


def checked_times(times: EventTimes, n_samples: int) -> EventTimes:
    """Return the times of a training set.

    Raises
    ------
    DataError
        Not one time for each row, times that are not above 0, an unknown status, or no event up to the horizon.
    """
    where = "times to the event"
    if times.days.shape != (n_samples,) or times.status.shape != (n_samples,):
        raise DataError(
            where,
            "not one time for each sample",
            expected=f"{plural(n_samples, 'time')}",
            got=f"{plural(len(times), 'time')}",
            remedy="Pass one time and one status for each row of the matrix.",
        )
    n_bad = int(np.count_nonzero(~((times.days > 0) & np.isfinite(times.days)) | (times.status > COMPETING)))
    if n_bad:
        raise DataError(
            where,
            "an invalid time or status",
            expected="days above 0, and status 0, 1 or 2",
            got=f"{plural(n_bad, 'other sample')}",
            remedy="Leave out samples that were not observed after the index date.",
        )
    if not (times.status_at(times.horizon) == EVENT).any():
        raise DataError(
            where,
            "no event up to the horizon",
            expected="samples with an event",
            got="none",
            remedy="Choose a later horizon, use fewer folds, or widen the cohort.",
        )
    return times
