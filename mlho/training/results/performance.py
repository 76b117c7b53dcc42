"""Performance of the final model: test metrics of models fitted like it, on patients outside their training data."""

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.method.evaluation.metrics import error_distribution
from mlho.method.stability.spread import mean_with_spread
from mlho.report.parts import Part
from mlho.report.result import (
    BiasAudit,
    CandidateIteration,
    Curves,
    Estimate,
    HorizonPerformance,
    RiskGroup,
    Spread,
    TestSet,
    TimeToEventPerformance,
)
from mlho.report.words import plural, possible
from mlho.spec.types import OMITTED
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.times import HorizonRecord, TimesRecord
from mlho.training.results.records import IterationRecord
from mlho.training.results.split_account import has_one_test_set, shown_samples

DISCRIMINATION: Final = ("auroc", "average_precision", "pr_integral", "brier", "scaled_brier", "log_loss")
CALIBRATION: Final = ("in_the_large", "intercept", "slope", "ici", "ece_equal_count", "brier")
OPERATING: Final = ("sensitivity", "specificity", "ppv", "npv", "alerts_per_100", "number_needed_to_evaluate")


class PerformanceRecord(Part):
    """The performance as numbers; :class:`mlho.report.result.Result` holds its parts."""

    classifier: str
    """Of the final model."""
    procedure: str
    test_sets: list[TestSet]
    headline: dict[str, Spread]
    headline_auroc: list[Estimate]
    curves: Curves
    errors: dict[str, Any]
    winners: dict[str, Spread]
    bias: BiasAudit | None = None
    time_to_event: Annotated[TimeToEventPerformance | None, OMITTED] = None


def judge_by_iterations(
    problem: Problem,
    records: Sequence[IterationRecord],
    classifier: str,
    mean_probabilities: NDArray[np.float64],
) -> PerformanceRecord:
    """Evaluate a classifier on ranked features by the test sets of the iterations.

    Parameters
    ----------
    records : sequence of IterationRecord
        In iteration order.
    mean_probabilities : float64, shape (n_samples,)
        Mean calibrated test probability of each sample by this classifier; ``NaN`` if it was never in a test set.
    """
    candidates = [_candidate(record, classifier) for record in records]
    sets = "one test set" if has_one_test_set(problem) else "test sets"
    return PerformanceRecord(
        classifier=classifier,
        procedure=f"{classifier} on the features ranked in each iteration, mean over the {sets} of {plural(len(records), 'iteration')}",
        test_sets=[
            _test_set(record, candidate) for record, candidate in zip(records, candidates, strict=True)
        ],
        headline=metrics_over(problem, [candidate.evaluation for candidate in candidates]),
        headline_auroc=[estimate_of(candidate.evaluation["figures"]["auroc"]) for candidate in candidates],
        curves=curves_over([record.curves[classifier] for record in records]),
        errors=errors_of(problem, mean_probabilities),
        winners=winners_of(problem, records),
        time_to_event=times_over(
            problem, [record.times[classifier] for record in records if record.times is not None]
        ),
    )


def winners_of(problem: Problem, records: Sequence[IterationRecord]) -> dict[str, Spread]:
    """Test metrics of the winners: the candidate with the best out-of-fold AUROC of each iteration."""
    winners = [_candidate(record, record.result.winner).evaluation for record in records]
    return metrics_over(problem, winners)


