"""Follow-up of label rows: from the dates of ``cohort.timeToEvent`` to days and status."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import FollowUp
from mlho.encoding.cohort.windows import DAY_US
from mlho.errors import DataError, plural
from mlho.spec.cohort import TimeToEvent

MISSING: Final = -1  # no outcome
_NEVER: Final = np.iinfo(np.int64).max

Dates = tuple[NDArray[np.int64], NDArray[np.bool_]]  # last microsecond of each date, and which rows have one


def event_columns(asked: TimeToEvent) -> tuple[str, ...]:
    """Return the columns of dates in the labels."""
    return tuple(name for name in (asked.event, asked.end, asked.competing) if name is not None)


def read_follow_up(asked: TimeToEvent, dates: Mapping[str, Dates], index_us: NDArray[np.int64]) -> FollowUp:
    """Return what was observed first after each index date. ``NaN`` days where nothing ends the observation.

    An event after the end of observation was not observed. Of an event and a competing one at the same time the event counts.
    """
    event, end = _times(dates[asked.event]), _times(dates[asked.end])
    competing = np.full_like(event, _NEVER) if asked.competing is None else _times(dates[asked.competing])
    first = np.minimum(np.minimum(event, competing), end)
    status = np.where(event == first, 1, np.where(competing == first, 2, 0)).astype(np.uint8)
    days = np.where(first == _NEVER, np.nan, (first - index_us) / DAY_US)
    return FollowUp(days, status)


def _times(dates: Dates) -> NDArray[np.int64]:
    time_us, given = dates
    return np.where(given, time_us, _NEVER)


def outcome_of(follow_up: FollowUp, asked: TimeToEvent) -> NDArray[np.int8]:
    """Return 1 for an event up to the first horizon, else 0; ``MISSING`` where nothing ends the observation."""
    is_event = (follow_up.status == 1) & (follow_up.days <= asked.horizon_days[0])
    return np.where(np.isnan(follow_up.days), MISSING, is_event).astype(np.int8)


def refuse_other_times(
    follow_up: FollowUp, rows: NDArray[np.int64], first: NDArray[np.int64], where: str
) -> None:
    """Refuse label rows of one sample with another follow-up than its first row (``rows``, ``first``: positions of both)."""
    own, of_first = follow_up[rows], follow_up[first]
    n_bad = int(((own.days != of_first.days) | (own.status != of_first.status)).sum())
    if n_bad:
        raise DataError(
            where,
            "rows of one sample have different dates of cohort.timeToEvent",
            expected="one time for each patient and index date",
            got=f"{plural(n_bad, 'row')} with another time than the first row of the sample",
            remedy="Keep one of the rows.",
        )
