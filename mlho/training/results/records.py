"""Records: the results of an iteration as plain numbers, for the summary and the report."""

from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.encoding.cohort.cohort import Cohort
from mlho.method.evaluation.evaluation import Evaluation
from mlho.method.evaluation.reliability import pooled_bins
from mlho.method.evaluation.suppression import shown_counts
from mlho.report.parts import Part
from mlho.report.result import CandidateIteration, IterationResult, SettingScore
from mlho.spec.types import OMITTED
from mlho.training.iterations.folds import CrossValidation
from mlho.training.iterations.iteration import CandidateOutcome, IterationOutcome
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.shadows import ShadowRecord
from mlho.training.iterations.times import TimesRecord
from mlho.training.results.split_account import set_names

CURVES = ("roc", "pr", "decision")
_N_HISTOGRAM = 50  # bins of the calibrated probabilities


class CoefficientRecord(Part):
    """Coefficients of one linear fit, features in the order of the design, then the demographics.

    ``log_odds`` is per original unit; ``scale`` the training standard deviation.
    """

    features: list[int]
    demographics: list[str]
    log_odds: list[float]
    scale: list[float]


class IterationRecord(Part):
    """One iteration as numbers."""

    result: IterationResult
    selected: list[int]
    """Feature numbers, in the order of the ranking."""
    of_permuted: list[int]
    """Features that the same selection chooses for permuted labels, in the order of the ranking."""
    coefficients: CoefficientRecord
    """Of the consensus classifier."""
    shadows: ShadowRecord
    """Seen by the selection and the consensus classifier."""
    curves: dict[str, dict[str, Any]]
    """Figures of each candidate on the test samples."""
    times: Annotated[dict[str, TimesRecord] | None, OMITTED] = None
    """Figures of each candidate, for a time to an event."""


def record_iteration(problem: Problem, outcome: IterationOutcome) -> IterationRecord:
    """Convert the results of an iteration to plain numbers."""
    samples = np.flatnonzero(outcome.test)
    copies = {
        name: problem.counted(samples, candidate.probabilities)
        for name, candidate in outcome.candidates.items()
    }
    return IterationRecord(
        result=_result_of(problem, outcome),
        selected=outcome.selection.features.tolist(),
        of_permuted=outcome.selection.of_permuted.tolist(),
        shadows=outcome.shadows,
        coefficients=_record_coefficients(outcome),
        curves={
            name: record_curves(
                problem.cohort,
                candidate.evaluation,
                candidate.calibrated[copies[name]],
                samples[copies[name]],
                min_cell=problem.spec.report.min_cell,
            )
            for name, candidate in outcome.candidates.items()
        },
        times=None
        if problem.times is None
        else {
            name: candidate.times
            for name, candidate in outcome.candidates.items()
            if candidate.times is not None
        },
    )


def _result_of(problem: Problem, outcome: IterationOutcome) -> IterationResult:
    patient_of, test = problem.cohort.patient_of, outcome.test
    train = problem.partition(outcome.iteration).train
    return IterationResult(
        iteration=int(outcome.iteration),
        n_train_patients=n_distinct(patient_of[train]),
        n_test_patients=n_distinct(patient_of[test]),
        n_train_samples=int(np.count_nonzero(train)),
        n_test_samples=int(np.count_nonzero(test)),
        n_screened=outcome.selection.n_screened,
        n_selected=len(outcome.selection.features),
        winner=outcome.winner,
        candidates=[_record_candidate(name, candidate) for name, candidate in outcome.candidates.items()],
        test_set=_test_set_of(problem, int(outcome.iteration)),
    )


def _test_set_of(problem: Problem, iteration: int) -> str | None:
    if problem.spec.validation.is_drawn:
        return None
    names = set_names(problem)
    return names[(iteration - 1) % len(names)]


