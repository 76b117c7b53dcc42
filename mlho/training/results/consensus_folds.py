"""The consensus procedure without some folds: the consensus features of the other patients, and models on them.

A final model with ``final.features: consensus`` is evaluated by a separate procedure, because its features come from all
patients. Each outer fold, and each pair of an outer and an inner fold, is held out of the whole procedure: subsamples,
selection, confidence scores, fits. No step uses an outcome or an event of a held-out patient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.errors import DataError
from mlho.method.classifiers import Setting, choose_setting, classifier_named
from mlho.method.evaluation.auroc import auroc
from mlho.method.splits import test_patients
from mlho.training.iterations.design import Design, learn_design
from mlho.training.iterations.folds import FoldScores, by_design
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.selection import select
from mlho.training.iterations.splits import FINAL, seed_of
from mlho.training.results.confidence_table import count_returns
from mlho.training.results.records import CoefficientRecord

Held = tuple[int, ...]  # one outer fold, or an outer and an inner one


@dataclass(frozen=True)
class Vote:
    """The result of one subsample: features, and their coefficients for each setting of the consensus classifier.

    Demographics are in every fit and are not part of a vote.
    """

    features: NDArray[np.int64]
    """Ascending. Shape (n_selected,)."""
    log_odds: NDArray[np.float64]
    """Per original unit. Shape (n_settings, n_selected)."""
    scale: NDArray[np.float64]
    """Standard deviations. Shape (n_selected,)."""
    auroc: NDArray[np.float64]
    """On the patients left out of the subsample; none of them is in a held-out fold. Shape (n_settings,)."""


@dataclass(frozen=True)
class ConsensusFold:
    """Models on the consensus of the patients outside the held-out folds."""

    features: NDArray[np.int64]
    """Consensus features; empty for a model on demographics alone. Shape (n_features,)."""
    scores: FoldScores
    """Scores of the held-out samples, for every setting of each classifier that may be the final one."""


def others(problem: Problem, held: Held) -> NDArray[np.bool_]:
    """Return the mask of patients outside the held-out folds."""
    return ~np.isin(problem.partition(FINAL).fold, held)


def vote(problem: Problem, held: Held, subsample: int) -> Vote:
    """Screen, rank and fit the consensus classifier on a subsample of the patients outside the held-out folds.

    Parameters
    ----------
    held : tuple of int
        Held-out folds of the final iteration.
    subsample : int
        From 1.

    Raises
    ------
    DataError
        The subsample, or the patients left out of it, have one class only.
    """
    patients = others(problem, held)
    left_out = _left_out(problem, patients, held, subsample)
    train = problem.samples_of(patients & ~left_out)
    test = problem.samples_of(patients & left_out)
    _check_classes(problem, train, test)
    selection = select(problem, train)
    design = learn_design(problem, selection.features, train)
    name, grid = problem.spec.consensus_candidate.classifier, problem.spec.consensus_candidate.grid
    classifier = classifier_named(name)
    seed = seed_of(problem.spec.validation.seed, name, _place(held), subsample)
    X = design.matrix(problem, train)
    fitted = classifier.fit_settings(X, problem.y[train], classifier.settings(grid), seed=seed)
    X_test = design.matrix(problem, test)
    coefficients = [of_model for model in fitted if (of_model := model.coefficients()) is not None]
    n_features = len(design.features)
    return Vote(
        features=design.features,
        log_odds=np.stack([of_model.values[:n_features] for of_model in coefficients]),
        scale=coefficients[0].scale[:n_features],
        auroc=np.array([auroc(problem.y[test], model.predict_proba(X_test)) for model in fitted]),
    )


def _place(held: Held) -> str:
    return "without " + "+".join(map(str, held))


def _left_out(problem: Problem, patients: NDArray[np.bool_], held: Held, subsample: int) -> NDArray[np.bool_]:
    asked = problem.spec.validation
    left_out = np.zeros(len(patients), np.bool_)
    left_out[patients] = test_patients(
        np.array(problem.cohort.unit_ids, dtype=object)[patients],
        problem.cohort.positive_units()[patients],
        seed=asked.seed,
        iteration=f"{_place(held)}, {subsample}",
        test_fraction=asked.test_fraction,
        split=asked.drawn_as,
    )
    return left_out


def _check_classes(problem: Problem, *parts: NDArray[np.bool_]) -> None:
    if any(n_distinct(problem.y[samples]) < 2 for samples in parts):
        raise DataError(
            "final.features",
            "a subsample for the consensus has one class only",
            expected="samples with and without the outcome in every subsample of the patients outside two folds",
            got="one class",
            remedy="Use validation.split: stratified, more folds, final.features: ranking, or a larger cohort.",
        )


def consensus_of(problem: Problem, votes: Sequence[Vote]) -> NDArray[np.int64]:
    """Return the features with sufficient confidence over the subsamples, ascending.

    Uses the setting with the best mean AUROC on the patients left out of the subsamples.
    """
    table = np.stack([subsample_vote.auroc for subsample_vote in votes], axis=1)
    setting = choose_setting(table, rule=problem.spec.validation.choice)
    fits = [_fit_of(subsample_vote, setting) for subsample_vote in votes]
    returns = count_returns([fit.features for fit in fits], fits, n_iterations_planned=len(votes))
    kept = returns.consensus(problem.spec.consensus.min_confidence)
    return np.array(sorted(key for key in kept if isinstance(key, int)), np.int64)


def _fit_of(subsample_vote: Vote, setting: int) -> CoefficientRecord:
    return CoefficientRecord(
        features=subsample_vote.features.tolist(),
        demographics=[],
        log_odds=subsample_vote.log_odds[setting].tolist(),
        scale=subsample_vote.scale.tolist(),
    )


def run_consensus_fold(problem: Problem, held: Held, votes: Sequence[Vote]) -> ConsensusFold:
    """Fit on the consensus of the patients outside the held-out folds, and predict the held-out ones.

    Without features and demographics, the prediction is the prevalence of the outcome in training.

    Parameters
    ----------
    votes : sequence of Vote
        One per subsample, in order.
    """
    features = consensus_of(problem, votes)
    patients = others(problem, held)
    train, test = problem.samples_of(patients), problem.samples_of(~patients)
    learned, names = learn_design(problem, features, train), eligible(problem)
    by_classifier: dict[str, NDArray[np.float64]] = {}
    for design, candidates in by_design(problem.spec.candidates, learned):
        X, X_test = design.matrix(problem, train), design.matrix(problem, test)
        for candidate in candidates:
            name = candidate.classifier
            if name in names:
                settings = classifier_named(name).settings(candidate.grid)
                by_classifier[name] = _scores(problem, held, name, settings, design, X, X_test)
    return ConsensusFold(
        features, FoldScores(np.flatnonzero(test), {name: by_classifier[name] for name in names})
    )


def _scores(
    problem: Problem, held: Held, name: str, settings: Sequence[Setting], design: Design, X: Any, X_test: Any
) -> NDArray[np.float64]:
    """Probabilities of the held-out samples for every setting, shape (n_settings, n_held)."""
    y = problem.y[problem.samples_of(others(problem, held))]
    if not X.shape[1]:
        return np.full((len(settings), X_test.shape[0]), np.count_nonzero(y) / len(y))
    seed = seed_of(problem.spec.validation.seed, name, _place(held))
    fitted = (
        classifier_named(name)
        .constrained(design.monotone(problem))
        .fit_settings(X, y, settings, seed=seed, value_columns=design.value_columns)
    )
    return np.stack([model.predict_proba(X_test) for model in fitted])


def eligible(problem: Problem) -> list[str]:
    """Return the classifiers that may be the final one: the requested one, or all candidates."""
    asked = problem.spec.final.classifier
    return [
        candidate.classifier
        for candidate in problem.spec.candidates
        if asked in ("best", candidate.classifier)
    ]


@dataclass(frozen=True)
class Choice:
    """A classifier and a setting, chosen by held-out AUROC."""

    classifier: str
    chosen: int
    auroc: NDArray[np.float64]
    """For each setting of the classifier. Shape (n_settings, n_folds)."""


def choose(problem: Problem, folds: Mapping[Held, ConsensusFold], outer: int | None) -> Choice:
    """Choose classifier and setting by the inner folds of an outer fold, or by the outer folds.

    Parameters
    ----------
    folds : mapping of held folds to ConsensusFold
    outer : int or None
        Outer fold whose patients must not be used. ``None``: choose the final model by the outer folds.
    """
    inner: dict[int, Held] = {}
    for held in folds:
        apart = [fold for fold in held if fold != outer]
        if len(apart) == 1 and len(held) == (1 if outer is None else 2):
            inner[apart[0]] = held
    choices = []
    for name in eligible(problem):
        columns = [_auroc_in(problem, folds[inner[fold]], fold, name) for fold in sorted(inner)]
        table = np.array(columns, dtype=np.float64).T
        chosen = choose_setting(table, rule=problem.spec.validation.choice)
        choices.append(Choice(name, chosen, table))
    # In case of ties the first.
    return max(choices, key=lambda choice: float(choice.auroc[choice.chosen].mean()))


def _auroc_in(problem: Problem, consensus_fold: ConsensusFold, fold: int, name: str) -> list[float]:
    """AUROC of each setting on the samples of one of the held-out folds."""
    samples = consensus_fold.scores.samples
    inside = problem.partition(FINAL).fold[problem.cohort.unit_of[samples]] == fold
    y = problem.y[samples[inside]]
    return [auroc(y, scores[inside]) for scores in consensus_fold.scores.by_classifier[name]]
