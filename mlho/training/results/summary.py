"""The summary over all iterations: stable features, performance of the candidates, and the consensus model."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.errors import plural
from mlho.method.consensus.hazards import fit_hazards
from mlho.method.consensus.regression import LogisticFit, fit_logistic, odds_ratios, profile_intervals
from mlho.method.consensus.regression import OddsRatio as FittedOddsRatio
from mlho.method.stability.agreement import bound_false_selections, nogueira_stability
from mlho.method.survival.times import EVENT
from mlho.report.parts import Part
from mlho.report.result import (
    CandidateSummary,
    Confidence,
    Estimate,
    FalseFeatures,
    FeatureResult,
    HazardRatio,
    OddsRatio,
    Stability,
)
from mlho.report.words import ratio
from mlho.training.iterations.design import learn_design
from mlho.training.iterations.iteration import best_of
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.sequences import pair_patients
from mlho.training.iterations.shadows import expect_false, warn_of_share
from mlho.training.results.confidence_table import Key, Returns, count_returns, sets_as_table
from mlho.training.results.performance import metrics_over, spread_over
from mlho.training.results.records import IterationRecord


class SummaryRecord(Part):
    """The summary as numbers; :class:`mlho.report.result.Result` holds its parts."""

    features: list[FeatureResult]
    consensus: dict[str, Any]
    consensus_features: list[int]
    """Feature numbers with a sufficient confidence score, without demographics."""
    stability: Stability
    candidates: list[CandidateSummary]
    best_candidate: str
    warnings: list[str]
    """Warning of a share of false features that cannot be reached."""


def summarize(problem: Problem, records: Sequence[IterationRecord]) -> SummaryRecord:
    """Summarize the iterations.

    Parameters
    ----------
    records : sequence of IterationRecord
        In iteration order.
    """
    returns = count_returns(
        [record.selected for record in records],
        [record.coefficients for record in records],
        n_iterations_planned=problem.spec.validation.iterations,
    )
    scores = returns.confidence.score[: returns.n_features]
    false_features = expect_false(problem, scores, [record.shadows for record in records])
    consensus = returns.consensus(false_features.min_confidence)
    fit, ratios, hazards = _fit_consensus(problem, consensus)
    candidates = _compare_candidates(problem, records)
    return SummaryRecord(
        features=_feature_results(problem, returns, consensus, ratios, hazards),
        consensus=_describe(problem, fit, false_features.min_confidence),
        consensus_features=[key for key in consensus if isinstance(key, int)],
        stability=_stability(problem, returns, records, len(consensus), false_features),
        candidates=candidates,
        best_candidate=best_of(
            {candidate.classifier: candidate.cv_auroc.mean or 0.0 for candidate in candidates}
        ),
        warnings=warn_of_share(false_features),
    )


def final_classifier(problem: Problem, summary: SummaryRecord) -> str:
    """Return the classifier of the final model: the requested one, or the best candidate."""
    asked = problem.spec.final.classifier
    return summary.best_candidate if asked == "best" else asked


def _compare_candidates(problem: Problem, records: Sequence[IterationRecord]) -> list[CandidateSummary]:
    summaries, fraction = [], problem.spec.validation.drawn_fraction
    for number, candidate in enumerate(problem.spec.candidates):
        results = [record.result.candidates[number] for record in records]
        summaries.append(
            CandidateSummary(
                classifier=candidate.classifier,
                cv_auroc=spread_over(
                    (result.settings[result.chosen].mean for result in results), fraction, "auroc"
                ),
                test=metrics_over(problem, [result.evaluation for result in results]),
                wins=sum(record.result.winner == candidate.classifier for record in records),
                is_final=False,
            )
        )
    return summaries


def _stability(
    problem: Problem,
    returns: Returns,
    records: Sequence[IterationRecord],
    n_consensus: int,
    false_features: FalseFeatures,
) -> Stability:
    n_eligible = max(max(record.result.n_screened for record in records), returns.n_features)
    chosen = np.zeros((len(records), n_eligible), np.bool_)
    chosen[:, : returns.n_features] = returns.selected
    validation, n_wanted = problem.spec.validation, problem.spec.selection.n_features
    bound = bound_false_selections(
        chosen,
        threshold=max((false_features.min_confidence - 0.5) / 100, 0.505),
        training_fraction=1 - validation.test_fraction,
    )
    return Stability(
        nogueira=_nogueira(chosen, n_wanted),
        permuted=_nogueira(sets_as_table([record.of_permuted for record in records], n_eligible), n_wanted),
        false_features=false_features,
        expected_false=Estimate(value=bound.value, method=bound.assumptions, reason=bound.reason),
        n_consensus=n_consensus,
        n_ever_selected=returns.n_features,
    )


def _nogueira(chosen: NDArray[np.bool_], n_wanted: int) -> Estimate:
    found = nogueira_stability(chosen)
    reason = found.reason
    if found.value is None and len(chosen) > 1 and chosen.any():
        reason = (
            f"each iteration selected all {plural(chosen.shape[1], 'feature')} that passed the screen, because selection.nFeatures is "
            f"{n_wanted:,}; confidence scores count coefficients, not selections"
        )
    return Estimate(value=found.value, low=found.low, high=found.high, method="asymptotic", reason=reason)


def _fit_consensus(
    problem: Problem, consensus: Sequence[Key]
) -> tuple[LogisticFit | None, dict[Key, OddsRatio], dict[Key, HazardRatio]]:
    """Fit an unpenalised logistic regression on the consensus features and the demographics, on all samples.

    With a time to an event also a Cox regression.
    """
    features = np.array([key for key in consensus if isinstance(key, int)], np.int64)
    everyone = np.ones(problem.cohort.n_samples, np.bool_)
    design = learn_design(problem, features, everyone)
    keys: list[Key] = [*features.tolist(), *design.demographic_names]
    if not len(features):
        return None, {}, {}
    X = design.matrix(problem, everyone).toarray()
    names = [str(key) for key in keys]
    fit = fit_logistic(X, problem.y, names=names)
    table = odds_ratios(fit, X.std(axis=0, ddof=1), profile=profile_intervals(fit, X, problem.y))
    by_name = {row.name: row for row in table}
    dropped = {column.name: column.reason for column in fit.dropped}
    ratios = {
        key: _odds_ratio(by_name.get(name), dropped.get(name)) for key, name in zip(keys, names, strict=True)
    }
    return fit, ratios, _hazard_ratios(problem, keys, X)


def _hazard_ratios(problem: Problem, keys: Sequence[Key], X: NDArray[np.float64]) -> dict[Key, HazardRatio]:
    if problem.times is None:
        return {}
    fitted = fit_hazards(X, problem.times.days, problem.times.status == EVENT)
    return {
        key: HazardRatio(
            per_unit=fit.ratio(),
            low=fit.ratio(side=-1),
            high=fit.ratio(side=1),
            p_value=fit.p_value,
            sd=fit.sd,
            per_sd=fit.ratio(units=fit.sd),
            per_sd_low=fit.ratio(units=fit.sd, side=-1),
            per_sd_high=fit.ratio(units=fit.sd, side=1),
            reason=fit.reason,
        )
        for key, fit in zip(keys, fitted, strict=True)
    }


def _odds_ratio(row: FittedOddsRatio | None, reason: str | None) -> OddsRatio:
    if row is None:
        return OddsRatio(per_unit=None, reason=reason or "not in the model")
    return OddsRatio(
        per_unit=row.odds_ratio,
        wald_low=row.wald_low,
        wald_high=row.wald_high,
        profile_low=row.profile_low,
        profile_high=row.profile_high,
        p_value=row.p_lr if row.p_lr is not None else row.p_wald,
        sd=row.sd,
        per_sd=row.odds_ratio_per_sd,
        per_sd_low=row.profile_low_per_sd if row.profile_low_per_sd is not None else row.wald_low_per_sd,
        per_sd_high=row.profile_high_per_sd if row.profile_high_per_sd is not None else row.wald_high_per_sd,
    )


def _describe(problem: Problem, fit: LogisticFit | None, threshold: int) -> dict[str, Any]:
    if fit is None:
        return {"fitted": False, "reason": f"no feature has a confidence score of {threshold} or more"}
    return {
        "fitted": True,
        "converged": fit.converged,
        "intercept": fit.intercept,
        "log_likelihood": fit.log_likelihood,
        "method": fit.method,
        "n_positive": fit.n_positive,
        "n_samples": fit.n_samples,
        "note": "The features were selected on the same patients: intervals are too narrow and p values too small (post-selection inference)."
        + (" Samples of the same patient are treated as independent." if problem.cohort.has_repeats else ""),
    }


def _feature_results(
    problem: Problem,
    returns: Returns,
    consensus: Sequence[Key],
    ratios: dict[Key, OddsRatio],
    hazards: dict[Key, HazardRatio],
) -> list[FeatureResult]:
    n_patients = _patients_of(problem, [key for key in returns.keys if isinstance(key, int)])
    frequency = returns.selected.mean(axis=0) if returns.n_features else np.empty(0)
    kept = set(consensus)
    features, demographics = [], []
    for position, key in enumerate(returns.keys):
        confidence = returns.confidence_of(position)
        common: dict[str, Any] = {
            "confidence": confidence,
            "note": contradiction(confidence, ratios.get(key)),
            "in_consensus": key in kept,
            "odds_ratio": ratios.get(key),
            "hazard_ratio": hazards.get(key),
        }
        if isinstance(key, str):
            demographics.append(
                FeatureResult(id=key, words=key, kind="demographic", selection_frequency=1.0, **common)
            )
            continue
        name = problem.name_of(key)
        n = n_patients[key]
        shown = n if n >= problem.spec.report.min_cell else None
        features.append(
            FeatureResult(
                id=name.id,
                words=name.words,
                kind="feature",
                code=name.shown_code,
                description=name.shown_description,
                window_days=name.window_days,
                aggregate=name.aggregate,
                n_patients=shown,
                prevalence=None if shown is None else shown / problem.cohort.n_patients,
                selection_frequency=float(frequency[position]),
                median_rank=returns.median_rank(position),
                **common,
            )
        )
    return [*sorted(features, key=surest_first), *demographics]


def contradiction(confidence: Confidence | None, odds_ratio: OddsRatio | None) -> str | None:
    """Explain that the odds ratios of the iterations and of the consensus model lie on different sides of 1; else None."""
    if confidence is None or odds_ratio is None:
        return None
    mean, consensus = confidence.mean_odds_ratio, odds_ratio.per_unit
    if mean is None or consensus is None or (mean - 1) * (consensus - 1) >= 0:
        return None
    return (
        f"The odds ratio over the iterations ({ratio(mean)}) and that of the consensus model ({ratio(consensus)}) lie on different sides of 1. "
        "The iterations shrink coefficients towards 1 and share an effect among features that occur together (collinearity); the consensus "
        "model does not shrink, and adjusts for other features. Do not infer a direction of effect from either."
    )


def _patients_of(problem: Problem, features: Sequence[int]) -> dict[int, int]:
    """Return the number of patients with each feature's column."""
    columns = problem.column_of(np.array(features, np.int64))
    is_pair = columns >= problem.n_columns
    n_patients = np.empty(len(columns), np.int64)
    n_patients[~is_pair] = problem.matrix.patients_per_column()[columns[~is_pair]]
    n_patients[is_pair] = pair_patients(problem, columns[is_pair])
    return dict(zip(features, n_patients.tolist(), strict=True))


def surest_first(feature: FeatureResult) -> tuple[int, int, float, float, str]:
    """Order by confidence, then by size of the effect: many features share the highest score."""
    assert feature.confidence is not None
    return (
        -feature.confidence.score,
        -feature.confidence.n_seen,
        -feature.selection_frequency,
        -abs(math.log(feature.confidence.mean_odds_ratio or 1.0)),
        feature.id,
    )
