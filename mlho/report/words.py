"""Text for numbers and findings, shared by report, terminal and notebook."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlho.errors import capitalized as capitalized
from mlho.errors import plural as plural
from mlho.printable import cut as cut
from mlho.report import verdicts
from mlho.report.result import (
    Cell,
    Estimate,
    FeatureResult,
    LaterEvaluation,
    Result,
    SplitAccount,
    Spread,
    Stability,
    TestSet,
    TimeToEventPerformance,
)
from mlho.spec.types import MIN_CELL

THIN: Final = "\N{NARROW NO-BREAK SPACE}"
MINUS: Final = "\N{MINUS SIGN}"
DASH: Final = "\N{EN DASH}"
ABSENT: Final = "not available"
UNKNOWN: Final = "unknown"  # a missing value: of a category the name of its level
HIDDEN: Final = "not shown"  # a small cell, or one from which a small cell could be derived
NOT_PREDICTIVE: Final = "not predictive: association only"

# In reading order; other metrics follow by name.
METRICS: Final[dict[str, tuple[str, str]]] = {
    "auroc": (
        "AUROC",
        "probability that a patient with the outcome scores higher than one without; 0.5 is chance, 1 is perfect",
    ),
    "average_precision": (
        "Average precision",
        "mean precision over all sensitivities; compare with the prevalence",
    ),
    "pr_integral": (
        "PR integral",
        "exact area under the precision–recall curve; compare with the prevalence",
    ),
    "pr_davis_goadrich": (
        "PR integral, Davis–Goadrich",
        "the same area, interpolated between the observed points only",
    ),
    "brier": ("Brier score", "mean squared error of the score before calibration; 0 is perfect"),
    "scaled_brier": (
        "Scaled Brier score",
        "of the score before calibration; 1 is perfect, 0 is no better than predicting the prevalence for every patient",
    ),
    "log_loss": ("Log loss", "mean negative log likelihood of the score before calibration; 0 is perfect"),
    "calibration_intercept": (
        "Calibration intercept",
        "intercept of the line with the calibration slope; with a slope of 1, 0 is ideal",
    ),
    "calibration_slope": (
        "Calibration slope",
        "1 is ideal; below 1 the probabilities are too extreme (overfitting)",
    ),
    "calibration_in_the_large": (
        "Calibration in the large",
        "0 is ideal; below 0 the probabilities are too high overall",
    ),
    "calibration_ici": (
        "ICI",
        "integrated calibration index: mean distance of the predictions from the smoothed calibration curve; 0 is perfect",
    ),
    "calibration_ece_equal_count": (
        "ECE",
        "expected calibration error over ten bins of equal count; 0 is perfect",
    ),
    "calibration_brier": ("Brier score, calibrated", "Brier score after calibration"),
    "sensitivity": ("Sensitivity", "share of those with the outcome who are flagged"),
    "specificity": ("Specificity", "share of those without the outcome who are not flagged"),
    "ppv": ("PPV", "share of the flagged who have the outcome"),
    "npv": ("NPV", "share of those not flagged who do not have the outcome"),
    "accuracy": ("Accuracy", "share classified correctly; misleading when the outcome is rare"),
    "alerts_per_100": ("Alerts per 100", "how many of 100 samples are flagged"),
    "number_needed_to_evaluate": (
        "Number needed to evaluate",
        "flagged samples per flagged sample with the outcome",
    ),
    "mean_absolute_error": ("Mean absolute error", "mean of |y − p|"),
}

# Range of each metric: a symmetric interval may exceed it.
POSSIBLE: Final[dict[str, tuple[float, float]]] = {
    **dict.fromkeys(("auroc", "average_precision", "pr_integral", "pr_davis_goadrich", "brier"), (0.0, 1.0)),
    **dict.fromkeys(("sensitivity", "specificity", "ppv", "npv", "accuracy"), (0.0, 1.0)),
    **dict.fromkeys(("observed", "predicted", "mean_absolute_error"), (0.0, 1.0)),
    **dict.fromkeys(("calibration_ici", "calibration_ece_equal_count", "calibration_brier"), (0.0, 1.0)),
    "scaled_brier": (float("-inf"), 1.0),
    "log_loss": (0.0, float("inf")),
    "alerts_per_100": (0.0, 100.0),
    "number_needed_to_evaluate": (1.0, float("inf")),
}

# Gain in stability over permuted labels. In 100 simulated cohorts each without any effect, 0 to 1 % had a gain of 0.25 by chance, and 1 to 20 % one of 0.1.
STABILITY_GAINS: Final = ((0.25, "clearly more"), (0.1, "perhaps more"), (-1.0, "hardly more"))


def count(n: float) -> str:
    """Format an integer with thousands separators: ``1,204``."""
    return f"{n:,.0f}".replace("-", MINUS)


def counted(n: int | None) -> str:
    """Format a count; a text for a small cell."""
    return HIDDEN if n is None else count(n)


def number(value: float, digits: int = 2) -> str:
    """Format a decimal number with a Unicode minus sign; never ``-0.00``."""
    text = f"{value:,.{digits}f}"
    if text.startswith("-") and not text.strip("-0.,"):
        text = text[1:]
    return text.replace("-", MINUS)


def percent(share: float, digits: int = 1) -> str:
    """Format a share in [0, 1] as a percentage: ``38.1 %``."""
    return f"{number(100 * share, digits)}{THIN}%"


def share(part: int, whole: int) -> str:
    """Format a share as a percentage; a text if the whole is zero."""
    return percent(part / whole) if whole else ABSENT


def ratio(value: float) -> str:
    """Format an odds ratio with about three significant digits: ``0.052``, ``1.84``, ``12.3``, ``over 1,000``."""
    if value > 1000:
        return "over 1,000"
    if value < 0.001:
        return "under 0.001"
    digits = 3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0
    return number(value, digits)


def p_value(p: float) -> str:
    """Format a p value as in journals."""
    return f"<{THIN}0.001" if p < 0.001 else number(p, 3 if p < 0.1 else 2)


def between(low: str, high: str) -> str:
    """Join the ends of an interval: ``0.67–0.69``, or with ``to`` if an end is negative or contains a space."""
    return f"{low} to {high}" if MINUS in low + high or " " in low + high else f"{low}{DASH}{high}"


def ends(low: float | None, high: float | None, digits: int = 2) -> str:
    """Return ``0.67–0.69``; empty without an interval."""
    return "" if low is None or high is None else between(number(low, digits), number(high, digits))


def interval(value: float, low: float | None, high: float | None, digits: int = 2) -> str:
    """Return ``0.68 (95 % CI 0.67–0.69)``, or the value alone without an interval."""
    between_ends = ends(low, high, digits)
    return number(value, digits) + (f" (95{THIN}% CI {between_ends})" if between_ends else "")


def estimate(figure: Estimate, digits: int = 2) -> str:
    """Format an estimate with its interval, or the reason why it is absent."""
    if figure.value is None:
        return f"{ABSENT} ({figure.reason})" if figure.reason else ABSENT
    return interval(figure.value, figure.low, figure.high, digits)


def spread(figure: Spread, digits: int = 2) -> str:
    """Format a mean over iterations with its interval."""
    return ABSENT if figure.mean is None else interval(figure.mean, figure.low, figure.high, digits)


def brief(figure: Estimate | Spread, digits: int = 3) -> str:
    """Return ``0.681 (0.670–0.693)``: value and interval in the short form for charts."""
    value = figure.value if isinstance(figure, Estimate) else figure.mean
    if value is None:
        return ABSENT
    between_ends = ends(figure.low, figure.high, digits)
    return number(value, digits) + (f" ({between_ends})" if between_ends else "")


def odds(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Return ``1.84 (1.22–2.77)``; a dash without a value."""
    if value is None:
        return DASH
    between_ends = odds_ends(low, high)
    return f"{ratio(value)} ({between_ends})" if between_ends else ratio(value)


