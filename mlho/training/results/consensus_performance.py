"""Performance of a model on the consensus features: each patient is predicted once, by a procedure trained without them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.method.classifiers import classifier_named
from mlho.method.evaluation.bootstrap import bootstrap_by_patient
from mlho.method.evaluation.calibration import fit_calibrator
from mlho.method.evaluation.evaluation import Evaluation, evaluate
from mlho.method.evaluation.thresholds import threshold_figures, values_by_rule
from mlho.report.result import Curves, Estimate, Spread, TestSet
from mlho.report.words import possible
from mlho.training.iterations.folds import CrossValidation
from mlho.training.iterations.iteration import thresholds_of
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.splits import FINAL, seed_of
from mlho.training.results.consensus_folds import Choice, ConsensusFold, Held, choose
from mlho.training.results.groups import Predictions, audit_test_sets
from mlho.training.results.performance import (
    OPERATING,
    PerformanceRecord,
    curves_over,
    errors_of,
    estimate_of,
    figures_of,
    winners_of,
)
from mlho.training.results.records import IterationRecord, record_curves

_ALERT = 0.5  # between 0 (no alert) and 1 (alert)


@dataclass(frozen=True)
class HeldOut:
    """Predictions for the patients of one outer fold, by the procedure without them."""

    choice: Choice
    """Made on the inner folds."""
    samples: NDArray[np.int64]
    """Ascending. Shape (n_held,)."""
    scores: NDArray[np.float64]
    """Uncalibrated probabilities of the classifier. Shape (n_held,)."""
    calibrated: NDArray[np.float64]
    """Output of a calibrator fitted on the scores of the same classifier and setting in the other outer folds. Shape (n_held,)."""
    thresholds: Mapping[str, float | None]
    """On the calibrated probability, chosen on the same scores. By rule."""
    n_features: int


def judge_consensus(
    problem: Problem, folds: Mapping[Held, ConsensusFold], records: Sequence[IterationRecord]
) -> tuple[PerformanceRecord, CrossValidation]:
    """Evaluate the consensus procedure by its outer folds.

    Parameters
    ----------
    folds : mapping of held folds to ConsensusFold
    records : sequence of IterationRecord
        For the winners of the iterations, which come from another procedure.

    Returns
    -------
    performance : PerformanceRecord
    cv : CrossValidation
        Settings and choice of the final model, with the scores of its classifier and setting in the outer folds, on which the final
        calibrator and thresholds are fitted. An outer fold may have chosen another setting, whose scores are on another scale.
    """
    final = choose(problem, folds, None)
    held = _hold_out(problem, folds)
    pooled = _pooled(problem, held)
    single = [
        _evaluate(problem, held_out.samples, held_out.scores, held_out.calibrated, held_out.thresholds, 0)
        for held_out in held
    ]
    headline = _headline(problem, held, pooled, single)
    performance = PerformanceRecord(
        classifier=final.classifier,
        procedure=f"{final.classifier} on the consensus features, selected again without each of the {len(held)} outer folds; "
        "pooled predictions for the held-out folds",
        test_sets=[_test_set(problem, fold, held_out) for fold, held_out in enumerate(held)],
        headline=headline,
        headline_auroc=[estimate_of(evaluation.figures["auroc"].to_json()) for evaluation in single],
        curves=_curves(problem, held, single, pooled),
        errors=errors_of(problem, _in_order(problem, held, [held_out.calibrated for held_out in held])),
        winners=winners_of(problem, records),
        bias=audit_test_sets(
            problem.spec,
            problem.cohort,
            (Predictions(held_out.samples, held_out.calibrated, held_out.thresholds) for held_out in held),
        ),
    )
    scores = _in_order(problem, held, [_scores_of(folds, final, fold) for fold in _outer(folds)])
    grid = next(
        candidate.grid for candidate in problem.spec.candidates if candidate.classifier == final.classifier
    )
    cv = CrossValidation(
        settings=classifier_named(final.classifier).settings(grid),
        auroc=final.auroc,
        chosen=final.chosen,
        samples=np.arange(problem.cohort.n_samples, dtype=np.int64),
        scores=scores,
    )
    return performance, cv


def _curves(
    problem: Problem, held: Sequence[HeldOut], single: Sequence[Evaluation], pooled: Evaluation
) -> Curves:
    """Return the curves of the outer folds; the decision curve of all samples is in the place of the mean over the folds."""
    curves = curves_over(
        [
            record_curves(
                problem.cohort,
                evaluation,
                held_out.calibrated,
                held_out.samples,
                min_cell=problem.spec.report.min_cell,
            )
            for held_out, evaluation in zip(held, single, strict=True)
        ]
    )
    decision = pooled.to_json()["decision"]
    model = {**curves.decision["model"], "mean": decision["model"]}
    return curves.model_copy(
        update={"decision": {**curves.decision, "model": model, "all": decision["treat_all"]}}
    )


def _hold_out(problem: Problem, folds: Mapping[Held, ConsensusFold]) -> list[HeldOut]:
    """Predict each outer fold with the choice of its inner folds, calibrated by the scores of that choice in the other outer folds."""
    outer, found = _outer(folds), []
    for fold in outer:
        choice, rest = choose(problem, folds, fold), [other for other in outer if other != fold]
        y = problem.y[np.concatenate([folds[(other,)].scores.samples for other in rest])]
        p = np.concatenate([_scores_of(folds, choice, other) for other in rest])
        calibrator, scores = fit_calibrator(y, p), _scores_of(folds, choice, fold)
        found.append(
            HeldOut(
                choice=choice,
                samples=folds[(fold,)].scores.samples,
                scores=scores,
                calibrated=calibrator.apply(scores),
                thresholds=values_by_rule(thresholds_of(problem, y, calibrator.apply(p))),
                n_features=len(folds[(fold,)].features),
            )
        )
    return found


def _outer(folds: Mapping[Held, ConsensusFold]) -> list[int]:
    return [fold for held in sorted(folds) if len(held) == 1 for fold in held]


def _scores_of(folds: Mapping[Held, ConsensusFold], choice: Choice, fold: int) -> NDArray[np.float64]:
    """Return the scores of an outer fold by a classifier and a setting, trained without it."""
    scores: NDArray[np.float64] = folds[(fold,)].scores.by_classifier[choice.classifier][choice.chosen]
    return scores


def _evaluate(
    problem: Problem,
    samples: NDArray[np.int64],
    scores: NDArray[np.float64],
    calibrated: NDArray[np.float64],
    thresholds: Mapping[str, float | None],
    n_replicates: int,
) -> Evaluation:
    return evaluate(
        problem.y[samples],
        scores,
        groups=np.unique(problem.cohort.unit_of[samples], return_inverse=True)[1],
        thresholds=thresholds,
        seed=_seed(problem),
        n_replicates=n_replicates,
        calibrated=calibrated,
    )


def _seed(problem: Problem) -> int:
    return seed_of(problem.spec.validation.seed, "bootstrap", FINAL)


def _pooled(problem: Problem, held: Sequence[HeldOut]) -> Evaluation:
    """Evaluate all samples together, without thresholds, which differ between the outer folds."""
    scores, calibrated = (
        _in_order(problem, held, [getattr(held_out, name) for held_out in held])
        for name in ("scores", "calibrated")
    )
    samples = np.arange(problem.cohort.n_samples, dtype=np.int64)
    return _evaluate(problem, samples, scores, calibrated, {}, problem.spec.validation.bootstrap_replicates)


def _in_order(
    problem: Problem, held: Sequence[HeldOut], values: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Merge the values of the outer folds in sample order; each sample is in one outer fold."""
    found = np.full(problem.cohort.n_samples, np.nan)
    for held_out, part in zip(held, values, strict=True):
        found[held_out.samples] = part
    return found


