"""Content of the report's sections: from a Result to formatted text and rows. Pure functions."""

import math
from collections.abc import Mapping
from typing import Any, Final

from mlho.report import words
from mlho.report.figures.evaluations import tried_thresholds
from mlho.report.page import cells
from mlho.report.result import FalseFeatures, LaterEvaluation, Result
from mlho.report.words import DASH

MAX_FEATURES: Final = 2000  # rows of the feature table: more would exceed the page's limit of 2 MB

UNREMARKABLE: Final = ("fitted", "converged")  # shown only if false
FACT_NAMES: Final = {"n_samples": "Samples", "n_positive": "Samples with the outcome"}

MAX_FILES: Final = 30  # rows of the input table; result.json has all

LOWEST_SHOWN: Final = 20  # confidence score; below it most features are selected by chance

Rows = list[tuple[str, ...]]

OPERATING: Final = (
    ("sensitivity", 2),
    ("specificity", 2),
    ("ppv", 2),
    ("npv", 2),
    ("alerts_per_100", 1),
    ("number_needed_to_evaluate", 1),
)
COMPARED: Final = (
    "auroc",
    "average_precision",
    "brier",
    "log_loss",
    "calibration_slope",
    "calibration_ici",
)  # metrics of the candidates


def tiles(result: Result) -> list[dict[str, str]]:
    """Return the key figures at the top: label, value, and context."""
    cohort, stability = result.cohort, result.stability
    return [
        {
            "label": "Patients",
            "value": words.count(cohort.n_patients),
            "more": f"{words.share(cohort.n_positive_patients, cohort.n_patients)} with the outcome",
        },
        _spread_tile(result, "auroc", "AUROC on held-out patients"),
        _spread_tile(result, "calibration_slope", "Calibration slope (1 is ideal)"),
        {
            "label": "Stability of selection (0 to 1)",
            "value": words.ABSENT
            if stability.nogueira.value is None
            else words.number(stability.nogueira.value),
            "more": f"on permuted labels {words.number(stability.permuted.value)}"
            if stability.permuted.value is not None
            else (stability.permuted.reason or words.ABSENT),
        },
        {"label": "Stable features", "value": words.count(stability.n_consensus), "more": _stable_of(result)},
    ]


def _stable_of(result: Result) -> str:
    """State how many features were ever selected, as context for the stable ones; demographics enter the model without selection."""
    n = words.n_stable_demographics(result.features)
    of = f"of {words.count(result.stability.n_ever_selected)} ever selected"
    return f"{words.count(result.stability.n_consensus - n)} {of}, {words.count(n)} demographic" if n else of


def _spread_tile(result: Result, metric: str, label: str) -> dict[str, str]:
    figure = result.headline.get(metric)
    if figure is None or figure.mean is None:
        return {"label": label, "value": words.ABSENT, "more": "no test set has a value"}
    ends = words.ends(figure.low, figure.high)
    more = f"95{words.THIN}% CI {ends}" if ends else f"no interval: {words.plural(figure.n, 'test set')}"
    return {"label": label, "value": words.number(figure.mean), "more": more}


def headline(result: Result) -> Rows:
    """Return the test metrics of models fitted like the final one, in reading order."""
    rows = []
    for key in words.metric_order([key for key in result.headline if "/" not in key]):
        spread = result.headline[key]
        name = cells.with_note(words.metric_name(key), words.metric_meaning(key))
        ends = [
            DASH if v is None else words.number(v, 3) for v in (spread.minimum, spread.maximum, spread.sd)
        ]
        counted = words.count(spread.n) + (
            f" ({words.count(spread.n_absent)} without)" if spread.n_absent else ""
        )
        rows.append((name, cells.spread_cell(spread), *ends, counted))
    return rows


def winners(result: Result) -> Rows:
    """Return AUROC and calibration of the best candidate of each iteration, which is another procedure."""
    return [
        (words.metric_name(key), cells.spread_cell(result.winners[key]))
        for key in ("auroc", "average_precision", "brier", "calibration_slope")
        if key in result.winners
    ]


def operating_points(result: Result) -> dict[str, Any] | None:
    """Return the results at the thresholds on the test sets; None if no threshold was applied."""
    rules = sorted({key.partition("/")[0] for key in result.headline if "/" in key})
    if not rules:
        return None
    tried = tried_thresholds(result)
    rows = [
        (
            words.rule_words(rule),
            _range_cell(tried.get(rule, [])),
            *(
                cells.spread_cell(result.headline.get(f"{rule}/{metric}"), digits)
                for metric, digits in OPERATING
            ),
        )
        for rule in rules
    ]
    return {"columns": ("Rule", "Threshold", *(words.metric_name(m) for m, _ in OPERATING)), "rows": rows}


