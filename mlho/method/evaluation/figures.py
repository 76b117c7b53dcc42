"""The figures of many replicates in one pass; the data themselves are a stack of one replicate.

A replicate is a row of a stack. Each figure has the same bits in a stack of any size: counts are whole numbers and so exact in any
order, and each row is summed in the order of a one-dimensional sum. On a test set of a few hundred samples, separate calls for each
replicate took most of the time.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mlho.method.evaluation.calibration import LineFit, fit_line_of, fit_lines, logit_of
from mlho.method.evaluation.calibration_curve import Smoother, quantiles_of_rows, smoother_of
from mlho.method.evaluation.metrics import absolute_error, negative_log_likelihood, squared_error
from mlho.method.evaluation.net_benefit import DEFAULT_THRESHOLDS, net_benefit
from mlho.method.evaluation.precision_recall import integral_parts
from mlho.method.evaluation.reliability import binned_rows, bins_of
from mlho.method.evaluation.tally import FloatArray, IntArray, Tally

N_BINS = 10
# Positions at which the bands of the ROC and the PR curve are computed.
BAND_AT = np.arange(51) / 50
# A recall that rounding leaves this far below a position has reached it.
RECALL_ROUNDING = 1e-12
CALIBRATION_FIGURES = (
    "in_the_large",
    "intercept",
    "slope",
    "ici",
    "e50",
    "e90",
    "emax",
    "ece_equal_width",
    "mce_equal_width",
    "ece_equal_count",
    "mce_equal_count",
    "brier",
    "scaled_brier",
    "log_loss",
)

Figures = dict[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Stack:
    """Replicates of the same predictions. Figures have one value for each, NaN if it does not exist."""

    p: FloatArray
    """Distinct predictions, strictly increasing. Shape (n_cells,)."""
    n: FloatArray
    """Samples with this prediction. Shape (n_replicates, n_cells)."""
    n_positive: FloatArray
    """Samples with y = 1. Shape (n_replicates, n_cells)."""

    @classmethod
    def of(cls, replicates: Sequence[Tally]) -> "Stack":
        """Stack replicates of one tally."""
        return cls(
            p=replicates[0].p,
            n=np.array([t.n for t in replicates], dtype=np.float64),
            n_positive=np.array([t.n_positive for t in replicates], dtype=np.float64),
        )

    @cached_property
    def n_total(self) -> FloatArray:
        """Samples of each replicate."""
        return self.n.sum(axis=1)

    @cached_property
    def n_positive_total(self) -> FloatArray:
        """Positives of each replicate."""
        return self.n_positive.sum(axis=1)

    @cached_property
    def n_negative_total(self) -> FloatArray:
        """Negatives of each replicate."""
        return self.n_total - self.n_positive_total

    @cached_property
    def operating_points(self) -> tuple[FloatArray, FloatArray]:
        """True and false positives from no alert to all alerts, each of shape (n_replicates, n_cells + 1)."""
        tp, fp = np.zeros((2, self.n.shape[0], self.p.size + 1))
        np.cumsum(self.n_positive[:, ::-1], axis=1, out=tp[:, 1:])
        np.cumsum((self.n - self.n_positive)[:, ::-1], axis=1, out=fp[:, 1:])
        return tp, fp


@dataclass(frozen=True, eq=False)
class CalibrationBasis:
    """The parts that the calibration figures of all replicates share: bins, grid and starting values of the original data."""

    logit: FloatArray
    line: LineFit
    in_the_large: LineFit
    by_width: IntArray
    by_count: IntArray
    smoother: Smoother

    @classmethod
    def prepare(cls, t: Tally) -> "CalibrationBasis":
        """Fix bins, grid and starting values on the original data."""
        logit = logit_of(t)
        return cls(
            logit=logit,
            line=fit_line_of(t, logit),
            in_the_large=fit_line_of(t, logit, fixed_slope=True),
            by_width=bins_of(t, N_BINS, "equal-width"),
            by_count=bins_of(t, N_BINS, "equal-count"),
            smoother=smoother_of(t),
        )

    def on(self, cells: Tally) -> "CalibrationBasis":
        """Return the same for a tally of merged predictions, with the same grid of the curve."""
        return replace(
            self,
            logit=logit_of(cells),
            by_width=bins_of(cells, N_BINS, "equal-width"),
            by_count=bins_of(cells, N_BINS, "equal-count"),
            smoother=smoother_of(cells, grid=self.smoother.grid),
        )


def accuracy_of(s: Stack) -> Figures:
    """Return Brier score, scaled Brier score (1 − Brier / Brier of the prevalence; 0 is no better than the prevalence) and log loss.

    References
    ----------
    Steyerberg et al. (2010), Epidemiology 21.
    """
    brier = squared_error(s).sum(axis=1) / s.n_total
    prevalence = s.n_positive_total / s.n_total
    reference = prevalence * (1.0 - prevalence)
    return {
        "brier": brier,
        "scaled_brier": 1.0 - _ratio(brier, reference),
        "log_loss": negative_log_likelihood(s).sum(axis=1) / s.n_total,
    }


def discrimination_of(s: Stack) -> Figures:
    """Return average precision, the exact area under the precision–recall curve (R's ``pr.integral``), and the mean of |y − p|.

    The average precision is not interpolated: Σ (R_k − R_{k−1}) · P_k over distinct thresholds. "roc" is the true positive rate at the
    false positive rates ``BAND_AT``, and "pr" the precision at the first threshold that reaches each of these recalls.

    References
    ----------
    Davis & Goadrich (2006), ICML; Keilwagen, Grosse & Grau (2014), PLoS ONE 9, for the area.
    """
    tp, fp = s.operating_points
    some = s.n_positive[:, ::-1] > 0
    gained, tp_from, fp_from, tp_to, fp_to = (
        counts[some] for counts in (s.n_positive[:, ::-1], tp[:, :-1], fp[:, :-1], tp[:, 1:], fp[:, 1:])
    )
    ends = np.cumsum(np.count_nonzero(some, axis=1)).tolist()

    def area(parts: FloatArray) -> FloatArray:
        # The rounding of a sum depends on the number of terms, so each replicate is summed alone.
        sums = [np.add.reduce(parts[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
        return _ratio(np.array(sums), s.n_positive_total)

    return {
        "average_precision": area(gained * (tp_to / (tp_to + fp_to))),
        "pr_integral": area(integral_parts(gained, tp_from, fp_from, tp_to, fp_to)),
        "mean_absolute_error": absolute_error(s).sum(axis=1) / s.n_total,
        "roc": _roc_at(s),
        "pr": _pr_at(s),
    }


def decision_of(s: Stack) -> Figures:
    """Return the model's net benefit at the default thresholds."""
    thresholds = np.array(DEFAULT_THRESHOLDS)
    alerted_cells = s.p.size - np.searchsorted(s.p, thresholds, side="left")
    tp, fp = (counts[:, alerted_cells] for counts in s.operating_points)
    return {"net_benefit": net_benefit(tp, fp, s.n_total[:, None], thresholds)}


def operating_of(s: Stack, thresholds: Mapping[str, float]) -> Figures:
    """Return "name/figure" for each threshold."""
    return {
        f"{name}/{figure}": value
        for name, threshold in thresholds.items()
        for figure, value in _at_threshold(s, threshold).items()
    }


def calibration_of(s: Stack, fixed: CalibrationBasis) -> Figures:
    """Return line, distances of the smooth curve, and expected and maximum calibration errors; "curve" is the curve on its grid.

    References
    ----------
    Naeini, Cooper & Hauskrecht (2015), AAAI, for the calibration errors.
    """
    in_the_large, intercept, slope = fit_lines(
        fixed.logit, s.n, s.n_positive, large=fixed.in_the_large, line=fixed.line
    )
    curve = fixed.smoother.curves(s.n, s.n_positive)
    distance = fixed.smoother.distance(s, curve)
    e50, e90, emax = quantiles_of_rows(distance, s.n)
    ece_width, mce_width = _calibration_errors(s, fixed.by_width)
    ece_count, mce_count = _calibration_errors(s, fixed.by_count)
    return {
        "in_the_large": in_the_large,
        "intercept": intercept,
        "slope": slope,
        "ici": (distance * s.n).sum(axis=1) / s.n_total,
        "e50": e50,
        "e90": e90,
        "emax": emax,
        "ece_equal_width": ece_width,
        "mce_equal_width": mce_width,
        "ece_equal_count": ece_count,
        "mce_equal_count": mce_count,
        "curve": curve,
    }


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Return part / whole, NaN where the whole is zero."""
    ratio: FloatArray = np.divide(part, whole, out=np.full(part.shape, math.nan), where=whole > 0.0)
    return ratio


def _roc_at(s: Stack) -> FloatArray:
    tp, fp = s.operating_points
    out = np.full((tp.shape[0], BAND_AT.size), math.nan)
    for row in np.flatnonzero((s.n_positive_total > 0) & (s.n_negative_total > 0)):
        out[row] = np.interp(BAND_AT, fp[row] / s.n_negative_total[row], tp[row] / s.n_positive_total[row])
    return out


def _pr_at(s: Stack) -> FloatArray:
    tp, fp = s.operating_points
    alerts = tp + fp
    recall = tp / np.maximum(s.n_positive_total, 1.0)[:, None]
    wanted = BAND_AT - RECALL_ROUNDING
    first = np.array([row.searchsorted(wanted) for row in recall])
    # The curve begins with the first alert.
    n_silent = np.count_nonzero(alerts == 0.0, axis=1)[:, None]
    first = np.clip(first, n_silent, tp.shape[1] - 1)
    precision = np.take_along_axis(tp, first, 1) / np.take_along_axis(alerts, first, 1)
    precision[s.n_positive_total == 0.0] = math.nan
    return precision


def _at_threshold(s: Stack, threshold: float) -> Figures:
    first = int(np.searchsorted(s.p, threshold, side="left"))
    tp = s.n_positive[:, first:].sum(axis=1)
    alerts = s.n[:, first:].sum(axis=1)
    fp = alerts - tp
    fn, tn = s.n_positive_total - tp, s.n_negative_total - fp
    return {
        "sensitivity": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "ppv": _ratio(tp, alerts),
        "npv": _ratio(tn, tn + fn),
        "accuracy": (tp + tn) / s.n_total,
        "alerts_per_100": 100.0 * alerts / s.n_total,
        "number_needed_to_evaluate": _ratio(alerts, tp),
    }


def _calibration_errors(s: Stack, bins: IntArray) -> tuple[FloatArray, FloatArray]:
    n, positive, predicted = binned_rows(bins, s.p, s.n, s.n_positive, N_BINS)
    gap = np.abs(predicted - positive)
    largest = np.divide(gap, n, out=np.zeros_like(gap), where=n > 0.0).max(axis=1)
    return gap.sum(axis=1) / s.n_total, largest
