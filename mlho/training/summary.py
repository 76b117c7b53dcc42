"""The summary over all iterations: what came back, how well the candidates did, and the consensus model."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mlho.method.consensus import LogisticFit, fit_logistic, odds_ratios, profile_intervals
from mlho.method.metrics import error_distribution
from mlho.method.spread import mean_with_spread
from mlho.method.stability import bound_false_selections, nogueira_stability
from mlho.report.result import (
    CandidateIteration,
    CandidateSummary,
    Curves,
    Estimate,
    FeatureResult,
    OddsRatio,
    Spread,
    Stability,
)
from mlho.training.confidence_table import Key, Returns, count_returns
from mlho.training.design import learn_design
from mlho.training.iteration import best_of
from mlho.training.problem import Problem
from mlho.training.records import IterationRecord
from mlho.training.sentinel import warn_of_leakage

DISCRIMINATION: Final = ("auroc", "average_precision", "pr_integral", "brier", "scaled_brier", "log_loss")
CALIBRATION: Final = ("in_the_large", "intercept", "slope", "ici", "ece_equal_count", "brier")


class SummaryRecord(BaseModel):
    """The summary as numbers; :class:`mlho.report.result.Result` holds its parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: list[FeatureResult]
    consensus: dict[str, Any]
    consensus_features: list[int]
    """Feature numbers with enough confidence, demographics left out."""
    stability: Stability
    candidates: list[CandidateSummary]
    best_candidate: str
    headline: dict[str, Spread]
    headline_auroc: list[Estimate]
    curves: Curves
    errors: dict[str, Any]
    warnings: list[str]
    """What the leakage sentinel found."""


def summarize(
    problem: Problem, records: Sequence[IterationRecord], mean_probabilities: NDArray[np.float64]
) -> SummaryRecord:
    """Sum up the iterations.

    Parameters
    ----------
    problem : Problem
    records : sequence of IterationRecord
        In the order of iterations.
    mean_probabilities : float64, shape (n_samples,)
        Each sample's mean calibrated test probability by the iterations' winners; ``NaN`` if it never was in a test set.
    """
    returns = count_returns(records, n_iterations_planned=problem.spec.validation.iterations)
    consensus = returns.consensus(problem.spec.consensus.min_confidence)
    fit, ratios = _fit_consensus(problem, consensus)
    candidates = _compare_candidates(problem, records)
    winners = [_winner(record) for record in records]
    tested = ~np.isnan(mean_probabilities)
    errors = error_distribution(
        problem.y[tested], mean_probabilities[tested], min_cell=problem.spec.report.min_cell
    )
    return SummaryRecord(
        features=_feature_results(problem, returns, consensus, ratios),
        consensus=_describe(problem, fit),
        consensus_features=[key for key in consensus if isinstance(key, int)],
        stability=_stability(problem, returns, records, len(consensus)),
        candidates=candidates,
        best_candidate=best_of({own.classifier: own.cv_auroc.mean or 0.0 for own in candidates}),
        headline=_metrics_over(problem, winners),
        headline_auroc=[_estimate(winner.evaluation["figures"]["auroc"]) for winner in winners],
        curves=_curves(records),
        errors={name: distribution.to_json() for name, distribution in errors.items()},
        warnings=warn_of_leakage(problem, [key for key in returns.keys if isinstance(key, int)]),
    )


def _winner(record: IterationRecord) -> CandidateIteration:
    return next(own for own in record.result.candidates if own.classifier == record.result.winner)


def _estimate(plain: dict[str, Any]) -> Estimate:
    return Estimate(**{name: plain[name] for name in ("value", "low", "high", "method", "reason")})


def _spread(problem: Problem, values: Iterable[float | None]) -> Spread:
    spread = mean_with_spread(list(values), test_fraction=problem.spec.validation.test_fraction)
    return Spread(**{name: getattr(spread, name) for name in Spread.model_fields})


def _metrics_over(problem: Problem, outcomes: Sequence[CandidateIteration]) -> dict[str, Spread]:
    """Test metrics over iterations; calibration is that of the calibrated probabilities."""
    metrics = {
        name: _spread(problem, (own.evaluation["figures"][name]["value"] for own in outcomes))
        for name in DISCRIMINATION
    }
    for name in CALIBRATION:
        values = (own.evaluation["calibration"]["calibrated"]["figures"][name]["value"] for own in outcomes)
        metrics[f"calibration_{name}"] = _spread(problem, values)
    for rule in outcomes[0].evaluation["thresholds"]:
        for name in (
            "sensitivity",
            "specificity",
            "ppv",
            "npv",
            "alerts_per_100",
            "number_needed_to_evaluate",
        ):
            values = (_figure(own.evaluation["thresholds"][rule]["figures"], name) for own in outcomes)
            metrics[f"{rule}/{name}"] = _spread(problem, values)
    return metrics


def _figure(figures: dict[str, Any], name: str) -> float | None:
    return figures[name]["value"] if name in figures else None


def _compare_candidates(problem: Problem, records: Sequence[IterationRecord]) -> list[CandidateSummary]:
    summaries = []
    for number, candidate in enumerate(problem.spec.candidates):
        own = [record.result.candidates[number] for record in records]
        summaries.append(
            CandidateSummary(
                classifier=candidate.classifier,
                cv_auroc=_spread(problem, (one.settings[one.chosen].mean for one in own)),
                test=_metrics_over(problem, own),
                wins=sum(record.result.winner == candidate.classifier for record in records),
                is_final=False,
            )
        )
    return summaries


