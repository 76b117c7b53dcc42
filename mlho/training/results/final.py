"""The final model: fitted on all samples, calibrated on out-of-fold scores."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NumericColumn
from mlho.encoding.cohort.demographics import NumberCode
from mlho.encoding.cohort.levels import UNKNOWN
from mlho.errors import DataError
from mlho.method.classifiers import FittedClassifier, classifier_named
from mlho.method.evaluation.auroc import auroc, auroc_estimate
from mlho.method.evaluation.calibration import PlattCalibrator, fit_calibrator, fit_line_of, logit_of
from mlho.method.evaluation.metrics import Estimate
from mlho.method.evaluation.tally import tally
from mlho.method.evaluation.thresholds import Threshold, alerting
from mlho.method.selection.features import OF_NUMBERS, VALUES, known_values, n_with_value
from mlho.model.design import samples_per_column
from mlho.model.evidence import Evidence, GroupFigure, associations_of
from mlho.model.golden import ColumnStatistics
from mlho.model.parts import RiskHorizon, TrainingSamples, Vocabulary
from mlho.report.result import Spread, ThresholdResult
from mlho.report.words import percent, rule_words
from mlho.spec.features import EVENT_VALUES, utilisation_names
from mlho.training.iterations.design import Design, learn_design
from mlho.training.iterations.folds import CrossValidation
from mlho.training.iterations.iteration import fit_chosen, thresholds_of
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.selection import cells_of
from mlho.training.iterations.splits import FINAL
from mlho.training.iterations.times import fit_horizons
from mlho.training.results.performance import PerformanceRecord
from mlho.training.results.summary import SummaryRecord

_SHARED: Final = 0.01  # of the samples; fewer with one score hardly move a decile or an alert rate
#: Largest plausible ratio of the alert rates of the final model and of the models on the test sets; as in a scoring run.
_MAX_RATIO: Final = 2.0
_PERCENTILES: Final = (5, 50, 95)  # a new unit moves all; some values in another unit move the outer ones
MAX_CODES: Final = 10_000  # of a bundle's vocabulary: about 300 KB


@dataclass(frozen=True)
class FinalModel:
    """The published model and its training data."""

    classifier: str
    cv: CrossValidation
    """Over all samples; for a model on the consensus, the scores of its classifier and setting in the outer folds."""
    cv_auroc: Estimate
    """Out-of-fold AUROC, clustered by patient if patients have several samples."""
    design: Design
    X: Any
    """The training matrix. CSC, or CSR for trees, shape (n_samples, n_features + n_demographics)."""
    model: FittedClassifier
    calibrator: PlattCalibrator
    """Fitted on the out-of-fold scores."""
    expected: NDArray[np.float64]
    """Calibrated probabilities of ``cv.samples`` as expected of new samples; see :func:`expected_scores`."""
    thresholds: list[Threshold]
    """Chosen on the expected probabilities."""
    horizons: tuple[RiskHorizon, ...] = ()
    """With a time to an event."""


def fit_final(
    problem: Problem, classifier: str, features: NDArray[np.int64], cv: CrossValidation
) -> FinalModel:
    """Fit the final model on all samples.

    Parameters
    ----------
    features : int64, shape (n_features,)
        Ranked features on all samples, or the consensus; empty for a model on demographics alone.
    cv : CrossValidation
        Source of the setting and the out-of-fold scores.
    """
    everyone = np.ones(problem.cohort.n_samples, np.bool_)
    design = learn_design(problem, features, everyone).with_absent(classifier_named(classifier).absent)
    X = design.matrix(problem, everyone)
    model = fit_chosen(problem, classifier, cv, design, X, everyone, FINAL)
    counted = problem.counted(cv.samples, cv.scores)
    samples, scores = cv.samples[counted], cv.scores[counted]
    calibrator = fit_calibrator(problem.y[samples], scores)
    expected = expected_scores(
        np.asarray(calibrator.apply(model.predict_proba(X))),
        cv.samples,
        np.asarray(calibrator.apply(cv.scores)),
        min_cell=problem.spec.report.min_cell,
    )
    return FinalModel(
        classifier=classifier,
        cv=cv,
        cv_auroc=auroc_estimate(problem.y[samples], scores, groups=problem.cohort.unit_of[samples]),
        design=design,
        X=X,
        model=model,
        calibrator=calibrator,
        expected=expected,
        thresholds=thresholds_of(problem, problem.y[samples], expected[counted]),
        horizons=_horizons(problem, cv),
    )


def _horizons(problem: Problem, cv: CrossValidation) -> tuple[RiskHorizon, ...]:
    asked = problem.spec.cohort.time_to_event
    if asked is None:
        return ()
    calibrators = fit_horizons(problem, cv)
    return tuple(
        RiskHorizon(days=days, calibrator=calibrator)
        for days, calibrator in zip(asked.horizon_days, calibrators, strict=True)
    )


def consensus_features(problem: Problem, summary: SummaryRecord) -> NDArray[np.int64]:
    """Return the features of a final model on the consensus; empty if the model uses demographics only.

    Raises
    ------
    DataError
        No feature has sufficient confidence, and there are no demographics: nothing is left to fit.
    """
    if not summary.consensus_features and not problem.cohort.demographics:
        raise DataError(
            "final.features",
            "no feature is stable, and there are no demographics",
            expected=f"a feature with a confidence score of {problem.spec.consensus.min_confidence} or more",
            got="none",
            remedy="Lower consensus.minConfidence, set final.features: ranking, or give features.demographics.",
        )
    return np.array(summary.consensus_features, np.int64)


def evidence_of(
    problem: Problem,
    final: FinalModel,
    performance: PerformanceRecord,
    features: Sequence[str],
    statistics: Sequence[ColumnStatistics],
) -> Evidence:
    """Return coarse figures of the training data and of the out-of-fold scores.

    Parameters
    ----------
    performance : PerformanceRecord
        Performance of models fitted like the final one.
    features : sequence of str
        Ids of the model's features, in column order.
    """
    y, cv, demographics = problem.y, final.cv, final.design.demographics
    counted = problem.counted(cv.samples, cv.scores)
    calibrated = np.asarray(final.calibrator.apply(cv.scores[counted]))
    y_known = y[cv.samples[counted]]
    known = tally(y_known, calibrated)
    line = fit_line_of(known, logit_of(known))
    slope = line.slope if line.reason is None else None
    own_scores = final.model.predict_proba(final.X)
    everyone = problem.counted(np.arange(len(y)), own_scores)
    is_calibrated = final.calibrator.reason is None
    is_number = [encoding.is_value for encoding in final.design.encodings]
    if demographics is not None:
        is_number += [
            isinstance(code, NumberCode) and not place
            for code in demographics.codes
            for place in range(len(code.names))
        ]
    return Evidence(
        associations=associations_of(
            final.X,
            y,
            (*features, *final.design.demographic_names),
            statistics,
            is_number=np.array(is_number, np.bool_),
            is_value=final.model.value_columns,
            n_patients=problem.cohort.n_patients,
            min_cell=problem.spec.report.min_cell,
        ),
        groups=tuple(
            GroupFigure(group.by, group.level, figure.value, figure.high)
            for group in ([] if performance.bias is None else performance.bias.groups[1:])
            if (figure := group.figures.get("auroc")) is not None and figure.value is not None
        ),
        outcome_rate=round(float(np.mean(y_known)), 3) if is_calibrated else None,
        mean_probability=round(float(np.mean(calibrated)), 3) if is_calibrated else None,
        slope=round(slope, 3) if is_calibrated and slope is not None else None,
        own_auroc=round(auroc(y[everyone], own_scores[everyone]), 3),
        unseen_auroc=None if final.cv_auroc.value is None else round(final.cv_auroc.value, 3),
    )


def training_samples(problem: Problem, final: FinalModel) -> TrainingSamples:
    """Describe the training samples by figures that a scoring run can compare with its own."""
    windows: Collection[int] = {
        problem.window_of(column) for column in problem.column_of(final.design.features).tolist()
    }
    if problem.spec.features.utilisation:
        windows = range(problem.n_windows)
    n_empty = problem.cohort.n_samples - int(problem.matrix.has_events(windows).sum())
    share = n_empty / problem.cohort.n_samples if n_empty >= problem.spec.report.min_cell else 0.0
    return TrainingSamples(
        without_events=round(share, 2) if windows else None,
        alert_rates=_alert_rates(final),
        n_samples=problem.cohort.n_samples,
        prevalence=_prevalence(problem, final),
        deciles=tuple(
            np.round(np.quantile(final.expected, np.arange(1, 10) / 10, method="inverted_cdf"), 4).tolist()
        ),
        missing=_missing(problem) | _without_value(problem, final),
        values=_values(problem, final) or None,
        codes=_vocabulary(problem, max(windows)) if windows else None,
    )


def _alert_rates(final: FinalModel) -> dict[str, float]:
    """Return the share of new samples that each threshold is expected to flag."""
    return {
        rule: round(float(np.mean(final.expected >= value)), 3)
        for rule, value in alerting(final.thresholds).items()
    }


def threshold_results(
    thresholds: Iterable[Threshold], training: TrainingSamples | None
) -> list[ThresholdResult]:
    """Return the thresholds of a model, with their alert rates, in the form of the result."""
    rates = {} if training is None else training.alert_rates
    return [
        ThresholdResult(**vars(threshold), alert_rate=rates.get(threshold.rule)) for threshold in thresholds
    ]


def alert_warnings(thresholds: Iterable[Mapping[str, Any]], headline: Mapping[str, Spread]) -> Iterator[str]:
    """Yield a warning for each threshold at which the final model alerts far more or less often than the models of the test sets."""
    for threshold in thresholds:
        rule, rate = threshold["rule"], threshold["alert_rate"]
        tested = headline.get(f"{rule}/alerts_per_100")
        if rate is None or tested is None or tested.mean is None:
            continue
        if max(100 * rate, tested.mean) > _MAX_RATIO * min(100 * rate, tested.mean):
            yield (
                f"Threshold “{rule_words(rule)}”: the final model is expected to flag {percent(rate)} of new samples; the models on the test sets flagged "
                f"{percent(tested.mean / 100)}. Their figures do not apply to this threshold, most often because many samples share a score."
            )


def expected_scores(
    own: NDArray[np.float64], samples: NDArray[np.int64], outside: NDArray[np.float64], *, min_cell: int
) -> NDArray[np.float64]:
    """Return the probabilities that are expected of samples like those of training.

    A model gives one probability to all samples with equal features, new ones included; out of fold, such samples have one for each
    fold. Samples that share a probability with many others therefore get that of the model. The others keep their out-of-fold
    probability, because those of a model for its own samples are more extreme.

    Parameters
    ----------
    own : float64, shape (n_samples,)
        Probabilities of the model for its own samples.
    samples : int64, shape (n_scored,)
        Place of each sample with an out-of-fold probability.
    outside : float64, shape (n_scored,)
        Out-of-fold probabilities.
    min_cell : int
        Smallest number of samples that count as many.
    """
    _, place, counts = np.unique(np.round(own, 9), return_inverse=True, return_counts=True)
    least = max(min_cell, math.ceil(_SHARED * len(own)))
    return np.where(counts[place[samples]] >= least, own[samples], outside)


def _missing(problem: Problem) -> dict[str, float]:
    """Return the share of the samples without a value, for each demographic; a count below the minimum cell is raised to it."""
    n, least = problem.cohort.n_samples, problem.spec.report.min_cell
    computed = utilisation_names(problem.spec.windows) if problem.spec.features.utilisation else ()
    counts = {
        column.name: int(np.isnan(column.values).sum())
        if isinstance(column, NumericColumn)
        else int((column.codes == column.levels.index(UNKNOWN)).sum() if UNKNOWN in column.levels else 0)
        for column in problem.cohort.demographics
        if column.name not in computed
    }
    return {name: _rounded_up(max(count, min(least, n)) / n, 4) for name, count in counts.items()}


def _without_value(problem: Problem, final: FinalModel) -> dict[str, float]:
    """Return the share of the samples without a value, for each feature that has values; see :func:`_missing`.

    The training matrix does not show it: for linear models, a value equal to the median and a missing value are both stored as zero.
    """
    n, least = problem.cohort.n_samples, problem.spec.report.min_cell
    return {
        problem.name_of(feature).id: _rounded_up(max(n - count, min(least, n)) / n, 4)
        for feature, count in _with_value(problem, final).items()
        if count >= least
    }


def _with_value(problem: Problem, final: FinalModel) -> dict[int, int]:
    """Return the number of samples with a value of each feature that has a number."""
    features = final.design.features
    features = features[
        np.array([problem.aggregate_of(feature) in OF_NUMBERS for feature in features.tolist()], np.bool_)
    ]
    counts = [n_with_value(cells) for cells in cells_of(problem, features, None)]
    return dict(zip(features.tolist(), counts, strict=True))


def _values(problem: Problem, final: FinalModel) -> dict[str, tuple[tuple[float, float], ...]]:
    """Return the bounds of the values of each feature that is a value of an event, and the share of its values above each."""
    aggregates = EVENT_VALUES & VALUES
    features = [
        feature for feature in final.design.features.tolist() if problem.aggregate_of(feature) in aggregates
    ]
    cells = cells_of(problem, np.array(features, np.int64), None)
    found = {
        problem.name_of(feature).id: value_bounds(known_values(of_feature), problem.spec.report.min_cell)
        for feature, of_feature in zip(features, cells, strict=True)
    }
    return {name: bounds for name, bounds in found.items() if bounds}


def value_bounds(values: NDArray[np.float64], least: int) -> tuple[tuple[float, float], ...]:
    """Return bounds near percentiles of values, and the share of the values above each.

    A bound is halfway between two values, so that equal values with other rounding errors are on the same side.

    Parameters
    ----------
    least : int
        Smallest number of values on either side of a bound.

    Examples
    --------
    >>> value_bounds(np.repeat([0.8, 0.9, 1.0, 1.5], [10, 50, 30, 10]), 5)
    ((0.85, 0.9), (0.95, 0.4), (1.25, 0.1))
    """
    different, counts = np.unique(values, return_counts=True)
    up_to = np.cumsum(counts)
    found: dict[float, float] = {}
    for percent_below in _PERCENTILES:
        place = min(int(np.searchsorted(100 * up_to, percent_below * len(values))), len(different) - 2)
        if place < 0:
            continue
        bound = float(f"{(different[place] + different[place + 1]) / 2:.4g}")
        n_above = int((values > bound).sum())
        if least <= n_above <= len(values) - least:
            found[bound] = round(n_above / len(values), 4)
    return tuple(found.items())


def _vocabulary(problem: Problem, window: int) -> Vocabulary | None:
    """Return the share of the samples with each code in a window; None with a roll-up, whose map scoring has for features only."""
    if problem.concepts.parents:
        return None
    n, least, asked = problem.cohort.n_samples, problem.spec.report.min_cell, problem.spec.features
    columns = slice(window, None, problem.n_windows)
    counts = problem.matrix.samples_per_column()[columns]
    is_shown = problem.matrix.patients_per_column()[columns] >= least
    order = np.lexsort((np.arange(len(counts)), -counts))
    listed = order[is_shown[order]][:MAX_CODES]
    is_listed = np.isin(np.arange(len(counts)), listed)
    most = int(counts[~is_listed].max(initial=min(least, n)))
    return Vocabulary(
        floor=_rounded_up(most / n, 6),
        shares={
            problem.codes[place]: round(min(int(counts[place]), max(n - least, 0)) / n, 6)
            for place in sorted(listed.tolist())
        },
        include=asked.include,
        exclude=asked.exclude,
    )


def _rounded_up(share: float, digits: int) -> float:
    """Return a share that is rounded up, and at most 1.

    Examples
    --------
    >>> _rounded_up(11 / 300, 4), _rounded_up(0.25, 4)
    (0.0367, 0.25)
    """
    scale = 10.0**digits
    return min(1.0, math.ceil(round(share * scale, 6)) / scale)


def _prevalence(problem: Problem, final: FinalModel) -> tuple[float | None, ...]:
    """Return the share of the samples with each feature; None for a small cell."""
    n, least = problem.cohort.n_samples, problem.spec.report.min_cell
    features = final.design.features.tolist()
    of_values = {
        feature: count
        for feature, count in _with_value(problem, final).items()
        if problem.aggregate_of(feature) in VALUES
    }
    stored = samples_per_column(final.X)[: len(features)].tolist()
    counts = [of_values.get(feature, count) for feature, count in zip(features, stored, strict=True)]
    return tuple(round(count / n, 4) if least <= count <= n - least else None for count in counts)
