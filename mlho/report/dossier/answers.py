"""Answers that follow from the result of a run."""

from typing import Any

from mlho.report import words
from mlho.report.dossier.items import METADATA, Answer, Facts, Gap, Source

_N_LISTED = 8


def _described(attribute: str, field: str, section: str = "") -> Source:
    """Return the source that is a field of ``metadata`` which the report shows too."""

    def source(facts: Facts) -> Answer | Gap:
        text = getattr(facts.result.about, attribute)
        return Gap(METADATA + field) if text is None else Answer(text, METADATA + field, section)

    return source


title = _described("title", "title")
purpose = _described("description", "description")
intended_use = _described("intended_use", "intendedUse")
outcome_definition = _described("outcome_definition", "outcomeDefinition", "cohort")
follow_up = _described("follow_up", "followUp", "cohort")


def summary(facts: Facts) -> Answer | Gap:
    """Return the summary of the report."""
    return Answer(" ".join(facts.result.summary), "result.json: summary")


def population(facts: Facts) -> Answer | Gap:
    """Return the size of the cohort and the number of patients with the outcome."""
    cohort = facts.result.cohort
    return Answer(
        f"{words.plural(cohort.n_samples, 'sample')} of {words.plural(cohort.n_patients, 'patient')}; "
        f"{words.plural(cohort.n_positive_patients, 'patient')} with the outcome.",
        "result.json: cohort",
        "cohort",
    )


def dates(facts: Facts) -> Answer | Gap:
    """Return the period of the index dates."""
    found = facts.result.cohort.index_dates
    if not facts.result.predictive:
        text = "There is no index date: all records of a patient count."
    elif found is None:
        text = "The index dates are not shown: too few patients."
    else:
        text = f"Index dates from {found.first} to {found.last} (year and month)."
    return Answer(text, "result.json: cohort.index_dates", "cohort")


def attrition(facts: Facts) -> Answer | Gap:
    """Return the number of samples after each rule of the cohort."""
    steps = facts.result.cohort.attrition
    text = "; ".join(
        f"{words.rule_words(step.rule)}: {words.HIDDEN if step.samples is None else words.count(step.samples)} samples"
        for step in steps
    )
    return Answer(f"Samples that remain after each step: {text}.", "result.json: cohort.attrition", "cohort")


def characteristics(facts: Facts) -> Answer | Gap:
    """Return which characteristics the report compares between patients with and without the outcome."""
    names = list(dict.fromkeys(characteristic.name for characteristic in facts.result.cohort.characteristics))
    if not names:
        return Gap("features.demographics")
    return Answer(
        f"{', '.join(names[:_N_LISTED])}: with and without the outcome, with standardised differences and missing values.",
        "result.json: cohort.characteristics",
        "cohort",
    )


def preparation(facts: Facts) -> Answer | Gap:
    """Return the account of the event rows, and the checks of quality that found something."""
    ledger = facts.result.ledger
    dropped = sorted((rule for rule in ledger.rules if rule.rows), key=lambda rule: -rule.rows)
    rules = "; ".join(f"{rule.rule}: {words.count(rule.rows)}" for rule in dropped[:_N_LISTED])
    return Answer(
        f"{words.plural(ledger.rows_in, 'event row')}, of which {words.count(ledger.rows_used)} are used. Dropped rows by rule: "
        f"{rules or 'none'}. Every row is accounted for.{_checked(facts)}",
        "result.json: ledger",
        "ledger",
    )


def _checked(facts: Facts) -> str:
    quality = facts.result.quality
    if quality is None:
        return ""
    found = [check.check for check in quality.checks if check.n_findings]
    named = f": {', '.join(found)}" if found else ""
    return f" Checks of data quality with findings: {len(found)} of {len(quality.checks)}{named}."


def missing_values(facts: Facts) -> Answer | Gap:
    """Return how missing values are handled."""
    return Answer(
        "A code that is not recorded counts as absent. A missing category is the level “unknown”; a missing number is replaced by the "
        "median of the training patients, with an indicator.",
        "docs/method.md",
        "cohort",
    )


def predictors(facts: Facts) -> Answer | Gap:
    """Return the predictors and their choice."""
    result, spec = facts.result, facts.result.lineage.spec
    features, cohort = spec["features"], spec["cohort"]
    windows = features.get("windows") or [cohort.get("lookBackDays")]
    spans = " and ".join("all history" if days is None else f"{days} days" for days in windows)
    demographics = ", ".join(features["demographics"]) or "none"
    until = "the index date" if result.predictive else "the end of the records"
    return Answer(
        f"Recorded codes as {', '.join(features['aggregates'])} over {spans} up to {until}; demographics: {demographics}. Codes present in "
        f"at least {words.percent(spec['selection']['minPrevalence'])} of the training patients are ranked "
        f"({spec['selection']['ranking']}), and the first {spec['selection']['nFeatures']} are used.",
        "result.json: lineage.spec.features, lineage.spec.selection",
        "features",
    )


def sample_size(facts: Facts) -> Answer | Gap:
    """Return the number of patients with the outcome for each predictor of the final model."""
    cohort, model = facts.result.cohort, facts.result.final_model
    n_columns = max(1, model.n_features + model.n_demographics)
    per_column = min(cohort.n_positive_samples, cohort.n_samples - cohort.n_positive_samples) / n_columns
    return Answer(
        f"All {words.count(cohort.n_samples)} eligible samples are used; {words.number(per_column, 1)} events for each column of the final "
        "model. mlho plan gives the size that the criteria of Riley et al. require.",
        "result.json: cohort, final_model",
        "cohort",
    )