def _stability(
    problem: Problem, returns: Returns, records: Sequence[IterationRecord], n_consensus: int
) -> Stability:
    n_eligible = max(record.result.n_screened for record in records)
    chosen = np.zeros((len(records), max(n_eligible, returns.n_features)), np.bool_)
    chosen[:, : returns.n_features] = returns.selected
    nogueira = nogueira_stability(chosen)
    validation = problem.spec.validation
    bounds = bound_false_selections(
        chosen,
        threshold=max((problem.spec.consensus.min_confidence - 0.5) / 100, 0.505),
        training_fraction=1 - validation.test_fraction,
    )
    bound = bounds.meinshausen_buhlmann
    return Stability(
        nogueira=Estimate(
            value=nogueira.value,
            low=nogueira.low,
            high=nogueira.high,
            method="asymptotic",
            reason=nogueira.reason,
        ),
        expected_false=Estimate(value=bound.value, method=bound.assumptions, reason=bound.reason),
        n_consensus=n_consensus,
        n_ever_selected=returns.n_features,
    )


def _fit_consensus(
    problem: Problem, consensus: Sequence[Key]
) -> tuple[LogisticFit | None, dict[Key, OddsRatio]]:
    """Unpenalised logistic regression on the consensus features and the demographics, on all samples."""
    features = np.array([key for key in consensus if isinstance(key, int)], np.int64)
    everyone = np.ones(problem.cohort.n_samples, np.bool_)
    design = learn_design(problem, features, everyone)
    keys: list[Key] = [*features.tolist(), *design.demographic_names]
    if not len(features):
        return None, {}
    X = design.matrix(problem, everyone).toarray()
    names = [str(key) for key in keys]
    fit = fit_logistic(X, problem.y, names=names)
    table = odds_ratios(fit, X.std(axis=0, ddof=1), profile=profile_intervals(fit, X, problem.y))
    by_name = {row.name: row for row in table}
    dropped = {column.name: column.reason for column in fit.dropped}
    return fit, {
        key: _odds_ratio(by_name.get(name), dropped.get(name)) for key, name in zip(keys, names, strict=True)
    }


def _odds_ratio(row: Any, reason: str | None) -> OddsRatio:
    if row is None:
        return OddsRatio(per_unit=None, reason=reason or "not in the model")
    return OddsRatio(
        per_unit=row.odds_ratio,
        wald_low=row.wald_low,
        wald_high=row.wald_high,
        profile_low=row.profile_low,
        profile_high=row.profile_high,
        p_value=row.p_lr if row.p_lr is not None else row.p_wald,
        per_sd=row.odds_ratio_per_sd,
        per_sd_low=row.profile_low_per_sd if row.profile_low_per_sd is not None else row.wald_low_per_sd,
        per_sd_high=row.profile_high_per_sd if row.profile_high_per_sd is not None else row.wald_high_per_sd,
    )


def _describe(problem: Problem, fit: LogisticFit | None) -> dict[str, Any]:
    threshold = problem.spec.consensus.min_confidence
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
        "note": "The features were selected on the same patients: intervals and p values are post-selection, and too narrow."
        + (" Samples of one patient are taken as independent." if problem.cohort.has_repeats else ""),
    }


def _feature_results(
    problem: Problem, returns: Returns, consensus: Sequence[Key], ratios: dict[Key, OddsRatio]
) -> list[FeatureResult]:
    n_patients = problem.matrix.patients_per_column()
    frequency = returns.selected.mean(axis=0) if returns.n_features else np.empty(0)
    kept = set(consensus)
    features, demographics = [], []
    for position, key in enumerate(returns.keys):
        common: dict[str, Any] = {
            "confidence": returns.confidence_of(position),
            "in_consensus": key in kept,
            "odds_ratio": ratios.get(key),
        }
        if isinstance(key, str):
            demographics.append(
                FeatureResult(id=key, words=key, kind="demographic", selection_frequency=1.0, **common)
            )
            continue
        name = problem.name_of(key)
        n = int(n_patients[key // len(problem.aggregates)])
        shown = n if n >= problem.spec.report.min_cell else None
        features.append(
            FeatureResult(
                id=name.id,
                words=name.words,
                kind="feature",
                code=name.code,
                description=name.description,
                window_days=name.window_days,
                aggregate=name.aggregate,
                n_patients=shown,
                prevalence=None if shown is None else shown / problem.cohort.n_patients,
                selection_frequency=float(frequency[position]),
                median_rank=returns.median_rank(position),
                **common,
            )
        )
    return [*sorted(features, key=_surest_first), *demographics]


def _surest_first(feature: FeatureResult) -> tuple[int, int, float, str]:
    assert feature.confidence is not None
    return (
        -feature.confidence.score,
        -feature.confidence.n_seen,
        -feature.selection_frequency,
        feature.id,
    )


def _curves(records: Sequence[IterationRecord]) -> Curves:
    curves = [record.curves for record in records]
    models = np.array([own["decision"]["model"] for own in curves], dtype=np.float64)
    everyone = np.array([own["decision"]["treat_all"] for own in curves], dtype=np.float64)
    return Curves(
        roc=[
            {"x": own["roc"]["false_positive_rate"], "y": own["roc"]["true_positive_rate"]} for own in curves
        ],
        precision_recall=[{"x": own["pr"]["recall"], "y": own["pr"]["precision"]} for own in curves],
        calibration=[
            {
                "bins": own["calibration"]["bins"],
                "x": own["calibration"]["curve"]["predicted"],
                "y": own["calibration"]["curve"]["observed"],
                "histogram": own["calibration"]["histogram"],
            }
            for own in curves
        ],
        decision={
            "threshold": curves[0]["decision"]["thresholds"],
            "model": {
                "mean": _rounded(models.mean(axis=0)),
                "low": _rounded(models.min(axis=0)),
                "high": _rounded(models.max(axis=0)),
            },
            "all": _rounded(everyone.mean(axis=0)),
        },
    )


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 6) for value in values]
