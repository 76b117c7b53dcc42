"""Answers that follow from the result of a run."""

from collections.abc import Callable
from functools import wraps

from mlho.report import words
from mlho.report.dossier.items import METADATA, Answer, Facts, Gap, Source
from mlho.report.verdicts import sample_size_of

_N_LISTED = 8


def _described(attribute: str, field: str, section: str = "") -> Source:
    """Return the source that reads a field of ``metadata``, which the report also shows."""

    def source(facts: Facts) -> Answer | Gap:
        text = getattr(facts.result.about, attribute)
        return Gap(METADATA + field) if text is None else Answer(text, METADATA + field, section)

    return source


title = _described("title", "title")
purpose = _described("description", "description")
intended_use = _described("intended_use", "intendedUse")
outcome_definition = _described("outcome_definition", "outcomeDefinition", "cohort")
follow_up = _described("follow_up", "followUp", "cohort")


def _from(evidence: str, section: str = "") -> Callable[[Callable[[Facts], str | Gap]], Source]:
    """Make a source of a function that returns a text; see :class:`~mlho.report.dossier.items.Answer` for the arguments."""

    def decorate(text_of: Callable[[Facts], str | Gap]) -> Source:
        @wraps(text_of)
        def source(facts: Facts) -> Answer | Gap:
            text = text_of(facts)
            return text if isinstance(text, Gap) else Answer(text, evidence, section)

        return source

    return decorate


@_from("result.json: summary")
def summary(facts: Facts) -> str:
    """Return the summary of the report."""
    return " ".join(facts.result.summary)


@_from("result.json: cohort", "cohort")
def population(facts: Facts) -> str:
    """Return the size of the cohort and the number of patients with the outcome."""
    cohort = facts.result.cohort
    return (
        f"{words.plural(cohort.n_samples, 'sample')} of {words.plural(cohort.n_patients, 'patient')}; "
        f"{words.plural(cohort.n_positive_patients, 'patient')} with the outcome."
    )


@_from("result.json: cohort.index_dates", "cohort")
def dates(facts: Facts) -> str:
    """Return the period of the index dates."""
    if not facts.result.predictive and not words.after_of(facts.result):
        return "There is no index date: all records of a patient are used."
    if (period := facts.result.cohort.index_dates) is None:
        return "The index dates are not shown: too few patients."
    return f"Index dates from {period.first} to {period.last} (year and month)."


@_from("result.json: cohort.attrition", "cohort")
def attrition(facts: Facts) -> str:
    """Return the number of samples after each rule of the cohort."""
    steps = facts.result.cohort.attrition
    text = "; ".join(f"{step.rule}: {words.counted(step.samples)} samples" for step in steps)
    return f"Samples remaining after each step: {text}."


@_from("result.json: cohort.characteristics", "cohort")
def characteristics(facts: Facts) -> str | Gap:
    """Return which characteristics the report compares between patients with and without the outcome."""
    names = list(dict.fromkeys(characteristic.name for characteristic in facts.result.cohort.characteristics))
    if not names:
        return Gap("features.demographics")
    return (
        f"{', '.join(names[:_N_LISTED])}: by outcome, with standardised mean differences and missing values."
    )


@_from("result.json: ledger", "ledger")
def preparation(facts: Facts) -> str:
    """Return the account of the event rows, and the data quality checks with findings."""
    ledger = facts.result.ledger
    dropped = sorted((rule for rule in ledger.rules if rule.rows), key=lambda rule: -rule.rows)
    rules = "; ".join(f"{rule.rule}: {words.count(rule.rows)}" for rule in dropped[:_N_LISTED])
    return (
        f"{words.plural(ledger.rows_in, 'event row')}, of which {words.count(ledger.rows_used)} are used. Dropped rows by rule: "
        f"{rules or 'none'}. Every row is accounted for.{_checked(facts)}"
    )


def _checked(facts: Facts) -> str:
    checks = facts.result.quality.checks
    found = [check.check for check in checks if check.n_findings]
    named = f": {', '.join(found)}" if found else ""
    return f" Data quality checks with findings: {len(found)} of {len(checks)}{named}."


@_from("docs/method.md", "cohort")
def missing_values(facts: Facts) -> str:
    """Return how missing values are handled."""
    return (
        "A code that is not recorded counts as absent. A missing category becomes the level “unknown”; a missing number is replaced by the "
        "median of the training patients, and an indicator of missingness is added."
    )


@_from("result.json: lineage.spec.features, lineage.spec.selection", "features")
def predictors(facts: Facts) -> str:
    """Return the predictors and how they are selected."""
    result, spec = facts.result, facts.result.lineage.spec
    features = spec["features"]
    demographics = ", ".join(features["demographics"]) or "none"
    return (
        f"Recorded codes as {', '.join(features['aggregates'])}, from {words.window(result)}; demographics: {demographics}. Codes present in "
        f"at least {words.percent(spec['selection']['minPrevalence'])} of the training patients are ranked "
        f"({spec['selection']['ranking']}), and the {spec['selection']['nFeatures']} highest-ranked are used."
    )


