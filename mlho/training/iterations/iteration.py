"""One iteration: select on the training patients, refit each candidate's chosen setting, evaluate on the test patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.method.classifiers import FittedClassifier, classifier_named
from mlho.method.evaluation.calibration import PlattCalibrator, fit_calibrator
from mlho.method.evaluation.evaluation import Evaluation, evaluate
from mlho.method.evaluation.thresholds import (
    Threshold,
    fixed_alert_rate,
    fixed_sensitivity,
    values_by_rule,
    youden,
)
from mlho.training.iterations.design import Design, learn_design
from mlho.training.iterations.folds import CrossValidation, FoldScores, by_design, cross_validate, run_fold
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.selection import Selection, select
from mlho.training.iterations.shadows import ShadowRecord, see_shadows
from mlho.training.iterations.splits import FINAL, LATER, Iteration, seed_of
from mlho.training.iterations.times import TimesRecord, judge_times


@dataclass(frozen=True)
class CandidateOutcome:
    """Results of one candidate in one iteration."""

    cv: CrossValidation
    calibrator: PlattCalibrator
    """Fitted on the out-of-fold probabilities."""
    model: FittedClassifier
    """The chosen setting, fitted on all training samples."""
    probabilities: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    """As returned by the classifier, and calibrated. Shape (n_test_samples,)."""
    evaluation: Evaluation
    """On the test samples, raw and calibrated. With a time to an event, for the copies of :meth:`Problem.counted`."""
    times: TimesRecord | None = None
    """With a time to an event: concordance, and figures at each horizon."""


@dataclass(frozen=True)
class IterationOutcome:
    """Results of one iteration. ``consensus_model`` is linear; it need not belong to a candidate."""

    iteration: Iteration
    selection: Selection
    design: Design  # for linear models; trees use the same features
    test: NDArray[np.bool_]
    candidates: Mapping[str, CandidateOutcome]
    consensus_model: FittedClassifier
    shadows: ShadowRecord

    @property
    def winner(self) -> str:
        """Classifier with the best out-of-fold AUROC; the first one in case of ties."""
        return best_of({name: outcome.cv.mean for name, outcome in self.candidates.items()})


def best_of(auroc_by_classifier: Mapping[str, float]) -> str:
    """Return the name with the largest value; the first one in case of ties."""
    return max(auroc_by_classifier, key=lambda name: auroc_by_classifier[name])


def finish_iteration(
    problem: Problem, iteration: Iteration, selection: Selection, folds: Sequence[FoldScores]
) -> IterationOutcome:
    """Choose settings by the folds, refit on all training samples, and evaluate on the test samples.

    Parameters
    ----------
    selection : Selection
        Selection on all training samples of the iteration.
    """
    parts = problem.partition(iteration)
    train, test = parts.train, parts.test
    learned = learn_design(problem, selection.features, train)
    compared = cross_validate(problem, folds, problem.spec.fitted)
    names: list[str] = [candidate.classifier for candidate in problem.spec.candidates]
    outcomes: dict[str, CandidateOutcome] = {}
    consensus: tuple[FittedClassifier, ShadowRecord] | None = None
    for design, candidates in by_design(problem.spec.fitted, learned):
        X, X_test = design.matrix(problem, train), design.matrix(problem, test)
        for name in (candidate.classifier for candidate in candidates):
            cv = compared[name]
            model = fit_chosen(problem, name, cv, design, X, train, iteration)
            if name in names:
                outcomes[name] = judge(problem, cv, model, X_test, test, iteration)
            if name == problem.spec.consensus.classifier:
                shadows = see_shadows(problem, selection, train, X, model, cv.settings[cv.chosen])
                consensus = model, shadows
    assert consensus is not None  # the specification always fits one
    in_order = {name: outcomes[name] for name in names}
    return IterationOutcome(iteration, selection, learned, test, in_order, *consensus)


def fit_chosen(
    problem: Problem,
    name: str,
    cv: CrossValidation,
    design: Design,
    X: Any,
    train: NDArray[np.bool_],
    iteration: Iteration,
) -> FittedClassifier:
    """Fit the chosen setting of a candidate on the design matrix of the training samples."""
    return (
        classifier_named(name)
        .constrained(design.monotone(problem))
        .fit(
            X,
            problem.target_of(name)[train],
            cv.settings[cv.chosen],
            seed=seed_of(problem.spec.validation.seed, name, iteration),
            value_columns=design.value_columns,
        )
    )


def thresholds_of(problem: Problem, y: NDArray[np.uint8], scores: NDArray[np.float64]) -> list[Threshold]:
    """Choose the thresholds of the specification on calibrated probabilities."""
    asked = problem.spec.validation
    return [
        youden(y, scores),
        fixed_alert_rate(scores, asked.alert_rate),
        fixed_sensitivity(y, scores, asked.sensitivity),
    ]


def judge(
    problem: Problem,
    cv: CrossValidation,
    model: FittedClassifier,
    X_test: Any,
    test: NDArray[np.bool_],
    iteration: Iteration,
) -> CandidateOutcome:
    """Calibrate on the out-of-fold scores and evaluate on the test samples."""
    known, samples = problem.counted(cv.samples, cv.scores), np.flatnonzero(test)
    y_train = problem.y[cv.samples[known]]
    calibrator = fit_calibrator(y_train, cv.scores[known])
    probabilities = model.predict_proba(X_test)
    calibrated = calibrator.apply(probabilities)
    chosen = thresholds_of(problem, y_train, calibrator.apply(cv.scores[known]))
    counted = problem.counted(samples, probabilities)
    evaluation = evaluate(
        problem.y[samples[counted]],
        probabilities[counted],
        groups=np.unique(problem.cohort.unit_of[samples[counted]], return_inverse=True)[1],
        thresholds=values_by_rule(chosen),
        seed=seed_of(problem.spec.validation.seed, "bootstrap", iteration),
        n_replicates=problem.spec.validation.bootstrap_replicates,
        calibrated=calibrated[counted],
    )
    times = judge_times(problem, cv, probabilities, samples)
    return CandidateOutcome(cv, calibrator, model, probabilities, calibrated, evaluation, times)


def select_and_run_folds(problem: Problem, iteration: Iteration) -> tuple[Selection, list[FoldScores]]:
    """Select on all training patients of an iteration and run every fold: the whole iteration except its final step."""
    parts = problem.partition(iteration)
    selection = select(problem, parts.train, beside_chance=iteration not in (FINAL, LATER))
    shared = selection if problem.spec.selection.scope == "iteration" else None
    folds = range(problem.spec.validation.folds)
    return selection, [run_fold(problem, iteration, fold, selection=shared) for fold in folds]
