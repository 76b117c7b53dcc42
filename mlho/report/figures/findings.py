"""Figures of the findings: odds ratios, stability of features, and contributions to the final model."""

from collections.abc import Sequence
from typing import Final

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
        "Right of 1: higher odds of the outcome, the other features being equal; an interval that crosses 1 is compatible with no "
        "association. One unit is what the words of the feature say: presence, one more record, one unit of a value; "
        "where that would be 1.00, the standard deviation that is given. Chosen and fitted on the same patients, the "
        "intervals are too narrow.",
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
        "Per standard deviation: the mean over the iterations that used the feature, with a 95 % t-interval. The fit shrinks them towards 1 on purpose: they show "
        "direction and agreement rather than size.",
        "Odds ratio, mean over iterations (logarithmic)",
        known,
    )


def _forest(name: str, title: str, reading: str, axis: str, known: Sequence[Odds]) -> Figure | None:
    if not known:
        return None
    shown = sorted(known, key=lambda item: -abs(item[0].confidence.score if item[0].confidence else 0))[
        :N_FOREST
    ]
    up, down = [o for o in shown if o[1] >= 1], [o for o in shown if o[1] < 1]
    shorten = is_one_kind([f for f, *_ in known])
    rows = _forest_group("Higher odds of the outcome", "up", up, shorten=shorten)
    rows += _forest_group("Lower odds of the outcome", "down", down, shorten=shorten)
    bounds = _forest_bounds(shown)
    wide, narrow = both(lambda width: charts.forest(name, title, rows, bounds, axis, width=width))
    more = f" The {len(shown)} surest of {len(known)} are drawn." if len(known) > len(shown) else ""
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
            for f, v, a, b, unit in shown
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
        "All features that any iteration picked, from the most to the least often: the steeper the fall, the more the "
        "iterations agree. To be picked is not enough for the consensus (dots): the sign must agree as well.",
        curves.frequency([f.selection_frequency for f in known], [f.in_consensus for f in known]),
        None,
        ("Picked in iterations", "Features", "Of them in the consensus"),
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
        "How far each feature moves the log-odds on average, up or down (trees: TreeSHAP), over at most 10,000 training samples; "
        "it says nothing about cause. "
        f"The first {len(shown)} of {len(known)}.",
        wide,
        narrow,
        ("Feature", "Mean |contribution|"),
        tuple((f.words, words.number(v, 4)) for f, v in shown),
    )


def profile(number: int, profile: Profile, features: Sequence[FeatureResult]) -> Figure:
    """Plot one profile of the final model as a waterfall of exact contributions."""
    rows, total = _waterfall_rows(profile, features)
    wide, narrow = both(lambda width: charts.waterfall(number, profile.title, rows, width=width))
    parts = [(c.words, c.value, words.number(c.contribution, 3)) for c in profile.contributions]
    kind = "A made-up profile" if profile.synthetic else "A real patient, without id and dates"
    return Figure(
        f"profile_{number}",
        profile.title,
        f"{kind}. From the base each bar adds what one feature contributes to the log-odds; the sum is "
        f"{words.number(total, 3)}, which is a probability of {words.percent(profile.probability)}, "
        f"{words.percent(profile.calibrated_probability)} after calibration.",
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
    rows = [Row("Base", words.number(profile.base), (0.0, profile.base), "total")]
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
    rows.append(Row("Log-odds", words.number(at), (0.0, at), "last"))
    return rows, at