def odds_ends(low: float | None, high: float | None) -> str:
    """Return ``1.22–2.77``; empty without an interval, or if both ends are beyond the printed range."""
    if low is None or high is None:
        return ""
    first, last = ratio(low), ratio(high)
    return "" if first == last and " " in first else between(first, last)


def cell(n: int | None, min_cell: int) -> str:
    """Format a count of patients; a text if it is too small to show."""
    return f"fewer than {min_cell}" if n is None else count(n)


def characteristic(figures: Cell | None) -> str:
    """Format a cell of the table of characteristics: ``495 (51.3 %)`` or ``54.0 (38.2–70.1)``."""
    if figures is None:
        return HIDDEN
    digits = 1 if abs(figures.median or 0.0) < 100 else 0
    quartiles = ends(figures.lower_quartile, figures.upper_quartile, digits)
    if figures.median is not None and quartiles:
        return f"{number(figures.median, digits)} ({quartiles})"
    if figures.n is None or figures.share is None:
        return HIDDEN
    return f"{count(figures.n)} ({percent(figures.share)})"


def metric_name(key: str) -> str:
    """Return the display name of a metric."""
    return METRICS[key][0] if key in METRICS else key.replace("_", " ").capitalize()


def metric_meaning(key: str) -> str:
    """Return a short explanation of a metric; empty for an unknown one."""
    return METRICS[key][1] if key in METRICS else ""


