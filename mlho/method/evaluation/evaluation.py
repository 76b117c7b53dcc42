"""The complete evaluation of one set of predictions."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mlho.method.evaluation.auroc import RocCurve, auroc_estimate, roc_curve_of
from mlho.method.evaluation.bootstrap import ManyStatistics, percentile_band, percentile_estimate, replicates
from mlho.method.evaluation.figures import (
    BAND_AT,
    CALIBRATION_FIGURES,
    N_BINS,
    CalibrationBasis,
    Figures,
    Stack,
    accuracy_of,
    calibration_of,
    decision_of,
    discrimination_of,
    operating_of,
)
from mlho.method.evaluation.metrics import Estimate
from mlho.method.evaluation.net_benefit import DEFAULT_THRESHOLDS, DecisionCurve, decision_curve_of
from mlho.method.evaluation.precision_recall import NO_POSITIVE, PrCurve, pr_curve_of, pr_davis_goadrich_of
from mlho.method.evaluation.reliability import ReliabilityBin, bin_edges, reliability_bins
from mlho.method.evaluation.tally import FloatArray, Tally, checked_groups, class_reason, tally
from mlho.method.evaluation.thresholds import THRESHOLD_FIGURES, ThresholdPerformance, at_threshold

# Replicates merge neighbouring predictions into this number of cells, a multiple of the bins and of the smoothing cells. With 50,000
# samples this is five times faster, and moves the ends of the intervals by less than a third of the error of 200 replicates.
REPLICATE_CELLS = 2_000
# Some figures depend most on the extreme predictions: the precision at few alerts, the maximum distance of the curve.
N_EXTREME = 250
# Decimals of a curve's coordinates in JSON: sufficient for drawing, and keeps results small.
CURVE_DECIMALS = 6


@dataclass(frozen=True)
class Band:
    """Pointwise percentile interval of a curve; empty if it could not be computed."""

    at: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class CalibrationReport:
    """Calibration of one version of the predictions."""

    figures: dict[str, Estimate]
    """Figures named in ``CALIBRATION_FIGURES``. Distances are never negative, so their intervals are too high if calibration is good."""
    bins: dict[str, tuple[ReliabilityBin, ...]]
    """``equal-count`` and ``equal-width``: ten bins each, without empty ones."""
    predicted: FloatArray
    observed: FloatArray
    """Smooth curve."""
    band: Band
    """Band of ``observed``."""


@dataclass(frozen=True)
class ThresholdReport:
    """Performance at one threshold: counts, and rates with intervals."""

    threshold: float | None
    performance: ThresholdPerformance | None
    figures: dict[str, Estimate]
    """sensitivity, specificity, ppv, npv, accuracy, alerts_per_100, number_needed_to_evaluate."""
    reason: str | None = None
    """Reason why there is no threshold."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Complete evaluation of one set of predictions."""

    n_samples: int
    n_positive: int
    n_patients: int
    figures: dict[str, Estimate]
    """auroc, average_precision, pr_integral, pr_davis_goadrich, brier, scaled_brier, log_loss, mean_absolute_error, for the raw
    predictions."""
    calibration: dict[str, CalibrationReport]
    """``raw``, and ``calibrated`` if calibrated probabilities were passed."""
    thresholds: dict[str, ThresholdReport]
    """For the calibrated probabilities if there are any, as for ``decision``."""
    roc: RocCurve | None
    """None if a required class is missing; the same applies to ``pr``."""
    roc_band: Band
    """Band of the true positive rate over the false positive rate."""
    pr: PrCurve | None
    pr_band: Band
    """Band of precision over recall."""
    decision: DecisionCurve
    """For the calibrated probabilities if there are any (see ``decision_on``)."""
    decision_band: Band
    decision_on: str

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types without NaN; coordinates of curves are rounded to six decimals."""
        return {
            "n_samples": self.n_samples,
            "n_positive": self.n_positive,
            "n_patients": self.n_patients,
            "figures": _figures_json(self.figures),
            "calibration": {name: _calibration_json(report) for name, report in self.calibration.items()},
            "thresholds": {name: _threshold_json(report) for name, report in self.thresholds.items()},
            "roc": self.roc
            and {
                "false_positive_rate": _rounded(self.roc.false_positive_rate),
                "true_positive_rate": _rounded(self.roc.true_positive_rate),
                "band": _band_json(self.roc_band),
            },
            "pr": self.pr
            and {
                "recall": _rounded(self.pr.recall),
                "precision": _rounded(self.pr.precision),
                "band": _band_json(self.pr_band),
            },
            "decision": {
                "on": self.decision_on,
                "thresholds": _rounded(self.decision.thresholds),
                "model": _rounded(self.decision.model),
                "treat_all": _rounded(self.decision.treat_all),
                "n_true_positive": self.decision.n_true_positive.tolist(),
                "n_false_positive": self.decision.n_false_positive.tolist(),
                "band": _band_json(self.decision_band),
            },
        }


def evaluate(
    y: ArrayLike,
    p: ArrayLike,
    *,
    groups: ArrayLike | None,
    thresholds: Mapping[str, float | None],
    seed: int | Sequence[int],
    n_replicates: int = 200,
    calibrated: ArrayLike | None = None,
) -> Evaluation:
    """Evaluate one set of predictions.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,)
    p : array of float in [0, 1], shape (n_samples,)
        Uncalibrated predictions of the classifier.
    groups : array of int, shape (n_samples,), or None
        Patient of each sample: AUROC is clustered and the bootstrap draws patients. None: each sample is a patient.
    thresholds : mapping of str to float or None
        On the scale of ``calibrated`` if given, else of ``p``, and chosen on other data. None gives an entry
        without a threshold.
    seed : int ≥ 0, or several
        Seed of the bootstrap; raw and calibrated predictions use the same draws.
    n_replicates : int
        0 omits the intervals (that of the AUROC needs no bootstrap).
    calibrated : array of float in [0, 1], shape (n_samples,), or None
        Calibrated predictions.

    Raises
    ------
    DataError
        Shapes differ or values are out of range. A single class is not an error: figures that need both are absent.
    """
    predictions = {"raw": p} if calibrated is None else {"raw": p, "calibrated": calibrated}
    tallies = {name: tally(y, values) for name, values in predictions.items()}
    decision_on = "raw" if calibrated is None else "calibrated"
    t, final_t = tallies["raw"], tallies[decision_on]
    patient = checked_groups(groups, t.cell.size)
    chosen = {name: value for name, value in thresholds.items() if value is not None}
    versions = _versions(tallies, chosen)
    edges = [*DEFAULT_THRESHOLDS, *bin_edges(N_BINS), *chosen.values()]
    replicated = [version.replicated(edges) for version in versions.values()]
    drawn = replicates(replicated, np.asarray(y) == 1, patient, n_replicates=n_replicates, seed=seed)
    summaries = {
        name: version.summary(figures)
        for (name, version), figures in zip(versions.items(), drawn, strict=True)
    }
    raw, final = summaries["raw"], summaries[decision_on]
    return Evaluation(
        n_samples=t.cell.size,
        n_positive=int(t.n_positive_total),
        n_patients=int(patient.max()) + 1,
        figures={
            "auroc": auroc_estimate(y, p, groups=groups),
            **{name: raw.estimate(name, reason) for name, reason in _reasons(t).items()},
            "pr_davis_goadrich": _davis_goadrich_estimate(t),
        },
        calibration={
            name: _calibration_report(y, values, tallies[name], summaries[name])
            for name, values in predictions.items()
        },
        thresholds={
            name: _threshold_report(y, predictions[decision_on], name, value, final)
            for name, value in thresholds.items()
        },
        roc=roc_curve_of(t),
        roc_band=raw.band("roc", BAND_AT),
        pr=pr_curve_of(t),
        pr_band=raw.band("pr", BAND_AT),
        decision=decision_curve_of(final_t, thresholds=np.array(DEFAULT_THRESHOLDS)),
        decision_band=final.band("net_benefit", np.array(DEFAULT_THRESHOLDS)),
        decision_on=decision_on,
    )


@dataclass(frozen=True, eq=False)
class _Summary:
    point: Figures
    """Figures of the data, each with one entry."""
    drawn: Figures
    basis: CalibrationBasis

    def estimate(self, name: str, reason: str | None) -> Estimate:
        value = float(self.point[name][0])
        return percentile_estimate(None if math.isnan(value) else value, self.drawn.get(name), reason=reason)

    def band(self, name: str, at: FloatArray) -> Band:
        low, high = percentile_band(self.drawn.get(name))
        return Band(at=tuple(float(v) for v in at) if low else (), low=tuple(low), high=tuple(high))


class _Version:
    """Predictions and their figures, for the data and for replicates."""

    def __init__(self, t: Tally, figures_of: Callable[[Stack], Figures]) -> None:
        self._t, self._figures_of = t, figures_of
        self._basis = CalibrationBasis.prepare(t)

    def replicated(self, edges: Sequence[float]) -> tuple[Tally, ManyStatistics]:
        """Return neighbouring predictions in cells, and the figures of a replicate of these."""
        cells = self._t.merged(REPLICATE_CELLS, edges=edges, n_extreme=N_EXTREME)
        basis = self._basis if cells is self._t else self._basis.on(cells)
        return cells, partial(self._figures, basis=basis)

    def summary(self, drawn: Figures) -> _Summary:
        """Return the figures of the data with those of the replicates."""
        return _Summary(self._figures([self._t], basis=self._basis), drawn, self._basis)

    def _figures(self, replicates: Sequence[Tally], *, basis: CalibrationBasis) -> Figures:
        stack = Stack.of(replicates)
        return {**self._figures_of(stack), **calibration_of(stack, basis)}


def _versions(tallies: Mapping[str, Tally], chosen: Mapping[str, float]) -> dict[str, _Version]:
    """Return the predictions with their figures; decisions are evaluated on the calibrated ones, if there are any."""

    def final_of(s: Stack) -> Figures:
        return {**accuracy_of(s), **decision_of(s), **operating_of(s, chosen)}

    def raw_of(s: Stack) -> Figures:
        accuracy = accuracy_of if "calibrated" in tallies else final_of
        return {**discrimination_of(s), **accuracy(s)}

    figures = {"raw": raw_of, "calibrated": final_of}
    return {name: _Version(t, figures[name]) for name, t in tallies.items()}


def _davis_goadrich_estimate(t: Tally) -> Estimate:
    method = "without an interval; computed for comparison with R"
    value = pr_davis_goadrich_of(t)
    if value is None:
        return Estimate.absent(NO_POSITIVE, method)
    return Estimate(value, None, None, None, method)


def _reasons(t: Tally) -> dict[str, str | None]:
    return {
        "average_precision": NO_POSITIVE,
        "pr_integral": NO_POSITIVE,
        "brier": None,
        "scaled_brier": class_reason(t),
        "log_loss": None,
        "mean_absolute_error": None,
    }


def _calibration_report(y: ArrayLike, p: ArrayLike, t: Tally, summary: _Summary) -> CalibrationReport:
    basis = summary.basis
    reasons = {
        "in_the_large": basis.in_the_large.reason,
        "intercept": basis.line.reason,
        "slope": basis.line.reason,
        "scaled_brier": class_reason(t),
    }
    return CalibrationReport(
        figures={name: summary.estimate(name, reasons.get(name)) for name in CALIBRATION_FIGURES},
        bins={
            "equal-count": reliability_bins(y, p, n_bins=N_BINS, how="equal-count"),
            "equal-width": reliability_bins(y, p, n_bins=N_BINS, how="equal-width"),
        },
        predicted=basis.smoother.grid,
        observed=summary.point["curve"][0],
        band=summary.band("curve", basis.smoother.grid),
    )


def _threshold_report(
    y: ArrayLike, p: ArrayLike, name: str, threshold: float | None, summary: _Summary
) -> ThresholdReport:
    if threshold is None:
        return ThresholdReport(None, None, {}, "the training predictions gave no threshold")
    performance = at_threshold(y, p, threshold)
    figures = {
        figure: summary.estimate(f"{name}/{figure}", performance.reasons.get(figure))
        for figure in THRESHOLD_FIGURES
    }
    return ThresholdReport(float(threshold), performance, figures)


def _figures_json(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_json() for name, estimate in figures.items()}


def _calibration_json(report: CalibrationReport) -> dict[str, Any]:
    return {
        "figures": _figures_json(report.figures),
        "bins": {how: [asdict(b) for b in bins] for how, bins in report.bins.items()},
        "curve": {
            "predicted": _rounded(report.predicted),
            "observed": _rounded(report.observed),
            "band": _band_json(report.band),
        },
    }


def _threshold_json(report: ThresholdReport) -> dict[str, Any]:
    return {
        "threshold": report.threshold,
        "counts": report.performance
        and {
            "true_positive": report.performance.n_true_positive,
            "false_positive": report.performance.n_false_positive,
            "false_negative": report.performance.n_false_negative,
            "true_negative": report.performance.n_true_negative,
        },
        "figures": _figures_json(report.figures),
        "reason": report.reason,
    }


def _band_json(band: Band) -> dict[str, Any]:
    return {"at": _rounded(band.at), "low": _rounded(band.low), "high": _rounded(band.high)}


def _rounded(values: Any) -> list[float | None]:
    return [None if v is None else round(float(v), CURVE_DECIMALS) for v in values]