def _range_cell(values: list[float]) -> str:
    """Format the mean of single values, with minimum and maximum below."""
    if not values:
        return words.ABSENT
    ends = words.ends(min(values), max(values), 3) if len(values) > 1 else ""
    return cells.with_note(words.number(math.fsum(values) / len(values), 3), ends)


def consensus_words(result: Result) -> str:
    """Describe the classifier and the score that define the consensus."""
    consensus = result.lineage.spec.get("consensus", {})
    if "minConfidence" not in consensus:
        return ""
    found = result.stability.false_features
    threshold = consensus["minConfidence"] if found is None else found.min_confidence
    return f"A feature with a score of {threshold} or more (from {consensus.get('classifier', 'the consensus classifier')}) is called stable and enters the consensus model."


def facts(values: Mapping[str, Any]) -> Rows:
    """Format names and values of a flat mapping. Lists of text are joined; nested values appear only in result.json."""
    rows: Rows = []
    for name, value in sorted(values.items()):
        shown = "" if name in UNREMARKABLE and value is True else _fact(value)
        if shown:
            rows.append((FACT_NAMES.get(name, name.replace("_", " ").capitalize()), shown))
    return rows


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return words.count(value)
    if isinstance(value, float):
        return words.number(value, 3 if abs(value) < 100 else 1)
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    return ""


def stability_facts(result: Result) -> Rows:
    """Return the stability of the selection."""
    stability = result.stability
    rows: Rows = [
        ("Stability (Nogueira 2018)", words.estimate(stability.nogueira)),
        ("Stability on permuted labels", words.estimate(stability.permuted)),
        ("Upper bound on falsely selected features", words.estimate(stability.expected_false, 1)),
        ("Stable (in the consensus)", words.stable_features(result)),
        ("Selected at least once", words.plural(stability.n_ever_selected, "feature")),
    ]
    if stability.false_features is not None:
        rows.append(("Stable features expected to have no effect", expected_false(stability.false_features)))
    return rows


def expected_false(found: FalseFeatures) -> str:
    """Describe how many features of the consensus are expected to be false, and at which score."""
    if found.expected.value is None:
        return words.estimate(found.expected)
    share = "" if found.share is None else f" ({words.percent(found.share, 0)})"
    chosen = (
        ""
        if found.max_share is None
        else f", chosen to keep the share at or below {words.percent(found.max_share, 0)}"
    )
    return (
        f"{words.count(found.expected.value)}{share} at a confidence score of {found.min_confidence}{chosen}; estimated with shadow "
        "features: copies of the screened columns, permuted among patients"
    )


def confidence_levels(result: Result) -> Rows:
    """Return the features kept at other thresholds on the confidence score, strictest first."""
    found = result.stability.false_features
    if found is None:
        return []
    return [
        (str(level.min_confidence), words.count(level.n_features), words.count(level.expected_false))
        for level in reversed(found.levels)
        if level.min_confidence >= LOWEST_SHOWN
    ]


def candidates(result: Result) -> dict[str, Any]:
    """Return the table of candidates with every test metric that any of them has."""
    metrics = [
        metric for metric in COMPARED if any(metric in candidate.test for candidate in result.candidates)
    ]
    rows = []
    for candidate in result.candidates:
        figures = [cells.spread_cell(candidate.test.get(metric)) for metric in metrics]
        name = f"{candidate.classifier} (final model)" if candidate.is_final else candidate.classifier
        rows.append((name, words.count(candidate.wins), cells.spread_cell(candidate.cv_auroc), *figures))
    return {
        "columns": ("Candidate", "Wins", "Out-of-fold AUROC", *map(words.metric_name, metrics)),
        "rows": rows,
    }


def error_notes(result: Result) -> str:
    """Return the reasons why parts of the error distribution are hidden."""
    reasons = {
        group["reason"] for group in result.errors.values() if isinstance(group, dict) and group.get("reason")
    }
    return words.capitalized("; ".join(sorted(reasons))) + "." if reasons else ""


def model_facts(result: Result) -> Rows:
    """Return the properties of the final model."""
    model = result.final_model
    setting = ", ".join(f"{name} {value}" for name, value in sorted(model.setting.items())) or "defaults"
    return [
        ("Classifier", f"{model.classifier} ({setting})"),
        (
            "Columns",
            f"{words.plural(model.n_features, 'feature')} and {words.plural(model.n_demographics, 'demographic column')}",
        ),
        ("Out-of-fold AUROC", words.estimate(model.cv_auroc, 3)),
        ("Calibrator", _calibrator_words(model.calibrator)),
        ("Bundle", model.bundle_digest),
    ]


def _calibrator_words(calibrator: Mapping[str, Any]) -> str:
    if calibrator.get("reason"):
        return f"none ({calibrator['reason']})"
    return f"logistic on the logit: intercept {words.number(calibrator['intercept'], 3)}, slope {words.number(calibrator['slope'], 3)}"


