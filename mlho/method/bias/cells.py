"""Cells: the samples of one group in one period, sorted by prediction, and their sums in every bootstrap replicate."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.method.evaluation.calibration import MAX_NEWTON_STEPS, TOLERANCE
from mlho.method.evaluation.metrics import PROBABILITY_CLIP
from mlho.method.evaluation.reliability import bins_of
from mlho.method.evaluation.tally import FloatArray, IntArray, Tally

N_BINS: Final = 10
MAX_RULES: Final = 8  # one bit each
# Columns of the sums of a cell; two more for each rule: true positives and alerts.
SUMS: Final = (
    "n",
    "n_positive",
    "p",
    "p_positive",
    "p2",
    "p2_positive",
    "wins_twice",
    "pairs",
    "in_the_large",
    "ece_equal_width",
    "mce_equal_width",
    "ece_equal_count",
    "mce_equal_count",
)
_LARGEST_STEP: Final = 1.0  # of Newton's method, in log-odds
_N, _POSITIVE, _P, _P_POSITIVE, _P2, _P2_POSITIVE, _WINS, _PAIRS, _LARGE, _ERRORS = range(10)


class Cell(NamedTuple):
    """The samples of one group in one period, in ascending order of their predictions."""

    sample: IntArray
    patient: IntArray
    """Position in the audited arrays, and number of the patient. Shape (n,)."""
    positive: NDArray[np.bool_]
    model: NDArray[np.int64]
    ends_tie: NDArray[np.bool_]
    """Outcome; number of the model that predicted; whether the next prediction of that model differs. Shape (n,)."""
    p: FloatArray
    odds_against: FloatArray
    """Prediction, and (1 − p) / p of the clipped prediction. Shape (n,)."""
    alerts: NDArray[np.uint8]
    """One bit for each rule. Shape (n_segments,)."""
    starts: IntArray
    """Boundaries of the segments: samples that share a bin in both binnings and have the same alerts. Shape (n_segments + 1,)."""
    by_width: IntArray
    by_count: IntArray
    """Bin of each segment. Shape (n_segments,)."""

    @classmethod
    def of(
        cls,
        sample: IntArray,
        *,
        p: FloatArray,
        positive: NDArray[np.bool_],
        patient: IntArray,
        model: IntArray,
        alerts: NDArray[np.uint8],
    ) -> "Cell":
        """Return the cell of these samples, given the audited arrays of all samples."""
        order = sample[np.argsort(p[sample], kind="stable")]
        sorted_p = p[order]
        clipped = np.clip(sorted_p, PROBABILITY_CLIP, 1.0 - PROBABILITY_CLIP)
        width, count = _bins(sorted_p)
        bits = alerts[order]
        is_new = (width[1:] != width[:-1]) | (count[1:] != count[:-1]) | (bits[1:] != bits[:-1])
        starts = np.flatnonzero(np.r_[True, is_new])
        return cls(
            sample=order,
            patient=patient[order],
            positive=positive[order],
            model=model[order],
            ends_tie=_ends_of_ties(sorted_p, model[order]),
            p=sorted_p,
            odds_against=(1.0 - clipped) / clipped,
            alerts=bits[starts],
            starts=np.r_[starts, sorted_p.size].astype(np.int64),
            by_width=width[starts],
            by_count=count[starts],
        )

    def sums(self, weights: NDArray[np.uint8], n_rules: int, start: float = 0.0) -> FloatArray:
        """Return the sums under each row of patient weights, shape (n_replicates, n_sums).

        Parameters
        ----------
        weights : uint8, shape (n_replicates, n_patients)
            How often each patient is drawn.
        start : float
            Where the search for the calibration in the large starts. It affects the number of steps, not the result.
        """
        found = np.empty((weights.shape[0], len(SUMS) + 2 * n_rules))
        _sum_cell(weights, self, n_rules, start, found)
        return found

    def n_patients(self, name: str, rules: Sequence[str]) -> int:
        """Return the number of patients in the denominator of a rate; for the AUROC, that of the smaller class."""
        rule, _, rate = name.rpartition("/")
        members = {"sensitivity": self.positive, "specificity": ~self.positive}.get(rate)
        if rate in ("ppv", "npv"):
            is_alerted = np.repeat(
                self.alerts >> np.uint8(rules.index(rule)) & np.uint8(1) == 1, np.diff(self.starts)
            )
            members = is_alerted if rate == "ppv" else ~is_alerted
        if rate == "auroc":
            return min(np.unique(self.patient[part]).size for part in (self.positive, ~self.positive))
        return int(np.unique(self.patient if members is None else self.patient[members]).size)

    def calibration_errors(self, outcomes: NDArray[np.bool_]) -> FloatArray:
        """Return ECE and MCE by width, then by count, for each row of outcomes of all samples; shape (n_rows, 4)."""
        found = np.empty((outcomes.shape[0], 4))
        _simulated_errors(outcomes, self, found)
        return found


def _ends_of_ties(p: FloatArray, model: IntArray) -> NDArray[np.bool_]:
    """Return for each sorted prediction whether the next prediction of the same model differs."""
    by_model = np.argsort(model, kind="stable")
    is_last = (p[by_model][1:] != p[by_model][:-1]) | (model[by_model][1:] != model[by_model][:-1])
    ends = np.empty(p.size, np.bool_)
    ends[by_model] = np.r_[is_last, True]
    return ends


def _bins(p: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the bins by width and by count of sorted predictions; equal predictions share a bin."""
    distinct, cell, n = np.unique(p, return_inverse=True, return_counts=True)
    t = Tally(p=distinct, n=n, n_positive=np.zeros_like(n), cell=cell)
    return bins_of(t, N_BINS, "equal-width")[cell], bins_of(t, N_BINS, "equal-count")[cell]


