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
    scale = {"alerts_per_100": 100.0}.get(_last(name), 1.0)
    plain = percentile_estimate(value, drawn)
    if _last(name) not in RATES or not drawn.size or _absent_share(drawn) > MAX_ABSENT_SHARE:
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
    spread = rate * (1.0 - rate)
    size = spread / variance if variance > 0.0 and spread > 0.0 else float(n_patients)
    z2 = Z_95 * Z_95 / size
    middle = (rate + z2 / 2.0) / (1.0 + z2)
    half = Z_95 * math.sqrt(spread / size + z2 / (4.0 * size)) / (1.0 + z2)
    return max(0.0, middle - half), min(1.0, middle + half), math.sqrt(spread / size)


def is_equal_rate(name: str, drawn: FloatArray) -> bool:
    """Return whether a figure is a rate that is the same in all replicates, as a rate of 0 or 1 is."""
    present = drawn[~np.isnan(drawn)]
    return _last(name) in RATES and bool(present.size) and float(present.min()) == float(present.max())


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
    scale = {"alerts_per_100": 100.0}.get(_last(name), 1.0)
    z2 = Z_95 * Z_95
    size = n_patients + z2
    centre = (float(np.nanmax(drawn)) / scale * n_patients + z2 / 2.0) / size
    error = math.sqrt(centre * (1.0 - centre) / size)
    rates = np.clip(centre + error * rng.standard_normal(drawn.size), 0.0, 1.0)
    return np.where(np.isnan(drawn), np.nan, scale * rates)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _absent_share(drawn: FloatArray) -> float:
    return float(np.isnan(drawn).mean()) if drawn.size else 1.0


def p_value(value: float | None, drawn: FloatArray) -> float | None:
    """Return the two-sided p value of a figure that is 0 without an effect: normal, with the replicates' standard error."""
    present = drawn[~np.isnan(drawn)]
    if value is None or present.size < 2 or _absent_share(drawn) > MAX_ABSENT_SHARE:
        return None
    error = float(present.std(ddof=1))
    return math.erfc(abs(value) / error / math.sqrt(2.0)) if error > 0.0 else None


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
