"""Figures of the findings: odds ratios, stability of features, and contributions to the final model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlho.report import words
from mlho.report.figures.figure import Figure, both
from mlho.report.odds import shown_odds
from mlho.report.result import FeatureResult, Profile, Result
from mlho.report.svg import charts, curves
from mlho.report.svg.charts import Row

N_FOREST: Final = 30
N_IMPORTANCE: Final = 20
MAX_LABEL: Final = 44  # characters before a value; the table below the chart shows the full label
# Odds ratios beyond these are drawn at the edge with an arrow, so that the others can be distinguished.
FOREST_LIMITS: Final = (0.002, 500.0)
# Round probabilities for an axis, with their decimals in percent.
_PROBABILITIES: Final = (
    *((p, 1) for p in (0.001, 0.002, 0.005)),
    *((p, 0) for p in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)),
)

Odds = tuple[FeatureResult, float, float | None, float | None, str]  # with the unit if it is not one unit


def is_one_kind(features: Sequence[FeatureResult]) -> bool:
    """Tell whether all features have the same window and aggregate, so that labels can omit them."""
    return len({(f.window_days, f.aggregate) for f in features if f.kind == "feature"}) <= 1


def chart_label(feature: FeatureResult, *, shorten: bool) -> str:
    """Return the chart label of a feature: its description if sufficient, else its full text."""
    if shorten and feature.kind == "feature" and feature.description:
        return f"{feature.description} ({feature.code})" if feature.code else feature.description
    return feature.words


def consensus_forest(result: Result) -> Figure | None:
    """Plot the odds ratios of the consensus model."""
    known = [
        (f, shown.value, shown.low, shown.high, shown.unit)
        for f in result.features
        if f.odds_ratio is not None and (shown := shown_odds(f.odds_ratio)) is not None
    ]
    return _forest(
        "consensus",
        "Odds ratios of the consensus model",
        "Right of 1: higher odds of the outcome, all other features being equal. An interval that crosses 1 is compatible with no "
        "association. One unit is presence, one more record, or one unit of a value; where that would round to 1.00, one standard "
        "deviation. The features were selected and fitted on the same patients, so the intervals are too narrow.",
        "Odds ratio per unit, or per SD where it says so (logarithmic)",
        known,
    )


def confidence_forest(result: Result) -> Figure | None:
    """Plot the odds ratios over the iterations."""
    known = [
        (f, f.confidence.mean_odds_ratio, f.confidence.low95, f.confidence.high95, "")
        for f in result.features
        if f.confidence is not None and f.confidence.mean_odds_ratio is not None
    ]
    return _forest(
        "confidence",
        "Odds ratios over the iterations",
        "Per standard deviation: the mean over the iterations that used the feature, with a 95 % t-interval. The fit shrinks them "
        "towards 1: they show direction and agreement rather than size.",
        "Odds ratio, mean over iterations (logarithmic)",
        known,
    )


def _forest(name: str, title: str, reading: str, axis: str, known: Sequence[Odds]) -> Figure | None:
    if not known:
        return None
    shown = sorted(known, key=lambda item: -abs(item[0].confidence.score if item[0].confidence else 0))[
        :N_FOREST
    ]
    by_effect = sorted(shown, key=lambda item: (-abs(math.log(item[1])), item[0].id))
    up, down = [o for o in by_effect if o[1] >= 1], [o for o in by_effect if o[1] < 1]
    shorten = is_one_kind([f for f, *_ in known])
    rows = _forest_group("Higher odds of the outcome", "up", up, shorten=shorten)
    rows += _forest_group("Lower odds of the outcome", "down", down, shorten=shorten)
    bounds = _forest_bounds(shown)
    wide, narrow = both(lambda width: charts.forest(name, title, rows, bounds, axis, width=width))
    more = " Sorted by size of effect."
    if len(known) > len(shown):
        more += f" The {len(shown)} features with the highest confidence scores, of {len(known)}, are drawn."
    return Figure(
        name,
        title,
        reading + more,
        wide,
        narrow,
        ("Feature", "Odds ratio (95 % CI)", "Confidence score"),
        tuple(
            (
                _with_unit(f.words, unit),
                words.odds(v, a, b),
                str(f.confidence.score) if f.confidence else words.DASH,
            )
            for f, v, a, b, unit in (*up, *down)
        ),
    )


def _forest_group(label: str, kind: str, items: Sequence[Odds], *, shorten: bool) -> list[Row]:
    rows = [
        Row(
            _with_unit(chart_label(f, shorten=shorten), unit),
            words.odds(v, a, b),
            (v,) if a is None or b is None else (v, a, b),
            kind,
        )
        for f, v, a, b, unit in items
    ]
    return [Row(label, is_heading=True), *rows] if rows else []


def _with_unit(label: str, unit: str) -> str:
    return f"{label} ({unit})" if unit else label


def _forest_bounds(shown: Sequence[Odds]) -> tuple[float, float]:
    reached = [v for _, value, low, high, _ in shown for v in (value, low, high) if v is not None]
    low, high = min([0.5, *reached]), max([2.0, *reached])
    return max(FOREST_LIMITS[0], low / 1.08), min(FOREST_LIMITS[1], high * 1.08)


def frequency(result: Result) -> Figure | None:
    """Plot how often the iterations selected each feature, and which features are in the consensus."""
    known = sorted(
        (f for f in result.features if f.kind == "feature"),
        key=lambda f: (-f.selection_frequency, not f.in_consensus, f.id),
    )
    if not known:
        return None
    n = len(result.iterations)
    picked = [round(f.selection_frequency * n) for f in known]
    rows = [
        (
            f"{k} of {n}",
            words.count(picked.count(k)),
            words.count(sum(f.in_consensus for f, times in zip(known, picked, strict=True) if times == k)),
        )
        for k in sorted(set(picked), reverse=True)
    ]
    return Figure(
        "frequency",
        "Selection frequency",
        "All features that any iteration selected, from the most to the least often. The steeper the fall, the more the iterations "
        "agree. A feature of the consensus (dots) was also used with the same direction of effect.",
        curves.frequency([f.selection_frequency for f in known], [f.in_consensus for f in known]),
        None,
        ("Selected in iterations", "Features", "Of them in the consensus"),
        tuple(rows),
    )


def importance(result: Result) -> Figure | None:
    """Plot the most important features of the final model."""
    known = [(f, f.final_importance) for f in result.features if f.final_importance]
    if not known:
        return None
    shown = sorted(known, key=lambda item: (-item[1], item[0].id))[:N_IMPORTANCE]
    shorten = is_one_kind([f for f, _ in known])
    rows = [Row(chart_label(f, shorten=shorten), words.number(v, 3), (v,)) for f, v in shown]
    wide, narrow = both(lambda width: charts.importance(rows, width=width))
    return Figure(
        "importance",
        "What the final model uses most",
        "How far each feature moves the log-odds on average, up or down (trees: TreeSHAP), over at most 10,000 training samples. "
        "It does not show a cause. "
        f"The first {len(shown)} of {len(known)}.",
        wide,
        narrow,
        ("Feature", "Mean |contribution|"),
        tuple((f.words, words.number(v, 4)) for f, v in shown),
    )


def profile(
    number: int, profile: Profile, features: Sequence[FeatureResult], calibrator: Mapping[str, Any]
) -> Figure:
    """Plot one profile of the final model as a waterfall of exact contributions over an axis of probabilities."""
    rows, total = _waterfall_rows(profile, features)
    ticks, axis = _probability_ticks(calibrator)
    wide, narrow = both(lambda width: charts.waterfall(number, profile.title, rows, ticks, axis, width=width))
    parts = [(c.words, c.value, words.number(c.contribution, 3)) for c in profile.contributions]
    kind = "A synthetic profile" if profile.synthetic else "A real patient, without id and dates"
    return Figure(
        f"profile_{number}",
        profile.title,
        f"{kind}. From the base, each bar adds the contribution of one feature. Together they give a probability of "
        f"{words.percent(profile.calibrated_probability)} after calibration ({words.percent(profile.probability)} before it). "
        "The numbers beside the bars are contributions to the log-odds.",
        wide,
        narrow,
        ("Feature", "Value", "Contribution"),
        (
            ("Base", words.DASH, words.number(profile.base, 3)),
            *parts,
            ("All other features", words.DASH, words.number(profile.others, 3)),
            ("Sum (log-odds)", words.DASH, words.number(total, 3)),
        ),
    )


def _waterfall_rows(profile: Profile, features: Sequence[FeatureResult]) -> tuple[list[Row], float]:
    """Return the bars of a waterfall and its end point."""
    rows = [Row("Base", words.number(profile.base), (profile.base,), "total")]
    at = profile.base
    shorten = is_one_kind(features)
    labels = {f.id: chart_label(f, shorten=shorten) for f in features}
    steps = [
        (f"{words.cut(labels.get(c.feature, c.words), MAX_LABEL)}: {c.value}", c.contribution)
        for c in profile.contributions
    ]
    for label, step in [*steps, ("All other features", profile.others)]:
        sign = "+" if step > 0 else ""
        rows.append(Row(label, sign + words.number(step), (at, at + step), "up" if step >= 0 else "down"))
        at += step
    rows.append(Row("This profile", words.number(at), (at,), "last"))
    return rows, at


def _probability_ticks(calibrator: Mapping[str, Any]) -> tuple[list[tuple[float, str]], str]:
    """Return the log-odds of round probabilities with their labels, and the title of the axis.

    Calibrated probabilities are shown if the calibrator is a rising line on the log-odds.
    """
    intercept, slope = calibrator.get("intercept", 0.0), calibrator.get("slope", 0.0)
    is_line = slope > 0 and not calibrator.get("reason")
    a, b = (intercept, slope) if is_line else (0.0, 1.0)
    ticks = [
        ((math.log(p / (1 - p)) - a) / b, f"{words.number(100 * p, digits)} %")
        for p, digits in _PROBABILITIES
    ]
    return ticks, "Probability of the outcome" + (" after calibration" if is_line else "")