def thresholds(result: Result) -> Rows:
    """Return the thresholds of the final model."""
    return [
        (
            words.rule_words(threshold.rule),
            words.number(threshold.value, 4)
            if threshold.value is not None
            else f"{words.ABSENT} ({threshold.reason or 'no reason given'})",
            words.ABSENT if threshold.alert_rate is None else words.percent(threshold.alert_rate),
        )
        for threshold in result.final_model.thresholds
    ]


def split_rows(result: Result) -> dict[str, Any] | None:
    """Return the role of every sample in each test set; None where test sets are drawn."""
    split = result.split
    if split is None:
        return None
    rules = [part.rule for part in split.test_sets[0].left_out]
    rows = [
        (
            test_set.name,
            *map(
                words.counted,
                (test_set.n_test_samples, test_set.n_test_positive_samples, test_set.n_train_samples),
            ),
            *(words.counted(part.samples) for part in test_set.left_out),
        )
        for test_set in split.test_sets
    ]
    window = (
        f" Outcome windows are {words.plural(split.follow_up_days, 'day')} long."
        if split.follow_up_days is not None
        else ""
    )
    return {
        "columns": (
            "Test set",
            "Tested",
            "With the outcome",
            "For training",
            *(f"Left out: {rule}" for rule in rules),
        ),
        "rows": rows,
        "note": f"{_each(split.iterations_each)} on a test set leaves out "
        f"{words.percent(split.left_out_fraction, 0)} of the training patients at random.{window}",
    }


def _each(n: int) -> str:
    return "The iteration" if n == 1 else f"Each of the {words.plural(n, 'iteration')}"


def later_rows(result: Result) -> dict[str, Any] | None:
    """Return the figures of the temporal check and of the drawn test sets; None without a check."""
    later = result.later
    if later is None:
        return None
    keys = [key for key in words.metric_order([*later.figures]) if "/" not in key]
    rows = [
        (
            cells.with_note(words.metric_name(key), words.metric_meaning(key)),
            cells.spread_cell(result.headline.get(key)),
            words.brief(later.figures[key]),
        )
        for key in keys
    ]
    return {"rows": rows, "note": later_words(later)}


def later_words(later: LaterEvaluation) -> str:
    """Describe the temporal check, or the reason why it has no figures."""
    if later.account is None:
        return f"There is no evaluation on later patients: {later.reason}."
    account = later.account
    left_out = "; ".join(
        f"{part.rule}: {words.counted(part.samples)}" for part in account.left_out if part.samples != 0
    )
    return (
        f"Index dates from {later.test_from} onwards: {words.counted(account.n_test_samples)} samples, {words.counted(account.n_test_positive_samples)} with the "
        f"outcome. The final model's setting was fitted once on {words.counted(account.n_train_samples)} earlier samples. Left out of both: "
        f"{left_out or 'none'}."
    )


def lineage_facts(result: Result) -> Rows:
    """Return the provenance of the result."""
    lineage = result.lineage
    rows: Rows = [
        ("Specification", lineage.spec_digest),
        ("Matrix", lineage.matrix_digest),
        ("Result", result.result_digest),
        ("Seed", str(lineage.seed)),
        ("Method", lineage.method),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(lineage.versions.items()))),
    ]
    seconds = math.fsum(
        stage.get("seconds", 0.0) for stage in result.timing.values() if isinstance(stage, dict)
    )
    if seconds:
        rows.append(("Time", f"{words.number(seconds, 1)} s of work over all tasks"))
    return rows


def left_out(result: Result) -> list[str]:
    """Return a sentence for each table whose folder contains files that were not read."""
    return [
        f"{words.plural(facts['files'], 'file')} in the folder of {table} {'was' if facts['files'] == 1 else 'were'} not read: "
        + ", ".join(facts["first"])
        + (", and others." if facts["files"] > len(facts["first"]) else ".")
        for table, facts in result.inputs.get("left_out", {}).items()
    ]


def input_files(result: Result) -> tuple[Rows, int]:
    """Return the files that were read (key, bytes, version token), and the number of further ones in result.json."""
    files = result.inputs.get("files", [])
    rows: Rows = [
        (str(file.get("key", "")), words.count(file.get("size", 0)), str(file.get("version", "")))
        for file in files[:MAX_FILES]
    ]
    return rows, max(0, len(files) - MAX_FILES)


def iteration_rows(result: Result) -> Rows:
    """Return the sizes and the winner of each iteration."""
    return [
        (
            str(i.iteration) if i.test_set is None else cells.with_note(str(i.iteration), i.test_set),
            words.count(i.n_train_patients),
            words.count(i.n_test_patients),
            words.count(i.n_train_samples),
            words.count(i.n_test_samples),
            words.count(i.n_screened),
            words.count(i.n_selected),
            i.winner,
        )
        for i in result.iterations
    ]