def _headline(
    problem: Problem, held: Sequence[HeldOut], pooled: Evaluation, single: Sequence[Evaluation]
) -> dict[str, Spread]:
    """Pooled metrics with their intervals; minimum, maximum and standard deviation are over the outer folds."""
    figures = {**figures_of(pooled.to_json()), **_at_thresholds(problem, held)}
    flat = [figures_of(evaluation.to_json()) for evaluation in single]
    return {
        name: _spread(name, figure, [evaluation.get(name, {}).get("value") for evaluation in flat])
        for name, figure in figures.items()
    }


def _at_thresholds(problem: Problem, held: Sequence[HeldOut]) -> dict[str, dict[str, Any]]:
    """Rates at the alerts of each sample's own outer fold, by rule; a rule is omitted if a fold has no threshold for it."""
    found: dict[str, dict[str, Any]] = {}
    for rule in held[0].thresholds:
        alerts = [
            (held_out.calibrated >= threshold).astype(np.float64)
            for held_out in held
            if (threshold := held_out.thresholds[rule]) is not None
        ]
        if len(alerts) < len(held):
            continue
        figures = bootstrap_by_patient(
            problem.y,
            _in_order(problem, held, alerts),
            problem.cohort.unit_of,
            lambda t: threshold_figures(t, _ALERT),
            n_replicates=problem.spec.validation.bootstrap_replicates,
            seed=_seed(problem),
        )
        found |= {f"{rule}/{name}": figures[name].to_json() for name in OPERATING}
    return found


def _spread(name: str, pooled: dict[str, Any], values: Sequence[float | None]) -> Spread:
    estimate: Estimate = estimate_of(pooled)
    known = [value for value in values if value is not None]
    spread = Spread(
        mean=estimate.value,
        sd=float(np.std(known, ddof=1)) if len(known) > 1 else None,
        low=estimate.low,
        high=estimate.high,
        minimum=min(known, default=None),
        maximum=max(known, default=None),
        n=len(known),
        n_absent=len(values) - len(known),
    )
    return possible(name, spread)


def _test_set(problem: Problem, fold: int, held_out: HeldOut) -> TestSet:
    n_test = n_distinct(problem.cohort.patient_of[held_out.samples])
    return TestSet(
        name=f"outer fold {fold + 1}",
        classifier=held_out.choice.classifier,
        n_train_patients=problem.cohort.n_patients - n_test,
        n_test_patients=n_test,
        n_features=held_out.n_features,
        thresholds=dict(held_out.thresholds),
    )