def possible(metric: str, spread: Spread) -> Spread:
    """Clip the interval of a spread to the range of the metric."""
    low, high = POSSIBLE.get(metric.rpartition("/")[2], (float("-inf"), float("inf")))
    if spread.low is None or spread.high is None:
        return spread
    return spread.model_copy(update={"low": max(low, spread.low), "high": min(high, spread.high)})


def metric_order(keys: Sequence[str]) -> list[str]:
    """Sort metrics in reading order: discrimination, overall accuracy, calibration, then the others by name."""
    known = list(METRICS)
    return sorted(keys, key=lambda key: (known.index(key) if key in METRICS else len(known), key))


def rule_words(rule: str) -> str:
    """Describe the rule of a threshold."""
    if rule == "youden":
        return "largest sum of sensitivity and specificity (Youden)"
    name, _, value = rule.partition(":")
    known = {"fixed-alert-rate": "flag {} of samples", "fixed-sensitivity": "find {} of cases"}
    return known[name].format(percent(float(value), 0)) if name in known else rule


def stability_gain(value: float, permuted: float) -> str:
    """Describe how much more stable a selection is than with permuted labels."""
    gain = value - permuted
    return next((word for bound, word in STABILITY_GAINS if gain >= bound), STABILITY_GAINS[-1][1])


def min_cell_of(spec: Mapping[str, Any]) -> int:
    """Return the smallest number of patients that may be shown, from the specification of a result."""
    return int(spec.get("report", {}).get("minCell", MIN_CELL))


def after_of(result: Result) -> Mapping[str, Any] | None:
    """Return ``features.after`` of the specification, if it has that section."""
    found: Mapping[str, Any] | None = result.lineage.spec.get("features", {}).get("after")
    return found


def window(result: Result) -> str:
    """Describe the windows of the events from which features are computed."""
    after = after_of(result)
    if after is not None:
        past = after.get("pastDays")
        return (
            f"{after['fromDays'] + 1} to {plural(after['toDays'], 'day')} after the index date; codes that are new relative to "
            f"{f'the {plural(past, "day")} up to it' if past else 'all history up to it'}"
        )
    if not result.predictive:
        return "all records"
    cohort, features = (result.lineage.spec.get(section, {}) for section in ("cohort", "features"))
    spans = [plural(days, "day") for days in features.get("windows") or [cohort.get("lookBackDays")] if days]
    if features.get("allHistory") or not spans:
        spans.append("all history")
    gap = cohort.get("gapDays") or 0
    until = f"up to {plural(gap, 'day')} before" if gap else "up to and including"
    return f"{' and '.join(filter(None, (', '.join(spans[:-1]), spans[-1])))} {until} the index date"


