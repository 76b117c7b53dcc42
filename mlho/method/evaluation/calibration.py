"""Calibration of probabilities: intercept and slope, and the calibrator that corrects them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mlho.errors import DataError
from mlho.method.evaluation.metrics import PROBABILITY_CLIP
from mlho.method.evaluation.tally import FloatArray, Tally, class_reason, tally

MAX_NEWTON_STEPS = 50
# Relative size of a Newton step at which the iteration stops: the next step would be about its square.
TOLERANCE = 1e-9
# The largest float below one: a calibrated probability is never 1.
LARGEST_PROBABILITY = 1.0 - 2.0**-53
SMALLEST_PROBABILITY = 2.0**-1022


@dataclass(frozen=True)
class LineFit:
    """Logistic regression of the outcome on one variable x: logit P(y = 1) = intercept + slope · x."""

    intercept: float
    slope: float
    """Valid only if ``reason`` is None."""
    reason: str | None
    """Reason why the fit does not exist."""


def fit_line_of(t: Tally, x: FloatArray, *, fixed_slope: bool = False) -> LineFit:
    """Fit the line to tallied predictions by Newton's method.

    Parameters
    ----------
    x : float64 array, shape (n_cells,)
        Logit of each distinct prediction, ascending.
    fixed_slope : bool
        If true, fit only the intercept, with slope 1 (calibration in the large).

    Notes
    -----
    The likelihood is concave. A step is too long if it passes the maximum along its own direction and
    the gradient there is steeper than at its start; it is then halved. Separation is tested exactly before the fit (one
    variable separates the classes if their ranges do not overlap).

    References
    ----------
    Cox (1958), Biometrika 45; Van Calster et al. (2019), BMC Medicine 17.
    """
    reason = _line_reason(t, fixed_slope)
    if reason is not None:
        return LineFit(0.0, 1.0, reason)
    cells = _held_cells(x, t.n.astype(np.float64, copy=False), t.n_positive.astype(np.float64, copy=False))
    a, b, converged = _newton_line(*cells, 0.0, 1.0, not fixed_slope)
    if not converged:
        return LineFit(0.0, 1.0, "the logistic regression on the logit did not converge")
    return LineFit(a, b, None)


def fit_lines(
    x: FloatArray, n: FloatArray, n_positive: FloatArray, *, large: LineFit, line: LineFit
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return (in_the_large, intercept, slope) of each replicate as ``fit_line_of`` would, NaN if a fit does not exist.

    Parameters
    ----------
    x : float64 array, shape (n_cells,)
    n, n_positive : float64 arrays, shape (n_replicates, n_cells)
    large, line : LineFit
        Starting points of the fit with slope 1 and of the line. They affect the number of steps, not the limit.
    """
    first_large, first_line = (
        (0.0, 1.0) if fit.reason is not None else (fit.intercept, fit.slope) for fit in (large, line)
    )
    out = np.full((3, n.shape[0]), math.nan)
    _fit_rows(x, n, n_positive, first_large, first_line, out)
    return out[0], out[1], out[2]


def logit_of(t: Tally) -> FloatArray:
    """Return log(p / (1 − p)) of each distinct prediction, p clipped to [1e-15, 1 − 1e-15]."""
    p = np.clip(t.p, PROBABILITY_CLIP, 1.0 - PROBABILITY_CLIP)
    logit: FloatArray = np.log(p) - np.log1p(-p)
    return logit


def _line_reason(t: Tally, fixed_slope: bool) -> str | None:
    reason = class_reason(t)
    if reason is not None or fixed_slope:
        return reason
    is_positive, is_negative = t.n_positive > 0, t.n > t.n_positive
    first_positive, last_positive = _ends(is_positive)
    first_negative, last_negative = _ends(is_negative)
    if first_positive == last_positive == first_negative == last_negative:
        return "all predictions are equal"
    if last_negative <= first_positive or last_positive <= first_negative:
        return "the predictions separate the classes"
    return None