def draw_weights(rng: np.random.Generator, n_replicates: int, n_patients: int) -> NDArray[np.uint8]:
    """Return how often each patient is drawn in each replicate, shape (n_replicates, n_patients)."""
    weights = np.empty((n_replicates, n_patients), np.uint8)
    for row in weights:
        drawn = np.bincount(rng.integers(0, n_patients, n_patients), minlength=n_patients)
        row[:] = np.minimum(drawn, 255)  # more is impossible in practice: the mean is 1
    return weights


@njit(cache=True, nogil=True)
def _sum_cell(weights: NDArray[np.uint8], cell: Cell, n_rules: int, start: float, out: FloatArray) -> None:
    _, patient, positive, model, ends_tie, p, odds_against, alerts, starts, by_width, by_count = cell
    size = p.size
    kept_odds, kept_weight = np.empty(size), np.empty(size)
    # Probability at the start of the search, and its first two derivatives: the first step needs only their sums.
    at_start = 1.0 / (1.0 + odds_against * math.exp(-start))
    slope = at_start * (1.0 - at_start)
    bend = slope * (1.0 - 2.0 * at_start)
    bins = np.zeros((2, N_BINS, 2))  # by width and by count: samples, predicted minus observed
    of_rules = np.zeros(2 * MAX_RULES, np.int64)
    n_models = model.max() + 1
    # By model: samples without and with the outcome that were passed, and those among equal predictions.
    passed, tied = np.zeros((n_models, 2), np.int64), np.zeros((n_models, 2), np.int64)
    for b in range(weights.shape[0]):
        weight_of = weights[b]
        bins[:] = 0.0
        of_rules[:] = 0
        passed[:] = 0
        n = n_positive = wins_twice = 0
        sum_p = sum_p2 = sum_positive = sum_positive2 = 0.0
        expected = information = curvature = 0.0
        n_kept = 0
        for s in range(by_width.size):
            n_before, positive_before, p_before = n, n_positive, sum_p
            for i in range(starts[s], starts[s + 1]):
                k = int(weight_of[patient[i]])
                k_positive = k * int(positive[i])
                n += k
                n_positive += k_positive
                m = model[i]
                tied[m, 0] += k - k_positive
                tied[m, 1] += k_positive
                if ends_tie[i]:
                    wins_twice += tied[m, 1] * (2 * passed[m, 0] + tied[m, 0])
                    passed[m, 0] += tied[m, 0]
                    passed[m, 1] += tied[m, 1]
                    tied[m, 0] = tied[m, 1] = 0
                value = p[i]
                sum_p += k * value
                sum_p2 += k * value * value
                sum_positive += k_positive * value
                sum_positive2 += k_positive * value * value
                expected += k * at_start[i]
                information += k * slope[i]
                curvature += k * bend[i]
                kept_odds[n_kept] = odds_against[i]
                kept_weight[n_kept] = k
                n_kept += k > 0
            gap = (sum_p - p_before) - (n_positive - positive_before)
            bins[0, by_width[s], 0] += n - n_before
            bins[0, by_width[s], 1] += gap
            bins[1, by_count[s], 0] += n - n_before
            bins[1, by_count[s], 1] += gap
            for r in range(n_rules):
                if (alerts[s] >> r) & 1:
                    of_rules[2 * r] += n_positive - positive_before
                    of_rules[2 * r + 1] += n - n_before
        row = out[b]
        row[_N], row[_POSITIVE], row[_WINS] = n, n_positive, wins_twice
        row[_PAIRS] = (passed[:, 0] * passed[:, 1]).sum()
        row[_P], row[_P_POSITIVE], row[_P2], row[_P2_POSITIVE] = sum_p, sum_positive, sum_p2, sum_positive2
        first = start + _first_step(n_positive - expected, information, curvature)
        row[_LARGE] = _in_the_large(kept_odds[:n_kept], kept_weight[:n_kept], n, n_positive, first)
        for binning in range(2):
            row[_ERRORS + 2 * binning], row[_ERRORS + 2 * binning + 1] = _errors_of(bins[binning], n)
        for r in range(2 * n_rules):
            row[_ERRORS + 4 + r] = of_rules[r]