@_from("result.json: cohort, final_model, lineage.spec", "cohort")
def sample_size(facts: Facts) -> str:
    """Return the number of samples of the rarer outcome for each column of the final model, and whether the sample is large enough."""
    cohort, model = facts.result.cohort, facts.result.final_model
    n_columns = max(1, model.n_features + model.n_demographics)
    per_column = min(cohort.n_positive_samples, cohort.n_samples - cohort.n_positive_samples) / n_columns
    return (
        f"All {words.count(cohort.n_samples)} eligible samples are used: {words.number(per_column, 1)} samples with the rarer outcome for each "
        f"column of the final model. {sample_size_of(facts.result).sentences}"
    )


@_from("result.json: lineage.spec", "lineage")
def methods(facts: Facts) -> str:
    """Return models, tuning and internal validation."""
    spec = facts.result.lineage.spec
    validation = spec["validation"]
    names = ", ".join(candidate["classifier"] for candidate in spec["candidates"])
    return (
        f"Candidates: {names}. {words.plural(validation['iterations'], 'iteration')} of a train/test split "
        f"({validation['split']}), each with nested {validation['folds']}-fold cross-validation; features and settings are chosen on "
        f"training patients only (scope of the selection: {spec['selection']['scope']}). Scores are calibrated on out-of-fold predictions."
    )


@_from("docs/method.md")
def imbalance(facts: Facts) -> str:
    """Return how unequal class sizes are handled."""
    return "Neither resampling nor class weights are used: the probabilities reflect the observed frequency of the outcome."


@_from("result.json: bias", "performance")
def evaluated_groups(facts: Facts) -> str | Gap:
    """Return which groups are evaluated separately."""
    bias = facts.result.bias
    names = [] if bias is None else bias.columns
    if not names:
        return Gap("features.demographics")
    return f"Performance is reported by {', '.join(names)}, with 95 % intervals; small groups are not shown."


@_from("result.json: bias", "performance")
def group_performance(facts: Facts) -> str | Gap:
    """Return the AUROC of each group that is shown."""
    groups = [] if facts.result.bias is None else facts.result.bias.groups[1:]
    if not groups:
        return Gap("features.demographics")
    parts = [
        f"{group.by} {group.level}: {words.estimate(group.figures['auroc'])}"
        for group in groups
        if "auroc" in group.figures
    ]
    n_hidden = sum("auroc" not in group.figures for group in groups)
    hidden = f" {words.plural(n_hidden, 'group')} not shown: too few patients." if n_hidden else ""
    return f"AUROC by group: {'; '.join(parts) or 'none can be shown'}.{hidden}"


@_from("result.json: final_model.thresholds", "model")
def output(facts: Facts) -> str:
    """Return the output of the model and its thresholds."""
    thresholds = facts.result.final_model.thresholds
    text = "; ".join(
        f"{threshold.rule}: {words.ABSENT if threshold.value is None else words.number(threshold.value, 3)}"
        for threshold in thresholds
    )
    return f"A calibrated probability of the outcome for each sample. Thresholds: {text}."


@_from("result.json: headline", "performance")
def performance(facts: Facts) -> str:
    """Return discrimination, overall error and calibration with intervals."""
    headline = facts.result.headline
    shown = ("auroc", "average_precision", "brier", "calibration_slope", "calibration_in_the_large")
    text = "; ".join(
        f"{words.metric_name(name)} {words.spread(headline[name])}" for name in shown if name in headline
    )
    return f"In held-out patients: {text}. {facts.result.procedure}"


@_from("result.json: final_model; bundle/", "model")
def specification(facts: Facts) -> str:
    """Return how the model can be obtained and checked."""
    model = facts.result.final_model
    return (
        f"{model.classifier} with {words.plural(model.n_features, 'feature')} and {words.plural(model.n_demographics, 'demographic column')}. "
        f"Coefficients or trees, dictionary, calibrator and tests are in the bundle with digest {model.bundle_digest}."
    )


@_from("result.json: lineage", "lineage")
def code(facts: Facts) -> str:
    """Return software versions and the facts that make the result reproducible."""
    lineage = facts.result.lineage
    versions = ", ".join(f"{name} {version}" for name, version in sorted(lineage.versions.items()))
    return (
        f"{versions}. Specification {lineage.spec_digest[:16]}…, matrix {lineage.matrix_digest[:16]}…, seed {lineage.seed}: equal inputs give "
        "equal bytes."
    )


@_from("result.json: stability", "stability")
def stability(facts: Facts) -> str:
    """Return how stable the selected features are."""
    stable = facts.result.stability
    return f"Stability of the selection (Nogueira) {words.estimate(stable.nogueira)}; {words.plural(stable.n_consensus, 'feature')} in the consensus."


@_from("result.json: warnings", "limits")
def warnings(facts: Facts) -> str:
    """Return the warnings of the run."""
    text = " ".join(facts.result.warnings) or "The run has no warnings."
    if not facts.result.predictive:
        text = f"{words.capitalized(words.NOT_PREDICTIVE)}. {text}"
    return text


@_from("result.json: lineage.spec.features.demographics", "features")
def sensitive_inputs(facts: Facts) -> str:
    """Return which demographics are inputs of the model."""
    names = facts.result.lineage.spec["features"]["demographics"]
    return f"Demographics that are inputs: {', '.join(names)}." if names else "No demographics are inputs."


@_from("result.json: final_model.tests", "model")
def model_tests(facts: Facts) -> str:
    """Return how many of the tests in the bundle passed."""
    tests = facts.result.final_model.tests
    n_passed = sum(test.passed for test in tests)
    return f"{n_passed} of the model's {words.plural(len(tests), 'test')} passed."
