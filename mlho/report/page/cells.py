"""Table cells of the report, and the rows of its feature table."""

from markupsafe import Markup, escape

from mlho.report import words
from mlho.report.odds import shown_odds
from mlho.report.result import FeatureResult, Spread
from mlho.report.words import DASH, MINUS


def with_note(main: str, note: str) -> Markup:
    """Return a cell with an optional smaller second line."""
    return Markup('{}<span class="s">{}</span>').format(main, note) if note else escape(main)


def spread_cell(spread: Spread | None, digits: int = 3) -> str:
    """Format a metric's mean over iterations with its interval below it; state if it is not available."""
    if spread is None or spread.mean is None:
        return words.ABSENT
    return with_ends(spread.mean, spread.low, spread.high, digits)


def with_ends(value: float, low: float | None, high: float | None, digits: int = 3) -> Markup:
    """Format a figure with its interval below, if it has one."""
    return with_note(words.number(value, digits), words.ends(low, high, digits))


def odds_cell(value: float | None, low: float | None, high: float | None) -> str:
    """Format an odds ratio with its interval below; a dash if it is absent."""
    if value is None:
        return DASH
    return with_note(words.ratio(value), words.odds_ends(low, high))


def feature_row(feature: FeatureResult, n_iterations: int, min_cell: int) -> dict[str, str]:
    """Return one row of the feature table."""
    confidence, odds_ratio = feature.confidence, feature.odds_ratio
    return {
        "words": feature.words,
        "code": feature.code if feature.code and feature.code not in feature.words else "",
        "score": DASH if confidence is None else str(confidence.score).replace("-", MINUS),
        "in_words": confidence_words(feature, n_iterations),
        "note": feature.note or "",
        "picked": words.percent(feature.selection_frequency, 0) if feature.kind == "feature" else "always",
        "name": feature.description or feature.words,
        "rank": DASH if feature.median_rank is None else f"{feature.median_rank:g}",
        "patients": _patients(feature, min_cell),
        "mean_odds": DASH
        if confidence is None
        else odds_cell(confidence.mean_odds_ratio, confidence.low95, confidence.high95),
        "odds": _consensus_odds(feature),
        "per_sd": DASH
        if odds_ratio is None
        else odds_cell(odds_ratio.per_sd, odds_ratio.per_sd_low, odds_ratio.per_sd_high),
        "p": DASH if odds_ratio is None or odds_ratio.p_value is None else words.p_value(odds_ratio.p_value),
        "detail": _detail(feature),
        "importance": DASH if feature.final_importance is None else words.number(feature.final_importance, 3),
    }


def _detail(feature: FeatureResult) -> str:
    """Return code and aggregate, which a description does not show."""
    if not feature.description:
        return ""
    return (
        feature.words.removeprefix(feature.description)
        .strip()
        .replace(f"({feature.code}): ", f"{feature.code}: ", 1)
    )


def _patients(feature: FeatureResult, min_cell: int) -> str:
    if feature.n_patients is None:
        return words.cell(None, min_cell) if feature.kind == "feature" else DASH
    of = words.percent(feature.prevalence) if feature.prevalence is not None else ""
    return with_note(words.count(feature.n_patients), of)


def _consensus_odds(feature: FeatureResult) -> str:
    odds_ratio = feature.odds_ratio
    if odds_ratio is None:
        return DASH
    if odds_ratio.per_unit is None:
        return odds_ratio.reason or words.ABSENT
    shown = shown_odds(odds_ratio)
    assert shown is not None
    cell = odds_cell(shown.value, shown.low, shown.high)
    return with_note(cell, shown.unit)


def confidence_words(feature: FeatureResult, n_iterations: int) -> str:
    """Describe in how many iterations a feature was selected, and in which direction."""
    confidence = feature.confidence
    if confidence is None:
        return "in every model, not selected" if feature.kind == "demographic" else words.ABSENT
    if confidence.n_seen == 0:
        return f"{'in every model' if feature.kind == 'demographic' else 'selected'}, never used"
    direction = "raises" if (confidence.mean_odds_ratio or 1.0) >= 1 else "lowers"
    agreeing = confidence.n_positive if direction == "raises" else confidence.n_negative
    sentence = f"{direction} the odds in {agreeing} of {n_iterations}"
    opposite = confidence.n_seen - agreeing
    return (
        f"{sentence}, {'lowers' if direction == 'raises' else 'raises'} them in {opposite}"
        if opposite
        else sentence
    )
