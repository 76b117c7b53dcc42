"""Evolving phenotypes: new codes in windows after the index date, with confidence and odds ratio in each, as numbers, tables and figures."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from pydantic import Field

from mlho.report import words
from mlho.report.comparison import Table
from mlho.report.figures.figure import Figure, both
from mlho.report.figures.findings import forest_bounds
from mlho.report.odds import shown_odds
from mlho.report.parts import ALIASED, Estimate, Part, Spread
from mlho.report.result import FeatureResult, Result
from mlho.report.svg import charts
from mlho.report.svg.charts import Row

EVOLUTION_SCHEMA: Final = "mlho.io/evolution/v1"
EVERYONE: Final = "everyone"
MOST_DRAWN: Final = 12  # features in a figure
_LIMITS: Final = (0.01, 100.0)  # of the axis


class WindowRun(Part):
    """The run of one window and group."""

    run: str
    name: str
    group: str
    window: str
    n_patients: int
    n_positive_samples: int
    auroc: Spread
    """On held-out patients: how well the new codes of the window separate the outcomes."""


class EvolvingCell(Part):
    """A feature in one window and group."""

    group: str
    window: str
    confidence: int | None
    """Confidence score; ``null`` if no iteration selected it."""
    is_stable: bool
    odds_ratio: Estimate
    """Of the consensus model of this window and group, with its interval; absent where the feature is not in it."""


class EvolvingFeature(Part):
    """A feature that is stable in at least one window and group."""

    code: str
    aggregate: str
    description: str | None
    cells: list[EvolvingCell]
    """For each group, for each window."""


class Evolution(Part):
    """Windows after the index date, and the new codes in them."""

    schema_: Literal["mlho.io/evolution/v1"] = Field(default=EVOLUTION_SCHEMA, alias="schema")
    outcome: str
    past_days: int | None
    windows: list[str]
    groups: list[str]
    summary: list[str]
    runs: list[WindowRun]
    features: list[EvolvingFeature]

    model_config = ALIASED


def trace_evolution(runs: Sequence[tuple[str, str, str, Result]]) -> Evolution:
    """Put the results of the windows side by side.

    Parameters
    ----------
    runs : sequence of (run id, name, group, result)
        Group by group, windows ascending.
    """
    found = [_window_run(run, name, group, result) for run, name, group, result in runs]
    windows, groups = (
        list(dict.fromkeys(names)) for names in zip(*((run.window, run.group) for run in found), strict=True)
    )
    places = [(run.group, run.window) for run in found]
    tables = [
        {_key(feature): feature for feature in result.features if feature.kind == "feature"}
        for *_, result in runs
    ]
    stable = sorted({key for table in tables for key, feature in table.items() if feature.in_consensus})
    features = [_evolving(key, places, tables) for key in stable]
    first = runs[0][3]
    return Evolution(
        outcome=first.outcome,
        past_days=first.lineage.spec["features"]["after"].get("pastDays"),
        windows=windows,
        groups=groups,
        summary=_summary(first.outcome, windows, groups, features),
        runs=found,
        features=features,
    )


def _window_run(run: str, name: str, group: str, result: Result) -> WindowRun:
    after = result.lineage.spec["features"]["after"]
    return WindowRun(
        run=run,
        name=name,
        group=group,
        window=f"{after['fromDays'] + 1}–{after['toDays']} days",
        n_patients=result.cohort.n_patients,
        n_positive_samples=result.cohort.n_positive_samples,
        auroc=result.headline["auroc"],
    )


def _key(feature: FeatureResult) -> tuple[str, str]:
    return feature.code or "", feature.aggregate or ""


def _evolving(
    key: tuple[str, str],
    places: Sequence[tuple[str, str]],
    tables: Sequence[Mapping[tuple[str, str], FeatureResult]],
) -> EvolvingFeature:
    known = next(table[key] for table in tables if key in table)
    return EvolvingFeature(
        code=key[0],
        aggregate=key[1],
        description=known.description,
        cells=[
            _cell(group, window, table.get(key))
            for (group, window), table in zip(places, tables, strict=True)
        ],
    )


def _cell(group: str, window: str, feature: FeatureResult | None) -> EvolvingCell:
    odds = None if feature is None or feature.odds_ratio is None else shown_odds(feature.odds_ratio)
    return EvolvingCell(
        group=group,
        window=window,
        confidence=None if feature is None or feature.confidence is None else feature.confidence.score,
        is_stable=feature is not None and feature.in_consensus,
        odds_ratio=Estimate(value=None, reason="not in the consensus model")
        if odds is None
        else Estimate(value=odds.value, low=odds.low, high=odds.high, method=odds.unit),
    )


def _summary(
    outcome: str, windows: Sequence[str], groups: Sequence[str], features: Sequence[EvolvingFeature]
) -> list[str]:
    sentences = []
    for group in groups:
        stable = {
            feature.code: [cell.window for cell in feature.cells if cell.group == group and cell.is_stable]
            for feature in features
        }
        n_any = sum(map(bool, stable.values()))
        n_all = sum(len(stable_windows) == len(windows) for stable_windows in stable.values())
        sentences.append(
            f"{group.capitalize()}: {words.plural(n_any, 'new feature')} {'is' if n_any == 1 else 'are'} stable in at least one of "
            f"{words.plural(len(windows), 'window')}, {n_all} in all of them."
        )
    sentences.append(
        f"Odds ratios compare the odds of “{outcome}” with and without a code that is new in the window: they describe associations after the "
        "index date, not predictions."
    )
    return sentences


def evolution_tables(evolution: Evolution) -> list[Table]:
    """Return the runs, and for each group a table of features × windows: odds ratio and confidence score."""
    runs: list[tuple[str, ...]] = [
        (
            run.window,
            run.group,
            words.count(run.n_patients),
            words.count(run.n_positive_samples),
            words.spread(run.auroc, 3),
            run.name,
        )
        for run in evolution.runs
    ]
    tables: list[Table] = [
        (
            "Windows",
            ("After the index date", "Group", "Patients", "Samples with the outcome", "AUROC", "Run"),
            runs,
        )
    ]
    for group in evolution.groups:
        rows: list[tuple[str, ...]] = [
            (_label(feature), *map(_cell_words, _of_group(feature, group)))
            for feature in _stable_in(evolution, group)
        ]
        title = f"New features, {group}: odds ratio of the consensus model (95 % CI); confidence score"
        if rows:
            tables.append((title, ("Feature", *evolution.windows), rows))
    return tables


def evolution_figures(evolution: Evolution) -> list[Figure]:
    """Return a forest plot of each group: the odds ratio of each feature in successive windows."""
    return [
        figure
        for number, group in enumerate(evolution.groups)
        if (figure := _figure(evolution, group, number)) is not None
    ]


def _figure(evolution: Evolution, group: str, number: int) -> Figure | None:
    shown = sorted(
        _stable_in(evolution, group), key=lambda feature: (-_strength(feature, group), feature.code)
    )[:MOST_DRAWN]
    if not shown:
        return None
    rows = [row for feature in shown for row in _rows(feature, group)]
    bounds = forest_bounds([value for row in rows for value in row.values], _LIMITS)
    name, title = f"evolution_{number}", f"Odds ratios after the index date, {group}"
    axis = "Odds ratio (logarithmic)"
    _, columns, numbers = evolution_tables(evolution.model_copy(update={"groups": [group]}))[1]
    return Figure(
        name,
        title,
        "Each feature has a row for each window. To the right of 1, patients in whom the code is new in the window have higher odds of the "
        "outcome. A row without a mark means that the feature is not stable in that window. Numbers on the right are confidence scores. "
        f"At most {MOST_DRAWN} features, those with the largest effects, are shown.",
        *both(lambda width: charts.forest(name, title, rows, bounds, axis, width=width)),
        columns,
        tuple(numbers),
    )


def _rows(feature: EvolvingFeature, group: str) -> list[Row]:
    rows = [Row(_label(feature), is_heading=True)]
    for cell in _of_group(feature, group):
        odds = cell.odds_ratio
        values = tuple(value for value in (odds.value, odds.low, odds.high) if value is not None)
        note = words.DASH if cell.confidence is None else str(cell.confidence)
        rows.append(Row(cell.window, note, values, "up" if (odds.value or 1) >= 1 else "down"))
    return rows


def _strength(feature: EvolvingFeature, group: str) -> float:
    values = [cell.odds_ratio.value for cell in _of_group(feature, group)]
    return max((abs(math.log(value)) for value in values if value), default=0.0)


def _stable_in(evolution: Evolution, group: str) -> list[EvolvingFeature]:
    return [
        feature for feature in evolution.features if any(cell.is_stable for cell in _of_group(feature, group))
    ]


def _of_group(feature: EvolvingFeature, group: str) -> list[EvolvingCell]:
    return [cell for cell in feature.cells if cell.group == group]


def _label(feature: EvolvingFeature) -> str:
    label = f"{feature.description} ({feature.code})" if feature.description else feature.code
    return label if feature.aggregate == "presence" else f"{label}: {feature.aggregate}"


def _cell_words(cell: EvolvingCell) -> str:
    odds = cell.odds_ratio
    if cell.confidence is None:
        return words.DASH
    shown = "not stable" if odds.value is None else words.odds(odds.value, odds.low, odds.high)
    return f"{shown}; {cell.confidence}"
