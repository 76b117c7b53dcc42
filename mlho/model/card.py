"""The model card: named sections in Markdown, with placeholders for text that only people can write.

References
----------
Mitchell et al. (2019), "Model Cards for Model Reporting", FAT*.
"""

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final

from mlho.encoding.cohort.demographics import CategoryCode
from mlho.encoding.cohort.levels import OTHER, UNKNOWN
from mlho.errors import listed, plural
from mlho.model.parts import BundleParts, BundlePerformance
from mlho.printable import printable
from mlho.report.odds import odds_in_words

#: Sections in order. The text of those in ``WRITTEN_BY_PEOPLE`` comes from ``BundleParts.notes``.
SECTIONS: Final = (
    "Purpose",
    "Not for",
    "Data",
    "Outcome",
    "Features",
    "Performance",
    "Calibration",
    "Thresholds",
    "Limits",
    "Ethical considerations",
    "Lineage",
)
WRITTEN_BY_PEOPLE: Final[Mapping[str, str]] = {
    "Purpose": "who uses the score, on whom, when, and what is done with it",
    "Not for": "further uses and patients for which this model must not be used, as in metadata.statements.outOfScope",
    "Data": "where the events come from, which sites and years, who is missing",
    "Outcome": "how the outcome was defined and verified",
    "Limits": "what is known to go wrong, and what was not examined",
    "Ethical considerations": "who may be harmed by wrong or unfair scores, and what is done about it",
}
N_LEVELS: Final = 10  # levels of a demographic
N_SHOWN: Final = 25  # features listed; bundle.json contains all
_ACTED_ON: Final = (5, 10, 20, 30, 50)  # probabilities in per cent at which the card gives the net benefit
_AT_THRESHOLDS: Final[Mapping[str, str]] = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "alerts_per_100": "alerts per 100",
}
_NAMES: Final[Mapping[str, str]] = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "brier": "Brier score, before calibration",
    "pr_integral": "PR integral",
    "scaled_brier": "Scaled Brier score, before calibration",
    "log_loss": "Log loss, before calibration",
    "calibration_intercept": "Calibration intercept",
    "calibration_slope": "Calibration slope",
    "calibration_in_the_large": "Calibration in the large",
    "calibration_ece_equal_count": "Expected calibration error",
    "calibration_ici": "Integrated calibration index",
    "calibration_brier": "Brier score, after calibration",
}


def model_card(parts: BundleParts) -> str:
    """Return the card as Markdown; equal parts give equal text.

    Text from ``parts.notes`` fills the sections written by people; a section without a note shows a placeholder. The card is
    part of the bundle's digest: to complete it, add the notes and write the bundle again.
    """
    title = f"# Model card: {_plain(parts.outcome)}, {parts.classifier.name}"
    blocks = [f"## {name}\n\n{_section(name, parts)}" for name in SECTIONS]
    return "\n\n".join([title, *_not_predictive(parts), *blocks]) + "\n"


def _not_predictive(parts: BundleParts) -> list[str]:
    if parts.predictive:
        return []
    after = parts.scoring.after
    why = "without an index date" if after is None else f"on features of {after.words}"
    return [f"**Not predictive: association only.** It was fitted {why}."]


def _section(name: str, parts: BundleParts) -> str:
    written = [text(parts) for section, text in _WRITTEN_BY_US.items() if section == name]
    if name in WRITTEN_BY_PEOPLE:
        note = parts.notes.get(name, "").strip()
        written.append(note or f"> **TO BE WRITTEN:** {WRITTEN_BY_PEOPLE[name]}.")
    return "\n\n".join(written)


def _not_for(parts: BundleParts) -> str:
    """Return the exclusions that apply to every model, and those that follow from the data of this model."""
    excluded = ["Decisions about a patient without human judgement. The model is not a medical device."]
    if not parts.predictive:
        excluded.append("Prediction: it shows associations only.")
    elif parts.horizons:
        days = plural(max(horizon.days for horizon in parts.horizons), "day")
        excluded.append(
            f"Outcomes other than `{_plain(parts.outcome)}`, or risks beyond {days} after the index date."
        )
    else:
        excluded.append(
            f"Outcomes other than `{_plain(parts.outcome)}`, or periods after the index date other than that of its labels."
        )
    excluded.append(
        "Patients, sites and years not represented in its cohort, unless it has been evaluated on them (`mlho evaluate`)."
    )
    for code in () if parts.demographics is None else parts.demographics.codes:
        if isinstance(code, CategoryCode):
            levels = [level for level in code.levels if level not in (OTHER, UNKNOWN)]
            known = listed([_plain(level) for level in levels], N_LEVELS)
            excluded.append(
                f"Patients with a {_plain(code.name)} other than {known}: the training data had none or too few of them."
            )
    return "\n".join(f"- {sentence}" for sentence in excluded)