def summary_sentences(result: Result) -> list[str]:
    """Summarize a run in sentences, most important first.

    Outcome and cohort, discrimination, calibration, stability, and the stable features. The figures are those of models
    fitted like the final one; those of another procedure are in a separate sentence that names it.
    """
    auroc, rival, later = result.headline.get("auroc"), result.winners.get("auroc"), result.later
    return [
        _who(result),
        _how_well(auroc, result.test_sets, result.final_model.classifier, verdicts.tested_samples(result)),
        *([] if result.time_to_event is None else [times_sentence(result.time_to_event)]),
        *([] if result.split is None else [split_sentence(result.split)]),
        *([] if later is None or "auroc" not in later.figures else [later_sentence(later)]),
        calibrated(result),
        _how_stable(result.stability),
        _which(result.features, result.stability),
        *([] if rival is None or rival == auroc else [_winners(rival)]),
    ]


def _who(result: Result) -> str:
    cohort = result.cohort
    share = percent(cohort.n_positive_samples / cohort.n_samples) if cohort.n_samples else ABSENT
    samples = "" if cohort.n_samples == cohort.n_patients else f"{plural(cohort.n_samples, 'sample')}, "
    verb = "predicts" if result.predictive else "describes associations with, and does not predict,"
    return (
        f"The run {verb} the outcome “{result.outcome}” for {plural(cohort.n_patients, 'patient')} "
        f"({samples}{share} with the outcome{censored_as_without(result)})."
    )


def censored_as_without(result: Result) -> str:
    """Return how a share of samples with the outcome counts those that are censored; empty if none can be."""
    return "" if result.time_to_event is None else "; censored ones count as without it"


def test_sets_in_words(test_sets: Sequence[TestSet]) -> str:
    """Describe the number and kind of test sets: ``20 iterations``."""
    kind = test_sets[0].name.rpartition(" ")[0] if test_sets else "test set"
    return plural(len(test_sets), kind)


def _how_well(
    auroc: Spread | None, test_sets: Sequence[TestSet], classifier: str, tested: verdicts.Counted
) -> str:
    if auroc is None or auroc.mean is None:
        return "Discrimination could not be measured: no test set contains samples both with and without the outcome."
    pairs = count(100 * auroc.mean)
    caution = verdicts.auroc_caution(auroc, tested)
    return (
        f"In patients held out of training, the final model's classifier, {classifier}, had an AUROC of {spread(auroc)} over "
        f"{test_sets_in_words(test_sets)}: in {pairs} of 100 pairs of a patient with and a patient without the outcome, the "
        f"patient with the outcome had the higher score." + (f" {caution}." if caution else "")
    )


def split_sentence(split: SplitAccount) -> str:
    """Describe the test sets of a split by date, site or given part."""
    names = [test_set.name for test_set in split.test_sets]
    if split.kind in ("temporal", "rolling"):
        which = f"index dates {names[0]} on" if len(names) == 1 else f"later index dates ({'; '.join(names)})"
        return f"The test patients have {which}; models were trained on patients with earlier dates."
    if len(names) == 1:
        return f"The test patients are those assigned by column “{split.column}”."
    return (
        f"Each of the {plural(len(names), split.kind if split.kind == 'site' else 'fold')} in column “{split.column}” was tested by "
        "models trained on the others."
    )


