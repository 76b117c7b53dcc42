"""The bootstrapped figures as functions of tallied predictions: called once for the data and once per replicate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mlho.method.evaluation.auroc import roc_curve_of
from mlho.method.evaluation.calibration import LineFit, fit_line_of, logit_of
from mlho.method.evaluation.calibration_curve import Smoother, distances_of, smoother_of
from mlho.method.evaluation.metrics import brier_of, log_loss_of, mean_absolute_error_of, scaled_brier_of
from mlho.method.evaluation.net_benefit import DEFAULT_THRESHOLDS, decision_curve_of
from mlho.method.evaluation.precision_recall import average_precision_of, pr_curve_of, pr_integral_of
from mlho.method.evaluation.reliability import bins_of, calibration_error_of
from mlho.method.evaluation.tally import FloatArray, IntArray, Tally
from mlho.method.evaluation.thresholds import threshold_figures

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

Figure = float | FloatArray | None


def accuracy_figures(t: Tally) -> dict[str, Figure]:
    """Return brier, scaled_brier and log_loss."""
    return {"brier": brier_of(t), "scaled_brier": scaled_brier_of(t), "log_loss": log_loss_of(t)}


def discrimination_figures(t: Tally) -> dict[str, Figure]:
    """Return average precision, PR integral and mean error.

    "roc" and "pr" are arrays at ``BAND_AT``, NaN if a required class is missing.
    """
    return {
        "average_precision": average_precision_of(t),
        "pr_integral": pr_integral_of(t),
        "mean_absolute_error": mean_absolute_error_of(t),
        "roc": _roc_at(t),
        "pr": _pr_at(t),
    }


def operating_figures(t: Tally, thresholds: Mapping[str, float]) -> dict[str, Figure]:
    """Return "name/figure" for each threshold."""
    return {
        f"{name}/{figure}": value
        for name, threshold in thresholds.items()
        for figure, value in threshold_figures(t, threshold).items()
    }


def _roc_at(t: Tally) -> FloatArray:
    """Return the true positive rate at the false positive rates of the band."""
    curve = roc_curve_of(t, max_points=None)
    if curve is None:
        return np.full(BAND_AT.size, math.nan)
    # At a vertical step interp returns the upper end.
    return np.interp(BAND_AT, curve.false_positive_rate, curve.true_positive_rate)


def _pr_at(t: Tally) -> FloatArray:
    """Return the precision at the first threshold that reaches each recall of the band."""
    curve = pr_curve_of(t, max_points=None)
    if curve is None:
        return np.full(BAND_AT.size, math.nan)
    first = np.minimum(np.searchsorted(curve.recall, BAND_AT - RECALL_ROUNDING), curve.recall.size - 1)
    precision: FloatArray = curve.precision[first]
    return precision


def decision_figures(t: Tally) -> dict[str, Figure]:
    """Return the model's net benefit at the default thresholds."""
    return {"net_benefit": decision_curve_of(t, thresholds=np.array(DEFAULT_THRESHOLDS)).model}


@dataclass(frozen=True, eq=False)
class CalibrationFigures:
    """Calibration figures of a replicate, with the bins, grid and starting values of the original data."""

    logit: FloatArray
    line: LineFit
    in_the_large: LineFit
    by_width: IntArray
    by_count: IntArray
    smoother: Smoother

    @classmethod
    def prepare(cls, t: Tally) -> "CalibrationFigures":
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

    def on(self, cells: Tally) -> "CalibrationFigures":
        """Return the same for a tally of merged predictions, with the same grid of the curve."""
        return replace(
            self,
            logit=logit_of(cells),
            by_width=bins_of(cells, N_BINS, "equal-width"),
            by_count=bins_of(cells, N_BINS, "equal-count"),
            smoother=smoother_of(cells, grid=self.smoother.grid),
        )

    def __call__(self, t: Tally) -> dict[str, Figure]:
        """Return the calibration figures, and the smooth curve on its grid as "curve"."""
        line = fit_line_of(t, self.logit, start=self.line)
        large = fit_line_of(t, self.logit, fixed_slope=True, start=self.in_the_large)
        curve = self.smoother.curve(t)
        ici, e50, e90, emax = distances_of(t, self.smoother.distance(t, curve))
        ece_width, mce_width = calibration_error_of(t, self.by_width, N_BINS)
        ece_count, mce_count = calibration_error_of(t, self.by_count, N_BINS)
        return {
            "in_the_large": large.intercept if large.reason is None else None,
            "intercept": line.intercept if line.reason is None else None,
            "slope": line.slope if line.reason is None else None,
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
