"""The final model: fitted on all samples, calibrated on out-of-fold scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.errors import DataError
from mlho.method.auroc import auroc_estimate
from mlho.method.calibration import PlattCalibrator, fit_calibrator
from mlho.method.classifiers import FittedClassifier, classifier_named
from mlho.method.metrics import Estimate
from mlho.method.thresholds import Threshold
from mlho.training.design import Design, learn_design
from mlho.training.folds import CrossValidation, FoldScores, cross_validate
from mlho.training.iteration import fit_chosen, thresholds_of
from mlho.training.problem import Problem
from mlho.training.selection import Selection
from mlho.training.splits import FINAL
from mlho.training.summary import SummaryRecord, final_classifier


@dataclass(frozen=True)
class FinalModel:
    """What leaves the run.

    Attributes
    ----------
    classifier : str
    cv : CrossValidation
        Over all samples.
    cv_auroc : Estimate
        Out of fold, clustered by patient where patients repeat.
    design : Design
    X : CSC, or CSR for trees, shape (n_samples, n_features + n_demographics)
        The training matrix.
    model : FittedClassifier
    calibrator : PlattCalibrator
        Fitted on the out-of-fold scores.
    thresholds : list of Threshold
        On the calibrated probability.
    """

    classifier: str
    cv: CrossValidation
    cv_auroc: Estimate
    design: Design
    X: Any
    model: FittedClassifier
    calibrator: PlattCalibrator
    thresholds: list[Threshold]


def fit_final(
    problem: Problem, selection: Selection, folds: Sequence[FoldScores], summary: SummaryRecord
) -> FinalModel:
    """Fit the final model.

    Parameters
    ----------
    problem : Problem
    selection : Selection
        Made on all samples.
    folds : sequence of FoldScores
        Of the iteration ``final``, in which nobody tests.
    summary : SummaryRecord

    Raises
    ------
    DataError
        ``final.features: consensus`` is asked for, and no feature has enough confidence.
    """
    name = final_classifier(problem, summary)
    cv = cross_validate(problem, folds)[name]
    everyone = np.ones(problem.cohort.n_samples, np.bool_)
    learned = learn_design(problem, _features(problem, selection, summary), everyone)
    design = learned.with_absent(classifier_named(name).absent)
    X = design.matrix(problem, everyone)
    model = fit_chosen(problem, name, cv, design, X, everyone, FINAL)
    calibrator = fit_calibrator(problem.y[cv.samples], cv.scores)
    calibrated = calibrator.apply(cv.scores)
    return FinalModel(
        classifier=name,
        cv=cv,
        cv_auroc=auroc_estimate(
            problem.y[cv.samples], cv.scores, groups=problem.cohort.patient_of[cv.samples]
        ),
        design=design,
        X=X,
        model=model,
        calibrator=calibrator,
        thresholds=thresholds_of(problem, problem.y[cv.samples], calibrated),
    )


def _features(problem: Problem, selection: Selection, summary: SummaryRecord) -> NDArray[np.int64]:
    if problem.spec.final.features == "ranking":
        return selection.features
    if not summary.consensus_features:
        raise DataError(
            "final.features",
            "no feature came back often enough",
            expected=f"a feature with a confidence score of {problem.spec.consensus.min_confidence} or more",
            got="none",
            remedy="Lower consensus.minConfidence, or set final.features: ranking.",
        )
    return np.array(summary.consensus_features, np.int64)
