"""Comparison of two training runs: performance, features, specification, rows and codes."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.cohort.join import matching_rows
from mlho.encoding.cohort.labels import MISSING
from mlho.encoding.events.dictionary import Dictionary
from mlho.method.evaluation.auroc import auroc_of
from mlho.method.evaluation.bootstrap import one_by_one, percentile_estimate, replicates
from mlho.method.evaluation.metrics import brier_of, log_loss_of
from mlho.method.evaluation.tally import Tally, tally
from mlho.report.changes import (
    Changes,
    ChangesSince,
    CodeChange,
    ComparedRun,
    FeatureChange,
    FieldChange,
    PairedChange,
    PerformanceChange,
    RowChange,
    RunSize,
)
from mlho.report.comparison import MOST_ROWS, Comparison, turnover
from mlho.report.result import Estimate, FeatureResult, Result, Spread
from mlho.report.words import estimate, min_cell_of, plural, spread

N_REPLICATES: Final = 500
FEWEST: Final = 5  # patients with and without the outcome among the shared samples
_METRICS: Final = (
    "auroc",
    "average_precision",
    "brier",
    "log_loss",
    "calibration_slope",
    "calibration_in_the_large",
)
_Z: Final = 1.959963984540054  # 97.5 % quantile of the normal distribution
_COMPARED: Final = "compareWith."  # naming the earlier run changes no figure
_UNPAIRED: Final = "unpaired: from the intervals of both runs, treated as independent"


@dataclass(frozen=True, eq=False)
class RunFacts:
    """The compared parts of a run."""

    run: str
    name: str
    result_digest: str
    """Empty for the run that is being carried out."""
    result: Result
    cohort: Cohort
    dictionary: Dictionary
    tests: Sequence[Mapping[str, NDArray[Any]]] | None
    """For each iteration ``samples`` and their calibrated test probabilities by the final classifier, as ``probability``; None for a procedure
    without such."""


def compare_runs(a: RunFacts, b: RunFacts) -> Comparison:
    """Compare two training runs; a difference is B minus A, a ratio B by A."""
    changes = _changes(a, b)
    return Comparison(
        **dict(changes),
        a=compared_run(a),
        b=compared_run(b),
        summary=_summary(a, b, changes),
        files=_files(a.result.inputs, b.result.inputs),
    )


def changes_since(earlier: RunFacts, current: RunFacts) -> ChangesSince:
    """Return the changes since an earlier run, for the result of a run that is not finished."""
    changes = dict(_changes(earlier, current))
    day = (earlier.result.made_at or "")[:10]
    return ChangesSince(
        **changes | {"codes": changes["codes"][:MOST_ROWS]},
        run=earlier.run,
        result_digest=earlier.result_digest,
        note=f"{earlier.name}, computed on {day}" if day else earlier.name,
        earlier=_size(earlier.result),
        now=_size(current.result),
    )


def _changes(a: RunFacts, b: RunFacts) -> Changes:
    min_cell = max(min_cell_of(facts.result.lineage.spec) for facts in (a, b))
    performance = [
        _performance(name, a.result.headline[name], b.result.headline[name])
        for name in _METRICS
        if name in a.result.headline and name in b.result.headline
    ]
    codes, numbers = _codes(a, b, min_cell)
    return Changes(
        spec=_fields(a.result.lineage.spec, b.result.lineage.spec),
        rows=_rows(_event_rows(a.result), _event_rows(b.result)),
        label_rows=_rows(a.result.cohort.label_ledger, b.result.cohort.label_ledger),
        **numbers,
        codes=codes,
        features=_features(a.result.features, b.result.features),
        performance=performance,
        paired=_paired(a, b),
    )


def compared_run(facts: RunFacts) -> ComparedRun:
    """Return the part of a comparison that describes one run."""
    sizes = dict(_size(facts.result))
    return ComparedRun(**sizes, run=facts.run, name=facts.name, result_digest=facts.result_digest)


def _size(result: Result) -> RunSize:
    return RunSize(
        outcome=result.outcome,
        classifier=result.final_model.classifier,
        matrix_digest=result.lineage.matrix_digest,
        n_patients=result.cohort.n_patients,
        n_samples=result.cohort.n_samples,
        n_positive_samples=result.cohort.n_positive_samples,
        n_event_rows=result.ledger.rows_in,
        n_event_rows_used=result.ledger.rows_used,
    )


def _performance(metric: str, a: Spread, b: Spread) -> PerformanceChange:
    if a.mean is None or b.mean is None:
        return PerformanceChange(
            metric=metric, a=a, b=b, difference=Estimate(value=None, reason="one run has no value")
        )
    value, low, high = b.mean - a.mean, None, None
    if a.low is not None and a.high is not None and b.low is not None and b.high is not None:
        half = math.hypot((a.high - a.low) / 2, (b.high - b.low) / 2)
        low, high = value - half, value + half
    return PerformanceChange(
        metric=metric, a=a, b=b, difference=Estimate(value=value, low=low, high=high, method=_UNPAIRED)
    )


def _paired(a: RunFacts, b: RunFacts) -> PairedChange:
    """Compare both runs on the samples that both tested, with one bootstrap of patients for both."""
    if a.tests is None or b.tests is None:
        return _not_paired("a final model on the consensus has no test probability for each sample")
    if a.cohort.follow_up is not None or b.cohort.follow_up is not None:
        return _not_paired("the outcome is a time to an event, whose status is unknown for censored samples")
    first, second = _shared(a.cohort, b.cohort)
    if not first.size:
        return _not_paired("the runs share no sample")
    if (a.cohort.outcome[first] != b.cohort.outcome[second]).any():
        return _not_paired("the shared samples have different outcomes in the two runs")
    # A mean over more tests is more accurate: each sample has equally many in both runs.
    n_tests = np.minimum(_times(a)[first], _times(b)[second])
    first, second, n_tests = (array[n_tests > 0] for array in (first, second, n_tests))
    y, unit = a.cohort.outcome[first], a.cohort.unit_of[first]
    n_with, n_without = (n_distinct(unit[y == outcome]) for outcome in (1, 0))
    if min(n_with, n_without) < FEWEST:
        return _not_paired(
            f"fewer than {FEWEST} shared patients with or without the outcome were tested by both"
        )
    units = np.unique(unit, return_inverse=True)[1]
    return PairedChange(
        n_samples=int(first.size),
        n_patients=n_distinct(a.cohort.patient_of[first]),
        differences=_differences(
            y, _first_tests(a, b, first, n_tests), _first_tests(b, a, second, n_tests), units
        ),
    )


def _times(facts: RunFacts) -> NDArray[np.int64]:
    """Return the number of iterations that tested each sample."""
    tested = np.concatenate([np.empty(0, np.int64), *(test["samples"] for test in facts.tests or ())])
    return np.bincount(tested.astype(np.int64), minlength=facts.cohort.n_samples)


def _first_tests(
    a: RunFacts, b: RunFacts, samples: NDArray[np.int64], n_tests: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the mean probability of these samples of A over ``n_tests`` iterations each, those with a test set of B first."""
    at_most = np.zeros(a.cohort.n_samples, np.int64)
    at_most[samples] = n_tests
    of_b = {_test_set(test) for test in b.tests or ()}
    tests = sorted(a.tests or (), key=lambda test: (_test_set(test) not in of_b, _test_set(test)))
    return mean_probability(tests, "probability", len(at_most), at_most=at_most)[samples]