@njit(cache=True, nogil=True)
def _first_step(missing: float, information: float, curvature: float) -> float:
    """Return the root of the second-order expansion where Newton's step is small, otherwise the limited Newton step."""
    step = missing / max(information, 1e-300)
    if abs(step) < 0.5:  # the second term is then at most a quarter of the first: |curvature| ≤ information
        return step - 0.5 * step * step * curvature / max(information, 1e-300)
    return min(max(step, -_LARGEST_STEP), _LARGEST_STEP)


@njit(cache=True, nogil=True)
def _in_the_large(odds: FloatArray, weight: FloatArray, n: int, n_positive: int, start: float) -> float:
    """Return the shift of the log-odds at which as many positives are expected as observed; NaN with one class."""
    if n_positive == 0 or n_positive == n:
        return math.nan
    shift = start
    for _ in range(MAX_NEWTON_STEPS):
        factor = math.exp(-shift)
        expected = information = 0.0
        # Four sums, so that an addition does not wait for the one before it; their order is fixed.
        expected_1 = expected_2 = expected_3 = information_1 = information_2 = information_3 = 0.0
        whole = odds.size - odds.size % 4
        for i in range(0, whole, 4):
            pi_0 = 1.0 / (1.0 + odds[i] * factor)
            pi_1 = 1.0 / (1.0 + odds[i + 1] * factor)
            pi_2 = 1.0 / (1.0 + odds[i + 2] * factor)
            pi_3 = 1.0 / (1.0 + odds[i + 3] * factor)
            expected += weight[i] * pi_0
            expected_1 += weight[i + 1] * pi_1
            expected_2 += weight[i + 2] * pi_2
            expected_3 += weight[i + 3] * pi_3
            information += weight[i] * pi_0 * (1.0 - pi_0)
            information_1 += weight[i + 1] * pi_1 * (1.0 - pi_1)
            information_2 += weight[i + 2] * pi_2 * (1.0 - pi_2)
            information_3 += weight[i + 3] * pi_3 * (1.0 - pi_3)
        for i in range(whole, odds.size):
            pi = 1.0 / (1.0 + odds[i] * factor)
            expected += weight[i] * pi
            information += weight[i] * pi * (1.0 - pi)
        expected += (expected_1 + expected_2) + expected_3
        information += (information_1 + information_2) + information_3
        step = (n_positive - expected) / max(information, 1e-300)
        step = min(max(step, -_LARGEST_STEP), _LARGEST_STEP)
        shift += step
        # Newton's method converges quadratically: the error after a step is at most half of the square of the step.
        if step * step <= TOLERANCE * (1.0 + abs(shift)):
            return shift
    return math.nan


