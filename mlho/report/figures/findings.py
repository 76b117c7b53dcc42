"""Figures of the findings: odds ratios, stability of features, and contributions to the final model."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from mlho.report import words
from mlho.report.figures.figure import Figure, both
from mlho.report.odds import shown_odds
from mlho.report.result import FeatureResult, Profile, Result
from mlho.report.svg import charts, curves
from mlho.report.svg.charts import Row

N_FOREST: Final = 30
N_IMPORTANCE: Final = 20
MAX_LABEL: Final = 44  # characters before a value; the table below the chart shows the full label
MAX_BEGINNING: Final = 36  # characters that every chart shows
MIN_NAME: Final = 12  # characters of a description before a long code
# Odds ratios beyond these are drawn at the edge with an arrow, so that the others can be distinguished.
FOREST_LIMITS: Final = (0.002, 500.0)
# Round probabilities for an axis, with their decimals in percent.
_PROBABILITIES: Final = (
    *((p, 1) for p in (0.001, 0.002, 0.005)),
    *((p, 0) for p in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)),
    *((p, 0) for p in (0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)),
)

Odds = tuple[
    FeatureResult, float, float | None, float | None, str
]  # the text names the unit, if the odds are not for one unit


def chart_labels(features: Sequence[FeatureResult]) -> dict[str, str]:
    """Return the chart label of each feature, by id: its description, and in parentheses the details that distinguish it.

    The details are the code, if another description has the same beginning, and the aggregate and window, if features differ in them.
    A long description is truncated before the parentheses, because a chart truncates labels at their end.
    """
    known = {f.id: f.id.rsplit("|", 2)[1:] for f in features if f.kind == "feature" and f.id.count("|") > 1}
    differs = [len(set(parts)) > 1 for parts in zip(*known.values(), strict=True)]
    beginnings = Counter(_beginning(feature) for feature in features)
    labels = {feature.id: feature.words for feature in features}
    for feature in features:
        if feature.id not in known:
            continue
        window, aggregate = known[feature.id]
        days = "all history" if window == "all" else window.removesuffix("d") + " days"
        details = [text for text, is_told in zip((days, aggregate), differs, strict=True) if is_told][::-1]
        if feature.description and feature.code and beginnings[_beginning(feature)] > 1:
            details.insert(0, feature.code)
        labels[feature.id] = _label(feature, f" ({', '.join(details)})" if details else "")
    return labels


def _beginning(feature: FeatureResult) -> str:
    return (feature.description or feature.words)[:MAX_BEGINNING]


def _label(feature: FeatureResult, details: str) -> str:
    if not details:
        return feature.description or feature.words
    name = feature.description or feature.code or feature.words
    return words.cut(name, max(MAX_LABEL - len(details), MIN_NAME)) + details


def consensus_forest(result: Result) -> Figure | None:
    """Plot the odds ratios of the consensus model."""
    known = [
        (feature, shown.value, shown.low, shown.high, shown.unit)
        for feature in result.features
        if feature.odds_ratio is not None and (shown := shown_odds(feature.odds_ratio)) is not None
    ]
    return _forest(
        result,
        "consensus",
        "Odds ratios of the consensus model",
        "To the right of 1: higher odds of the outcome, all other features being equal. An interval that includes 1 is compatible with no "
        "association. One unit is presence, one more record, or one unit of a value. Where the odds ratio per unit would round to 1.00, it is "
        "given per standard deviation. The features were selected and fitted on the same patients, so the intervals are too narrow.",
        "Odds ratio per unit, or per SD where stated (log scale)",
        known,
    )


def confidence_forest(result: Result) -> Figure | None:
    """Plot the odds ratios over the iterations."""
    known = [
        (feature, feature.confidence.mean_odds_ratio, feature.confidence.low95, feature.confidence.high95, "")
        for feature in result.features
        if feature.confidence is not None and feature.confidence.mean_odds_ratio is not None
    ]
    return _forest(
        result,
        "confidence",
        "Odds ratios over the iterations",
        "Per standard deviation: the mean over the iterations that used the feature, with the 95 % t-interval of R MLHO. Penalisation shrinks the "
        "odds ratios towards 1, and the iterations share patients, so the interval is too narrow for the effect, the more so with more "
        "iterations. Both show direction and consistency rather than effect size.",
        "Odds ratio per SD, mean over iterations (log scale)",
        known,
        interval="t-interval over the iterations",
    )


def _forest(
    result: Result,
    name: str,
    title: str,
    reading: str,
    axis: str,
    known: Sequence[Odds],
    *,
    interval: str = "95 % CI",
) -> Figure | None:
    if not known:
        return None
    shown = sorted(known, key=lambda item: -abs(item[0].confidence.score if item[0].confidence else 0))[
        :N_FOREST
    ]
    by_effect = sorted(shown, key=lambda item: (-abs(math.log(item[1])), item[0].id))
    up, down = [item for item in by_effect if item[1] >= 1], [item for item in by_effect if item[1] < 1]
    labels = chart_labels(result.features)
    rows = _forest_group("Higher odds of the outcome", "up", up, labels)
    rows += _forest_group("Lower odds of the outcome", "down", down, labels)
    reached = [v for _, value, low, high, _ in shown for v in (value, low, high) if v is not None]
    bounds = forest_bounds(reached, FOREST_LIMITS)
    more = " Sorted by size of effect."
    if len(known) > len(shown):
        more += f" Of {len(known)} features, the {len(shown)} with the highest confidence scores are shown."
    return Figure(
        name,
        title,
        reading + more,
        *both(lambda width: charts.forest(name, title, rows, bounds, axis, width=width)),
        ("Feature", f"Odds ratio ({interval})", "Confidence score"),
        tuple(
            (
                _with_unit(feature.words, unit),
                words.odds(value, low, high),
                str(feature.confidence.score) if feature.confidence else words.DASH,
            )
            for feature, value, low, high, unit in (*up, *down)
        ),
    )


def _forest_group(label: str, kind: str, items: Sequence[Odds], labels: Mapping[str, str]) -> list[Row]:
    rows = [
        Row(
            _with_unit(labels[feature.id], unit),
            words.odds(value, low, high),
            (value,) if low is None or high is None else (value, low, high),
            kind,
        )
        for feature, value, low, high, unit in items
    ]
    return [Row(label, is_heading=True), *rows] if rows else []


def _with_unit(label: str, unit: str) -> str:
    return f"{label} ({unit})" if unit else label


def forest_bounds(reached: Sequence[float], limits: tuple[float, float]) -> tuple[float, float]:
    """Return the ends of an axis of odds ratios: around the values, at least from 0.5 to 2, and within the limits."""
    low, high = min([0.5, *reached]), max([2.0, *reached])
    return max(limits[0], low / 1.08), min(limits[1], high * 1.08)


def frequency(result: Result) -> Figure | None:
    """Plot how often the iterations selected each feature, and which features are in the consensus."""
    known = sorted(
        (feature for feature in result.features if feature.kind == "feature"),
        key=lambda feature: (-feature.selection_frequency, not feature.in_consensus, feature.id),
    )
    if not known:
        return None
    n = len(result.iterations)
    times_of = {feature.id: round(feature.selection_frequency * n) for feature in known}
    n_selected = Counter(times_of.values())
    n_stable = Counter(times_of[feature.id] for feature in known if feature.in_consensus)
    rows = [
        (f"{times} of {n}", words.count(n_features), words.count(n_stable[times]))
        for times, n_features in sorted(n_selected.items(), reverse=True)
    ]
    return Figure(
        "frequency",
        "Selection frequency",
        "All features that any iteration selected, from the most to the least frequently selected. The steeper the decline, the better the "
        "iterations agree. Features in the consensus (dots) also had a consistent direction of effect.",
        curves.frequency(
            [feature.selection_frequency for feature in known], [feature.in_consensus for feature in known]
        ),
        None,
        ("Selected in iterations", "Features", "Of these, in the consensus"),
        tuple(rows),
    )


def importance(result: Result) -> Figure | None:
    """Plot the most important features of the final model."""
    known = [(feature, feature.final_importance) for feature in result.features if feature.final_importance]
    if not known:
        return None
    shown = sorted(known, key=lambda item: (-item[1], item[0].id))[:N_IMPORTANCE]
    labels = chart_labels(result.features)
    rows = [Row(labels[feature.id], words.number(value, 3), (value,)) for feature, value in shown]
    return Figure(
        "importance",
        "Most important features of the final model",
        "Mean absolute contribution of each feature to the log-odds (TreeSHAP for trees), over at most 10,000 training samples. "
        "A large contribution does not imply causation. "
        f"The first {len(shown)} of {len(known)} features are shown.",
        *both(lambda width: charts.importance(rows, width=width)),
        ("Feature", "Mean |contribution|"),
        tuple((feature.words, words.number(value, 4)) for feature, value in shown),
    )


def profile(
    number: int, profile: Profile, features: Sequence[FeatureResult], calibrator: Mapping[str, Any]
) -> Figure:
    """Plot one profile of the final model as a waterfall of exact contributions over an axis of probabilities."""
    line = _CalibrationLine.of(calibrator)
    rows, total = _waterfall_rows(profile, features, line)
    ticks = [(line.log_odds_of(p), words.percent(p, digits)) for p, digits in _PROBABILITIES]
    axis = "Probability of the outcome" + (" after calibration" if line.is_known else "")
    parts = [
        (contribution.words, contribution.value, words.number(contribution.contribution, 3))
        for contribution in profile.contributions
    ]
    kind = "A synthetic profile" if profile.synthetic else "A real patient, shown without id or dates"
    return Figure(
        f"profile_{number}",
        profile.title,
        f"{kind}. Starting from the base, each bar adds the contribution of one feature. Together they give a probability of "
        f"{words.percent(profile.calibrated_probability)} after calibration ({words.percent(profile.probability)} before it). "
        "The numbers beside the coloured bars are contributions to the log-odds.",
        *both(lambda width: charts.waterfall(number, profile.title, rows, ticks, axis, width=width)),
        ("Feature", "Value", "Contribution"),
        (
            ("Base", words.DASH, words.number(profile.base, 3)),
            *parts,
            ("All other features", words.DASH, words.number(profile.others, 3)),
            ("Sum (log-odds)", words.DASH, words.number(total, 3)),
        ),
    )


def _waterfall_rows(
    profile: Profile, features: Sequence[FeatureResult], line: "_CalibrationLine"
) -> tuple[list[Row], float]:
    """Return the bars of a waterfall and its end point."""
    rows = [Row("Base", words.percent(line.probability_at(profile.base)), (profile.base,), "total")]
    at = profile.base
    labels = chart_labels(features)
    steps = [
        (
            f"{words.cut(labels.get(contribution.feature, contribution.words), MAX_LABEL)}: {contribution.value}",
            contribution.contribution,
        )
        for contribution in profile.contributions
    ]
    for label, step in [*steps, ("All other features", profile.others)]:
        sign = "+" if step > 0 else ""
        rows.append(Row(label, sign + words.number(step), (at, at + step), "up" if step >= 0 else "down"))
        at += step
    rows.append(Row("This profile", words.percent(line.probability_at(at)), (at,), "last"))
    return rows, at


@dataclass(frozen=True)
class _CalibrationLine:
    """The calibrated log-odds as a linear function of the model's log-odds: the identity if the calibrator is not an increasing line."""

    intercept: float = 0.0
    slope: float = 1.0
    is_known: bool = False

    @classmethod
    def of(cls, calibrator: Mapping[str, Any]) -> Self:
        slope = calibrator.get("slope", 0.0)
        if calibrator.get("reason") or not slope > 0:
            return cls()
        return cls(calibrator["intercept"], slope, is_known=True)

    def probability_at(self, log_odds: float) -> float:
        return 1 / (1 + math.exp(-max(-700.0, self.intercept + self.slope * log_odds)))

    def log_odds_of(self, probability: float) -> float:
        return (math.log(probability / (1 - probability)) - self.intercept) / self.slope
