"""Change points: the period in which a rate or an effect changes abruptly, for many series at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Probability that a change is reported in any series if there is none (Bonferroni over series and periods).
FAMILY_ERROR: Final = 0.05
# Periods on each side of a change: fewer do not show whether the new level lasts.
_LEAST_PERIODS: Final = 3
# Periods on each side whose rates are compared: a trend changes little in a year.
_LOCAL_PERIODS: Final = 12
# Minimum variance (of observed minus expected cases) on each side of a change of effect; below it, the normal approximation is
# poor.
_LEAST_INFORMATION: Final = 20.0
# Steps of Newton's method, and the change of a log odds ratio below which it stops.
_MAX_STEPS: Final = 40
_TOLERANCE: Final = 1e-9


@dataclass(frozen=True, eq=False)
class ChangePoints:
    """The most likely change of each series."""

    period: NDArray[np.int64]
    """First period after the change; −1 if there are too few data for any. Shape (n_series,)."""
    statistic: Floats
    """χ² with one degree of freedom if that period had been given in advance. Shape (n_series,)."""
    before: Floats
    after: Floats
    """Rate in the 12 periods on each side, or log odds ratio in all of them. Shape (n_series,)."""

    def is_significant(self, n_periods: int) -> NDArray[np.bool_]:
        """Compare the statistics with the χ² quantile at ``FAMILY_ERROR / (n_series · n_periods)``."""
        n_tests = max(1, len(self.period) * n_periods)
        bound = NormalDist().inv_cdf(FAMILY_ERROR / n_tests / 2) ** 2
        return np.asarray((self.period >= 0) & (self.statistic > bound))


def joined(parts: Sequence[ChangePoints]) -> ChangePoints:
    """Return the changes of all series of several parts."""
    return ChangePoints(
        np.concatenate([part.period for part in parts]),
        np.concatenate([part.statistic for part in parts]),
        np.concatenate([part.before for part in parts]),
        np.concatenate([part.after for part in parts]),
    )


def change_of_rate(counts: Floats, totals: Floats, design_effect: Floats) -> ChangePoints:
    """Find the step in each series of rates, relative to a linear trend, which does not count as a change.

    Parameters
    ----------
    counts : float64, shape (n_series, n_periods)
        Poisson under the null hypothesis of a rate that is linear in time.
    totals : float64, shape (n_periods,)
        Denominators, above 0.
    design_effect : float64, shape (n_series,)
        Factor by which the variance exceeds that of independent counts, at least 1.

    Notes
    -----
    The step at each period is made orthogonal to a constant and a linear trend, with the totals as weights. The statistic is the
    squared score of the step over its variance at the rates of the trend, or at the mean rate where that is higher. Sums are cumulative sums in a fixed order.

    Examples
    --------
    >>> counts = np.array([[5.0] * 10 + [20.0] * 10])
    >>> found = change_of_rate(counts, np.full(20, 100.0), np.ones(1))
    >>> found.period.tolist(), found.before.tolist(), found.after.tolist()
    ([10], [0.05], [0.2])
    """
    n_periods = len(totals)
    time = np.arange(n_periods, dtype=np.float64)
    time -= _last(np.cumsum(totals * time)) / _last(np.cumsum(totals))
    spread = _last(np.cumsum(totals * time**2))
    total = _tails(totals)
    # The step from a period on, relative to the trend, is h − level − slope · time.
    level, slope = total / total[0], _tails(totals * time) / spread
    count, count_of_time = _tails(counts), _tails(counts * time)[:, :1]
    score = count - level * count[:, :1] - slope * count_of_time
    rate = count[:, :1] / total[0]
    fitted = totals * np.maximum(rate + count_of_time / spread * time, rate)
    v, v_of_time = _tails(fitted), _tails(fitted * time)
    variance = v * (1 - 2 * level) + level**2 * v[:, :1] + slope**2 * _tails(fitted * time**2)[:, :1]
    variance += 2 * slope * (level * v_of_time[:, :1] - v_of_time)
    periods = slice(_LEAST_PERIODS, n_periods - _LEAST_PERIODS + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = score[:, periods] ** 2 / (variance[:, periods] * design_effect[:, np.newaxis])
    period, best = _best(statistic, _LEAST_PERIODS)
    at, local = np.maximum(period, 0), min(_LOCAL_PERIODS, n_periods)
    before = _rate_between(counts, totals, np.maximum(at - local, 0), at)
    after = _rate_between(counts, totals, at, np.minimum(at + local, n_periods))
    return ChangePoints(period, best, before, after)


def at_common_odds(
    exposed_cases: Floats, exposed: Floats, cases: Floats, totals: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return the log odds ratio that all periods of a series share, and the expectation and the variance of its exposed cases with it.

    Parameters
    ----------
    exposed_cases, exposed : float64, shape (n_series, n_periods)
    cases, totals : float64, shape (n_periods,)
        Totals of at least 2.

    Returns
    -------
    log_odds : float64, shape (n_series,)
        At which as many exposed cases are expected as observed; within ±10.
    expected, variance : float64, shape (n_series, n_periods)

    Notes
    -----
    A statistic against no effect would not do: Peto's estimate of a large odds ratio depends on the share of the exposed and of the cases,
    so it changes with them even if the odds ratio does not. In each period the expectation is the root of ``A · (n − e − c + A) = odds
    ratio · (e − A) · (c − A)``, and the variance is one over the sum of the inverse cells.

    References
    ----------
    Cornfield (1956), Proceedings of the Third Berkeley Symposium 4; Breslow and Day (1980), Statistical Methods in Cancer Research 1,
    section 4.4.

    Examples
    --------
    >>> code = np.array([[10.0, 30.0]]), np.array([[40.0, 60.0]])
    >>> log_odds, expected, _ = at_common_odds(*code, cases=np.array([40.0, 40.0]), totals=np.array([120.0, 100.0]))
    >>> log_odds.round(2).tolist(), expected.round(1).tolist()
    ([0.23], [[14.7, 25.3]])
    """
    log_odds = np.zeros(len(exposed))
    for _ in range(_MAX_STEPS):
        expected, variance = _with_odds(np.exp(log_odds)[:, np.newaxis], exposed, cases, totals)
        missing, information = _tails(exposed_cases - expected)[:, 0], _tails(variance)[:, 0]
        step = np.clip(missing / np.maximum(information, 1e-300), -1.0, 1.0)
        moved = np.clip(log_odds + step, -10.0, 10.0) - log_odds
        log_odds += moved
        if not len(moved) or np.abs(moved).max() < _TOLERANCE:
            break
    return log_odds, *_with_odds(np.exp(log_odds)[:, np.newaxis], exposed, cases, totals)