@njit(cache=True, nogil=True)
def _errors_of(bins: FloatArray, n: int) -> tuple[float, float]:
    """Return ECE and MCE of bins of (samples, predicted minus observed); NaN without samples."""
    total = largest = 0.0
    for k in range(bins.shape[0]):
        if bins[k, 0] > 0.0:
            gap = abs(bins[k, 1])
            total += gap
            largest = max(largest, gap / bins[k, 0])
    return (total / n, largest) if n > 0 else (math.nan, math.nan)


@njit(cache=True, nogil=True)
def _simulated_errors(outcomes: NDArray[np.bool_], cell: Cell, out: FloatArray) -> None:
    sample, p, starts, by_width, by_count = cell.sample, cell.p, cell.starts, cell.by_width, cell.by_count
    bins = np.zeros((2, N_BINS, 2))
    for b in range(outcomes.shape[0]):
        outcome = outcomes[b]
        bins[:] = 0.0
        for s in range(by_width.size):
            gap = 0.0
            for i in range(starts[s], starts[s + 1]):
                gap += p[i] - outcome[sample[i]]
            n = starts[s + 1] - starts[s]
            bins[0, by_width[s], 0] += n
            bins[0, by_width[s], 1] += gap
            bins[1, by_count[s], 0] += n
            bins[1, by_count[s], 1] += gap
        for binning in range(2):
            out[b, 2 * binning], out[b, 2 * binning + 1] = _errors_of(bins[binning], p.size)


def figures_of(sums: FloatArray, rules: Sequence[str]) -> dict[str, FloatArray]:
    """Return the figures of each row of sums; NaN for a figure that does not exist.

    Parameters
    ----------
    sums : float64, shape (n_rows, n_sums)
        From :meth:`Cell.sums`.
    rules : sequence of str
        Names of the alert rules, in the order of their bits.
    """
    total = dict(zip(SUMS, sums.T[: len(SUMS)], strict=True))
    n, positive = total["n"], total["n_positive"]
    negative = n - positive
    with np.errstate(divide="ignore", invalid="ignore"):
        squared_positive = positive - 2.0 * total["p_positive"] + total["p2_positive"]
        squared_negative = total["p2"] - total["p2_positive"]
        brier = (squared_positive + squared_negative) / n
        missed, raised = positive - total["p_positive"], total["p"] - total["p_positive"]
        found = {
            "auroc": total["wins_twice"] / (2.0 * total["pairs"]),
            "brier": brier,
            "brier_positive": squared_positive / positive,
            "brier_negative": squared_negative / negative,
            "rmse": np.sqrt(brier),
            "error": (missed + raised) / n,
            "error_positive": missed / positive,
            "error_negative": raised / negative,
            "observed_expected": positive / total["p"],
            "in_the_large": total["in_the_large"],
            **{name: total[name] for name in SUMS[_ERRORS:]},
        }
        for place, rule in enumerate(rules):
            hits, alerts = sums[:, len(SUMS) + 2 * place], sums[:, len(SUMS) + 2 * place + 1]
            found |= {
                f"{rule}/sensitivity": hits / positive,
                f"{rule}/specificity": 1.0 - (alerts - hits) / negative,
                f"{rule}/ppv": hits / alerts,
                f"{rule}/npv": 1.0 - (positive - hits) / (n - alerts),
                f"{rule}/accuracy": (hits + negative - (alerts - hits)) / n,
                f"{rule}/alerts_per_100": 100.0 * alerts / n,
            }
    return {name: np.where(np.isfinite(values), values, np.nan) for name, values in found.items()}
