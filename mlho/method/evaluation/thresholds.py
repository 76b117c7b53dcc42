"""Thresholds chosen on training predictions, and their performance on a test set.

An alert is raised if and only if p ≥ threshold.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mlho.method.evaluation.tally import Tally, class_reason, tally

# Tolerance for rounding in a rate times a number of samples (0.29 · 100 = 28.999…).
ROUNDING = 1e-9
# Start of a rule, before the rate or the sensitivity.
FIXED_RATE, FIXED_SENSITIVITY = "fixed-alert-rate:", "fixed-sensitivity:"

THRESHOLD_FIGURES = (
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "accuracy",
    "alerts_per_100",
    "number_needed_to_evaluate",
)
_WHY_ABSENT = {
    "sensitivity": "no sample is positive",
    "specificity": "no sample is negative",
    "ppv": "no sample is flagged",
    "npv": "every sample is flagged",
    "number_needed_to_evaluate": "no alert is a true positive",
}


@dataclass(frozen=True)
class Threshold:
    """A threshold and the rule that chose it."""

    rule: str
    """``youden``, ``fixed-alert-rate:0.1`` or ``fixed-sensitivity:0.9``."""
    value: float | None
    """Alert if and only if p ≥ value."""
    reason: str | None = None
    """Reason why it is absent, or how it deviates from the rule."""


def values_by_rule(thresholds: Iterable[Threshold]) -> dict[str, float | None]:
    """Return the value of each threshold by its rule."""
    return {threshold.rule: threshold.value for threshold in thresholds}


def alerting(thresholds: Iterable[Threshold]) -> dict[str, float]:
    """Return the thresholds that have a value, by rule."""
    return {rule: value for rule, value in values_by_rule(thresholds).items() if value is not None}


def youden(y: ArrayLike, p: ArrayLike) -> Threshold:
    """Return the threshold with the largest sensitivity + specificity − 1.

    Candidates are the observed predictions. If there are several maxima, the lowest and most sensitive threshold is chosen.
    The comparison uses integers, so that ties are exact.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,)
    p : array of float in [0, 1], shape (n_samples,)

    References
    ----------
    Youden (1950), Cancer 3.

    Examples
    --------
    >>> youden([0, 0, 1, 1], [0.1, 0.3, 0.6, 0.9]).value
    0.6
    """
    t = tally(y, p)
    reason = class_reason(t)
    if reason is not None:
        return Threshold("youden", None, reason)
    true_positive, alerts = _at_or_above(t)
    advantage = _youden_numerator(t, true_positive, alerts)
    return Threshold("youden", float(t.p[int(np.argmax(advantage))]))


def fixed_alert_rate(p: ArrayLike, rate: float) -> Threshold:
    """Return the lowest threshold at which at most this fraction of samples triggers an alert.

    If the samples tied at the highest prediction already exceed the rate, return that prediction, with the
    actual rate as the reason.

    Parameters
    ----------
    p : array of float in [0, 1], shape (n_samples,)
    rate : float in (0, 1]
        Alerts per sample.
    """
    rule = f"{FIXED_RATE}{rate:g}"
    prediction = np.asarray(p, dtype=np.float64)
    t = tally(np.zeros(prediction.shape, dtype=np.int64), prediction)
    _, alerts = _at_or_above(t)
    allowed = math.floor(rate * t.n_total + ROUNDING)
    within = np.flatnonzero(alerts <= allowed)
    if within.size:
        return Threshold(rule, float(t.p[int(within[0])]))
    reached = float(alerts[-1]) / t.n_total
    return Threshold(rule, float(t.p[-1]), f"ties at the highest prediction: the alert rate is {reached:.4g}")


def fixed_sensitivity(y: ArrayLike, p: ArrayLike, sensitivity: float) -> Threshold:
    """Return the highest threshold with at least this sensitivity.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,)
    p : array of float in [0, 1], shape (n_samples,)
    sensitivity : float in (0, 1]
    """
    rule = f"{FIXED_SENSITIVITY}{sensitivity:g}"
    t = tally(y, p)
    if not t.n_positive_total:
        return Threshold(rule, None, class_reason(t))
    true_positive, _ = _at_or_above(t)
    needed = math.ceil(sensitivity * t.n_positive_total - ROUNDING)
    return Threshold(rule, float(t.p[int(np.flatnonzero(true_positive >= needed)[-1])]))


@dataclass(frozen=True)
class ThresholdPerformance:
    """Performance of a threshold on a set of samples."""

    threshold: float
    n_true_positive: int
    n_false_positive: int
    n_false_negative: int
    n_true_negative: int
    sensitivity: float | None
    specificity: float | None
    ppv: float | None
    npv: float | None
    accuracy: float | None
    """In [0, 1]."""
    alerts_per_100: float
    """Alerts per 100 samples."""
    number_needed_to_evaluate: float | None
    """Alerts per true positive, 1 / ppv."""
    reasons: dict[str, str]
    """Reasons for figures that are None, by name."""


def at_threshold(y: ArrayLike, p: ArrayLike, threshold: float) -> ThresholdPerformance:
    """Return counts and rates, with an alert for p ≥ threshold.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,)
    p : array of float in [0, 1], shape (n_samples,)

    Examples
    --------
    >>> result = at_threshold([0, 1, 1, 0], [0.2, 0.6, 0.4, 0.9], 0.5)
    >>> result.sensitivity, result.ppv, result.alerts_per_100
    (0.5, 0.5, 50.0)
    """
    t = tally(y, p)
    tp, fp, fn, tn = confusion_of(t, threshold)
    figures: dict[str, Any] = threshold_figures(t, threshold)
    return ThresholdPerformance(
        threshold=float(threshold),
        n_true_positive=int(tp),
        n_false_positive=int(fp),
        n_false_negative=int(fn),
        n_true_negative=int(tn),
        **figures,
        reasons={name: _WHY_ABSENT[name] for name, value in figures.items() if value is None},
    )


def threshold_figures(t: Tally, threshold: float) -> dict[str, float | None]:
    """Return ``THRESHOLD_FIGURES`` with an alert for p ≥ threshold; None for figures that do not exist."""
    tp, fp, fn, tn = confusion_of(t, threshold)
    return {
        "sensitivity": tp / (tp + fn) if tp + fn else None,
        "specificity": tn / (tn + fp) if tn + fp else None,
        "ppv": tp / (tp + fp) if tp + fp else None,
        "npv": tn / (tn + fn) if tn + fn else None,
        "accuracy": (tp + tn) / (tp + fp + fn + tn),
        "alerts_per_100": 100.0 * (tp + fp) / (tp + fp + fn + tn),
        "number_needed_to_evaluate": (tp + fp) / tp if tp else None,
    }


def confusion_of(t: Tally, threshold: float) -> tuple[float, float, float, float]:
    """Return (true positives, false positives, false negatives, true negatives) of tallied predictions."""
    first = int(np.searchsorted(t.p, threshold, side="left"))
    tp = float(t.n_positive[first:].sum())
    fp = float(t.n[first:].sum()) - tp
    return tp, fp, t.n_positive_total - tp, t.n_negative_total - fp


def _at_or_above(t: Tally) -> tuple[Any, Any]:
    """Return true positives and alerts with each distinct prediction as the threshold."""
    return np.cumsum(t.n_positive[::-1])[::-1], np.cumsum(t.n[::-1])[::-1]


def _youden_numerator(t: Tally, true_positive: Any, alerts: Any) -> Any:
    # J · n₁ · n₀ = TP · n₀ − FP · n₁, in integers.
    n_positive = int(t.n_positive_total)
    n_negative = int(t.n_negative_total)
    return true_positive * n_negative - (alerts - true_positive) * n_positive
