"""The whole evaluation of a bundle on other labelled data."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.cohort.counts import shown_count
from mlho.encoding.cohort.define import labels_place
from mlho.encoding.events.ledger import intended_rules
from mlho.errors import DataError, plural
from mlho.external.figures import audit_scores, evaluate_scores
from mlho.external.monitoring import Period, findings_of, surveillance_sentence, watch
from mlho.external.recalibration import recalibrate
from mlho.external.scores import ScoredCohort
from mlho.method.evaluation.evaluation import Evaluation
from mlho.method.evaluation.thresholds import values_by_rule
from mlho.model.bundle import Bundle
from mlho.report.advice import advise
from mlho.report.external import ExternalEvaluation
from mlho.report.monitoring import CodeDrift
from mlho.report.parts import Part
from mlho.report.result import Estimate, LedgerSummary, Spread
from mlho.report.verdicts import (
    Samples,
    auroc_caution,
    calibration_verdict,
    few_for_calibration,
    level_verdict,
    why_not_judged,
)
from mlho.report.words import estimate, percent, spread
from mlho.scoring.code_drift import code_warnings, descriptions_of, find_code_drift, split_codes
from mlho.scoring.label_free import expected_performance
from mlho.spec.training import TrainingSpec
from mlho.training.iterations.planned import FEWEST
from mlho.training.results.disclosure import index_dates, shown_attrition
from mlho.training.results.performance import curves_over, estimate_of, figures_of
from mlho.training.results.records import record_curves

MOST_WITHOUT_EVENTS = 0.2  # above the share in training, as in a scoring run


def evaluate_scored(
    bundle: Bundle,
    spec: TrainingSpec,
    scored: ScoredCohort,
    *,
    data_digest: str,
    n_known_files: int = 0,
    n_known_labels: int = 0,
    period: Period = "month",
) -> ExternalEvaluation:
    """Evaluate a bundle on labelled samples that it has scored.

    Parameters
    ----------
    spec : TrainingSpec
        From :func:`mlho.external.scores.evaluated_spec`.
    data_digest : str
        SHA-256 of the manifest of the inputs.
    n_known_files : int
        Files of events or labels that the bundle was trained on, as far as this is known.
    n_known_labels : int
        Those of labels. With any, the calibration is not assessed: it differs from that in new patients.
    period : str
        ``month`` or ``night``: the periods of the groups and of the surveillance.

    Raises
    ------
    DataError, SpecError
        The samples or the specification do not fit the bundle; messages contain counts only.
    """
    cohort, asked, min_cell = scored.cohort, spec.validation, spec.report.min_cell
    _refuse_few(cohort, spec)
    evaluation = evaluate_scores(scored, spec, bundle.thresholds, scored.probability)
    everyone = np.arange(cohort.n_samples)
    curves = record_curves(cohort, evaluation, scored.probability, everyone, min_cell=min_cell)
    figures = {name: estimate_of(figure) for name, figure in figures_of(evaluation.to_json()).items()}
    trained = {name: Spread.model_validate(metric) for name, metric in bundle.document.metrics.items()}
    bias = audit_scores(scored, spec, bundle.thresholds, scored.probability, period=period)
    recalibration = recalibrate(
        cohort, scored.probability, seed=asked.seed, n_replicates=asked.bootstrap_replicates
    )
    expected = expected_performance(scored.probability, bundle.document)
    surveillance = watch(cohort, bias, expected.training_auroc, period=period)
    codes = _codes(bundle, scored, min_cell)
    unassessed = _unassessed(bundle, evaluation, n_known_labels)
    advice = advise(
        findings_of(scored, figures["auroc"], expected, surveillance, recalibration, bundle, unassessed)
    )
    return ExternalEvaluation(
        bundle_digest=bundle.digest,
        classifier=bundle.classifier.name,
        outcome=spec.cohort.outcome,
        trained_on=bundle.document.outcome,
        data_digest=data_digest,
        spec=_plain(spec),
        summary=[
            *_summary(evaluation, figures, trained, unassessed),
            *surveillance_sentence(surveillance),
            advice.sentence,
        ],
        warnings=[
            *_of_training(n_known_files),
            *_warnings(bundle, spec, scored),
            *code_warnings(codes, descriptions_of(bundle.document.features)),
        ],
        **_account(scored, min_cell),
        codes=codes,
        figures=figures,
        trained=trained,
        thresholds=values_by_rule(bundle.thresholds),
        expected=expected,
        surveillance=surveillance,
        recalibration=recalibration,
        advice=advice,
        bias=bias,
        curves=curves_over([curves]),
    )


def _refuse_few(cohort: Cohort, spec: TrainingSpec) -> None:
    positive = cohort.positive_units()
    if min(int(positive.sum()), int((~positive).sum())) < FEWEST:
        raise DataError(
            labels_place(spec),
            "too few patients with or without the outcome for an evaluation",
            expected=f"at least {FEWEST} of each",
            got="fewer",
            remedy="Evaluate on more patients.",
        )


def _account(scored: ScoredCohort, min_cell: int) -> dict[str, Any]:
    """Return the fields of the evaluation on its patients and their rows."""
    cohort = scored.cohort
    attrition = shown_attrition(cohort.attrition, scored.label_ledger, min_cell)
    return {
        "n_patients": cohort.n_patients,
        "n_samples": cohort.n_samples,
        "n_positive_samples": int(cohort.outcome.sum()),
        "attrition": attrition.steps,
        "label_ledger": attrition.label_ledger,
        "ledger": LedgerSummary.model_validate(scored.ledger.account()),
        "index_dates": index_dates(cohort, min_cell),
        "unknown_codes": scored.unknown_codes,
        "share_without_events": _share_without_events(scored, min_cell),
    }


def _plain(spec: TrainingSpec) -> dict[str, Any]:
    """Return the sections that were used, without where the data are."""
    plain: dict[str, Any] = spec.model_dump(mode="json", by_alias=True)
    data = {name: field for name, field in plain["data"].items() if name not in ("uri", "partitionedBy")}
    return {"data": data, "cohort": plain["cohort"], "report": plain["report"]}


def _codes(bundle: Bundle, scored: ScoredCohort, min_cell: int) -> CodeDrift:
    """Return the codes that are new or have vanished, without new ones of fewer samples than may be shown."""
    training, cohort = bundle.document.training, scored.cohort
    listed, others = split_codes(training, scored.samples_by_code)
    shown = {code: n for code, n in others.items() if n >= min_cell}
    return find_code_drift(training, listed, shown, cohort.n_samples, n_patients=cohort.n_patients)


def _share_without_events(scored: ScoredCohort, min_cell: int) -> float | None:
    n = scored.n_without_events
    return round(n / scored.cohort.n_samples, 2) if n == 0 or n >= min_cell else None


def _samples(evaluation: Evaluation) -> Samples:
    return Samples(evaluation.n_samples, evaluation.n_positive)


def _unassessed(bundle: Bundle, evaluation: Evaluation, n_known_labels: int) -> str | None:
    """Return why the calibration cannot be assessed; None if it can."""
    if n_known_labels:
        return "the bundle was trained on these labels"
    few = few_for_calibration(_samples(evaluation))
    if few is not None or bundle.document.horizons is None:
        return few
    days = plural(bundle.document.horizons[0].days, "day")
    return f"labels of 0 and 1 overstate the risk up to {days} if the samples that were censored before are left out"


def _summary(
    evaluation: Evaluation,
    figures: Mapping[str, Estimate],
    trained: Mapping[str, Spread],
    unassessed: str | None,
) -> list[str]:
    share = percent(evaluation.n_positive / evaluation.n_samples)
    auroc = figures["auroc"]
    caution = auroc_caution(Spread(mean=auroc.value, low=auroc.low, high=auroc.high), _samples(evaluation))
    said = [
        f"{evaluation.n_patients:,} patients, {evaluation.n_samples:,} samples, {share} of them with the outcome.",
        f"The AUROC is {estimate(auroc, 3)} on these data"
        + (f", compared with {spread(trained['auroc'], 3)} in training." if "auroc" in trained else ".")
        + (f" {caution}." if caution else ""),
    ]
    return [*said, calibration_sentence(figures, _samples(evaluation), unassessed)]


def calibration_sentence(figures: Mapping[str, Estimate], samples: Samples, unassessed: str | None) -> str:
    """Interpret the calibration by the rules of a training report, with its figures.

    Parameters
    ----------
    figures : mapping of str to Estimate
        ``calibration_slope`` and ``calibration_in_the_large``.
    unassessed : str or None
        Why the calibration cannot be assessed; then the figures are not interpreted.
    """
    slope, large = figures["calibration_slope"], figures["calibration_in_the_large"]
    as_spread = Spread(mean=slope.value, low=slope.low, high=slope.high)
    level = level_verdict(Spread(mean=large.value, low=large.low, high=large.high), samples)
    verdict = level or calibration_verdict(as_spread, samples)
    if unassessed is not None or verdict is None:
        why = unassessed or why_not_judged(as_spread, samples)
        said = f"The calibration of the probabilities cannot be assessed ({why})"
    else:
        said = f"The probabilities are {verdict}"
    return (
        f"{said}. The calibration slope is {estimate(slope)}, where 1 is ideal, and calibration in the large {estimate(large)}, "
        "where 0 is ideal."
    )


def _of_training(n_known_files: int) -> list[str]:
    if not n_known_files:
        return []
    return [
        f"{plural(n_known_files, 'file')} of events or labels {'is one' if n_known_files == 1 else 'are among those'} that the bundle was "
        "trained on. Performance in patients used for training is optimistic: this is not an external validation."
    ]


def _warnings(bundle: Bundle, spec: TrainingSpec, scored: ScoredCohort) -> list[str]:
    ledger = scored.ledger.warnings(intended=intended_rules(spec))
    found = [*scored.cohort.warnings, *scored.warnings, *ledger]
    if spec.cohort.outcome != bundle.document.outcome:
        found.append(
            f"The outcome is the column {spec.cohort.outcome!r}; the bundle was trained for {bundle.document.outcome!r}. Check that both mean "
            "the same."
        )
    if (horizons := bundle.document.horizons) is not None:
        found.append(
            f"If samples that were censored before {plural(horizons[0].days, 'day')} are left out, the share with the outcome, observed over expected, positive "
            "predictive value and net benefit are too high, most of all in groups and periods with a short follow-up. Their differences and trends need not be "
            "differences in performance."
        )
    trained = bundle.document.training
    before = None if trained is None else trained.without_events
    share = scored.n_without_events / scored.cohort.n_samples
    if before is not None and share > before + MOST_WITHOUT_EVENTS:
        samples = shown_count(scored.n_without_events, "sample", spec.report.min_cell)
        found.append(
            f"{samples} of {scored.cohort.n_samples} without any usable event in the windows of the bundle, compared with {percent(before, 0)} in "
            "training. Most often, the cause is a different form of codes, dates or ids."
        )
    return found


def as_json(document: Part) -> bytes:
    """Return ``evaluation.json``, or another document; equal documents give equal bytes."""
    plain = document.model_dump(mode="json")
    return json.dumps(plain, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
