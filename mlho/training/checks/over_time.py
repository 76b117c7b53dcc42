"""Checks over the calendar: volume by month and site, codes that begin or end, hours and days of the week."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NO_BOUND
from mlho.encoding.cohort.counts import shown_with_share
from mlho.encoding.tally.tally import YEARS
from mlho.errors import plural
from mlho.report.checks import Series
from mlho.spec.checks import CheckName
from mlho.training.checks.evidence import NO_SITE, Evidence, Measure, not_measured

_MIN_MONTH: Final = 50  # median rows of a month below which a change is not informative
_USUAL: Final = 1 / 3
_NEIGHBOURS: Final = 6  # months on each side
_MIN_ROWS: Final = 200  # of a code, or of a year
_FEW: Final = 0.05  # share of a code's usual rows below which the code counts as absent from a year
_MIN_END: Final = 5  # rows needed in and after the last month of the data; more would cut off the last index dates of sparse records
_SLACK_DAYS: Final = 31  # after the last month with events: the last index dates need not have a recent event
_MOST_SITES: Final = 11
_MOST_CODES: Final = 6


def measure(evidence: Evidence) -> Iterator[Measure]:
    """Yield the figures over the calendar."""
    months = evidence.tally.months
    yield from _dips(evidence, "months", "all events", months.sum(axis=1))
    parts = evidence.problem.cohort.parts
    if parts is None or months.shape[1] < 2:
        yield from not_measured(NO_SITE, "site-months")
    else:
        for place, site in enumerate(parts.levels):
            yield from _dips(evidence, "site-months", f"site {site}", months[:, place])
    yield _late_index(evidence)
    if len(evidence.years) < 2:
        reason = f"the events span less than two years, or more than {YEARS}"
        yield from not_measured(reason, "code-churn", "hours", "weekdays")
        return
    yield from _churn(evidence)
    yield from _hours(evidence)
    yield from _weekdays(evidence)


def _dips(evidence: Evidence, check: CheckName, subject: str, rows: NDArray[np.int64]) -> Iterator[Measure]:
    """Yield the number of months with fewer than a third of the median rows of their neighbours."""
    low = [_month(evidence, place) for place in dips(rows)]
    remedy = "Check whether the export of these months is complete."
    yield Measure(check, subject, float(len(low)), in_words(low), remedy)


def in_words(months: Sequence[str]) -> str:
    """State how many months have few rows, and name the first three.

    Examples
    --------
    >>> in_words(["2011-09"])
    '1 month with fewer than a third of the usual rows, such as 2011-09'
    """
    n, first = plural(len(months), "month"), ", ".join(months[:3])
    return f"{n} with fewer than a third of the usual rows, such as {first}"


def dips(rows: NDArray[np.int64]) -> list[int]:
    """Return the places of months with few rows, between months with the usual number.

    Examples
    --------
    >>> dips(np.array([90, 100, 110, 20, 100, 95, 105]))
    [3]
    """
    found = []
    occupied = np.flatnonzero(rows)
    for place in range(occupied[0] + 1, occupied[-1]) if len(occupied) else ():
        before, after = rows[max(0, place - _NEIGHBOURS) : place], rows[place + 1 : place + 1 + _NEIGHBOURS]
        # The lower of both sides, so that the slow beginning and end of the data do not count as a dip.
        usual = min(float(np.median(before)), float(np.median(after)))
        if usual >= _MIN_MONTH and rows[place] < _USUAL * usual:
            found.append(place)
    return found


def _late_index(evidence: Evidence) -> Measure:
    """Return the share of samples with an index date after the end of the data: often a wrong year."""
    cohort = evidence.problem.cohort
    few, rows = evidence.problem.spec.report.min_cell, evidence.tally.months.sum(axis=1)
    last, shown = last_month(rows, _MIN_END), last_month(rows, max(few, _MIN_END))
    if last is None or shown is None or bool((cohort.index_us == NO_BOUND).all()):
        return Measure("late-index", "samples", None, "there is no index date, or there are few events")
    end = (np.datetime64(_month(evidence, last), "M") + np.timedelta64(1, "M")).astype("datetime64[us]")
    is_late = cohort.index_us >= (end + np.timedelta64(_SLACK_DAYS, "D")).astype(np.int64)
    n, share = int(is_late.sum()), float(is_late.mean())
    text = (
        f"{shown_with_share(n, cohort.n_samples, 'sample', few)} have an index date more than {_SLACK_DAYS} days after the last month "
        f"with events, {_month(evidence, shown)}{'' if shown == last else ' or soon after'}"
    )
    return Measure(
        "late-index",
        "samples",
        share,
        text,
        "Check the index dates for wrong years, and whether the events were exported up to the last index date.",
    )


def last_month(rows: NDArray[np.int64], n_least: int) -> int | None:
    """Return the position of the last month in and after which there are at least ``n_least`` rows; ``None`` if there are fewer in total.

    Single rows with a wrong year therefore do not count as the end of the data.

    Examples
    --------
    >>> last_month(np.array([0, 90, 80, 0, 0, 1]), 20)
    2
    """
    from_here_on = np.cumsum(rows[::-1])[::-1]
    enough = np.flatnonzero(from_here_on >= n_least)
    return int(enough[-1]) if len(enough) else None


def _month(evidence: Evidence, place: int) -> str:
    return f"{evidence.problem.spec.data.plausible_years[0] + place // 12:04d}-{place % 12 + 1:02d}"


def churned(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the codes that are absent from at least the first or the last two years, shape (n_codes,).

    Parameters
    ----------
    counts : int64, shape (n_codes, n_years)
    """
    expected = counts.sum(axis=0) / max(int(counts.sum()), 1)
    usual = counts.sum(axis=1)[:, None] * expected
    half, is_churned = counts.shape[1] // 2, np.zeros(len(counts), np.bool_)
    for part in (slice(0, half), slice(half, None)):
        rows, usual_rows = counts[:, part].sum(axis=1), usual[:, part].sum(axis=1)
        # Its absence from half of the years cannot be chance if 30 rows were expected there.
        is_churned |= (rows < _FEW * usual_rows) & (usual_rows >= 30)
    return is_churned


