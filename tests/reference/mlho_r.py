"""Figures as R MLHO computes them, for comparison with its output."""

import math

import numpy as np
from numpy.typing import ArrayLike

from mlho.method.evaluation.auroc import auroc
from mlho.method.evaluation.thresholds import at_threshold

_N_BINS = 10


def youden_mlho_r(y: ArrayLike, p: ArrayLike) -> float:
    """Return R's threshold: the first maximum of Youden's J among −∞, the midpoints and +∞, with an alert for p > threshold.

    R chooses it on the test set on which it reports.

    References
    ----------
    pROC ``coords(x = "best")`` as called by hestiri/mlho, R/mlearn.R.
    """
    outcome, predicted = np.asarray(y), np.asarray(p)
    distinct = np.unique(predicted)
    candidates = np.concatenate([[-math.inf], (distinct[:-1] + distinct[1:]) / 2.0, [math.inf]])
    n_positive, n_negative = int((outcome == 1).sum()), int((outcome == 0).sum())
    alerts = [predicted > candidate for candidate in candidates]
    # J · n₁ · n₀, in integers.
    advantage = [
        int(outcome[alert].sum()) * n_negative - int((outcome[alert] == 0).sum()) * n_positive
        for alert in alerts
    ]
    return float(candidates[int(np.argmax(advantage))])


def bias_row_mlho_r(y: ArrayLike, p: ArrayLike) -> dict[str, float | None]:
    """Return the figures of one group as R reports them for uncalibrated predictions (``RAW``), under R's names.

    They differ from those of :func:`mlho.method.bias.audit.audit`: MCE is the largest gap times the share of its bin, Brier scores
    by class are parts of the total, bins are (a, b] and of equally many samples even with ties, and the cut-off is chosen on
    the audited samples.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,), of both classes
    p : array of float in [0, 1], shape (n_samples,)

    References
    ----------
    hestiri/mlho, R/bias.R, with CalibratR 0.1.2 and pROC 1.18.5; the definitions were found from their figures.
    """
    outcome, predicted = np.asarray(y, np.float64), np.asarray(p, np.float64)
    threshold = youden_mlho_r(y, p)
    at = at_threshold(y, p, threshold)
    difference = predicted - outcome
    width = np.clip(np.searchsorted(np.arange(_N_BINS + 1) / _N_BINS, predicted, side="left") - 1, 0, None)
    count = np.array_split(np.argsort(predicted, kind="stable"), _N_BINS)
    by_width = np.abs(np.bincount(width, difference)) / outcome.size
    by_count = [abs(math.fsum(difference[rows])) / outcome.size for rows in count]
    positive = outcome == 1
    squared = difference**2 / outcome.size
    return {
        "ECE_equal_width": float(by_width.sum()),
        "MCE_equal_width": float(by_width.max()),
        "ECE_equal_freq": math.fsum(by_count),
        "MCE_equal_freq": max(by_count),
        "RMSE": math.sqrt(squared.sum()),
        "CLE_class_1": float(-difference[positive].mean()),
        "CLE_class_0": float(difference[~positive].mean()),
        "brier": float(squared.sum()),
        "brier_class_1": float(squared[positive].sum()),
        "brier_class_0": float(squared[~positive].sum()),
        "sens": at.sensitivity,
        "spec": at.specificity,
        "acc": at.accuracy,
        "ppv": at.ppv,
        "npv": at.npv,
        "cutoff": threshold,
        "auc": auroc(y, p),
    }


def caliber_mlho_r(y: ArrayLike, p: ArrayLike) -> list[tuple[float, float | None]]:
    """Return R's calibration table: (upper edge, observed rate) of the ten bins (a, b] of width 0.1; None for an empty bin.

    R plots the observed rate against the *upper edge*, so that predictions of any good model appear too high. A prediction of
    exactly 0 belongs to no bin.

    References
    ----------
    hestiri/mlho, R/caliber.R.
    """
    edges = np.arange(_N_BINS + 1) / _N_BINS
    bins = np.searchsorted(edges, np.asarray(p, np.float64), side="left")
    n, positive = (np.bincount(bins, weights, _N_BINS + 1) for weights in (None, np.asarray(y, np.float64)))
    return [(float(edges[i]), float(positive[i] / n[i]) if n[i] else None) for i in range(1, _N_BINS + 1)]