def methods(facts: Facts) -> Answer | Gap:
    """Return models, tuning and internal validation."""
    spec = facts.result.lineage.spec
    validation = spec["validation"]
    names = ", ".join(candidate["classifier"] for candidate in spec["candidates"])
    return Answer(
        f"Candidates: {names}. {words.plural(validation['iterations'], 'iteration')} of a train/test split "
        f"({_split_words(validation)}) with {validation['folds']}-fold cross-validation inside; features are selected and settings chosen on "
        f"training patients only (scope: {spec['selection']['scope']}). Scores are calibrated on out-of-fold predictions.",
        "result.json: lineage.spec",
        "lineage",
    )


def _split_words(validation: dict[str, Any]) -> str:
    split = validation["split"]
    return split if isinstance(split, str) else next(iter(split))


def imbalance(facts: Facts) -> Answer | Gap:
    """Return how unequal class sizes are handled."""
    return Answer(
        "No resampling and no weights: probabilities keep the observed frequency of the outcome.",
        "docs/method.md",
    )


def evaluated_groups(facts: Facts) -> Answer | Gap:
    """Return which groups are evaluated on their own."""
    bias = facts.result.bias
    names = [] if bias is None else bias.columns
    if not names:
        return Gap("features.demographics")
    return Answer(
        f"Performance is computed by {', '.join(names)}, with intervals; small groups are hidden.",
        "result.json: bias",
        "performance",
    )


def group_performance(facts: Facts) -> Answer | Gap:
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
    hidden = f" {words.plural(n_hidden, 'group')} hidden: too few patients." if n_hidden else ""
    return Answer(
        f"AUROC by group: {'; '.join(parts) or 'none can be shown'}.{hidden}",
        "result.json: bias",
        "performance",
    )


def output(facts: Facts) -> Answer | Gap:
    """Return what the model gives."""
    thresholds = facts.result.final_model.thresholds
    text = "; ".join(
        f"{threshold.rule}: {words.ABSENT if threshold.value is None else words.number(threshold.value, 3)}"
        for threshold in thresholds
    )
    return Answer(
        f"A calibrated probability of the outcome for each sample. Thresholds: {text}.",
        "result.json: final_model.thresholds",
        "model",
    )


def performance(facts: Facts) -> Answer | Gap:
    """Return discrimination, overall error and calibration with intervals."""
    headline = facts.result.headline
    shown = ("auroc", "average_precision", "brier", "calibration_slope", "calibration_in_the_large")
    text = "; ".join(
        f"{words.metric_name(name)} {words.spread(headline[name])}" for name in shown if name in headline
    )
    return Answer(
        f"On held-out patients: {text}. {facts.result.procedure}", "result.json: headline", "performance"
    )


def specification(facts: Facts) -> Answer | Gap:
    """Return how the model can be obtained and checked."""
    model = facts.result.final_model
    return Answer(
        f"{model.classifier} with {words.plural(model.n_features, 'feature')} and {words.plural(model.n_demographics, 'column')} of demographics; "
        f"coefficients or trees, dictionary, calibrator and tests are in the bundle with digest {model.bundle_digest}.",
        "result.json: final_model; bundle/",
        "model",
    )


def code(facts: Facts) -> Answer | Gap:
    """Return software versions and what makes the result reproducible."""
    lineage = facts.result.lineage
    versions = ", ".join(f"{name} {version}" for name, version in sorted(lineage.versions.items()))
    return Answer(
        f"{versions}. Specification {lineage.spec_digest[:16]}…, matrix {lineage.matrix_digest[:16]}…, seed {lineage.seed}: equal inputs give "
        "equal bytes.",
        "result.json: lineage",
        "lineage",
    )


def stability(facts: Facts) -> Answer | Gap:
    """Return how stable the selected features are."""
    found = facts.result.stability
    return Answer(
        f"Stability of the selection (Nogueira) {words.estimate(found.nogueira)}; {words.plural(found.n_consensus, 'feature')} in the consensus.",
        "result.json: stability",
        "stability",
    )


def warnings(facts: Facts) -> Answer | Gap:
    """Return the warnings of the run."""
    text = " ".join(facts.result.warnings) or "The run has no warnings."
    if not facts.result.predictive:
        text = f"{words.NOT_PREDICTIVE[:1].upper()}{words.NOT_PREDICTIVE[1:]}. {text}"
    return Answer(text, "result.json: warnings", "limits")


def sensitive_inputs(facts: Facts) -> Answer | Gap:
    """Return which demographics are inputs of the model."""
    names = facts.result.lineage.spec["features"]["demographics"]
    text = f"Demographics that are inputs: {', '.join(names)}." if names else "No demographics are inputs."
    return Answer(text, "result.json: lineage.spec.features.demographics", "features")


def model_tests(facts: Facts) -> Answer | Gap:
    """Return the outcome of the model's own tests."""
    tests = facts.result.final_model.tests
    n_passed = sum(test.passed for test in tests)
    return Answer(
        f"{n_passed} of {words.plural(len(tests), 'test')} of the model passed.",
        "result.json: final_model.tests",
        "model",
    )
