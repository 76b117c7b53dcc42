"""Time to an event: the risk at each horizon, and its figures on test samples."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.method.evaluation.calibration import PlattCalibrator, fit_calibrator
from mlho.method.survival.concordance import harrell, uno
from mlho.method.survival.curves import uncensored
from mlho.method.survival.horizons import HorizonFigures, figures_at
from mlho.method.survival.times import EventTimes
from mlho.report.parts import Part
from mlho.report.times import RiskGroup
from mlho.training.iterations.copies import censored_like, counted
from mlho.training.iterations.folds import CrossValidation
from mlho.training.iterations.problem import Problem


class HorizonRecord(Part):
    """Figures at one horizon."""

    days: int
    auroc: float | None
    brier: float
    observed: float
    predicted: float
    observed_expected: float | None
    groups: list[RiskGroup]


class TimesRecord(Part):
    """Figures of one candidate on one test set."""

    harrell: float | None
    uno: float | None
    horizons: list[HorizonRecord]


def fit_horizons(problem: Problem, cv: CrossValidation) -> tuple[PlattCalibrator, ...]:
    """Return for each horizon the calibrator from the classifier's score to the risk, fitted on out-of-fold scores.

    The classifier gives the risk at the first horizon, and the calibrator of a later one moves it there: the ranking is the same at
    all horizons. Fitted on samples with known status, repeated by their censoring weights, it also corrects a risk that ignores
    competing events.
    """
    times, asked, found = problem.times, problem.spec.cohort.time_to_event, []
    assert times is not None
    assert asked is not None
    for days in asked.horizon_days:
        known = counted(times, cv.samples, cv.scores, problem.spec, horizon=days)
        status = times[cv.samples[known]].status_at(days)
        found.append(fit_calibrator(status == 1, cv.scores[known]))
    return tuple(found)


def risks_at(calibrators: Sequence[PlattCalibrator], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the risk at each horizon, shape (n_horizons, n_samples); it never falls from one horizon to the next."""
    return np.maximum.accumulate(np.stack([calibrator.apply(scores) for calibrator in calibrators]), axis=0)


def judge_times(
    problem: Problem, cv: CrossValidation, scores: NDArray[np.float64], samples: NDArray[np.int64]
) -> TimesRecord | None:
    """Return the figures of the scores of test samples; None if the outcome is not a time to an event."""
    asked = problem.spec.cohort.time_to_event
    if problem.times is None or asked is None:
        return None
    observed = uncensored(censored_like(problem.times, samples, problem.spec))
    times, last = problem.times[samples], float(asked.horizon_days[-1])
    risks = risks_at(fit_horizons(problem, cv), scores)
    units = problem.cohort.unit_of[samples]
    return TimesRecord(
        harrell=harrell(times, scores, until=last),
        uno=uno(times, scores, observed, until=last),
        horizons=[
            _record(days, figures_at(times, risk, observed, days), times, units, problem.spec.report.min_cell)
            for days, risk in zip(asked.horizon_days, risks, strict=True)
        ],
    )


def _record(
    days: int, figures: HorizonFigures, times: EventTimes, units: NDArray[np.int32], min_cell: int
) -> HorizonRecord:
    status = times.status_at(days)

    def is_shown(samples: tuple[int, ...]) -> bool:
        place = np.array(samples, np.int64)
        cells = (units[place[status[place] == known]] for known in (0, 1))
        return min(n_distinct(cell) for cell in cells) >= min_cell

    return HorizonRecord(
        days=days,
        auroc=figures.auroc,
        brier=figures.brier,
        observed=figures.observed,
        predicted=figures.predicted,
        observed_expected=figures.observed_expected,
        groups=[
            RiskGroup(predicted=group.predicted, observed=group.observed if is_shown(group.samples) else None)
            for group in figures.groups
        ],
    )