def _ends(is_held: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the first and the last true index."""
    return int(is_held.argmax()), is_held.size - 1 - int(is_held[::-1].argmax())


@njit(cache=True, nogil=True)
def _held_cells(
    x: FloatArray, n: FloatArray, n_positive: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the cells with samples; a replicate leaves about a third without any."""
    kept_x, kept_n, kept_positive = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    n_kept = 0
    for i in range(x.size):
        kept_x[n_kept], kept_n[n_kept], kept_positive[n_kept] = x[i], n[i], n_positive[i]
        n_kept += n[i] > 0.0
    return kept_x[:n_kept], kept_n[:n_kept], kept_positive[:n_kept]


@njit(cache=True, nogil=True)
def _newton_line(
    x: FloatArray, n: FloatArray, n_positive: FloatArray, a: float, b: float, fit_slope: bool
) -> tuple[float, float, bool]:
    p = np.empty_like(x)
    da = 0.0
    db = 0.0
    ahead = 0.0
    halvings = 0
    converged = False
    h00 = 0.0
    h01 = 0.0
    h11 = 0.0
    for _ in range(MAX_NEWTON_STEPS):
        g0 = 0.0
        g1 = 0.0
        h00 = 0.0
        h01 = 0.0
        h11 = 0.0
        for i in range(x.size):
            eta = a + b * x[i]
            e = math.exp(-abs(eta))
            p[i] = (1.0 if eta >= 0.0 else e) / (1.0 + e)
        # A second loop, because a call to exp between sums costs more than storing its result.
        for i in range(x.size):
            pi = p[i]
            residual = n_positive[i] - n[i] * pi
            weight = n[i] * pi * (1.0 - pi)
            g0 += residual
            h00 += weight
            if fit_slope:
                g1 += residual * x[i]
                h01 += weight * x[i]
                h11 += weight * x[i] * x[i]
        behind = g0 * da + g1 * db
        if -behind > ahead and halvings < 30:
            # Too far: the gradient at the end of the step is steeper than at its start.
            da *= 0.5
            db *= 0.5
            ahead *= 0.5
            a -= da
            b -= db
            halvings += 1
            continue
        if converged:
            break
        if fit_slope:
            determinant = h00 * h11 - h01 * h01
            if not determinant > 1e-13 * h00 * h11:
                return a, b, False
            da = (h11 * g0 - h01 * g1) / determinant
            db = (h00 * g1 - h01 * g0) / determinant
        else:
            if not h00 > 0.0:
                return a, b, False
            da = g0 / h00
            db = 0.0
        ahead = g0 * da + g1 * db
        halvings = 0
        a += da
        b += db
        # One more pass evaluates the information at the maximum itself.
        converged = abs(da) <= TOLERANCE * (1.0 + abs(a)) and abs(db) <= TOLERANCE * (1.0 + abs(b))
    # At extreme predictions the information can vanish in rounding, far from the maximum.
    information = h00 * h11 - h01 * h01 if fit_slope else h00
    return a, b, converged and information > 0.0


@njit(cache=True, nogil=True)
def _fit_rows(
    x: FloatArray,
    n: FloatArray,
    n_positive: FloatArray,
    large: tuple[float, float],
    line: tuple[float, float],
    out: FloatArray,
) -> None:
    for row in range(n.shape[0]):
        kept_x, kept_n, kept_positive = _held_cells(x, n[row], n_positive[row])
        positive = np.flatnonzero(kept_positive > 0.0)
        negative = np.flatnonzero(kept_n > kept_positive)
        if not (positive.size and negative.size):
            continue
        a, _, converged = _newton_line(kept_x, kept_n, kept_positive, large[0], 1.0, False)
        if converged:
            out[0, row] = a
        # No line if the predictions are equal or separate the classes.
        if negative[-1] <= positive[0] or positive[-1] <= negative[0]:
            continue
        a, b, converged = _newton_line(kept_x, kept_n, kept_positive, line[0], line[1], True)
        if converged:
            out[1, row], out[2, row] = a, b


@dataclass(frozen=True)
class PlattCalibrator:
    """Logistic calibration on the logit: P = 1 / (1 + exp(−(intercept + slope · logit p)))."""

    intercept: float
    slope: float
    """The slope is positive, so calibration preserves the order of patients."""
    reason: str | None = None
    """Reason why it is the identity (0, 1) instead of a fit."""

    def apply(self, p: ArrayLike) -> FloatArray:
        """Return calibrated probabilities; each depends only on its own prediction.

        Parameters
        ----------
        p : array of float in [0, 1], any shape
            Clipped to [1e-15, 1 − 1e-15] before the logit. A single number counts as shape (1,).

        Returns
        -------
        float64 array of the same shape, strictly between 0 and 1, non-decreasing in p
            Bit-identical for any batch: one scalar computation per value, no vector instructions.

        Raises
        ------
        DataError
            A value is missing or out of range.
        """
        # Copy, because numba would compile a different version for read-only input (mapped memory).
        values = np.array(p, dtype=np.float64, order="C", ndmin=1)
        n_invalid = int(np.count_nonzero(~((values >= 0.0) & (values <= 1.0))))
        if n_invalid:
            raise DataError(
                "calibrator",
                "predictions are probabilities",
                expected="numbers from 0 to 1",
                got=f"{n_invalid} that are not",
                remedy="Pass the classifier's predict_proba for the positive class.",
            )
        _apply_line(values.reshape(-1), float(self.intercept), float(self.slope))
        return values

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"intercept": self.intercept, "slope": self.slope, "reason": self.reason}


@njit(cache=True, nogil=True)
def _apply_line(values: FloatArray, a: float, b: float) -> None:
    identity = a == 0.0 and b == 1.0
    for i in range(values.size):
        clipped = min(max(values[i], PROBABILITY_CLIP), 1.0 - PROBABILITY_CLIP)
        if identity:
            values[i] = clipped
            continue
        eta = a + b * (math.log(clipped) - math.log1p(-clipped))
        if eta >= 0.0:
            value = 1.0 / (1.0 + math.exp(-eta))
        else:
            # exp would overflow in the other form.
            e = math.exp(eta)
            value = e / (1.0 + e)
        values[i] = min(max(value, SMALLEST_PROBABILITY), LARGEST_PROBABILITY)


def fit_calibrator(y: ArrayLike, p: ArrayLike) -> PlattCalibrator:
    """Fit the calibrator on out-of-fold predictions.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,)
    p : array of float in [0, 1], shape (n_samples,)

    Returns
    -------
    PlattCalibrator
        The identity, with the reason, for one class, constant predictions, separated classes or a slope that is not
        positive (which would reverse the ranking).

    References
    ----------
    Platt (1999), with the logit of a probability in place of a margin.
    """
    t = tally(y, p)
    line = fit_line_of(t, logit_of(t))
    if line.reason is not None:
        return PlattCalibrator(0.0, 1.0, f"not calibrated: {line.reason}")
    if line.slope <= 0.0:
        return PlattCalibrator(0.0, 1.0, "not calibrated: the outcome becomes rarer as the prediction rises")
    return PlattCalibrator(line.intercept, line.slope)
