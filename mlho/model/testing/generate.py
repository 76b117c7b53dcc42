"""Writes the tests of a bundle: from the model, the evidence of the training data, and the specification."""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlho.encoding.cohort.demographics import CategoryCode
from mlho.method.evaluation.thresholds import FIXED_RATE, FIXED_SENSITIVITY, Threshold, values_by_rule
from mlho.model.design import monotone_directions
from mlho.model.evidence import Evidence
from mlho.model.scorer import Scorer
from mlho.model.testing.events import known_numbers
from mlho.model.testing.records import Level, ModelTest
from mlho.model.testing.rows import FAULTS, dictionary_lines, scoring_record
from mlho.model.testing.subject import Subject
from mlho.printable import printable
from mlho.spec.model_tests import Tests

MAX_AUROC: Final = 0.95  # above it, leakage is more likely than a good model
HIGH_FLOOR: Final = (
    0.9  # of the AUROC; a specification with such a floor expects a model that is better than most
)
#: Largest loss of AUROC of the model on its own training samples, compared with models not trained on them.
MAX_LOST_AUROC: Final = 0.02
#: Largest gap between the mean calibrated probability and the share with the outcome; a correct fit leaves none.
MAX_GAP: Final = 0.01
SLOPE: Final = (0.9, 1.1)  # of the outcome on calibrated out-of-fold scores; 1 after a correct fit
WIDE_SLOPE: Final = (0.5, 2.0)
MAX_GROUP_LOSS: Final = 0.1
MIN_SPREAD: Final = 1e-3  # of the log-odds
MAX_AGAINST: Final = 0.05  # share of rows in which a risk factor may move the score against its direction
MAX_ROUNDING: Final = 1e-5  # of the log-odds: trees add float32 numbers
MAX_ALERTS: Final = 90.0  # of 100 samples
MAX_CARD_BYTES: Final = 200_000
_MB: Final = 1024**2
_ALL_YEARS: Final = (dt.MINYEAR, dt.MAXYEAR)

_ROWS: Final = (
    ("scores.golden", "golden-scores", "Synthetic rows get their stored scores, to the last bit."),
    (
        "scores.calibrated",
        "golden-calibration",
        "Stored scores are calibrated as they were, to the last bit.",
    ),
    (
        "scores.columns",
        "golden-columns",
        "Each column alone has the effect that it had when the model was built.",
    ),
    ("rows.single", "single-rows", "A row has the same score alone and in a batch, to the last bit."),
    ("rows.order", "row-order", "The order of rows does not change a score."),
    ("rows.sparse", "sparse-rows", "A sparse and a dense matrix give the same scores, to the last bit."),
    ("scores.range", "score-range", "Every score is strictly between 0 and 1."),
    ("missing.features", "empty-row", "A sample without any feature gets a score between 0 and 1."),
    ("scores.order", "calibration-order", "Calibration keeps the order of scores."),
)
_EVENTS: Final = (
    ("events.ids", "patient-ids", "Patient ids do not change a score."),
    ("events.order", "event-order", "The order of events does not change a score."),
    ("events.partitions", "partitions", "The partitions of the patients do not change a score."),
    ("events.unknown-code", "unknown-code", "A code outside the dictionary is ignored and counted."),
    ("impossible.no-time", "no-time", "An event without a time is ignored."),
    ("impossible.year", "implausible-time", "An event in an impossible year is ignored."),
    ("impossible.no-code", "missing-column", "Events without a column of codes are refused."),
)
_BUDGETS: Final = (
    ("reasons.number", "reasons", "An alert has at most this many reasons, each with distinct wording."),
    ("reasons.length", "reason-lengths", "A reason in words has at most this many characters."),
    ("size.card", "card-size", "The model card has at most this many bytes."),
    ("size.bundle", "bundle-size", "The bundle has at most this many bytes."),
    ("cost.seconds", "seconds", "Scores and reasons of 1,000 rows take at most this many seconds."),
    (
        "cost.memory",
        "memory",
        "Scores and reasons of 1,000 rows need at most this many MB of additional memory.",
    ),
)


