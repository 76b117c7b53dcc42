"""Intervals and p values from bootstrap replicates, and the correction for multiple comparisons."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from mlho.method.evaluation.bootstrap import MAX_ABSENT_SHARE, percentile_estimate
from mlho.method.evaluation.metrics import Z_95, Estimate
from mlho.method.evaluation.tally import FloatArray

# Figures that are shares of samples or of pairs: percentile intervals of shares near 0 or 1 are too short.
RATES: Final = ("auroc", "sensitivity", "specificity", "ppv", "npv", "accuracy", "alerts_per_100")


def group_estimate(name: str, value: float, drawn: FloatArray, *, n_patients: int) -> Estimate:
    """Return a figure with its 95 % interval.

    Parameters
    ----------
    name : str
        Rates, and the AUROC, have Wilson's interval for the number of independent samples that would have the variance of the
        replicates; other figures have the percentile interval.
    value : float
        NaN if the figure does not exist.
    drawn : float64, shape (n_replicates,)
    n_patients : int
        Patients in the denominator of the rate; used as the number of samples if the rate is 0 or 1.

    References
    ----------
    Wilson (1927), JASA 22; Kish (1965), Survey Sampling (effective sample size).
    """
    if math.isnan(value):
        return Estimate.absent("not defined for these samples")
    scale = _scale(name)
    plain = percentile_estimate(value, drawn)
    if not is_rate(name) or not drawn.size or _absent_share(drawn) > MAX_ABSENT_SHARE:
        return plain
    present = drawn[~np.isnan(drawn)] / scale
    variance = float(present.var(ddof=1)) if present.size > 1 else 0.0
    low, high, error = wilson(value / scale, variance, n_patients)
    method = f"Wilson, effective size from the bootstrap by patient, {drawn.size} replicates"
    return Estimate(value, low * scale, high * scale, error * scale, method)


def wilson(rate: float, variance: float, n_patients: int) -> tuple[float, float, float]:
    """Return the limits of Wilson's 95 % interval for the number of independent samples with this variance, and the standard error.

    Parameters
    ----------
    rate, variance : float
        The rate and its variance, with the samples of a patient taken together.
    n_patients : int
        Used as the number of samples if the variance is 0.
    """
    spread, size = rate * (1.0 - rate), _effective_size(rate, variance, n_patients)
    z2 = Z_95 * Z_95 / size
    middle = (rate + z2 / 2.0) / (1.0 + z2)
    half = Z_95 * math.sqrt(spread / size + z2 / (4.0 * size)) / (1.0 + z2)
    return max(0.0, middle - half), min(1.0, middle + half), math.sqrt(spread / size)


def _effective_size(rate: float, variance: float, n_patients: int) -> float:
    """Return the number of independent samples whose rate has this variance, or the number of patients if the variance is 0."""
    spread = rate * (1.0 - rate)
    return spread / variance if variance > 0.0 and spread > 0.0 else float(n_patients)


def is_rate(name: str) -> bool:
    """Return whether a figure is a share of samples or of pairs."""
    return _last(name) in RATES


def is_equal_rate(name: str, drawn: FloatArray) -> bool:
    """Return whether a figure is a rate that is the same in all replicates, as a rate of 0 or 1 is."""
    present = drawn[~np.isnan(drawn)]
    return is_rate(name) and bool(present.size) and float(present.min()) == float(present.max())


def scattered(name: str, drawn: FloatArray, n_patients: int, rng: np.random.Generator) -> FloatArray:
    """Return random replicates of a rate that is the same in all replicates, with the error expected for its number of patients.

    Otherwise a rate of 11 of 11 patients would count as known exactly.

    Parameters
    ----------
    drawn : float64, shape (n_replicates,)
        NaN is kept.
    n_patients : int
        Patients in the denominator, at least 1.

    References
    ----------
    Agresti & Coull (1998), The American Statistician 52: centre and variance.
    """
    scale = _scale(name)
    z2 = Z_95 * Z_95
    size = n_patients + z2
    centre = (float(np.nanmax(drawn)) / scale * n_patients + z2 / 2.0) / size
    error = math.sqrt(centre * (1.0 - centre) / size)
    rates = np.clip(centre + error * rng.standard_normal(drawn.size), 0.0, 1.0)
    return np.where(np.isnan(drawn), np.nan, scale * rates)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _scale(name: str) -> float:
    return 100.0 if _last(name) == "alerts_per_100" else 1.0


def _absent_share(drawn: FloatArray) -> float:
    return float(np.isnan(drawn).mean()) if drawn.size else 1.0


def p_value(value: float | None, drawn: FloatArray, *, fewest: int | None = None) -> float | None:
    """Return the two-sided p value of a figure that is 0 without an effect, from the replicates' standard error.

    Parameters
    ----------
    value : float or None
    drawn : float64, shape (n_replicates,)
    fewest : int or None
        Independent patients on whom the standard error rests, for Student's t. None: normal.
    """
    present = drawn[~np.isnan(drawn)]
    if value is None or present.size < 2 or _absent_share(drawn) > MAX_ABSENT_SHARE:
        return None
    error = float(present.std(ddof=1))
    return p_of_ratio(value / error, fewest=fewest) if error > 0.0 else None


def p_of_ratio(ratio: float, *, fewest: int | None = None) -> float:
    """Return the two-sided p value of a figure over its standard error; see :func:`p_value`.

    References
    ----------
    Wallace (1959), Annals of Mathematical Statistics 30: Student's t as a normal value.

    Examples
    --------
    >>> round(p_of_ratio(2.0), 3), round(p_of_ratio(2.0, fewest=11), 3)
    (0.046, 0.073)
    """
    z = abs(ratio)
    if fewest is not None:
        df = max(fewest - 1, 1)
        z = (8 * df + 1) / (8 * df + 3) * math.sqrt(df * math.log1p(z * z / df))
    return math.erfc(z / math.sqrt(2.0))


def p_of_rates(
    name: str,
    values: tuple[float, float],
    drawn: tuple[FloatArray, FloatArray],
    n_patients: tuple[int, int],
) -> float:
    """Return the two-sided p value of the same rate, or AUROC, in two groups.

    The standard error of a rate near 0 or 1 is far too small if the rate is by chance more extreme than it should be. The tests therefore use the
    variance at the common rate, for the numbers of independent samples that would have the variances of the replicates. Where few
    samples are expected, the score test is too often significant if many are found, and the likelihood-ratio test if none is: the
    p value is the larger one of both.

    Parameters
    ----------
    name : str
        One of ``RATES``, after the name of a rule.
    drawn : two arrays of float64, shape (n_replicates,)
        Paired replicates; NaN where the rate does not exist.
    n_patients : two int
        Used as the number of samples of a rate that is the same in all replicates.

    References
    ----------
    Rao & Scott (1992), Biometrics 48 (tests of rates with effective sizes).
    """
    rates = [value / _scale(name) for value in values]
    sizes = [
        _effective_size(rate, float(np.nanvar(of_group, ddof=1)) / _scale(name) ** 2, n)
        for rate, of_group, n in zip(rates, drawn, n_patients, strict=True)
    ]
    common = math.fsum(rate * size for rate, size in zip(rates, sizes, strict=True)) / math.fsum(sizes)
    if not 0.0 < common < 1.0:
        return 1.0
    first, second = (common * (1.0 - common) / size for size in sizes)
    score = (rates[0] - rates[1]) ** 2 / (first + second)
    likelihood_ratio = 2.0 * math.fsum(
        size * (_surprise(rate, common) + _surprise(1.0 - rate, 1.0 - common))
        for rate, size in zip(rates, sizes, strict=True)
    )
    # Groups may share patients.
    correlation = _correlation(*drawn)
    unshared = 1.0 - 2.0 * correlation * math.sqrt(first * second) / (first + second)
    return p_of_ratio(math.sqrt(max(min(score, likelihood_ratio), 0.0) / max(unshared, 1e-12)))


def p_of_rate_trend(
    name: str, years: FloatArray, values: FloatArray, drawn: FloatArray, n_patients: Sequence[int]
) -> float:
    """Return the two-sided p value of a linear trend of a rate, or AUROC, over periods: a score test at the common rate.

    With the variance of its own replicates, a period whose rate is by chance near 0 or 1 would have too large a weight.

    Parameters
    ----------
    name : str
        One of ``RATES``, after the name of a rule.
    years, values : float64, shape (n_periods,)
        Time and rate of each period.
    drawn : float64, shape (n_periods, n_replicates)
        Paired replicates with variance; NaN where the rate does not exist.
    n_patients : sequence of int, shape (n_periods,)
        Used as the number of samples of a rate of 0 or 1.

    References
    ----------
    Armitage (1955), Biometrics 11; Rao & Scott (1992), Biometrics 48 (tests of rates with effective sizes).
    """
    rates, of_periods = values / _scale(name), drawn / _scale(name)
    variances = np.nanvar(of_periods, axis=1, ddof=1)
    sizes = np.array(
        [
            _effective_size(*period)
            for period in zip(rates.tolist(), variances.tolist(), n_patients, strict=True)
        ]
    )
    common = float((sizes * rates).sum() / sizes.sum())
    if not 0.0 < common < 1.0:
        return 1.0
    centred = sizes * (years - (sizes * years).sum() / sizes.sum())
    variance = common * (1.0 - common) * float((centred**2 / sizes).sum())
    # Periods may share patients.
    together = float(np.nanvar((centred[:, None] * of_periods).sum(axis=0), ddof=1))
    shared = together / float((centred**2 * variances).sum())
    return p_of_ratio(float((centred * rates).sum()) / math.sqrt(variance * max(shared, 1e-12)))


def _correlation(first: FloatArray, second: FloatArray) -> float:
    """Return the correlation over the replicates in which both exist; not by ``np.corrcoef``, whose last bits depend on the machine."""
    is_present = ~np.isnan(first) & ~np.isnan(second)
    a, b = (drawn[is_present] - drawn[is_present].mean() for drawn in (first, second))
    return float((a * b).sum() / math.sqrt(float((a * a).sum()) * float((b * b).sum())))


def _surprise(share: float, expected: float) -> float:
    return share * math.log(share / expected) if share > 0.0 else 0.0


def adjusted_p_values(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values adjusted for the number of comparisons; those below 0.05 have a false discovery rate of 5 %.

    References
    ----------
    Benjamini & Hochberg (1995), JRSS B 57.

    Examples
    --------
    >>> adjusted_p_values([0.01, None, 0.04, 0.03])
    [0.03, None, 0.04, 0.04]
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    smallest = 1.0
    for rank in range(len(known), 0, -1):
        p, place = known[rank - 1]
        smallest = min(smallest, p * len(known) / rank)
        adjusted[place] = smallest
    return adjusted