def _data(parts: BundleParts) -> str:
    scoring = parts.scoring
    used = {feature.window_days for feature in parts.features} | set(scoring.utilisation_windows or ())
    windows = sorted(used, key=lambda days: inf if days is None else days)
    seen = " and ".join("all history" if days is None else f"{days} days" for days in windows) or "no events"
    index = {
        "column": "each sample's own index date",
        "date": f"one index date for all patients ({scoring.index_date})",
        "none": "no index date: all records of a patient are used",
    }[scoring.index_kind]
    if scoring.after is not None:
        days = scoring.after.past_days
        past = "all history" if days is None else f"the {days} days up to it"
        return f"Codes recorded {scoring.after.words} and not before it, in {past}; {index}."
    same_day = "all counted" if scoring.duplicates == "keep" else "counted once per day"
    return (
        f"Events up to {index}; look-back: {seen}; the last {scoring.gap_days} days before it are excluded."
        f" Repeated codes are {same_day}."
    )


def _outcome(parts: BundleParts) -> str:
    if parts.horizons:
        days = ", ".join(f"{horizon.days:,}" for horizon in parts.horizons)
        return (
            f"`{_plain(parts.outcome)}`, a time to an event; the risk up to {days} days after the index date."
        )
    return f"`{_plain(parts.outcome)}`, 0 or 1."


def _features(parts: BundleParts) -> str:
    n_demographics = len(parts.columns) - len(parts.features)
    lines = [
        f"{len(parts.features)} event features and {n_demographics} demographic columns.",
        "",
        "| feature | mean \\|contribution\\| | odds ratio per unit, or per SD where stated |",
        "|---|---:|---:|",
    ]
    coefficients = parts.classifier.coefficients()
    deviations = None if coefficients is None else coefficients.scale.tolist()
    order = sorted(
        range(len(parts.features)),
        key=lambda place: (-parts.features[place].importance, parts.features[place].id),
    )
    for place in order[:N_SHOWN]:
        feature = parts.features[place]
        odds = "–"
        if feature.coefficient is not None and deviations is not None:
            odds = odds_in_words(feature.coefficient, deviations[place])
        lines.append(f"| {_plain(feature.words)} | {feature.importance:.4g} | {odds} |")
    if len(parts.features) > N_SHOWN:
        lines += [
            "",
            f"The {N_SHOWN} with the largest mean contribution to the log-odds; all are in `bundle.json`.",
        ]
    return "\n".join(lines)


def _performance(parts: BundleParts) -> str:
    figures = {name: spread for name, spread in parts.metrics.items() if "/" not in name}
    rows = [_metric_row(name, spread) for name, spread in sorted(figures.items())]
    if not rows:
        return "This bundle contains no test metrics."
    head = ["| metric (on test sets) | value | 95 % interval |", "|---|---:|---|"]
    table = "\n".join([*head, *rows])
    judged = parts.performance
    if judged is None:
        return table
    said = f"Figures of models built like this one, on held-out patients: {_plain(judged.procedure)}."
    return "\n\n".join([said, table, *_net_benefit(judged), *_winners(parts.metrics, judged)])


def _net_benefit(judged: BundlePerformance) -> list[str]:
    """Return the net benefit at a few threshold probabilities."""
    curve = judged.decision_curve
    at = [place for place, threshold in enumerate(curve["threshold"]) if round(100 * threshold) in _ACTED_ON]
    if not at:
        return []
    figures = (
        {"model": "mean"}
        if judged.n_test_sets == 1
        else {"model": "mean", "lowest": "low", "highest": "high"}
    )
    lines = [
        f"| net benefit at threshold | {' | '.join(figures)} | treat all |",
        "|---:|" + "---:|" * (len(figures) + 1),
    ]
    for place in at:
        values = [*(curve["model"][name][place] for name in figures.values()), curve["all"][place]]
        shown = " | ".join(f"{value:.4f}" for value in values)
        lines.append(f"| {100 * curve['threshold'][place]:.0f} % | {shown} |")
    return ["\n".join(lines)]


