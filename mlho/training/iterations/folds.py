"""Cross-validation inside an iteration: out-of-fold predictions of each candidate."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlho.method.classifiers import Setting, choose_setting, classifier_named
from mlho.method.classifiers.tree_matrix import ABSENT
from mlho.method.evaluation.auroc import auroc
from mlho.spec.training import Candidate
from mlho.training.iterations.design import Design, learn_design
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.selection import Selection, select
from mlho.training.iterations.splits import FINAL, LATER, Iteration, seed_of


@dataclass(frozen=True)
class FoldScores:
    """Probabilities for the samples held out by one fold."""

    samples: NDArray[np.int64]
    """Ascending. Shape (n_held,)."""
    by_classifier: Mapping[str, NDArray[np.float64]]
    """Rows in the order of the classifier's settings. By classifier, shape (n_settings, n_held)."""


@dataclass(frozen=True)
class CrossValidation:
    """Results of one candidate over all folds of an iteration."""

    settings: list[Setting]
    """Simplest first."""
    auroc: NDArray[np.float64]
    """Out-of-fold AUROC. Shape (n_settings, n_folds)."""
    chosen: int
    samples: NDArray[np.int64]
    """Training samples, ascending. Shape (n_train,)."""
    scores: NDArray[np.float64]
    """Out-of-fold probabilities of the chosen setting. Shape (n_train,)."""

    @property
    def mean(self) -> float:
        """Mean out-of-fold AUROC of the chosen setting."""
        return float(self.auroc[self.chosen].mean())

    def standard_error(self, setting: int) -> float:
        """Return the standard error of a setting's mean over the folds."""
        return float(self.auroc[setting].std(ddof=1) / np.sqrt(self.auroc.shape[1]))


def run_fold(
    problem: Problem, iteration: Iteration, fold: int, *, selection: Selection | None = None
) -> FoldScores:
    """Select and fit on the other folds; predict this fold with every setting of every candidate.

    Parameters
    ----------
    fold : int
        From 0.
    selection : Selection, optional
        Selection on all training samples of the iteration (``selection.scope: iteration``). By default the selection is made
        on the training samples of the fold.
    """
    parts = problem.partition(iteration)
    held = parts.held(fold)
    train = parts.trained_without(fold)
    chosen = selection or select(problem, train)
    learned = learn_design(problem, chosen.features, train)
    share = np.count_nonzero(train) / np.count_nonzero(parts.train)
    by_classifier: dict[str, NDArray[np.float64]] = {}
    # A consensus classifier that is not a candidate cannot be the final model, and is not needed for it or its check.
    candidates = problem.spec.candidates if iteration in (FINAL, LATER) else problem.spec.fitted
    for design, of_design in by_design(candidates, learned):
        X, X_held = design.matrix(problem, train), design.matrix(problem, held)
        for candidate in of_design:
            classifier = classifier_named(candidate.classifier).constrained(design.monotone(problem))
            fitted = classifier.fit_settings(
                X,
                problem.target_of(candidate.classifier)[train],
                [with_equal_penalty(setting, share) for setting in classifier.settings(candidate.grid)],
                seed=seed_of(problem.spec.validation.seed, candidate.classifier, iteration, fold),
                value_columns=design.value_columns,
            )
            by_classifier[candidate.classifier] = np.stack([model.predict_proba(X_held) for model in fitted])
    names: list[str] = [candidate.classifier for candidate in candidates]
    return FoldScores(np.flatnonzero(held), {name: by_classifier[name] for name in names})


def with_equal_penalty(setting: Setting, share: float) -> Setting:
    """Return the setting with which a share of the samples is shrunk as all of them are with the given one.

    ``c`` weighs the sum of the losses, so the same ``c`` shrinks fewer samples more. A calibrator fitted to scores of such folds would make
    the probabilities of the model on all samples too extreme. The penalty relative to the mean loss is kept instead, as in glmnet.

    Examples
    --------
    >>> with_equal_penalty(classifier_named("elasticnet").setting({"c": 0.1}), 0.8)["c"]
    0.125
    """
    if "c" not in setting:
        return setting
    return Setting({**setting, "c": float(setting["c"]) / share}, setting.text)


def by_design(candidates: Sequence[Candidate], learned: Design) -> Iterator[tuple[Design, list[Candidate]]]:
    """Yield the design of linear models and that of trees, each with its candidates, if there are any."""
    for absent in ABSENT:
        of_kind = [
            candidate for candidate in candidates if classifier_named(candidate.classifier).absent == absent
        ]
        if of_kind:
            yield learned.with_absent(absent), of_kind


def cross_validate(
    problem: Problem, folds: Sequence[FoldScores], candidates: Sequence[Candidate] | None = None
) -> dict[str, CrossValidation]:
    """Compare the settings of each candidate over the folds and choose one. By default all candidates of the specification."""
    return {
        candidate.classifier: _compare(problem, candidate.classifier, candidate.grid, folds)
        for candidate in candidates or problem.spec.candidates
    }


def _compare(
    problem: Problem, name: str, grid: Mapping[str, object], folds: Sequence[FoldScores]
) -> CrossValidation:
    by_fold = []
    for fold in folds:
        counted = [problem.counted(fold.samples, scores) for scores in fold.by_classifier[name]]
        by_fold.append(
            [
                auroc(problem.y[fold.samples[positions]], scores[positions])
                for positions, scores in zip(counted, fold.by_classifier[name], strict=True)
            ]
        )
    table = np.array(by_fold, dtype=np.float64).T
    rule = problem.spec.validation.choice
    chosen = choose_setting(table, rule=rule)
    samples = np.concatenate([fold.samples for fold in folds])
    scores = np.concatenate([fold.by_classifier[name][chosen] for fold in folds])
    order = np.argsort(samples)
    return CrossValidation(
        classifier_named(name).settings(grid), table, chosen, samples[order], scores[order]
    )
