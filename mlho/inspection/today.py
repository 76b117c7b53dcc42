"""Comparison of a cohort's index dates and follow-up with today, by commands only: the output of a run must not depend on the current date."""

import datetime as dt
from typing import Final

import numpy as np

from mlho.encoding.cohort.cohort import NO_BOUND, Cohort
from mlho.encoding.cohort.counts import shown_with_share
from mlho.encoding.cohort.windows import DAY_US

# An index date ends with its day, which may begin earlier in another time zone.
_SLACK: Final = dt.timedelta(days=2)


def judge_future(cohort: Cohort, today: dt.date, *, min_cell: int) -> list[str]:
    """Return warnings about index dates after today, and about follow-up that ends after today; nothing if there are none."""
    first_us = np.datetime64(today + _SLACK, "us").astype(np.int64)
    is_future = (cohort.index_us >= first_us) & (cohort.index_us != NO_BOUND)
    warnings = []
    if n_future := int(is_future.sum()):
        warnings.append(
            f"The index date is after today ({today}): {shown_with_share(n_future, cohort.n_samples, 'sample', min_cell)}. Their outcomes cannot be known yet. "
            "Check the index dates for wrong years, and the outcome of samples whose follow-up has not ended."
        )
    if cohort.follow_up is not None:
        end_us = cohort.index_us + (cohort.follow_up.days * DAY_US).astype(np.int64)
        if n_open := int(((end_us >= first_us) & ~is_future).sum()):
            warnings.append(
                f"The follow-up ends after today ({today}): {shown_with_share(n_open, cohort.n_samples, 'sample', min_cell)}, which makes the risk too "
                "low. Dates such as 9999-12-31 are read as dates: write the last day of the data as the end of observation, and leave the date of an "
                "event that did not occur empty."
            )
    return warnings
