"""The numbers of codes over time: jumps from month to month, and numbers that are carried forward."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.tally.numbers import MONTHS
from mlho.encoding.tally.tally import NEGATIVE, YEARS, code_hash
from mlho.training.checks.evidence import NO_NUMBERS, Evidence, Measure, not_measured

_MIN_MONTH: Final = 20  # numbers of a month
_NEIGHBOURS: Final = 6  # months before
_FEWEST_NEIGHBOURS: Final = 3
_MIN_Z: Final = 5.0  # standard errors of a jump
_LEVELS_TO_OCTAVE: Final = 4.0
_MIN_PAIRS: Final = 100  # of consecutive numbers of one patient
_MIN_SERIES: Final = 30
#: Share of series without change at which a code counts as constant within a patient, such as height.
_CONSTANT: Final = 0.9


def measure(evidence: Evidence) -> Iterator[Measure]:
    """Yield the figures of the numbers over time."""
    if not evidence.has_values:
        yield from not_measured(NO_NUMBERS, "value-jumps", "copy-forward")
        return
    if evidence.years:
        yield from _jumps(evidence)
    else:
        yield from not_measured(f"the events span more than {YEARS} years", "value-jumps")
    yield from _copies(evidence)


def _jumps(evidence: Evidence) -> Iterator[Measure]:
    levels, first = evidence.tally.levels, evidence.years[0]
    month = (levels.month - 12 * first) % MONTHS
    in_years = month < 12 * len(evidence.years)
    for code in np.unique(levels.code).tolist():
        rows = np.flatnonzero((levels.code == code) & in_years & (levels.n >= _MIN_MONTH))
        rows = rows[np.argsort(month[rows], kind="stable")]
        n, mean = levels.n[rows], levels.total[rows] / levels.n[rows]
        found = jump(mean, n, _spread(evidence.tally.values[code, :NEGATIVE]))
        if found is None:
            continue
        place, change = found
        at = int(month[rows[place]])
        octaves = abs(change) / _LEVELS_TO_OCTAVE
        text = (
            f"the numbers of {first + at // 12:04d}-{at % 12 + 1:02d} are typically {2 ** (change / _LEVELS_TO_OCTAVE):.2g} times those of the "
            f"months {'before' if place >= _FEWEST_NEIGHBOURS else 'after'}"
        )
        remedy = "Check the unit of these numbers, and whether the method of measurement has changed."
        yield evidence.of_code("value-jumps", code, octaves, text, remedy)


def jump(mean: NDArray[np.float64], n: NDArray[np.int64], spread: float) -> tuple[int, float] | None:
    """Return the month with the largest change beyond chance, and the change; None without one.

    A month is compared with the median of up to six months before it, the first three months with that of the months after.

    Parameters
    ----------
    mean : float64, shape (n_months,)
        Mean level of the numbers of each month.
    n : int64, shape (n_months,)
    spread : float
        Standard deviation of the levels.

    Examples
    --------
    >>> jump(np.array([8.0, 8.1, 7.9, 8.0, 12.0, 8.0]), np.full(6, 100), 1.0)
    (4, 4.0)
    """
    best: tuple[int, float] | None = None
    for place in range(len(mean)):
        is_early = place < _FEWEST_NEIGHBOURS
        others = mean[place + 1 :][:_NEIGHBOURS] if is_early else mean[:place][-_NEIGHBOURS:]
        if len(others) < _FEWEST_NEIGHBOURS:
            continue
        change = float(mean[place] - np.median(others))
        is_chance = abs(change) < _MIN_Z * spread / np.sqrt(n[place])
        if not is_chance and (best is None or abs(change) > abs(best[1])):
            best = place, change
    return best


def _spread(counts: NDArray[np.int64]) -> float:
    """Return the standard deviation of the bin positions, weighted by the counts."""
    places, total = np.arange(len(counts)), max(int(counts.sum()), 1)
    mean = float(counts @ places) / total
    return float(np.sqrt(counts @ (places - mean) ** 2 / total))


def _copies(evidence: Evidence) -> Iterator[Measure]:
    sample = evidence.tally.series
    places = {code_hash(name): place for place, name in enumerate(evidence.problem.codes)}
    for found in np.unique(sample.code).tolist():
        if (code := places.get(found)) is None:
            continue
        rows = np.flatnonzero(sample.code == np.uint64(found))
        share = copied_share(sample.series[rows], sample.time[rows], sample.value[rows])
        if share is None:
            continue
        text = f"{100 * share:.0f} % of its numbers equal the patient's previous number, after subtracting the share expected by chance"
        remedy = "Check whether missing numbers were filled with earlier ones before the export."
        yield evidence.of_code("copy-forward", code, share, text, remedy)


def copied_share(
    series: NDArray[np.uint64], time: NDArray[np.int64], value: NDArray[np.float64]
) -> float | None:
    """Return the share of numbers that equal the patient's previous number, minus the share expected by chance.

    None with too few numbers, and for a code whose numbers hardly change in a patient, such as height.

    Parameters
    ----------
    series, time, value : arrays, shape (n_rows,)
        Sorted by series and time.

    Examples
    --------
    >>> series, time = np.repeat(np.arange(50, dtype=np.uint64), 4), np.tile(np.arange(4), 50)
    >>> round(copied_share(series, time, np.arange(200) // 2 + 0.5), 2)
    0.66
    """
    follows = (series[1:] == series[:-1]) & (time[1:] > time[:-1])
    if follows.sum() < _MIN_PAIRS:
        return None
    is_equal = value[1:] == value[:-1]
    with_pairs, place, size = np.unique(series[1:][follows], return_inverse=True, return_counts=True)
    equal = np.bincount(place, is_equal[follows], minlength=len(with_pairs))
    long = size >= 2
    if len(with_pairs) < _MIN_SERIES or (long.any() and (equal == size)[long].mean() >= _CONSTANT):
        return None
    _, counts = np.unique(value, return_counts=True)
    by_chance = float(((counts / len(value)) ** 2).sum())
    return float(is_equal[follows].mean()) - by_chance