def _churn(evidence: Evidence) -> Iterator[Measure]:
    is_churned = churned(evidence.of_years(evidence.tally.years))
    total = max(int(evidence.rows.sum()), 1)
    share = float(evidence.rows[is_churned].sum() / total)
    codes = np.flatnonzero(is_churned)
    text = (
        f"{100 * share:.1f} % of the used rows are of codes that begin or end in the period ({plural(len(codes), 'code')}), "
        f"such as {evidence.named(codes)}"
    )
    remedy = "Map old and new codes to one (features.rollUp), or shorten the period."
    yield Measure("code-churn", "events", share, text, remedy)


def _hours(evidence: Evidence) -> Iterator[Measure]:
    """Yield the largest distance of the mean hour of a year (circular) from that of all years."""
    hours = evidence.of_years(evidence.tally.hours.T).T
    angles = np.exp(2j * np.pi * (np.arange(24) + 0.5) / 24)
    mean = complex((hours.sum(axis=0) * angles).sum() / max(int(hours.sum()), 1))
    if int(hours.sum()) < _MIN_ROWS or abs(mean) < 0.1:
        yield from not_measured("the rows have no time of day, or none that predominates", "hours")
        return
    for year, counts in zip(evidence.years, hours, strict=True):
        rest = hours.sum(axis=0) - counts
        if counts.sum() < _MIN_ROWS or rest.sum() < _MIN_ROWS:
            continue
        of_year, of_rest = complex((counts * angles).sum()), complex((rest * angles).sum())
        turn = math.remainder(float(np.angle(of_year) - np.angle(of_rest)), 2 * math.pi)
        shift = abs(turn) * 24 / (2 * math.pi)
        text = f"the mean hour of the day differs by {shift:.1f} hours from that of the other years"
        yield Measure("hours", str(year), shift, text, "Check the time zone.")


def _weekdays(evidence: Evidence) -> Iterator[Measure]:
    days = evidence.of_years(evidence.tally.weekdays.T).T
    for year, counts in zip(evidence.years, days, strict=True):
        rest = days.sum(axis=0) - counts
        if counts.sum() < _MIN_ROWS or rest.sum() < _MIN_ROWS:
            continue
        change = float(np.abs(counts / counts.sum() - rest / rest.sum()).sum() / 2)
        text = f"{100 * change:.0f} % of the rows fall on different days of the week than in the other years"
        yield Measure("weekdays", str(year), change, text, "Check whether dates were shifted or filled in.")


def series(evidence: Evidence) -> list[Series]:
    """Return the counts over time that the report draws: all rows and sites by month, then codes that begin or end by year."""
    months, few = evidence.tally.months, evidence.problem.spec.report.min_cell
    first_year = evidence.problem.spec.data.plausible_years[0]
    total = months.sum(axis=1)
    if not evidence.years:
        return []
    shown = range(12 * (evidence.years[0] - first_year), 12 * (evidence.years[-1] - first_year + 1))
    labels = [_month(evidence, place) for place in shown]
    shown_series = [_series("all events", labels, total[shown.start : shown.stop], few)]
    parts = evidence.problem.cohort.parts
    if parts is not None and months.shape[1] > 1:
        by_rows = np.argsort(-months.sum(axis=0), kind="stable")[:_MOST_SITES]
        shown_series += [
            _series(f"site {parts.levels[site]}", labels, months[shown.start : shown.stop, site], few)
            for site in by_rows.tolist()
        ]
    counts = evidence.of_years(evidence.tally.years)
    codes = np.flatnonzero(churned(counts)) if len(evidence.years) > 1 else np.empty(0, np.int64)
    codes = codes[np.argsort(-evidence.rows[codes], kind="stable")][:_MOST_CODES]
    return shown_series + [
        _series(evidence.words(code), [*map(str, evidence.years)], counts[code], few)
        for code in codes.tolist()
    ]


def _series(name: str, labels: list[str], counts: NDArray[np.int64], few: int) -> Series:
    return Series(name=name, at=labels, rows=[None if 0 < n < few else n for n in counts.tolist()])
