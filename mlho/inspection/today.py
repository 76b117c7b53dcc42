"""Comparison of a cohort's index dates with today, by commands only: the output of a run must not depend on the current date."""

import datetime as dt
from typing import Final

import numpy as np

from mlho.encoding.cohort.cohort import NO_BOUND, Cohort
from mlho.encoding.cohort.counts import shown_with_share

# An index date ends with its day, which may begin earlier in another time zone.
_SLACK: Final = dt.timedelta(days=2)


def judge_future(cohort: Cohort, today: dt.date, *, min_cell: int) -> list[str]:
    """Return a warning about index dates after today; nothing if there are none."""
    first_us = np.datetime64(today + _SLACK, "us").astype(np.int64)
    n_future = int(((cohort.index_us >= first_us) & (cohort.index_us != NO_BOUND)).sum())
    if not n_future:
        return []
    return [
        f"The index date is after today ({today}): {shown_with_share(n_future, cohort.n_samples, 'sample', min_cell)}. Their outcomes cannot be known yet. "
        "Check the index dates for wrong years, and the outcome of samples whose follow-up has not ended."
    ]
