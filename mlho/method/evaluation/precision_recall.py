"""Precision and recall: average precision, the exact integral, two areas as in R, and the curve."""

from dataclasses import dataclass

import numpy as np

from mlho.method.evaluation.auroc import MAX_CURVE_POINTS, thinned
from mlho.method.evaluation.tally import FloatArray, Tally

# Reason why all of these are absent.
NO_POSITIVE = "no sample is positive"


def integral_parts(
    gained: FloatArray, tp_from: FloatArray, fp_from: FloatArray, tp_to: FloatArray, fp_to: FloatArray
) -> FloatArray:
    """Return the area under each part of the curve, in true positives."""
    # With FP = fp_from + h · (TP − tp_from): alerts are a · TP + b.
    h = (fp_to - fp_from) / gained
    a = 1.0 + h
    b = fp_from - h * tp_from
    alerts_from = tp_from + fp_from
    # From (0, 0) the precision is constant: b is zero, and no logarithm is needed.
    grown = np.where(alerts_from > 0.0, (tp_to + fp_to) / np.where(alerts_from > 0.0, alerts_from, 1.0), 1.0)
    area: FloatArray = (gained - b / a * np.log(grown)) / a
    return area


def pr_davis_goadrich_of(t: Tally) -> float | None:
    """Return R's ``pr.davis.goadrich``: linear interpolation between the points at every integer number of true positives.

    The tally has integer counts. None when no sample is positive.

    References
    ----------
    Davis & Goadrich (2006), ICML.
    """
    if not t.n_positive_total:
        return None
    tp, fp = t.operating_points
    gained = np.diff(tp)
    some = np.flatnonzero(gained > 0)
    steps = gained[some].astype(np.int64)
    segment = np.repeat(some, steps)
    # The true positives 0, 1, … at the start of each step; each step lies within one segment.
    before = np.arange(int(t.n_positive_total), dtype=np.float64)
    h = (fp[segment + 1] - fp[segment]) / gained[segment]

    def precision(true_positive: FloatArray) -> FloatArray:
        alerts = true_positive + fp[segment] + h * (true_positive - tp[segment])
        ratio: FloatArray = true_positive / np.where(alerts > 0.0, alerts, 1.0)
        return ratio

    at_start, at_end = precision(before), precision(before + 1.0)
    # At (0, 0) precision is 0/0: the line starts horizontally.
    if before[0] + fp[segment[0]] == 0.0:
        at_start[0] = at_end[0]
    return float(((at_start + at_end) / 2.0).sum() / t.n_positive_total)


@dataclass(frozen=True, eq=False)
class PrCurve:
    """Points of the precision–recall curve, by increasing recall."""

    recall: FloatArray
    precision: FloatArray
    """One point per distinct threshold before thinning; between points precision is not linear. Shape (n_points,)."""


def pr_curve_of(t: Tally, *, max_points: int | None = MAX_CURVE_POINTS) -> PrCurve | None:
    """Return the precision–recall curve of tallied predictions, thinned to the visible resolution; None without positives.

    Parameters
    ----------
    max_points : int or None
        Maximum number of points, including the ends; None keeps one per distinct prediction.
    """
    if not t.n_positive_total:
        return None
    tp, fp = t.operating_points
    alerts = tp[1:] + fp[1:]
    some = alerts > 0
    recall = tp[1:][some] / t.n_positive_total
    precision = tp[1:][some] / alerts[some]
    kept = thinned(recall, precision, max_points)
    return PrCurve(recall=recall[kept], precision=precision[kept])
