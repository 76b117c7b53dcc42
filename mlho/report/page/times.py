"""Content of the report about the time to an event."""

from typing import Any

from mlho.report import words
from mlho.report.odds import shown_hazard
from mlho.report.page import cells
from mlho.report.result import FeatureResult, HorizonPerformance, Result, TimeToEventPerformance

_FIGURES = ("auroc", "brier", "observed", "predicted", "observed_expected")


def times(result: Result) -> dict[str, Any] | None:
    """Return the figures at the horizons, the calibration by fifths and the account; None if the outcome is no time to an event."""
    own = result.time_to_event
    if own is None:
        return None
    return {
        "rows": [
            (
                words.plural(one.days, "day"),
                *(cells.spread_cell(one.figures[name], 3) for name in _FIGURES),
                _shown(unknown),
            )
            for one, unknown in zip(own.horizons, own.n_unknown, strict=True)
        ],
        "groups": [row for one in own.horizons for row in _groups(one)],
        "hazards": [_hazard(one) for one in result.features if one.hazard_ratio is not None],
        "note": _account(own),
        "concordance": f"Concordance up to {words.plural(own.horizons[-1].days, 'day')}: Harrell's {words.spread(own.harrell)}, Uno's "
        f"{words.spread(own.uno)}.",
    }


def _groups(own: HorizonPerformance) -> list[tuple[str, ...]]:
    return [
        (
            words.plural(own.days, "day"),
            f"{place} of {len(own.groups)}",
            words.percent(group.predicted),
            words.HIDDEN if group.observed is None else words.percent(group.observed),
        )
        for place, group in enumerate(own.groups, 1)
    ]


def _hazard(feature: FeatureResult) -> tuple[str, ...]:
    own = feature.hazard_ratio
    assert own is not None
    shown = shown_hazard(own)
    if shown is None:
        return feature.words, own.reason or words.ABSENT, words.DASH
    ratio = cells.odds_cell(shown.value, shown.low, shown.high)
    return (
        feature.words,
        cells.with_note(ratio, shown.unit),
        words.DASH if own.p_value is None else words.p_value(own.p_value),
    )


def _account(own: TimeToEventPerformance) -> str:
    first = words.plural(own.horizons[0].days, "day")
    competing = "" if own.n_competing == 0 else f", {_shown(own.n_competing)} a competing event"
    return (
        f"{_shown(own.n_events)} samples had the event{competing}, and {_shown(own.n_censored)} were censored, after a median of "
        f"{words.number(own.median_days, 0)} days. Screen, ranking and consensus count an event within {first} as the outcome, and samples "
        "that were censored before as without it. All other figures are corrected for censoring by inverse probability weights, which "
        "assume that it does not depend on the risk."
    )


def _shown(n: int | None) -> str:
    return words.HIDDEN if n is None else words.count(n)