def record_curves(
    cohort: Cohort,
    evaluation: Evaluation,
    calibrated: NDArray[np.float64],
    samples: NDArray[np.int64],
    *,
    min_cell: int,
) -> dict[str, Any]:
    """Return the curves of one evaluation that the report draws.

    Parameters
    ----------
    calibrated : float64, shape (n_test_samples,)
    samples : int64, shape (n_test_samples,)
        Evaluated samples.
    """
    plain = evaluation.to_json()
    return {
        **{name: plain[name] for name in ("roc", "pr", "decision")},
        "calibration": {
            "bins": _bins(cohort, evaluation, calibrated, samples, min_cell),
            "curve": plain["calibration"]["calibrated"]["curve"],
            "histogram": _histogram(cohort, calibrated, samples, min_cell),
        },
    }


def score_settings(cv: CrossValidation) -> list[SettingScore]:
    """Out-of-fold AUROC of every setting."""
    return [
        SettingScore(
            setting=dict(setting),
            mean=float(cv.auroc[number].mean()),
            standard_error=cv.standard_error(number),
        )
        for number, setting in enumerate(cv.settings)
    ]


def _record_candidate(name: str, outcome: CandidateOutcome) -> CandidateIteration:
    evaluation = outcome.evaluation.to_json()
    numbers = {key: value for key, value in evaluation.items() if key not in CURVES}
    numbers["calibration"] = {
        version: {"figures": report["figures"]} for version, report in evaluation["calibration"].items()
    }
    return CandidateIteration(
        classifier=name,
        settings=score_settings(outcome.cv),
        chosen=outcome.cv.chosen,
        evaluation=numbers,
        calibrator=outcome.calibrator.to_json(),
    )


def _record_coefficients(outcome: IterationOutcome) -> CoefficientRecord:
    coefficients = outcome.consensus_model.coefficients()
    assert coefficients is not None  # the specification allows only linear classifiers for the consensus
    return CoefficientRecord(
        features=outcome.design.features.tolist(),
        demographics=list(outcome.design.demographic_names),
        log_odds=coefficients.values.tolist(),
        scale=coefficients.scale.tolist(),
    )


def _histogram(
    cohort: Cohort, calibrated: NDArray[np.float64], samples: NDArray[np.int64], min_cell: int
) -> dict[str, Any]:
    """Histogram of the calibrated probabilities of test samples; small bins and complementary ones are ``None``."""
    edges = np.arange(_N_HISTOGRAM + 1) / _N_HISTOGRAM
    counts = np.histogram(calibrated, bins=edges)[0]
    patients = cohort.unit_of[samples]
    place = np.clip(np.searchsorted(edges, calibrated, side="right") - 1, 0, _N_HISTOGRAM - 1)
    pairs = np.unique(np.stack([place, patients]), axis=1)
    shown = shown_counts(
        counts.tolist(), min_cell, n_patients=np.bincount(pairs[0], minlength=_N_HISTOGRAM).tolist()
    )
    return {"counts": shown, "edges": [round(edge, 6) for edge in edges.tolist()]}


def _bins(
    cohort: Cohort,
    evaluation: Evaluation,
    calibrated: NDArray[np.float64],
    samples: NDArray[np.int64],
    min_cell: int,
) -> list[dict[str, Any]]:
    """Reliability bins of the calibrated probabilities; bins with few patients are merged with their neighbours."""
    bins = evaluation.calibration["calibrated"].bins["equal-count"]
    # Bins hold samples in the order of their predictions, and never separate equal predictions.
    order = np.argsort(calibrated, kind="stable")
    patients, is_positive = cohort.unit_of[samples][order], cohort.outcome[samples][order] == 1
    ends = np.cumsum([0, *(reliability_bin.n for reliability_bin in bins)])

    def patients_of(start: int, stop: int) -> tuple[int, int]:
        inside = slice(ends[start], ends[stop])
        units, positive = patients[inside], is_positive[inside]
        return n_distinct(units[positive]), n_distinct(units[~positive])

    pooled = pooled_bins(bins, min_cell, patients_of=patients_of)
    return [asdict(reliability_bin) for reliability_bin in pooled]
