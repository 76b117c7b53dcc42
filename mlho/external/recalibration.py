"""Recalibration of a bundle on other data: an intercept, or intercept and slope, evaluated on patients not used in each fit."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.method.evaluation.calibration import PlattCalibrator, fit_calibrator, fit_line_of, logit_of
from mlho.method.evaluation.evaluation import evaluate
from mlho.method.evaluation.tally import tally
from mlho.method.splits import fold_of_patients
from mlho.report.advice import Correction
from mlho.report.external import Recalibration
from mlho.report.result import Estimate
from mlho.training.results.performance import estimate_of

N_FOLDS: Final = 5
FEWEST: Final = 10  # units with, and without, the outcome: two in each fold
AS_DELIVERED, SHIFTED, LINE = "as delivered", "shifted", "intercept and slope"
VERSIONS: Final[Mapping[Correction, str]] = {"intercept": SHIFTED, "line": LINE}
"""The version of the probabilities that each correction gives."""
_CALIBRATION: Final = ("in_the_large", "slope", "ici")


def recalibrate(cohort: Cohort, p: NDArray[np.float64], *, seed: int, n_replicates: int) -> Recalibration:
    """Fit both corrections, and compare them with the probabilities as delivered.

    Parameters
    ----------
    p : float64, shape (n_samples,)
        Calibrated probabilities of the bundle.
    seed, n_replicates : int
        Of the folds and of the bootstrap of patients.

    References
    ----------
    Steyerberg (2019), Clinical Prediction Models, chapter 20: updating of the intercept, and of intercept and slope.
    """
    line = _figures(cohort, p, seed=seed, n_replicates=n_replicates)
    lines = {
        "shift": line["calibration_in_the_large"],
        "intercept": line["calibration_intercept"],
        "slope": line["calibration_slope"],
    }
    shifted, line_outside = (
        outside_probabilities(cohort, p, correction, seed=seed) for correction in VERSIONS
    )
    if shifted is None:
        return Recalibration(**lines, reason=f"fewer than {FEWEST} patients with or without the outcome")
    versions = {AS_DELIVERED: p, SHIFTED: shifted} | ({} if line_outside is None else {LINE: line_outside})
    shown = ("brier", "log_loss", *(f"calibration_{name}" for name in _CALIBRATION))
    figures = {
        name: _figures(cohort, version, seed=seed, n_replicates=n_replicates)
        for name, version in versions.items()
    }
    return Recalibration(
        **lines,
        figures={
            name: {key: version_figures[key] for key in shown} for name, version_figures in figures.items()
        },
    )


def fit_correction(y: NDArray[np.uint8], p: NDArray[np.float64], correction: Correction) -> PlattCalibrator:
    """Fit a shift of the log-odds (``intercept``), or intercept and slope (``line``). If the fit fails, return the identity with the reason."""
    if correction == "line":
        return fit_calibrator(y, p)
    t = tally(y, p)
    line = fit_line_of(t, logit_of(t), fixed_slope=True)
    return PlattCalibrator(0.0, 1.0, line.reason) if line.reason else PlattCalibrator(line.intercept, 1.0)


def outside_probabilities(
    cohort: Cohort, p: NDArray[np.float64], correction: Correction, *, seed: int
) -> NDArray[np.float64] | None:
    """Return probabilities that are each corrected by a fit on other patients; None with fewer than ten patients of a class, or if a fit fails."""
    positive = cohort.positive_units()
    if min(int(positive.sum()), int((~positive).sum())) < FEWEST:
        return None
    fold = fold_of_patients(
        np.array(cohort.unit_ids, dtype=object),
        positive,
        seed=seed,
        iteration="recalibration",
        n_folds=N_FOLDS,
    )[cohort.unit_of]
    return _outside(cohort.outcome, p, fold, correction)


def _outside(
    y: NDArray[np.uint8], p: NDArray[np.float64], fold: NDArray[np.int8], correction: Correction
) -> NDArray[np.float64] | None:
    """Correct the samples of each fold by a fit on the other folds. Without a fit, a fold would keep the delivered probabilities: return None."""
    corrected = np.empty_like(p)
    for number in range(N_FOLDS):
        held = fold == number
        line = fit_correction(y[~held], p[~held], correction)
        if line.reason is not None:
            return None
        corrected[held] = np.asarray(line.apply(p[held]))
    return corrected


def _figures(cohort: Cohort, p: NDArray[np.float64], *, seed: int, n_replicates: int) -> dict[str, Estimate]:
    evaluation = evaluate(
        cohort.outcome, p, groups=cohort.unit_of, thresholds={}, seed=seed, n_replicates=n_replicates
    )
    calibration = evaluation.calibration["raw"].figures
    figures = evaluation.figures | {f"calibration_{name}": figure for name, figure in calibration.items()}
    return {name: estimate_of(figure.to_json()) for name, figure in figures.items()}
