"""The final model: fitted on all samples, calibrated on out-of-fold scores, explained by example."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.errors import DataError
from mlho.method.auroc import auroc_estimate
from mlho.method.calibration import PlattCalibrator, fit_calibrator
from mlho.method.classifiers import FittedClassifier
from mlho.method.metrics import Estimate
from mlho.method.thresholds import Threshold
from mlho.report.result import Contribution, Profile
from mlho.training.design import Design, learn_design
from mlho.training.folds import CrossValidation, FoldScores, cross_validate
from mlho.training.iteration import fit_chosen, thresholds_of
from mlho.training.problem import Problem
from mlho.training.selection import Selection
from mlho.training.splits import FINAL
from mlho.training.summary import SummaryRecord, final_classifier

_N_CONTRIBUTIONS: Final = 10  # shown of each profile; the rest is one sum


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
    X : CSC, shape (n_samples, n_features + n_demographics)
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
    design = learn_design(problem, _features(problem, selection, summary), everyone)
    X = design.matrix(problem, everyone)
    model = fit_chosen(problem, name, cv, X, everyone, FINAL)
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


def explain_rows(
    final: FinalModel,
    rows: NDArray[np.float64],
    titles: Sequence[str],
    columns: Sequence[tuple[str, str]],
    *,
    synthetic: bool,
) -> list[Profile]:
    """Explain rows of the design exactly: base and contributions add up to the log-odds.

    Parameters
    ----------
    final : FinalModel
    rows : float64, shape (n_rows, n_columns)
    titles : sequence of str, length n_rows
    columns : sequence of (id, words), length n_columns
    synthetic : bool
        Whether the rows are nobody's.
    """
    contributions = final.model.contributions(rows)
    probabilities = final.model.predict_proba(rows)
    calibrated = final.calibrator.apply(probabilities)
    return [
        _profile(title, row, own, float(p), float(c), columns, synthetic)
        for title, row, own, p, c in zip(titles, rows, contributions, probabilities, calibrated, strict=True)
    ]


def _profile(
    title: str,
    row: NDArray[np.float64],
    contributions: NDArray[np.float64],
    probability: float,
    calibrated: float,
    columns: Sequence[tuple[str, str]],
    synthetic: bool,
) -> Profile:
    of_columns, base = contributions[:-1], float(contributions[-1])
    order = np.argsort(-np.abs(of_columns), kind="stable")[:_N_CONTRIBUTIONS]
    shown = [number for number in order.tolist() if of_columns[number] != 0]
    others = np.delete(of_columns, shown)
    return Profile(
        title=title,
        synthetic=synthetic,
        probability=probability,
        calibrated_probability=calibrated,
        base=base,
        contributions=[
            Contribution(
                feature=columns[number][0],
                words=columns[number][1],
                value=f"{row[number]:g}",
                contribution=float(of_columns[number]),
            )
            for number in shown
        ],
        others=float(sum(others.tolist())),
    )


def typical_rows(scores: NDArray[np.float64], among: Iterable[int]) -> list[tuple[int, str]]:
    """Rows of low, middle and high predicted risk among some, with a title each."""
    ordered = sorted(among, key=lambda row: (float(scores[row]), row))
    if not ordered:
        return []
    places = {
        "Lower risk": len(ordered) // 10,
        "Middle risk": len(ordered) // 2,
        "Higher risk": len(ordered) * 9 // 10,
    }
    return [(ordered[place], title) for title, place in places.items()]