def generate_tests(
    bundle: Scorer,
    evidence: Evidence | None = None,
    requirements: Tests | None = None,
    monotone: Mapping[str, str] | None = None,
) -> tuple[ModelTest, ...]:
    """Return the tests of a bundle, in the order in which they run.

    Parameters
    ----------
    bundle : Scorer
        The bundle, without its tests.
    evidence : Evidence, optional
        Evidence from the training data; without it, the tests that need it are left out.
    requirements : Tests, optional
        The section ``tests`` of the specification.
    monotone : mapping of code or demographic to ``increasing`` or ``decreasing``, optional
        Declared directions.
    """
    tests = [
        *_rows(bundle),
        *_stored(bundle),
        *_events(bundle),
        *_demographics(bundle),
        *_directions(evidence or Evidence()),
        *_monotone(bundle, monotone or {}),
        *_figures(bundle, evidence or Evidence(), requirements or Tests()),
        *_interface(bundle, requirements or Tests()),
        *_cases(requirements or Tests()),
    ]
    return tuple(tests)


def _test(
    id_: str, kind: str, meaning: str, expected: Any = "holds", level: Level = "defect", **rest: Any
) -> ModelTest:
    return ModelTest(id=id_, kind=kind, level=level, meaning=meaning, expected=expected, **rest)


def _rows(bundle: Scorer) -> Iterator[ModelTest]:
    for id_, kind, meaning in _ROWS:
        yield _test(id_, kind, meaning)
    yield _test("scores.spread", "spread", "The scores of synthetic rows differ.", MIN_SPREAD, "expected")
    meaning = "The contributions of a row add up to its log-odds."
    yield _test("reasons.sum", "contributions", meaning, 0.0, tolerance=1e-6)
    is_value = bundle.classifier.value_columns
    for fault, (words, _) in FAULTS.items():
        if fault == "nan" and is_value is not None and is_value.all():
            continue  # NaN is allowed in every column
        meaning, inputs = f"A row with {words} is refused.", {"fault": fault}
        yield _test(f"impossible.{fault}", "refused-rows", meaning, "refused", inputs=inputs)
    if bundle.classifier.coefficients() is not None:
        meaning = "A higher value of a column moves the score in the direction of its coefficient."
        yield _test("directions.coefficients", "coefficient-directions", meaning)
        meaning = "The dictionary states the coefficients of the model."
        yield _test("dictionary.coefficients", "dictionary-coefficients", meaning)


def _stored(bundle: Scorer) -> Iterator[ModelTest]:
    files = {name: fact.sha256 for name, fact in bundle.document.files.items() if name.startswith("model/")}
    yield _test("model.files", "model-files", "The files of the model are those that were built.", files)
    rules = values_by_rule(bundle.thresholds)
    yield _test("thresholds.stored", "thresholds", "The thresholds are those chosen for this model.", rules)
    scoring = scoring_record(bundle.document)
    meaning = "Index, gap, duplicates, plausible years and the parents of codes are those of training."
    yield _test("scoring.rules", "scoring-rules", meaning, scoring)
    lines = dictionary_lines(bundle.document)
    yield _test("dictionary.columns", "dictionary", "The columns are those of training, in order.", lines)


def _events(bundle: Scorer) -> Iterator[ModelTest]:
    yield _test("missing.events", "no-events", "A patient without any event gets a score between 0 and 1.")
    subject = Subject(bundle)
    if not subject.rows:
        return
    numbers = known_numbers(subject, subject.inputs)
    meaning = "Events of synthetic patients are encoded as in training, to the last bit."
    yield _test("dictionary.encoding", "encoding", meaning, numbers)
    for id_, kind, meaning in _EVENTS:
        if kind == "unknown-code" and bundle.document.scoring.utilisation:
            continue  # utilisation counts the rows of all codes
        if kind == "implausible-time" and bundle.document.scoring.plausible_years == _ALL_YEARS:
            continue
        yield _test(id_, kind, meaning)
    if subject.has_index:
        yield _test("events.after-index", "after-index", "An event after the index date is ignored.")


def _demographics(bundle: Scorer) -> Iterator[ModelTest]:
    encoder = bundle.demographics
    if encoder is not None and any(isinstance(code, CategoryCode) for code in encoder.codes):
        meaning = "A category that did not occur in training gets a score between 0 and 1."
        yield _test("missing.levels", "unseen-levels", meaning)


