"""Surveillance of a labelled evaluation over months or nights, and the findings that its advice rests on."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.external.recalibration import AS_DELIVERED, VERSIONS
from mlho.external.scores import ScoredCohort, has_dates
from mlho.method.evaluation.auroc import auroc_estimate
from mlho.method.evaluation.surveillance import FALSE_ALARMS_A_YEAR, LOSS, watch_auroc
from mlho.model.bundle import Bundle
from mlho.report.advice import Correction, Findings
from mlho.report.bias.audit import BiasAudit
from mlho.report.external import Recalibration
from mlho.report.monitoring import ExpectedPerformance, Surveillance
from mlho.report.parts import Estimate
from mlho.report.verdicts import Samples, few_for_auroc
from mlho.report.words import plural
from mlho.scoring.drift import find_drift, shares_in_training
from mlho.scoring.label_free import expected_performance
from mlho.training.results.performance import estimate_of

Period = Literal["month", "night"]
_Z: Final = 1.959963984540054  # 97.5 % quantile of the normal distribution
_FEW_ITERATIONS: Final = 5
_UNITS: Final = {"month": "datetime64[M]", "night": "datetime64[D]"}
_A_YEAR: Final = {"month": 12.0, "night": 365.0}


def watch(cohort: Cohort, bias: BiasAudit, reference: float | None, *, period: Period) -> Surveillance:
    """Accumulate the evidence of a loss of AUROC over the periods of an evaluation.

    Parameters
    ----------
    bias : BiasAudit
        Its periods of all patients count.
    reference : float or None
        Mean test AUROC in training.
    period : str
        ``month`` or ``night``.
    """
    if reference is None:
        return Surveillance(period=period, reason="the bundle has no test AUROC of training")
    if not has_dates(cohort):
        return Surveillance(period=period, reason="the samples have no index dates")
    found = [
        (in_period.period, in_period.figures["auroc"])
        for in_period in bias.groups[0].periods
        if "auroc" in in_period.figures
    ]
    intervals = [(level, auroc.value, auroc.low, auroc.high) for level, auroc in found]
    usable = [
        (level, value, (high - low) / (2 * _Z))
        for level, value, low, high in intervals
        if value is not None and low is not None and high is not None and low < high
    ]
    n_left_out = len(np.unique(_period_of(cohort, period))) - len(usable)
    if not usable:
        reason = f"no {period} has enough patients with and without the outcome"
        return Surveillance(period=period, n_left_out=n_left_out, reason=reason)
    seen = watch_auroc(
        [value for _, value, _ in usable],
        [error for *_, error in usable],
        reference=reference,
        periods_a_year=_A_YEAR[period],
    )
    levels = [level for level, *_ in usable]
    return Surveillance(
        period=period,
        reference=reference,
        loss=LOSS,
        limit=round(seen.limit, 2),
        false_alarms_a_year=FALSE_ALARMS_A_YEAR,
        n_left_out=n_left_out,
        evidence=dict(zip(levels, (round(evidence, 2) for evidence in seen.evidence), strict=True)),
        alarms=[levels[place] for place in seen.alarms],
        is_alarmed=seen.is_alarmed,
        since=levels[seen.began] if seen.is_alarmed and seen.began is not None else None,
    )


def _period_of(cohort: Cohort, period: Period) -> NDArray[np.datetime64]:
    """Return the month or the night of each sample."""
    return cohort.index_us.astype("datetime64[us]").astype(_UNITS[period])


def surveillance_sentence(surveillance: Surveillance) -> Iterator[str]:
    """Yield the findings of the surveillance; nothing for a single period."""
    n = len(surveillance.evidence)
    if surveillance.reason is not None or surveillance.reference is None or n + surveillance.n_left_out < 2:
        return
    left = (
        f", {surveillance.n_left_out} left out because of too few patients" if surveillance.n_left_out else ""
    )
    against = f"a loss of {surveillance.loss} from the AUROC of training, {surveillance.reference:.3f} ({plural(n, surveillance.period)}{left})"
    if not surveillance.alarms:
        yield f"Surveillance gives no alarm for {against}."
        return
    state = (
        f"it is ongoing; estimated onset {surveillance.since}" if surveillance.is_alarmed else "it has ended"
    )
    yield f"Surveillance gives an alarm for {against}: {', '.join(surveillance.alarms[:5])}; {state}."


def findings_of(
    scored: ScoredCohort,
    auroc: Estimate,
    expected: ExpectedPerformance,
    surveillance: Surveillance,
    recalibration: Recalibration,
    bundle: Bundle,
    unassessed: str | None,
) -> Findings:
    """Return the evidence for the advice: during an alarm the AUROC since the loss began, otherwise that of all samples."""
    implied, training, cohort = expected.auroc, bundle.document.training, scored.cohort
    if surveillance.since is not None:
        recent = _period_of(cohort, surveillance.period) >= np.datetime64(surveillance.since)
        recent_auroc = auroc_estimate(
            cohort.outcome[recent], scored.probability[recent], groups=cohort.unit_of[recent]
        )
        auroc = estimate_of(recent_auroc.to_json())
        implied = expected_performance(scored.probability[recent], bundle.document).auroc
    features = bundle.document.features
    drift = find_drift(
        features,
        shares_in_training(features, training),
        scored.present,
        cohort.n_samples,
        n_patients=cohort.n_patients,
        n_training=None if training is None else training.n_samples,
    )
    return Findings(
        trained=expected.training_auroc,
        trained_margin=margin_of(bundle.document.metrics.get("auroc", {})),
        expected=implied,
        vanished=len(drift.vanished),
        observed=auroc,
        alarm=surveillance.alarms[-1] if surveillance.is_alarmed else None,
        shift=recalibration.shift,
        slope=recalibration.slope,
        log_loss=_gains(recalibration),
        unassessed=unassessed,
        few=few_for_auroc(Samples(cohort.n_samples, int(cohort.outcome.sum()))),
    )


def margin_of(trained: Mapping[str, Any]) -> float:
    """Return half the width of the interval of a figure of training; 0 if it has none.

    With few iterations the t-interval is wider than that of a single test set, because the spread of the test sets is hardly known. Then the
    margin of one test set is the limit.

    Examples
    --------
    >>> round(margin_of({"low": 0.70, "high": 0.78, "sd": 0.03, "n": 20}), 3)
    0.04
    >>> round(margin_of({"low": 0.0, "high": 1.0, "sd": 0.03, "n": 2}), 3)
    0.059
    """
    low, high, sd = (trained.get(name) for name in ("low", "high", "sd"))
    if low is None or high is None:
        return 0.0
    half: float = (high - low) / 2.0
    return min(half, _Z * sd) if sd is not None and trained["n"] < _FEW_ITERATIONS else half


def _gains(recalibration: Recalibration) -> dict[Correction, float] | None:
    """Return how much each correction lowers the log loss of patients not used to fit it."""
    losses = {name: figures["log_loss"].value for name, figures in recalibration.figures.items()}
    before, gains = losses.get(AS_DELIVERED), dict[Correction, float]()
    for correction, name in VERSIONS.items():
        after = losses.get(name)
        if before is not None and after is not None:
            gains[correction] = before - after
    return gains or None
