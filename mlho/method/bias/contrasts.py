"""Comparisons of groups: differences and ratios, gaps of alert rules, errors of patients, and trends over periods."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.method.bias.groups import Comparison, ErrorComparison, Gap, Grouping, Periods, Trend
from mlho.method.bias.intervals import (
    adjusted_p_values,
    is_rate,
    p_of_rate_trend,
    p_of_rates,
    p_of_ratio,
    p_value,
)
from mlho.method.evaluation.auroc import auroc_estimate
from mlho.method.evaluation.bootstrap import percentile_estimate
from mlho.method.evaluation.metrics import Estimate
from mlho.method.evaluation.tally import FloatArray, IntArray

COMPARED: Final = ("auroc", "brier", "error_positive", "error_negative", "observed_expected", "in_the_large")
COMPARED_AT_RULE: Final = ("sensitivity", "specificity", "ppv", "npv", "alerts_per_100")
WITHOUT_RATIO: Final = ("in_the_large",)  # its ideal is 0
FEWEST_PERIODS: Final = 3


@dataclass(frozen=True, eq=False)
class Drawn:
    """The figures of a cell, and of its replicates; NaN where a figure does not exist.

    ``n_patients`` contains the number of patients in the denominator of each rate that is the same in all replicates.
    """

    value: Mapping[str, float]
    replicates: Mapping[str, FloatArray]
    n_patients: Mapping[str, int]
    fewest: int
    """Patients with, or without, the outcome: the smaller number."""


def compared_metrics(rules: Sequence[str]) -> tuple[str, ...]:
    """Return the figures that are compared."""
    return (*COMPARED, *(f"{rule}/{name}" for rule in rules for name in COMPARED_AT_RULE))


def with_adjusted[Found: (Comparison, ErrorComparison, Trend)](
    found: Sequence[Found],
) -> tuple[Found, ...]:
    """Return the comparisons with p values adjusted for their number."""
    adjusted = adjusted_p_values([comparison.p_value for comparison in found])
    return tuple(replace(comparison, adjusted=p) for comparison, p in zip(found, adjusted, strict=True))


def compare(grouping: Grouping, drawn: Sequence[Drawn | None], rules: Sequence[str]) -> Iterator[Comparison]:
    """Yield each figure of each level against the reference level, from paired replicates."""
    place = grouping.reference_level
    reference = drawn[place]
    for level, group in enumerate(drawn):
        if group is None or reference is None or level == place:
            continue
        for metric in compared_metrics(rules):
            difference = group.value[metric] - reference.value[metric]
            of_replicates = group.replicates[metric] - reference.replicates[metric]
            yield Comparison(
                by=grouping.by,
                level=grouping.levels[level],
                reference=grouping.levels[place],
                metric=metric,
                difference=_estimate(difference, of_replicates),
                ratio=_ratio(metric, group, reference),
                p_value=_p_value(metric, group, reference, difference, of_replicates),
            )


def _p_value(
    metric: str, group: Drawn, reference: Drawn, difference: float, of_replicates: FloatArray
) -> float | None:
    fewest = min(group.fewest, reference.fewest)
    p = p_value(None if math.isnan(difference) else difference, of_replicates, fewest=fewest)
    if p is None or not is_rate(metric):
        return p
    return p_of_rates(
        metric,
        (group.value[metric], reference.value[metric]),
        (group.replicates[metric], reference.replicates[metric]),
        (group.n_patients.get(metric, 0), reference.n_patients.get(metric, 0)),
    )


def _ratio(metric: str, group: Drawn, reference: Drawn) -> Estimate:
    if metric in WITHOUT_RATIO:
        return Estimate.absent("the ideal value is 0")
    if not reference.value[metric]:
        return Estimate.absent("the reference group has 0")
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn: FloatArray = np.asarray(group.replicates[metric] / reference.replicates[metric])
    drawn[~np.isfinite(drawn)] = np.nan
    return _estimate(group.value[metric] / reference.value[metric], drawn)


def _estimate(value: float, drawn: FloatArray) -> Estimate:
    return percentile_estimate(None if math.isnan(value) else float(value), drawn)


def gaps(grouping: Grouping, drawn: Sequence[Drawn | None], rules: Sequence[str]) -> Iterator[Gap]:
    """Yield the largest differences of the rates at each rule between any two levels.

    ``equal_opportunity`` is the difference in sensitivity, ``equalised_odds`` the larger of the differences in sensitivity and
    specificity, and ``demographic_parity`` the difference in the share of samples with an alert.

    References
    ----------
    Hardt, Price & Srebro (2016), NeurIPS 29. The same figures as ``equal_opportunity_difference``,
    ``equalized_odds_difference`` and ``demographic_parity_difference`` of fairlearn.
    """
    known = [group for group in drawn if group is not None]
    if len(known) < 2:
        return
    for rule in rules:
        parts = {
            "equal_opportunity": (("sensitivity", 1.0),),
            "equalised_odds": (("sensitivity", 1.0), ("specificity", 1.0)),
            "demographic_parity": (("alerts_per_100", 100.0),),
        }
        for name, rates in parts.items():
            ranges = [_range(known, f"{rule}/{rate}", scale) for rate, scale in rates]
            value, of_replicates, chance = (
                _largest([spread[place] for spread in ranges]) for place in range(3)
            )
            # Without a difference the replicates scatter around one rate.
            present = chance[~np.isnan(chance)]
            yield Gap(
                by=grouping.by,
                metric=f"{rule}/{name}",
                value=_estimate(float(value[0]), of_replicates),
                by_chance=float(present.mean()) if present.size else None,
            )


def _largest(arrays: Sequence[FloatArray]) -> FloatArray:
    return np.asarray(np.max(np.array(arrays), axis=0), np.float64)


def _range(known: Sequence[Drawn], metric: str, scale: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the range over the levels: of the values, of the replicates, and of the replicates' deviations."""
    values = np.array([[group.value[metric]] for group in known]) / scale
    drawn = np.array([group.replicates[metric] for group in known]) / scale
    return np.ptp(values, axis=0), np.ptp(drawn, axis=0), np.ptp(drawn - values, axis=0)