def times_sentence(times: TimeToEventPerformance) -> str:
    """Describe the outcome of a time to an event, and the concordance."""
    first, last = (plural(times.horizons[place].days, "day") for place in (0, -1))
    return (
        f"The outcome is the event within {first} of the index date, and figures are corrected for censoring. Uno's concordance up to {last} "
        f"was {spread(times.uno)}."
    )


def later_sentence(later: LaterEvaluation) -> str:
    """Describe the discrimination on later patients."""
    return (
        f"In patients with index dates from {later.test_from} onwards, the same classifier and setting, fitted on earlier patients, had an AUROC of "
        f"{estimate(later.figures['auroc'])}."
    )


def _winners(auroc: Spread) -> str:
    return (
        "Another procedure, which uses the best candidate on ranked features in each iteration, had an AUROC of "
        f"{spread(auroc)}. This is not the AUROC of the final model."
    )


def calibrated(result: Result) -> str:
    """Return the verdict on calibration in a sentence, with the slope; and with the calibration in the large if that is off."""
    slope, large = (result.headline.get(name) for name in ("calibration_slope", "calibration_in_the_large"))
    tested = verdicts.tested_samples(result)
    figure = (
        ""
        if slope is None or slope.mean is None
        else f" The calibration slope was {spread(slope)}, where 1 is ideal."
    )
    verdict, level = verdicts.calibration_verdict(slope, tested), verdicts.level_verdict(large, tested)
    if level is not None and large is not None:
        return f"After calibration, the predicted probabilities were {level} (calibration in the large {spread(large)}, where 0 is ideal).{figure}"
    if verdict is None:
        return f"The calibration of the probabilities cannot be assessed ({verdicts.why_not_judged(slope, tested)}).{figure}"
    return f"After calibration, the predicted probabilities were {verdict}.{figure}"


def _how_stable(stability: Stability) -> str:
    value = stability.nogueira.value
    if value is None:
        return f"Stability of the selection could not be measured ({stability.nogueira.reason or 'no reason given'})."
    permuted = stability.permuted.value
    figure = f"The stability of the selection was {estimate(stability.nogueira)}, where 1 means that every iteration selects the same features"
    if permuted is None:
        return f"{figure}. On permuted labels it could not be measured, so it cannot be interpreted."
    return (
        f"{figure}. With randomly permuted labels it was {number(permuted)}, so the selection is "
        f"{stability_gain(value, permuted)} stable than the patients shared by the iterations alone would explain."
    )


def n_stable_demographics(features: Sequence[FeatureResult]) -> int:
    """Return the number of demographic columns in the consensus, which enter without selection."""
    return sum(feature.in_consensus and feature.kind == "demographic" for feature in features)


def stable_features(result: Result) -> str:
    """Return the number of features in the consensus: ``17 features, 2 of them demographic``."""
    n = n_stable_demographics(result.features)
    return plural(result.stability.n_consensus, "feature") + (f", {n:,} of them demographic" if n else "")


def _which(features: Sequence[FeatureResult], stability: Stability) -> str:
    n_consensus, found = stability.n_consensus, stability.false_features
    if n_consensus == 0:
        return (
            "No feature was selected often enough, with the same direction of effect, to enter the consensus."
        )
    # Descriptions contain commas.
    top = "; ".join(
        [cut(feature.description or feature.words) for feature in features if feature.in_consensus][:3]
    )
    are = "feature is" if n_consensus == 1 else "features are"
    entered = (
        f"{count(n_consensus)} {are} stable (selected in most iterations, with the same direction of effect)"
    )
    n_demographics = n_stable_demographics(features)
    if n_demographics:
        entered += f", {n_demographics:,} of them demographic"
    expected = ""
    if found is not None and found.expected.value is not None:
        n_false = count(found.expected.value) if found.expected.value else "none"
        not_counted = ", not counting demographics" if n_demographics else ""
        expected = f" By chance alone, {n_false} would be expected{not_counted}."
    return f"{entered}, led by {top}.{expected}" if top else f"{entered}.{expected}"