def _test_set(test: Mapping[str, NDArray[Any]]) -> bytes:
    return hashlib.blake2b(test["samples"].tobytes(), digest_size=16).digest()


def _not_paired(reason: str) -> PairedChange:
    return PairedChange(n_samples=0, n_patients=0, reason=reason)


def _shared(a: Cohort, b: Cohort) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the samples of the same patient and index date in both cohorts."""
    place = {patient: number for number, patient in enumerate(b.patient_ids)}
    in_b = np.array([place.get(patient, MISSING) for patient in a.patient_ids], np.int64)[a.patient_of]
    rows = matching_rows(b.patient_of, b.index_us, in_b, a.index_us)
    first = np.flatnonzero(rows != MISSING)
    return first, rows[first]


def _differences(
    y: NDArray[np.uint8], a: NDArray[np.float64], b: NDArray[np.float64], units: NDArray[np.int64]
) -> dict[str, Estimate]:
    tallies = [tally(y, p) for p in (a, b)]
    points = [_statistics(run_tally) for run_tally in tallies]
    asked = [(run_tally, one_by_one(_statistics)) for run_tally in tallies]
    drawn = replicates(asked, y == 1, units, n_replicates=N_REPLICATES, seed=0)
    found = {}
    for name in points[0]:
        before, after = points[0][name], points[1][name]
        assert before is not None  # both classes are there
        assert after is not None
        difference = percentile_estimate(after - before, drawn[1][name] - drawn[0][name])
        found[name] = Estimate(
            value=difference.value,
            low=difference.low,
            high=difference.high,
            method="paired bootstrap of patients",
            reason=difference.reason,
        )
    return found


def _statistics(t: Tally) -> dict[str, float | None]:
    has_both = t.n_positive_total > 0 and t.n_negative_total > 0
    return {"auroc": auroc_of(t) if has_both else None, "brier": brier_of(t), "log_loss": log_loss_of(t)}


def _features(a: Sequence[FeatureResult], b: Sequence[FeatureResult]) -> list[FeatureChange]:
    """Return the features that are stable in at least one run: those that enter, leave and stay."""
    before, after = {feature.id: feature for feature in a}, {feature.id: feature for feature in b}
    stable = [feature.id for feature in (*a, *b) if feature.in_consensus]
    changes = [_feature(before.get(name), after.get(name)) for name in dict.fromkeys(stable)]
    order = {"enters": 0, "leaves": 1, "stays": 2}
    return sorted(changes, key=lambda change: (order[change.change], not change.is_shifted, change.id))


def _feature(a: FeatureResult | None, b: FeatureResult | None) -> FeatureChange:
    found = [feature for feature in (b, a) if feature is not None]
    known = next((feature for feature in found if feature.description), found[0])
    was_in, is_in = a is not None and a.in_consensus, b is not None and b.in_consensus
    odds = [_odds(feature) for feature in (a, b)]
    ratio = _ratio(*odds)
    return FeatureChange(
        id=known.id,
        words=known.words,
        change="stays" if was_in and is_in else "enters" if is_in else "leaves",
        confidence_a=_confidence(a),
        confidence_b=_confidence(b),
        odds_ratio_a=odds[0],
        odds_ratio_b=odds[1],
        ratio=ratio,
        is_shifted=ratio.low is not None and ratio.high is not None and (ratio.low > 1 or ratio.high < 1),
    )


def _confidence(feature: FeatureResult | None) -> int | None:
    return None if feature is None or feature.confidence is None else feature.confidence.score


def _odds(feature: FeatureResult | None) -> Estimate:
    odds = None if feature is None else feature.odds_ratio
    if odds is None or odds.per_unit is None:
        reason = "not in the consensus model" if odds is None else odds.reason
        return Estimate(value=None, reason=reason)
    return Estimate(value=odds.per_unit, low=odds.wald_low, high=odds.wald_high, method="Wald")


def _ratio(a: Estimate, b: Estimate) -> Estimate:
    if a.value is None or b.value is None or min(a.value, b.value) <= 0:
        return Estimate(value=None, reason="an odds ratio in both consensus models is needed")
    value = math.log(b.value / a.value)
    errors = [_standard_error(odds_ratio) for odds_ratio in (a, b)]
    if None in errors:
        return Estimate(value=math.exp(value), reason="an interval is missing")
    half = _Z * math.hypot(*(error for error in errors if error is not None))
    return Estimate(
        value=math.exp(value), low=math.exp(value - half), high=math.exp(value + half), method=_UNPAIRED
    )


def _standard_error(odds_ratio: Estimate) -> float | None:
    """Return the standard error of the log of an odds ratio with a Wald interval."""
    if (
        odds_ratio.low is None
        or odds_ratio.high is None
        or odds_ratio.low <= 0
        or not math.isfinite(odds_ratio.high)
    ):
        return None
    return math.log(odds_ratio.high / odds_ratio.low) / (2 * _Z)


def _fields(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[FieldChange]:
    before, after = _flat(a), _flat(b)
    return [
        FieldChange(field=name, a=before.get(name), b=after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name) and not name.startswith(_COMPARED)
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return the fields of nested mappings by their path."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, field in value.items():
        found |= _flat(field, f"{prefix}.{name}" if prefix else name)
    return found


def _files(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[str]]:
    before, after = (
        {file["key"]: file["version"] for file in manifest.get("files", [])} for manifest in (a, b)
    )
    return {
        "only in A": sorted({*before} - {*after}),
        "only in B": sorted({*after} - {*before}),
        "other content": sorted(key for key in {*before} & {*after} if before[key] != after[key]),
    }


def _event_rows(result: Result) -> dict[str, int | None]:
    ledger = result.ledger
    return {
        "read": ledger.rows_in,
        "used": ledger.rows_used,
        **{rule.rule: rule.rows for rule in ledger.rules},
    }


def _rows(a: Mapping[str, int | None], b: Mapping[str, int | None]) -> list[RowChange]:
    names = dict.fromkeys([*a, *b])
    return [
        RowChange(rule=name, a=a.get(name, 0), b=b.get(name, 0))
        for name in names
        if a.get(name, 0) != b.get(name, 0)
    ]


def _codes(a: RunFacts, b: RunFacts, min_cell: int) -> tuple[list[CodeChange], dict[str, int]]:
    """Return the codes whose rows differ, and how many are in one run only, or not named.

    Only codes of features that enough patients have are named: a text in place of a code may have many rows of one patient.
    """
    before, after = (
        dict(zip(facts.dictionary.codes, facts.dictionary.rows_by_code.tolist(), strict=True))
        for facts in (a, b)
    )
    features = (*a.result.features, *b.result.features)
    enough = {
        feature.code
        for feature in features
        if feature.n_patients is not None and feature.n_patients >= min_cell
    }
    differing = [code for code in {*before, *after} if before.get(code, 0) != after.get(code, 0)]
    named = [
        code
        for code in differing
        if code in enough and max(before.get(code, 0), after.get(code, 0)) >= min_cell
    ]
    named.sort(key=lambda code: (-abs(before.get(code, 0) - after.get(code, 0)), code))

    def shown(n: int) -> int | None:
        return None if 0 < n < min_cell else n

    changes = [
        CodeChange(code=code, a=shown(before.get(code, 0)), b=shown(after.get(code, 0))) for code in named
    ]
    return changes, {
        "codes_only_a": len({*before} - {*after}),
        "codes_only_b": len({*after} - {*before}),
        "codes_not_named": len(differing) - len(named),
    }


def _summary(a: RunFacts, b: RunFacts, changes: Changes) -> list[str]:
    paired, said = changes.paired, []
    if a.result.outcome != b.result.outcome:
        said.append(f"The runs have different outcomes: {a.result.outcome} and {b.result.outcome}.")
    is_same = a.result.lineage.matrix_digest == b.result.lineage.matrix_digest
    said.append(
        "Both runs were trained on the same matrix."
        if is_same
        else "The runs were trained on different matrices."
    )
    if changes.performance:
        auroc = changes.performance[0]
        said.append(f"AUROC: {spread(auroc.a, 3)} in A, {spread(auroc.b, 3)} in B.")
    if paired.reason is not None:
        said.append(f"There is no paired difference: {paired.reason}. The difference is unpaired.")
    else:
        said.append(
            f"On {plural(paired.n_samples, 'sample')} tested in both runs, the difference in AUROC (B minus A) is "
            f"{estimate(paired.differences['auroc'], 3)}."
        )
        if any(change.field == "validation.seed" for change in changes.spec):
            said.append(
                "The runs have different seeds: the interval does not include the variation between splits."
            )
    n_shifted = sum(feature.is_shifted for feature in changes.features)
    said.append(
        f"Stable features: {turnover(changes)}; the odds ratio differs between the runs for {n_shifted or 'none'}."
    )
    return said


def final_tests(
    result: Result, scores: Iterable[Mapping[str, NDArray[Any]]]
) -> list[Mapping[str, NDArray[Any]]] | None:
    """Return the test samples of each iteration and their probabilities by the final classifier; ``None`` for a final model on the consensus."""
    if not any(candidate.is_final for candidate in result.candidates):
        return None
    name = result.final_model.classifier
    return [{"samples": test["samples"], "probability": test[name]} for test in scores]


def mean_probability(
    arrays: Iterable[Mapping[str, NDArray[Any]]],
    classifier: str,
    n_samples: int,
    *,
    at_most: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Return the mean test probability of each sample over iterations.

    Parameters
    ----------
    arrays : iterable of mapping
        For each iteration ``samples`` (int, the test samples) and their probabilities by classifier.
    at_most : int64, shape (n_samples,), optional
        Number of tests of each sample that count, the first ones. Default: all.

    Returns
    -------
    float64, shape (n_samples,)
        ``NaN`` for a sample that no iteration tested.
    """
    total, times = np.zeros(n_samples), np.zeros(n_samples)
    for iteration in arrays:
        samples, probability = iteration["samples"], iteration[classifier]
        if at_most is not None:
            counts = times[samples] < at_most[samples]
            samples, probability = samples[counts], probability[counts]
        total[samples] += probability
        times[samples] += 1
    mean = np.full(n_samples, np.nan)
    np.divide(total, times, out=mean, where=times > 0)
    return mean