def compare_errors(
    grouping: Grouping,
    samples: Sequence[IntArray | None],
    *,
    p: FloatArray,
    positive: NDArray[np.bool_],
    patient: IntArray,
) -> Iterator[ErrorComparison]:
    """Yield the comparison of |y − p| with the reference level, among samples with and without the outcome.

    ``samples`` are those of each level; None for a level that is not compared. A patient counts once in a level, with the mean over
    the samples. Interval and standard error are those of the AUROC
    (DeLong, or clustered by patient if a patient is in both levels); the p value is that of Student's t for the smaller group.

    References
    ----------
    Cliff (1993), Psychological Bulletin 114; hestiri/mlho, ``absErr``.
    """
    place = grouping.reference_level
    error = np.where(positive, 1.0 - p, p)
    for level in range(len(grouping.levels)):
        members, baseline = samples[level], samples[place]
        if level == place or members is None or baseline is None:
            continue
        for outcome in (1, 0):
            among = positive == (outcome == 1)
            (patients, errors), (others, reference) = (
                _by_patient(of_level[among[of_level]], error, patient) for of_level in (members, baseline)
            )
            area = auroc_estimate(
                np.r_[np.ones(errors.size, np.int64), np.zeros(reference.size, np.int64)],
                np.r_[errors, reference],
                groups=np.r_[patients, others],
            )
            delta, p_of_delta = _delta(area, min(patients.size, others.size))
            yield ErrorComparison(
                grouping.by, grouping.levels[level], grouping.levels[place], outcome, delta, p_of_delta
            )


def _by_patient(samples: IntArray, error: FloatArray, patient: IntArray) -> tuple[IntArray, FloatArray]:
    patients, place, n = np.unique(patient[samples], return_inverse=True, return_counts=True)
    return patients, np.bincount(place, error[samples], patients.size) / n


def _delta(area: Estimate, fewest: int) -> tuple[Estimate, float | None]:
    if area.value is None:
        return area, None
    low, high, error = (None if v is None else 2.0 * v for v in (area.low, area.high, area.standard_error))
    value = 2.0 * area.value - 1.0
    delta = Estimate(
        value,
        None if low is None else low - 1.0,
        None if high is None else high - 1.0,
        error,
        area.method,
        area.reason,
    )
    return delta, None if not error else p_of_ratio(value / error, fewest=fewest)


def trends(
    by: str, level: str, drawn: Sequence[Drawn | None], periods: Periods, rules: Sequence[str]
) -> Iterator[Trend]:
    """Yield the change per year of each compared figure, weighted by the inverse variance of each period's replicates.

    The p value of a rate or an AUROC is that of a score test at the common rate; that of other figures is Student's t with two
    degrees of freedom less than periods, because the weights are uncertain too.
    """
    for metric in compared_metrics(rules):
        usable = [
            (years, period)
            for years, period in zip(periods.years.tolist(), drawn, strict=True)
            if period is not None and _has_variance(period, metric)
        ]
        if len(usable) < FEWEST_PERIODS:
            continue
        x = np.array([years for years, _ in usable])
        values = np.array([period.value[metric] for _, period in usable])
        replicates = np.array([period.replicates[metric] for _, period in usable])
        weights = 1.0 / np.nanvar(replicates, axis=1)
        centred = weights * (x - np.average(x, weights=weights))
        slopes = centred / (centred * x).sum()
        value, of_replicates = float((slopes * values).sum()), (slopes[:, None] * replicates).sum(axis=0)
        p = p_value(value, of_replicates, fewest=len(usable) - 1)
        if p is not None and is_rate(metric):
            n_patients = [period.n_patients.get(metric, 0) for _, period in usable]
            p = p_of_rate_trend(metric, x, values, replicates, n_patients)
        yield Trend(by, level, metric, len(usable), _estimate(value, of_replicates), p)


def _has_variance(period: Drawn, metric: str) -> bool:
    drawn = period.replicates[metric]
    n_present = int((~np.isnan(drawn)).sum())
    return not math.isnan(period.value[metric]) and n_present > 1 and float(np.nanvar(drawn)) > 0.0
