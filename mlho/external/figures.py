"""The test figures and the audit of a cohort that a bundle has scored."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mlho.external.scores import ScoredCohort
from mlho.method.evaluation.evaluation import Evaluation, evaluate
from mlho.method.evaluation.thresholds import Threshold, alerting, values_by_rule
from mlho.processes import usable_cpus
from mlho.report.bias.audit import BiasAudit
from mlho.spec.training import TrainingSpec
from mlho.training.results.groups import audit_predictions


def evaluate_scores(
    scored: ScoredCohort, spec: TrainingSpec, thresholds: Iterable[Threshold], calibrated: NDArray[np.float64]
) -> Evaluation:
    """Evaluate the scores of a bundle, with these calibrated probabilities."""
    return evaluate(
        scored.cohort.outcome,
        scored.uncalibrated,
        groups=scored.cohort.unit_of,
        thresholds=values_by_rule(thresholds),
        seed=spec.validation.seed,
        n_replicates=spec.validation.bootstrap_replicates,
        calibrated=calibrated,
    )


def audit_scores(
    scored: ScoredCohort,
    spec: TrainingSpec,
    thresholds: Iterable[Threshold],
    calibrated: NDArray[np.float64],
    *,
    period: str | None = None,
) -> BiasAudit:
    """Audit calibrated probabilities of all samples by group, and by period if there is one."""
    return audit_predictions(
        spec,
        scored.cohort,
        np.arange(scored.cohort.n_samples),
        calibrated,
        {rule: calibrated >= value for rule, value in alerting(thresholds).items()},
        period=period,
        n_threads=usable_cpus(),
    )