def _winners(metrics: Mapping[str, Any], judged: BundlePerformance) -> list[str]:
    """Return a line on the best candidate of each iteration, unless that is the evaluated procedure."""
    auroc = judged.winner_per_iteration.get("auroc")
    if auroc is None or auroc == metrics.get("auroc"):
        return []
    ends = "" if auroc["low"] is None else f" (95 % CI {_number(auroc['low'])} to {_number(auroc['high'])})"
    return [
        f"Another procedure, the best candidate on ranked features in each iteration, had an AUROC of "
        f"{_number(auroc['mean'])}{ends}. This is not the AUROC of this model."
    ]


def _metric_row(name: str, spread: Any) -> str:
    label = _NAMES.get(name, _plain(name.replace("_", " ")))
    if not isinstance(spread, Mapping):
        return f"| {label} | {_number(spread)} | – |"
    value = spread.get("mean", spread.get("value"))
    low, high = spread.get("low"), spread.get("high")
    interval = "–" if low is None or high is None else f"{_number(low)} to {_number(high)}"
    return f"| {label} | {_number(value)} | {interval} |"


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "–"


def _calibration(parts: BundleParts) -> str:
    calibrator = parts.calibrator
    if calibrator.reason is not None:
        return f"None: {_plain(calibrator.reason)}. The probabilities are those of the classifier."
    return (
        "Logistic on the logit, fitted on out-of-fold probabilities:"
        f" intercept {calibrator.intercept:.4g}, slope {calibrator.slope:.4g}."
    )


def _thresholds(parts: BundleParts) -> str:
    if not parts.thresholds:
        return "None."
    flagged = {} if parts.training is None else parts.training.alert_rates
    names = [name for name in _AT_THRESHOLDS if any(key.endswith(f"/{name}") for key in parts.metrics)]
    lines = [
        "Alert if the calibrated probability is at least the value."
        + (" Rates are those on the test sets, with 95 % intervals." if names else "")
        + (" Flagged: the share expected of new samples like those of training." if flagged else ""),
        "",
        "| " + " | ".join(["rule", "value", *(_AT_THRESHOLDS[name] for name in names), "flagged"]) + " |",
        "|---|---:|---:|" + "---:|" * len(names),
    ]
    for threshold in parts.thresholds:
        value = "–" if threshold.value is None else f"{threshold.value:.4g}"
        reason = "" if threshold.reason is None else f" ({_plain(threshold.reason)})"
        rates = [_rate(parts.metrics.get(f"{threshold.rule}/{name}")) for name in names]
        share = f"{100 * flagged[threshold.rule]:.1f} %" if threshold.rule in flagged else "–"
        lines.append("| " + " | ".join([f"{_plain(threshold.rule)}{reason}", value, *rates, share]) + " |")
    return "\n".join(lines)


def _rate(spread: Mapping[str, Any] | None) -> str:
    if spread is None:
        return "–"
    low, high = spread.get("low"), spread.get("high")
    ends = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
    return f"{spread['mean']:.3g}{ends}"


def _limits(parts: BundleParts) -> str:
    known = [
        "- Coefficients and contributions describe the model, not causes.",
        "- The figures apply to patients like those in the training data; codes and their use differ between sites and years.",
    ]
    if not parts.predictive:
        known.append("- Fitted without an index date: the features may include records after the outcome.")
    return "\n".join(known)


def _lineage(parts: BundleParts) -> str:
    plain = {name: value for name, value in parts.lineage.items() if isinstance(value, str | int)}
    versions = parts.lineage.get("versions")
    if isinstance(versions, Mapping):
        plain["versions"] = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    lines = [f"| {_plain(name)} | {_plain(str(value))} |" for name, value in sorted(plain.items())]
    return "\n".join(["| item | value |", "|---|---|", *lines])


def _plain(text: str) -> str:
    """Escape text that could break a table or start markup, since descriptions come from data."""
    flat = printable(" ".join(text.split()))
    return "".join(f"\\{char}" if char in "|<>`*_[]\\" else char for char in flat)


_WRITTEN_BY_US: Final[Mapping[str, Callable[[BundleParts], str]]] = {
    "Not for": _not_for,
    "Data": _data,
    "Outcome": _outcome,
    "Features": _features,
    "Performance": _performance,
    "Calibration": _calibration,
    "Thresholds": _thresholds,
    "Limits": _limits,
    "Lineage": _lineage,
}
