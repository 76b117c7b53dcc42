"""Content of the report about the time to an event."""

from typing import Any

from mlho.report import words
from mlho.report.odds import shown_hazard
from mlho.report.page import cells
from mlho.report.result import FeatureResult, HorizonPerformance, Result, TimeToEventPerformance

_FIGURES = ("auroc", "brier", "observed", "predicted", "observed_expected")


def times(result: Result) -> dict[str, Any] | None:
    """Return the figures at the horizons, the calibration by fifths and the account; None if the outcome is not a time to an event."""
    performance = result.time_to_event
    if performance is None:
        return None
    return {
        "rows": [
            (
                words.plural(horizon.days, "day"),
                *(cells.spread_cell(horizon.figures[name], 3) for name in _FIGURES),
                words.counted(unknown),
            )
            for horizon, unknown in zip(performance.horizons, performance.n_unknown, strict=True)
        ],
        "groups": [row for horizon in performance.horizons for row in _groups(horizon)],
        "hazards": [_hazard(feature) for feature in result.features if feature.hazard_ratio is not None],
        "note": _account(performance),
        "concordance": f"Concordance up to {words.plural(performance.horizons[-1].days, 'day')}: Harrell's {words.spread(performance.harrell)}, Uno's "
        f"{words.spread(performance.uno)}.",
    }


def _groups(horizon: HorizonPerformance) -> list[tuple[str, ...]]:
    return [
        (
            words.plural(horizon.days, "day"),
            f"{place} of {len(horizon.groups)}",
            words.percent(group.predicted),
            words.HIDDEN if group.observed is None else words.percent(group.observed),
        )
        for place, group in enumerate(horizon.groups, 1)
    ]


def _hazard(feature: FeatureResult) -> tuple[str, ...]:
    hazard = feature.hazard_ratio
    assert hazard is not None
    shown = shown_hazard(hazard)
    if shown is None:
        return feature.words, hazard.reason or words.ABSENT, words.DASH
    ratio = cells.odds_cell(shown.value, shown.low, shown.high)
    return (
        feature.words,
        cells.with_note(ratio, shown.unit),
        words.DASH if hazard.p_value is None else words.p_value(hazard.p_value),
    )


def _account(performance: TimeToEventPerformance) -> str:
    first = words.plural(performance.horizons[0].days, "day")
    competing = (
        ""
        if performance.n_competing == 0
        else f", {words.counted(performance.n_competing)} a competing event"
    )
    return (
        f"{words.counted(performance.n_events)} samples had the event{competing}, and {words.counted(performance.n_censored)} were censored. The median follow-up of "
        f"all samples, to the first of these, was {words.plural(round(performance.median_days), 'day')}. Screen, ranking and consensus treat an event within {first} as the outcome, and samples "
        "censored earlier as without the outcome. All other figures are corrected by inverse probability of censoring weights, which assume "
        "that censoring does not depend on the risk. Numbers of samples in probability bins and at thresholds have these weights, and those in groups and periods the weights estimated in each of them."
    )