def errors_of(problem: Problem, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Distribution of |y − p| by outcome, over the samples with a probability."""
    tested = np.flatnonzero(~np.isnan(probabilities))
    tested = tested[problem.counted(tested, probabilities[tested])]
    errors = error_distribution(
        problem.y[tested],
        probabilities[tested],
        groups=problem.cohort.unit_of[tested],
        min_cell=problem.spec.report.min_cell,
    )
    return {name: distribution.to_json() for name, distribution in errors.items()}


def _candidate(record: IterationRecord, classifier: str) -> CandidateIteration:
    return next(candidate for candidate in record.result.candidates if candidate.classifier == classifier)


def _test_set(record: IterationRecord, candidate: CandidateIteration) -> TestSet:
    result = record.result
    return TestSet(
        name=f"iteration {result.iteration}",
        classifier=candidate.classifier,
        n_train_patients=result.n_train_patients,
        n_test_patients=result.n_test_patients,
        n_features=result.n_selected,
        thresholds={rule: report["threshold"] for rule, report in candidate.evaluation["thresholds"].items()},
    )


def estimate_of(plain: dict[str, Any]) -> Estimate:
    """Convert an estimate of an evaluation's JSON for the result."""
    return Estimate(**{name: plain[name] for name in ("value", "low", "high", "method", "reason")})


def spread_over(values: Iterable[float | None], test_fraction: float | None, metric: str) -> Spread:
    """Mean and spread of one metric over test sets, with the interval clipped to the range of the metric.

    Without ``test_fraction``, where the test sets are not random draws, there is no interval.
    """
    spread = mean_with_spread(list(values), test_fraction=test_fraction)
    return possible(metric, Spread(**{name: getattr(spread, name) for name in Spread.model_fields}))


def metrics_over(problem: Problem, evaluations: Sequence[dict[str, Any]]) -> dict[str, Spread]:
    """Test metrics over evaluations, one for each iteration. Calibration metrics are those of the calibrated probabilities.

    With one test set for all iterations the interval is the mean of the iterations' intervals. It reflects the
    sampling of that test set, not that of the training patients, whose spread is ``sd``.
    """
    rules = evaluations[0]["thresholds"]
    names = [
        *DISCRIMINATION,
        *(f"calibration_{name}" for name in CALIBRATION),
        *(f"{rule}/{name}" for rule in rules for name in OPERATING),
    ]
    flat = [figures_of(evaluation) for evaluation in evaluations]
    fraction = problem.spec.validation.drawn_fraction
    spreads = {
        name: spread_over((_value(figures.get(name)) for figures in flat), fraction, name) for name in names
    }
    if not has_one_test_set(problem):
        return spreads
    return {
        name: _with_mean_interval(spread, [figures.get(name) for figures in flat])
        for name, spread in spreads.items()
    }


def _with_mean_interval(spread: Spread, figures: Sequence[dict[str, Any] | None]) -> Spread:
    ends = [
        (figure["low"], figure["high"])
        for figure in figures
        if figure is not None and figure["value"] is not None
    ]
    if not ends or any(end is None for pair in ends for end in pair):
        return spread
    low, high = (math.fsum(side) / len(ends) for side in zip(*ends, strict=True))
    return spread.model_copy(update={"low": low, "high": high})


def figures_of(evaluation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the estimates of an evaluation under their headline names."""
    calibrated = evaluation["calibration"]["calibrated"]["figures"]
    return {
        **{name: evaluation["figures"][name] for name in DISCRIMINATION},
        **{f"calibration_{name}": calibrated[name] for name in CALIBRATION},
        **{
            f"{rule}/{name}": report["figures"][name]
            for rule, report in evaluation["thresholds"].items()
            for name in OPERATING
            if name in report["figures"]
        },
    }


def _value(figure: dict[str, Any] | None) -> float | None:
    return None if figure is None else figure["value"]


def curves_over(curves: Sequence[dict[str, Any]]) -> Curves:
    """One line per test set; the decision curve as mean, minimum and maximum.

    Parameters
    ----------
    curves : sequence of dict
        Output of :func:`mlho.training.results.records.record_curves`.
    """
    models = np.array([curve["decision"]["model"] for curve in curves], dtype=np.float64)
    everyone = np.array([curve["decision"]["treat_all"] for curve in curves], dtype=np.float64)
    return Curves(
        roc=[
            {"x": curve["roc"]["false_positive_rate"], "y": curve["roc"]["true_positive_rate"]}
            for curve in curves
        ],
        precision_recall=[{"x": curve["pr"]["recall"], "y": curve["pr"]["precision"]} for curve in curves],
        calibration=[
            {
                "bins": curve["calibration"]["bins"],
                "x": curve["calibration"]["curve"]["predicted"],
                "y": curve["calibration"]["curve"]["observed"],
                "histogram": curve["calibration"]["histogram"],
            }
            for curve in curves
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


def times_over(problem: Problem, records: Sequence[TimesRecord]) -> TimeToEventPerformance | None:
    """Figures of the time to an event over the test sets; None for a binary outcome."""
    times, asked = problem.times, problem.spec.cohort.time_to_event
    if times is None or asked is None:
        return None
    fraction = problem.spec.validation.drawn_fraction
    censored, events, competing = shown_samples(problem, [times.status == status for status in (0, 1, 2)])
    unknown = [
        shown_samples(problem, [times.status_at(days) == -1, times.status_at(days) != -1])[0]
        for days in asked.horizon_days
    ]
    return TimeToEventPerformance(
        n_events=events,
        n_competing=competing,
        n_censored=censored,
        n_unknown=unknown,
        median_days=float(np.median(times.days)),
        harrell=spread_over([record.harrell for record in records], fraction, "auroc"),
        uno=spread_over([record.uno for record in records], fraction, "auroc"),
        horizons=[
            _horizon_over([record.horizons[place] for record in records], fraction)
            for place in range(len(asked.horizon_days))
        ],
    )


def _horizon_over(records: Sequence[HorizonRecord], fraction: float | None) -> HorizonPerformance:
    names = ("auroc", "brier", "observed", "predicted", "observed_expected")
    n_groups = {len(record.groups) for record in records}
    return HorizonPerformance(
        days=records[0].days,
        figures={
            name: spread_over([getattr(record, name) for record in records], fraction, name) for name in names
        },
        groups=[_group_over([record.groups[place] for record in records]) for place in range(max(n_groups))]
        if len(n_groups) == 1
        else [],
    )


def _group_over(groups: Sequence[RiskGroup]) -> RiskGroup:
    observed = [group.observed for group in groups]
    known = [value for value in observed if value is not None]
    return RiskGroup(
        predicted=math.fsum(group.predicted for group in groups) / len(groups),
        observed=math.fsum(known) / len(known) if len(known) == len(observed) else None,
    )
