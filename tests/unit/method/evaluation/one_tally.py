"""The figures of one tally, as their definitions: the oracle of the figures of a stack of replicates."""

import math

import numpy as np

from mlho.method.evaluation import calibration
from mlho.method.evaluation.auroc import roc_curve_of
from mlho.method.evaluation.calibration_curve import SPAN, _local_linear
from mlho.method.evaluation.figures import BAND_AT, N_BINS, RECALL_ROUNDING
from mlho.method.evaluation.metrics import absolute_error, brier_of, log_loss_of
from mlho.method.evaluation.net_benefit import DEFAULT_THRESHOLDS, decision_curve_of
from mlho.method.evaluation.precision_recall import integral_parts, pr_curve_of
from mlho.method.evaluation.tally import tally
from mlho.method.evaluation.thresholds import threshold_figures


def accuracy_figures(t):
    """Return brier, scaled_brier and log_loss."""
    return {"brier": brier_of(t), "scaled_brier": scaled_brier_of(t), "log_loss": log_loss_of(t)}


def scaled_brier_of(t):
    """Return 1 − Brier / Brier of the prevalence; None with one class only."""
    prevalence = t.n_positive_total / t.n_total
    reference = prevalence * (1.0 - prevalence)
    return 1.0 - brier_of(t) / reference if reference > 0.0 else None


def mean_absolute_error_of(t):
    """Return the mean of |y − p| over samples."""
    return float(absolute_error(t).sum() / t.n_total)


def discrimination_figures(t):
    """Return average precision, PR integral and mean error; "roc" and "pr" are arrays at ``BAND_AT``."""
    return {
        "average_precision": average_precision_of(t),
        "pr_integral": pr_integral_of(t),
        "mean_absolute_error": mean_absolute_error_of(t),
        "roc": _roc_at(t),
        "pr": _pr_at(t),
    }


def average_precision_of(t):
    """Return Σ (R_k − R_{k−1}) · P_k over distinct thresholds; None when no sample is positive."""
    if not t.n_positive_total:
        return None
    tp, fp = t.operating_points
    gained = np.diff(tp)
    some = gained > 0
    precision = tp[1:][some] / (tp[1:][some] + fp[1:][some])
    return float((gained[some] * precision).sum() / t.n_positive_total)


def pr_integral_of(t):
    """Return the exact area under the precision–recall curve; None when no sample is positive."""
    if not t.n_positive_total:
        return None
    tp, fp = t.operating_points
    gained = np.diff(tp)
    some = gained > 0
    area = integral_parts(gained[some], tp[:-1][some], fp[:-1][some], tp[1:][some], fp[1:][some])
    return float(area.sum() / t.n_positive_total)


def _roc_at(t):
    """Return the true positive rate at the false positive rates of the band."""
    curve = roc_curve_of(t, max_points=None)
    if curve is None:
        return np.full(BAND_AT.size, math.nan)
    # At a vertical step interp returns the upper end.
    return np.interp(BAND_AT, curve.false_positive_rate, curve.true_positive_rate)


def _pr_at(t):
    """Return the precision at the first threshold that reaches each recall of the band."""
    curve = pr_curve_of(t, max_points=None)
    if curve is None:
        return np.full(BAND_AT.size, math.nan)
    first = np.minimum(np.searchsorted(curve.recall, BAND_AT - RECALL_ROUNDING), curve.recall.size - 1)
    return curve.precision[first]


def decision_figures(t):
    """Return the model's net benefit at the default thresholds."""
    return {"net_benefit": decision_curve_of(t, thresholds=np.array(DEFAULT_THRESHOLDS)).model}


def operating_figures(t, thresholds):
    """Return "name/figure" for each threshold."""
    return {
        f"{name}/{figure}": value
        for name, threshold in thresholds.items()
        for figure, value in threshold_figures(t, threshold).items()
    }


def calibration_figures(t, fixed):
    """Return the calibration figures of a replicate, and the smooth curve on its grid as "curve"."""
    in_the_large, _ = _line_of(t, fixed.logit, fixed.in_the_large, fixed_slope=True)
    intercept, slope = _line_of(t, fixed.logit, fixed.line, fixed_slope=False)
    curve = curve_of(fixed.smoother, t)
    ici, e50, e90, emax = distances_of(t, fixed.smoother.distance(t, curve))
    ece_width, mce_width = calibration_error_of(t, fixed.by_width, N_BINS)
    ece_count, mce_count = calibration_error_of(t, fixed.by_count, N_BINS)
    return {
        "in_the_large": in_the_large,
        "intercept": intercept,
        "slope": slope,
        "ici": ici,
        "e50": e50,
        "e90": e90,
        "emax": emax,
        "ece_equal_width": ece_width,
        "mce_equal_width": mce_width,
        "ece_equal_count": ece_count,
        "mce_equal_count": mce_count,
        "curve": curve,
    }


def _line_of(t, x, start, *, fixed_slope):
    """Return intercept and slope of the line, fitted from a starting point; None if it does not exist."""
    if calibration._line_reason(t, fixed_slope) is not None:
        return None, None
    a, b = (0.0, 1.0) if start.reason is not None else (start.intercept, 1.0 if fixed_slope else start.slope)
    cells = calibration._held_cells(x, t.n.astype(np.float64), t.n_positive.astype(np.float64))
    a, b, converged = calibration._newton_line(*cells, a, b, not fixed_slope)
    return (a, b) if converged else (None, None)


def line_of(y, p, *, fixed_slope=False):
    """Return the calibration line of predictions."""
    t = tally(y, p)
    return calibration.fit_line_of(t, calibration.logit_of(t), fixed_slope=fixed_slope)


def curve_of(smoother, t):
    """Return the smoothed observed risk on the grid, float64 in [0, 1], shape (n_grid,)."""
    k = smoother.x.size
    n = np.bincount(smoother.cell_of_p, t.n, k)
    positive = np.bincount(smoother.cell_of_p, t.n_positive, k)
    out = np.empty(smoother.grid.size)
    _local_linear(smoother.x, n, positive, smoother.grid, SPAN, out)
    return out


def distances_of(t, distance):
    """Return (ICI, E50, E90, Emax): mean, median, 90 % quantile and maximum of the distances over samples."""
    ici = float((distance * t.n).sum() / t.n_total)
    order = np.argsort(distance)
    # Samples up to each distance: the quantiles of distances that are repeated by sample, without repeating them.
    ascending, n_up_to = distance[order], np.cumsum(t.n[order])
    e50, e90, emax = (_quantile(ascending, n_up_to, q) for q in (0.5, 0.9, 1.0))
    return ici, e50, e90, emax


def _quantile(ascending, n_up_to, q):
    """Return the result of ``np.quantile`` for values that occur several times each."""
    n = int(n_up_to[-1])
    at = q * (n - 1)
    low = int(at)
    ranks = (low, min(low + 1, n - 1))
    below, above = ascending[np.searchsorted(n_up_to, ranks, side="right")]
    return float(below + (at - low) * (above - below))


def calibration_error_of(t, bins, n_bins):
    """Return (ECE, MCE): the mean, weighted by samples, and the largest |mean prediction − observed| over bins."""
    n, positive, predicted = (
        np.bincount(bins, weights, n_bins) for weights in (t.n, t.n_positive, t.n * t.p)
    )
    gap = np.abs(predicted - positive)
    filled = n > 0
    return float(gap.sum() / t.n_total), float((gap[filled] / n[filled]).max())