def _with_odds(odds: Floats, exposed: Floats, cases: Floats, totals: Floats) -> tuple[Floats, Floats]:
    others = totals - exposed - cases
    half = odds * (exposed + cases) + others
    product = odds * exposed * cases
    expected = 2.0 * product / (half + np.sqrt(np.maximum(half**2 - 4.0 * (odds - 1.0) * product, 0.0)))
    cells = (expected, exposed - expected, cases - expected, others + expected)
    with np.errstate(divide="ignore"):
        inverse = sum(1.0 / np.maximum(cell, 0.0) for cell in cells)
    return expected, np.asarray(totals / (totals - 1.0) / inverse)


def change_of_effect(observed: Floats, expected: Floats, variance: Floats) -> ChangePoints:
    """Find the step in each series of log odds ratios.

    Parameters
    ----------
    observed, expected, variance : float64, shape (n_series, n_periods)
        Exposed cases in each period, their expectation without a change, and its variance; see :func:`at_common_odds`.

    Notes
    -----
    The one-step estimate of a log odds ratio, relative to that of the expectation, is the sum of observed − expected over the sum of
    variances (Peto). The statistic compares one estimate with one on each side of the period.

    Examples
    --------
    >>> observed, expected = np.array([[20.0] * 6 + [10.0] * 6]), np.full((1, 12), 10.0)
    >>> found = change_of_effect(observed, expected, expected)
    >>> found.period.tolist(), found.before.tolist(), found.after.tolist()
    ([6], [1.0], [0.0])
    """
    score, information = _tails(observed - expected), _tails(variance)
    before, information_before = score[:, :1] - score, information[:, :1] - information
    is_enough = (information >= _LEAST_INFORMATION) & (information_before >= _LEAST_INFORMATION)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = (
            score**2 / information + before**2 / information_before - score[:, :1] ** 2 / information[:, :1]
        )
    period, best = _best(np.where(is_enough, statistic, np.nan), 0)
    at = np.maximum(period, 0)[:, np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = [
            np.take_along_axis(effect, at, axis=1)[:, 0]
            for effect in (before / information_before, score / information)
        ]
    return ChangePoints(period, best, *sides)


def _rate_between(
    counts: Floats, totals: Floats, start: NDArray[np.int64], stop: NDArray[np.int64]
) -> Floats:
    """Return the rate of each series in the periods from ``start`` to before ``stop``; 0 without periods."""
    sums = np.pad(np.cumsum(counts, axis=1), ((0, 0), (1, 0)))
    of_totals = np.pad(np.cumsum(totals), (1, 0))
    rows = np.arange(len(counts))
    n = of_totals[stop] - of_totals[start]
    return np.asarray((sums[rows, stop] - sums[rows, start]) / np.maximum(n, 1.0))


def _best(statistic: Floats, offset: int) -> tuple[NDArray[np.int64], Floats]:
    """Return the first period with the largest statistic of each series, and that statistic; −1 and 0 if there is none."""
    known = np.where(np.isfinite(statistic), statistic, -1.0)
    if not known.shape[1]:
        return np.full(len(known), -1, np.int64), np.zeros(len(known))
    period = known.argmax(axis=1)
    best = np.take_along_axis(known, period[:, np.newaxis], axis=1)[:, 0]
    return np.where(best >= 0, period + offset, -1).astype(np.int64), np.maximum(best, 0.0)


def _tails(values: Floats) -> Floats:
    """Return the sums from each period to the last."""
    return np.cumsum(values[..., ::-1], axis=-1)[..., ::-1]


def _last(values: Floats) -> float:
    return float(values[-1])
