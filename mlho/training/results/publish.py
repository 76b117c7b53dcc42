"""The published files: the parts of the bundle, and the assembled result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.demographics import DemographicsEncoder
from mlho.encoding.events.fates import lost_sentence
from mlho.encoding.events.ledger import Ledger
from mlho.encoding.events.units import units_sentence
from mlho.method.classifiers.tree_matrix import dense_rows
from mlho.model.bundle import load_bundle, write_bundle
from mlho.model.design import monotone_directions
from mlho.model.golden import column_statistics
from mlho.model.parts import BundleFeature, BundleParts, BundlePerformance, Scoring
from mlho.model.testing.generate import MAX_AUROC
from mlho.report.checks import Leakage, Quality
from mlho.report.result import (
    About,
    BundleTest,
    CandidateSummary,
    CohortSummary,
    FeatureResult,
    FinalModelResult,
    IterationResult,
    LaterEvaluation,
    LedgerSummary,
    Lineage,
    Profile,
    Result,
    Spread,
)
from mlho.report.words import plural, summary_sentences
from mlho.spec.features import utilisation_names
from mlho.spec.training import TrainingSpec, digest_of
from mlho.training.checks.leakage import leakage_warnings
from mlho.training.checks.ledger import ledger_warnings
from mlho.training.checks.quality import quality_warnings
from mlho.training.iterations.problem import Problem, SequenceName
from mlho.training.results.disclosure import characteristics, index_dates, shown_attrition
from mlho.training.results.explanation import (
    ExplainedColumn,
    drawn_samples,
    explain_rows,
    explained_columns,
    mean_contributions,
    typical_rows,
)
from mlho.training.results.final import (
    FinalModel,
    alert_warnings,
    evidence_of,
    threshold_results,
    training_samples,
)
from mlho.training.results.gates import gate_warning, judge_gates
from mlho.training.results.performance import PerformanceRecord, estimate_of
from mlho.training.results.split_account import account_of_split
from mlho.training.results.summary import SummaryRecord
from mlho.training.results.temporal_check import spans_years


def pack_bundle(
    problem: Problem, final: FinalModel, performance: PerformanceRecord, *, matrix_digest: str, folder: Path
) -> tuple[str, dict[str, Any]]:
    """Write the bundle. Return its digest and the description of the final model for the result.

    Parameters
    ----------
    performance : PerformanceRecord
        Performance of models fitted like it.
    """
    samples = drawn_samples(problem.cohort, seed=problem.spec.validation.seed)
    importance = mean_contributions(final.model, final.X, samples)
    parts = _bundle_parts(problem, final, performance, importance, matrix_digest)
    digest = write_bundle(folder, parts)
    columns = explained_columns(final, parts.features)
    record = {
        "bundle_digest": digest,
        "classifier": final.classifier,
        "setting": dict(final.cv.settings[final.cv.chosen]),
        "n_features": len(parts.features),
        "n_demographics": len(final.design.demographic_names),
        "cv_auroc": estimate_of(final.cv_auroc.to_json()).model_dump(mode="json"),
        "calibrator": final.calibrator.to_json(),
        "thresholds": [
            result.model_dump(mode="json") for result in threshold_results(final.thresholds, parts.training)
        ],
        "profiles": [
            profile.model_dump(mode="json") for profile in _profiles(problem, final, folder, columns)
        ],
        "importance": dict(zip((column.id for column in columns), importance.tolist(), strict=True)),
    }
    return digest, record


def _bundle_parts(
    problem: Problem,
    final: FinalModel,
    performance: PerformanceRecord,
    importance: NDArray[np.float64],
    matrix_digest: str,
) -> BundleParts:
    features = _bundle_features(problem, final, importance)
    statistics = column_statistics(final.X, problem.cohort.patient_of, min_cell=problem.spec.report.min_cell)
    return BundleParts(
        classifier=final.model,
        features=tuple(features),
        calibrator=final.calibrator,
        thresholds=tuple(final.thresholds),
        outcome=problem.spec.cohort.outcome,
        predictive=problem.spec.predicts,
        scoring=_scoring(problem.spec),
        statistics=statistics,
        lineage={
            "matrix_digest": matrix_digest,
            "method_digest": digest_of(_method_of(problem.spec)),
            "seed": problem.spec.validation.seed,
        },
        demographics=_of_persons(final.design.demographics, problem.spec),
        metrics=_known(performance.headline),
        performance=BundlePerformance(
            procedure=performance.procedure,
            n_test_sets=len(performance.test_sets),
            decision_curve=performance.curves.decision,
            winner_per_iteration=_known(performance.winners),
        ),
        training=training_samples(problem, final),
        roll_up=_roll_up(problem, features),
        evidence=evidence_of(problem, final, performance, [feature.id for feature in features], statistics),
        requirements=problem.spec.tests,
        monotone=problem.spec.features.monotone or {},
        horizons=final.horizons,
    )


def _bundle_features(
    problem: Problem, final: FinalModel, importance: NDArray[np.float64]
) -> list[BundleFeature]:
    coefficients = final.model.coefficients()
    features = []
    for place, (feature, encoding) in enumerate(
        zip(final.design.features.tolist(), final.design.encodings, strict=True)
    ):
        name = problem.name_of(feature)
        features.append(
            BundleFeature(
                id=name.id,
                code=name.code,
                then=name.then if isinstance(name, SequenceName) else None,
                band=problem.band_of(feature // len(problem.aggregates)) or None,
                description=name.shown_description,
                window_days=name.window_days,
                encoding=encoding,
                words=name.words,
                importance=float(importance[place]),
                coefficient=None if coefficients is None else float(coefficients.values[place]),
            )
        )
    return features


def _known(figures: Mapping[str, Spread]) -> dict[str, Any]:
    return {
        name: spread.model_dump(mode="json") for name, spread in figures.items() if spread.mean is not None
    }


def _method_of(spec: TrainingSpec) -> dict[str, Any]:
    """Return the specification without the data section, since the partitioning must not affect a bundle."""
    plain: dict[str, Any] = spec.model_dump(mode="json", by_alias=True)
    plain["data"] = {"duplicates": plain["data"]["duplicates"]}
    return plain


def _roll_up(problem: Problem, features: Sequence[BundleFeature]) -> dict[str, str]:
    """Return the part of the map that the features need."""
    used = {code for feature in features for code in (feature.code, feature.then)}
    return {code: parent for code, parent in problem.concepts.parents.items() if parent in used}


def _scoring(spec: TrainingSpec) -> Scoring:
    index, sequences = spec.cohort.index, spec.features.sequences
    return Scoring(
        index_kind="column" if index.column else "date" if index.date else "none",
        index_date=index.date,
        gap_days=spec.cohort.gap_days,
        duplicates=spec.data.duplicates,
        plausible_years=spec.data.plausible_years,
        utilisation_windows=spec.windows if spec.features.utilisation else None,
        co_occurrence_days=None if sequences is None else sequences.co_occurrence_days,
        sequence_bands=None if sequences is None else sequences.bands,
        sequence_order="first" if sequences is not None and sequences.order == "first" else None,
        after=spec.features.after,
    )


def _of_persons(encoder: DemographicsEncoder | None, spec: TrainingSpec) -> DemographicsEncoder | None:
    """Return the encoder without the columns of utilisation, which are its last."""
    if encoder is None or not spec.features.utilisation:
        return encoder
    codes = encoder.codes[: -len(utilisation_names(spec.windows))]
    return DemographicsEncoder(codes) if codes else None


def _profiles(
    problem: Problem, final: FinalModel, folder: Path, columns: Sequence[ExplainedColumn]
) -> list[Profile]:
    """Explain examples: synthetic rows of the bundle, or real samples if the specification requests them."""
    if problem.spec.report.real_profiles:
        chosen = typical_rows(final.cv.scores, range(len(final.cv.scores)))
        samples = [int(final.cv.samples[row]) for row, _ in chosen]
        rows = dense_rows(final.X[samples], final.model.empty_row)
    else:
        golden = load_bundle(folder).golden
        drawn = [row for row, kind in enumerate(golden.kinds) if kind == "drawn"]
        chosen = typical_rows(golden.calibrated, drawn[::2])  # every second one is far denser than a patient
        rows = golden.X[[row for row, _ in chosen]]
    titles = [title for _, title in chosen]
    return explain_rows(final, rows, titles, columns, synthetic=not problem.spec.report.real_profiles)


@dataclass(frozen=True)
class RunLedgers:
    """Total ledgers of event rows and of label rows, and the event rows used by year."""

    events: Mapping[str, Any]
    labels: Mapping[str, int]
    rows_by_year: Mapping[str, int]


@dataclass(frozen=True)
class RunChecks:
    """Findings of the checks before training, and of the temporal check if requested."""

    leakage: Leakage
    quality: Quality
    later: LaterEvaluation | None


@dataclass(frozen=True)
class Provenance:
    """The fields of the result that describe how it was made."""

    lineage: Lineage
    about: About
    made_at: str | None
    timing: dict[str, Any]
    inputs: dict[str, Any]


def assemble_result(
    problem: Problem,
    summary: SummaryRecord,
    performance: PerformanceRecord,
    iterations: Sequence[IterationResult],
    *,
    final: Mapping[str, Any],
    tests: Sequence[BundleTest],
    ledgers: RunLedgers,
    checks: RunChecks,
    provenance: Provenance,
) -> Result:
    """Assemble the result from the outputs of the steps; ``final`` is the record that :func:`pack_bundle` returned."""
    importance = final["importance"]
    model = {name: value for name, value in final.items() if name != "importance"}
    gates = judge_gates(problem.spec.gates, performance.headline, performance.bias, tests)
    result = Result(
        outcome=problem.spec.cohort.outcome,
        predictive=problem.spec.predicts,
        summary=[],  # the sentences are about the assembled result
        warnings=[
            *gate_warning(gates),
            *_warnings_before_training(problem, ledgers, checks),
            *summary.warnings,
            *_warnings(problem, summary, performance),
            *alert_warnings(final["thresholds"], performance.headline),
            *_date_warnings(problem),
            *_without_direction(problem.spec, list(importance)),
            *_failed_tests(tests),
        ],
        cohort=_cohort_summary(problem, ledgers),
        ledger=LedgerSummary.model_validate(Ledger.from_json(ledgers.events).account()),
        features=_features(summary, importance),
        consensus=summary.consensus,
        stability=summary.stability,
        split=account_of_split(problem),
        time_to_event=performance.time_to_event,
        iterations=list(iterations),
        candidates=_candidates(summary, problem.spec, final["classifier"]),
        procedure=performance.procedure,
        test_sets=performance.test_sets,
        headline=performance.headline,
        headline_auroc=performance.headline_auroc,
        winners=performance.winners,
        bias=performance.bias,
        curves=performance.curves,
        errors=performance.errors,
        final_model=FinalModelResult(**model, tests=list(tests)),
        gates=gates,
        **vars(checks),
        **vars(provenance),
    )
    return result.model_copy(update={"summary": summary_sentences(result)})


def _features(summary: SummaryRecord, importance: Mapping[str, float]) -> list[FeatureResult]:
    return [
        feature.model_copy(
            update={
                "in_final_model": feature.id in importance,
                "final_importance": importance.get(feature.id),
            }
        )
        for feature in summary.features
    ]


def _candidates(summary: SummaryRecord, spec: TrainingSpec, classifier: str) -> list[CandidateSummary]:
    is_ranked = spec.final.features == "ranking"
    return [
        candidate.model_copy(update={"is_final": candidate.classifier == classifier and is_ranked})
        for candidate in summary.candidates
    ]


def _warnings_before_training(problem: Problem, ledgers: RunLedgers, checks: RunChecks) -> list[str]:
    """Return the warnings about the data: checks, cohort and ledger."""
    events, lost = ledgers.events, ledgers.events["samples_lost"]
    return [
        *leakage_warnings(checks.leakage),
        *quality_warnings(checks.quality),
        *problem.cohort.warnings,
        *ledger_warnings(problem.spec, Ledger.from_json(events)),
        *([lost_sentence(lost, problem.spec.report.min_cell)] if lost else []),
        *([units_sentence(events["units"])] if "units" in events else []),
    ]


def _without_direction(spec: TrainingSpec, columns: Sequence[str]) -> list[str]:
    """Return a warning about declared directions that apply to no column of the final model."""
    declared = spec.features.monotone or {}
    unused = [
        column for column in declared if not monotone_directions(columns, {column: declared[column]}).any()
    ]
    if not unused:
        return []
    return [
        f"features.monotone has no effect on the final model for {', '.join(unused)}: it has no such column. A code alone refers to its numbers; CODE|presence and CODE|count refer to its events."
    ]


def _failed_tests(tests: Sequence[BundleTest]) -> list[str]:
    """Return a warning if the bundle cannot be promoted, with the defects."""
    failed = [test for test in tests if not test.passed]
    if not failed:
        return []
    use = "used for scoring or promoted" if any(test.level == "required" for test in failed) else "promoted"
    named = " ".join(f"{test.name}: {test.detail}" for test in failed[:3])
    return [f"The bundle cannot be {use}: {len(failed)} of its {len(tests)} tests failed. {named}"]


def _warnings(problem: Problem, summary: SummaryRecord, performance: PerformanceRecord) -> list[str]:
    """Warnings that a reader needs before relying on the numbers."""
    found = []
    auroc = performance.headline["auroc"].mean
    if auroc is not None and auroc > MAX_AUROC:
        found.append(
            f"The test AUROC is {auroc:.3f}. In clinical prediction, an AUROC above {MAX_AUROC} is more often due to leakage than to a good "
            "model: look for features that are recorded because of the outcome, and set an index date or a gap."
        )
    if problem.spec.selection.scope == "iteration":
        found.append(
            "Features were ranked once before cross-validation (selection.scope: iteration): out-of-fold scores are "
            "optimistic, which also affects the choice of settings, the calibrators and the thresholds."
        )
    n_rare = sum(feature.kind == "feature" and feature.prevalence is None for feature in summary.features)
    if n_rare:
        least, n_patients = problem.spec.report.min_cell, problem.cohort.n_patients
        # The share refers to training patients; without drawn test sets, half of the cohort is a bound.
        share = least / n_patients / (1.0 - (problem.spec.validation.drawn_fraction or 0.5))
        found.append(
            f"{plural(n_rare, 'feature')} found in fewer than {least} patients: the codes are in the report and may be in the bundle. "
            f"selection.minPrevalence: {share:.2g} excludes such features."
        )
    n_empty = sum(not test_set.n_features for test_set in performance.test_sets)
    if n_empty:
        found.append(
            f"In {n_empty} of {len(performance.test_sets)} test sets no feature had a sufficient confidence score: the model tested there uses "
            "demographics only."
        )
    if problem.spec.final.features == "consensus" and not summary.consensus_features:
        found.append("No feature has a sufficient confidence score: the final model uses demographics only.")
    n_iterations = problem.spec.validation.iterations
    if n_iterations < 5:
        found.append(
            f"Only {plural(n_iterations, 'iteration')}: with fewer than five, confidence scores and spreads are unreliable."
        )
    if not summary.consensus.get("converged", True):
        found.append("The consensus model did not converge: its odds ratios are unreliable.")
    return found


def _date_warnings(problem: Problem) -> list[str]:
    found = []
    asked = problem.spec.validation
    if (
        asked.is_drawn
        and not asked.temporal_check
        and problem.spec.cohort.index.column
        and spans_years(problem.cohort)
    ):
        found.append(
            "The index dates span more than two years and the test sets are drawn from all of them. validation.temporalCheck: true "
            "adds an evaluation on later patients, and “mlho changes” lists codes and effects that change, with dates."
        )
    if asked.by_date and problem.spec.cohort.outcome_days is None:
        found.append(
            "cohort.followUpDays is not set: training samples are chosen by their index date only, and their outcomes may fall in the test "
            "period."
        )
    return found


def _cohort_summary(problem: Problem, ledgers: RunLedgers) -> CohortSummary:
    cohort, min_cell = problem.cohort, problem.spec.report.min_cell
    shown = shown_attrition(cohort.attrition, ledgers.labels, min_cell)
    return CohortSummary(
        n_patients=cohort.n_patients,
        n_samples=cohort.n_samples,
        n_positive_patients=int(cohort.positive_patients().sum()),
        n_positive_samples=int(cohort.outcome.sum()),
        attrition=shown.steps,
        label_ledger=shown.label_ledger,
        characteristics=characteristics(cohort, min_cell),
        index_dates=index_dates(cohort, min_cell),
        event_years={year: n for year, n in ledgers.rows_by_year.items() if n >= min_cell},
    )