def _directions(evidence: Evidence) -> Iterator[ModelTest]:
    for number, association in enumerate(evidence.associations, start=1):
        words = "raises" if association.direction == "higher" else "lowers"
        yield _test(
            f"directions.strong-{number:02d}",
            "direction",
            f"A higher value of {_short(association.column)} {words} the mean score, and does the opposite in at most 5 % of the rows.",
            association.direction,
            "expected",
            tolerance=MAX_AGAINST,
            inputs={"column": association.column, "from": association.low, "to": association.high},
        )


def _monotone(bundle: Scorer, declared: Mapping[str, str]) -> Iterator[ModelTest]:
    columns = bundle.columns
    for column, direction in zip(columns, monotone_directions(columns, declared).tolist(), strict=True):
        if direction:
            yield _test(
                f"directions.monotone.{_short(column)}",
                "monotone",
                f"A higher {_short(column)} never {'lowers' if direction > 0 else 'raises'} the score, as declared.",
                "higher" if direction > 0 else "lower",
                "required",
                tolerance=MAX_ROUNDING,
                inputs={"column": column},
            )


def _short(text: str, length: int = 160) -> str:
    flat = printable(" ".join(text.split()))
    return flat if len(flat) <= length else flat[: length - 1] + "…"


def _figures(bundle: Scorer, evidence: Evidence, requirements: Tests) -> Iterator[ModelTest]:
    metrics, floors = bundle.document.metrics, requirements.floors
    auroc = ("auroc", "low", {"min": 0.5})
    bad = "It may rank patients by risk no better than chance. Check the outcome, the index date and the number of patients with the outcome."
    if floors.auroc is not None:
        auroc = ("auroc", "mean", {"min": floors.auroc})
        bad = "It ranks patients by risk less well than tests.floors.auroc requires. Check the outcome, the index date and the features."
    bounds = [("floor.auroc", auroc, floors.auroc, bad)]
    if floors.auroc is None or floors.auroc < HIGH_FLOOR:
        leak = "Its AUROC is implausibly high for a clinical prediction: a feature may reveal the outcome."
        bounds.append(("ceiling.auroc", ("auroc", "mean", {"max": MAX_AUROC}), None, leak))
    if floors.average_precision is not None:
        asked = ("average_precision", "mean", {"min": floors.average_precision})
        bad = "Too few of its alerts are correct."
        bounds.append(("floor.average-precision", asked, floors.average_precision, bad))
    for id_, (name, statistic, expected), floor, defect in bounds:
        if floor is None and name not in metrics:
            continue  # a bundle that was never evaluated
        inputs = {"metric": name, "statistic": statistic, "defect": defect}
        meaning = f"The {statistic if statistic == 'mean' else statistic + 'er bound of the'} {name} on the test sets is within its bounds."
        yield _test(id_, "metric", meaning, expected, _level(floor), inputs=inputs)
    yield from _slope(bundle, requirements)
    yield from _recorded(evidence)
    yield from _groups(bundle, evidence, requirements)


def _level(required: object) -> Level:
    return "expected" if required is None else "required"


def _slope(bundle: Scorer, requirements: Tests) -> Iterator[ModelTest]:
    slope, asked = bundle.document.metrics.get("calibration_slope"), requirements.floors.calibration_slope
    if slope is None and asked is None:
        return
    meaning = "The calibration slope on the test sets is within its bounds."
    defect = "Its probabilities are too extreme or too moderate."
    if asked is not None:
        inputs = {"metric": "calibration_slope", "statistic": "mean", "defect": defect}
        bounds = {"min": asked[0], "max": asked[1]}
        yield _test("floor.calibration", "metric", meaning, bounds, "required", inputs=inputs)
        return
    for end, expected in (("high", {"min": WIDE_SLOPE[0]}), ("low", {"max": WIDE_SLOPE[1]})):
        inputs = {"metric": "calibration_slope", "statistic": end, "defect": defect}
        yield _test(f"floor.calibration-{end}", "metric", meaning, expected, "expected", inputs=inputs)


