"""Plausibility of rows and numbers: duplicates, placeholders, signs, two scales, sites, artefacts of recording."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.tally.tally import NEGATIVE
from mlho.errors import plural
from mlho.training.checks.evidence import NO_NUMBERS, NO_SITE, Evidence, Measure, not_measured

_MIN_VALUES: Final = 100
_ONLY_DATES: Final = 0.95  # share of rows at midnight at which the data are taken to have no time of day
_GAP: Final = 4  # quarters of an octave, nearly empty, between two scales; of counts, 1 and 2 are three apart
_NEARLY_EMPTY: Final = 0.05  # of the smaller scale
_MOST_OF_ONE_SITE: Final = 0.5  # a site with more of all rows may well have its own codes


def measure(evidence: Evidence) -> Iterator[Measure]:
    """Yield the figures of plausibility."""
    share = evidence.tally.sample.duplicate_share
    text = f"{100 * share:.1f} % of the used rows"
    yield Measure("duplicates", "events", share, text, "Check whether the events were exported twice.")
    if evidence.has_values:
        yield from _numbers(evidence)
    else:
        yield from not_measured(NO_NUMBERS, "placeholder-values", "negative-values", "two-scales")
    yield from _sites(evidence)
    yield from _clock(evidence)


def _numbers(evidence: Evidence) -> Iterator[Measure]:
    values, n = evidence.tally.values, evidence.tally.values.sum(axis=1)
    for code in np.flatnonzero(n >= _MIN_VALUES).tolist():
        share = float(evidence.tally.placeholders[code] / n[code])
        text, remedy = f"{100 * share:.1f} % of its numbers", "Export missing numbers as empty fields."
        yield evidence.of_code("placeholder-values", code, share, text, remedy)
        negative = values[code, NEGATIVE] / n[code]
        share = float(min(negative, 1 - negative))
        text, remedy = f"{100 * share:.1f} % of its numbers", "Check signs and placeholders."
        yield evidence.of_code("negative-values", code, share, text, remedy)
        share = two_scales(values[code, :NEGATIVE])
        text = (
            f"{100 * share:.1f} % of its numbers are on a different scale, separated from the others by a gap"
        )
        yield evidence.of_code(
            "two-scales", code, share, text, "Convert the numbers of the code to one unit."
        )


def two_scales(counts: NDArray[np.int64]) -> float:
    """Return the share of the smaller of two groups of numbers with a nearly empty gap between them; 0 without a gap.

    Examples
    --------
    >>> two_scales(np.array([80, 20, 0, 0, 0, 0, 10])), two_scales(np.array([80, 20, 0, 0, 0, 10]))
    (0.09090909090909091, 0.0)
    """
    total, best = int(counts.sum()), 0.0
    if not total:
        return best
    below = np.concatenate([[0], np.cumsum(counts)])
    for start in range(1, len(counts) - _GAP):
        inside = int(below[start + _GAP] - below[start])
        smaller = min(int(below[start]), total - int(below[start + _GAP]))
        if smaller and inside <= _NEARLY_EMPTY * smaller:
            best = max(best, smaller / total)
    return best


def _sites(evidence: Evidence) -> Iterator[Measure]:
    sites = evidence.tally.sites
    if sites.shape[1] < 2:
        yield from not_measured(NO_SITE, "one-site")
        return
    total = max(int(sites.sum()), 1)
    of_site, rows = sites.sum(axis=0) / total, sites.sum(axis=1)
    is_of_one = (sites.max(axis=1) == rows) & (rows >= _MIN_VALUES)
    only = is_of_one & (of_site[sites.argmax(axis=1)] < _MOST_OF_ONE_SITE)
    share = float(rows[only].sum() / total)
    text = f"{100 * share:.1f} % of the used rows have a code that only one site records ({plural(int(only.sum()), 'code')}, such as {evidence.named(np.flatnonzero(only))})"
    remedy = "Map local codes to common ones (features.rollUp), or leave them out."
    yield Measure("one-site", "events", share, text, remedy)


def _clock(evidence: Evidence) -> Iterator[Measure]:
    total = max(int(evidence.rows.sum()), 1)
    share = int(evidence.tally.midnight.sum()) / total
    if share >= _ONLY_DATES:
        yield from not_measured("the times have no time of day", "midnight")
    else:
        text = f"{100 * share:.1f} % of the used rows"
        yield Measure("midnight", "events", share, text, "Check whether a default time was written.")
    first = int(evidence.tally.days[0]) / total
    text = f"{100 * first:.1f} % of the used rows"
    yield Measure("first-of-month", "events", first, text, "Check whether dates were truncated to the month.")
