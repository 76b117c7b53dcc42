"""The temporal check: the final model's procedure on samples before a date, evaluated on samples from that date onwards.

It complements randomly drawn test sets, which give no information about later patients.
"""

import dataclasses
from collections.abc import Mapping
from typing import Final

from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.cohort.windows import DAY_US
from mlho.errors import DataError
from mlho.grids import Setting
from mlho.method.classifiers import classifier_named
from mlho.report.result import LaterEvaluation
from mlho.spec.training import Candidate
from mlho.training.iterations.design import learn_design
from mlho.training.iterations.folds import cross_validate
from mlho.training.iterations.iteration import CandidateOutcome, fit_chosen, judge, select_and_run_folds
from mlho.training.iterations.planned import cut_of, planned_sets, refuse_unusable
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.splits import LATER, refuse_one_class
from mlho.training.results.performance import estimate_of, figures_of
from mlho.training.results.split_account import account_of_split

LEAST_DAYS: Final = 731  # two years, a leap year among them


def evaluate_later(problem: Problem, classifier: str, setting: Setting) -> LaterEvaluation:
    """Fit the final model's classifier and setting on samples before a date, and evaluate them on samples from that date onwards.

    Selection, folds for the calibrator and thresholds, and the fit use all samples before the date; the date is that of
    :func:`mlho.training.iterations.planned.cut_of`.

    Parameters
    ----------
    problem : Problem
        With a random or stratified split and index dates.

    Returns
    -------
    LaterEvaluation
        With figures, or with the reason why there are none: index dates of less than two years, too few patients with or
        without the outcome on either side, or a fold before the date with one class only.
    """
    if not spans_years(problem.cohort):
        return LaterEvaluation(test_from=None, account=None, reason="the index dates span two years or less")
    later = _planned(problem, classifier, setting)
    test_from = cut_of(later.spec, later.cohort)
    try:
        refuse_unusable(later.spec, later.cohort, planned_sets(later.spec, later.cohort))
        refuse_one_class(later.spec, later.cohort, [LATER])
    except DataError as error:
        return LaterEvaluation(test_from=str(test_from), account=None, reason=error.rule)
    outcome = _fit(later, classifier)
    account = account_of_split(later)
    assert account is not None  # the split is planned
    figures = figures_of(outcome.evaluation.to_json())
    return LaterEvaluation(
        test_from=str(test_from),
        account=account.test_sets[0],
        figures={name: estimate_of(figure) for name, figure in figures.items()},
    )


def spans_years(cohort: Cohort) -> bool:
    """Return whether the index dates span more than two years."""
    days = cohort.index_us // DAY_US
    return int(days.max() - days.min()) > LEAST_DAYS


def _planned(problem: Problem, classifier: str, setting: Mapping[str, float]) -> Problem:
    """Return the problem with a temporal split, and with the final model's setting as its only candidate."""
    spec = problem.spec
    candidate = Candidate.model_validate(
        {"classifier": classifier, "grid": {name: [value] for name, value in setting.items()}}
    )
    validation = spec.validation.model_copy(update={"split": "temporal", "iterations": 1})
    return dataclasses.replace(
        problem, spec=spec.model_copy(update={"validation": validation, "candidates": (candidate,)})
    )


def _fit(problem: Problem, classifier: str) -> CandidateOutcome:
    parts = problem.partition(LATER)
    selection, folds = select_and_run_folds(problem, LATER)
    cv = cross_validate(problem, folds)[classifier]
    design = learn_design(problem, selection.features, parts.train).with_absent(
        classifier_named(classifier).absent
    )
    X, X_test = design.matrix(problem, parts.train), design.matrix(problem, parts.test)
    model = fit_chosen(problem, classifier, cv, design, X, parts.train, LATER)
    return judge(problem, cv, model, X_test, parts.test, LATER)