def _recorded(evidence: Evidence) -> Iterator[ModelTest]:
    def recorded(
        id_: str, figure: str, value: float, expected: dict[str, float], meaning: str, defect: str
    ) -> ModelTest:
        inputs = {"figure": figure, "value": value, "defect": defect}
        return _test(id_, "recorded", meaning, expected, "expected", inputs=inputs)

    wrong = "The calibrator was not fitted on this model's scores."
    rate, mean = evidence.outcome_rate, evidence.mean_probability
    if rate is not None and mean is not None:
        bounds = {"min": rate - MAX_GAP, "max": rate + MAX_GAP}
        meaning = "The mean calibrated out-of-fold probability equals the share of samples with the outcome."
        yield recorded("calibration.mean", "mean probability", mean, bounds, meaning, wrong)
    if evidence.slope is not None:
        bounds = {"min": SLOPE[0], "max": SLOPE[1]}
        meaning = "The calibration slope of the calibrated out-of-fold probabilities is 1."
        yield recorded("calibration.slope", "slope", evidence.slope, bounds, meaning, wrong)
    if evidence.own_auroc is not None and evidence.unseen_auroc is not None:
        bounds = {"min": evidence.unseen_auroc - MAX_LOST_AUROC}
        meaning = "The model ranks its own training samples at least as well as models that were not trained on them."
        defect = "The final fit is broken: its columns are swapped, its labels or sign are wrong, or trees are missing."
        yield recorded("fit.own-samples", "AUROC", evidence.own_auroc, bounds, meaning, defect)


def _groups(bundle: Scorer, evidence: Evidence, requirements: Tests) -> Iterator[ModelTest]:
    asked, auroc = requirements.floors.group_auroc, bundle.document.metrics.get("auroc")
    overall = auroc.get("mean") if isinstance(auroc, dict) else None
    least = asked if asked is not None else None if overall is None else overall - MAX_GROUP_LOSS
    if least is None:
        return
    seen: set[str] = set()
    for figure in evidence.groups:
        group = _short(f"{figure.name}: {figure.level}", 100)
        if group in seen:
            continue  # two levels that differ only in the part not shown
        seen.add(group)
        value = figure.high if asked is None else figure.mean
        if value is None:
            continue  # without an interval, chance alone lets a small group miss the default floor
        bad = f"It ranks patients poorly in the group {group}."
        statistic = "high" if asked is None else "mean"
        inputs = {"figure": "AUROC", "value": value, "statistic": statistic, "defect": bad}
        meaning = f"The AUROC in the group {group} is not far below that of all patients."
        yield _test(f"groups.{group}", "recorded", meaning, {"min": least}, _level(asked), inputs=inputs)


def _interface(bundle: Scorer, requirements: Tests) -> Iterator[ModelTest]:
    budgets, training = requirements.budgets, bundle.document.training
    level: Level = "required" if budgets != type(budgets)() else "expected"
    rates = {} if training is None else training.alert_rates
    for threshold in sorted(bundle.thresholds, key=lambda threshold: threshold.rule):
        rule, asked = threshold.rule, budgets.alerts_per_100
        if rule not in rates:
            continue
        most_alerts = _most_alerts(threshold) if asked is None else asked
        meaning = f"The threshold {rule} flags some of 100 samples, but not too many."
        yield _test(
            f"alerts.{rule}", "alerts", meaning, {"max": most_alerts}, _level(asked), inputs={"rule": rule}
        )
    most = {
        "reasons": budgets.reasons,
        "reason-lengths": budgets.reason_length,
        "card-size": MAX_CARD_BYTES,
        "bundle-size": budgets.bundle_mb * _MB,
        "seconds": budgets.seconds_per_1000,
        "memory": budgets.memory_mb,
    }
    for id_, kind, meaning in _BUDGETS:
        yield _test(id_, kind, meaning, most[kind], level)


def _most_alerts(threshold: Threshold) -> float:
    """Return the default bound on the alerts per 100 samples.

    The alerts of a fixed sensitivity follow from the sensitivity that is specified. A fixed alert rate with a reason cannot be reached,
    because samples share the highest score.
    """
    if threshold.rule.startswith(FIXED_SENSITIVITY):
        return 100.0
    if threshold.rule.startswith(FIXED_RATE) and threshold.reason is None:
        return min(200 * float(threshold.rule.removeprefix(FIXED_RATE)), MAX_ALERTS)
    return MAX_ALERTS


def _cases(requirements: Tests) -> Iterator[ModelTest]:
    for case in requirements.cases:
        sides = {name: getattr(case, name).model_dump(mode="json") for name in ("higher", "lower")}
        meaning = f"Clinical case: {_short(case.name)}."
        yield _test(f"cases.{_short(case.name)}", "case", meaning, "a higher score", "required", inputs=sides)
