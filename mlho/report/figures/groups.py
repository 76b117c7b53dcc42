"""Figures for fairness and use: performance in groups and periods, and a hundred patients at each threshold."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from mlho.report import words
from mlho.report.bias.audit import BiasAudit, PeriodBias
from mlho.report.figures.figure import Figure, both
from mlho.report.figures.performance import tested_prevalence
from mlho.report.parts import Estimate
from mlho.report.result import Result
from mlho.report.svg import charts
from mlho.report.svg.charts import Row
from mlho.report.svg.panels import Panel, small_multiples
from mlho.report.svg.pictogram import pictogram

_AUROC_READING: Final = (
    "Each point is a group with its 95 % interval. The dashed line is the AUROC of all patients. Within a group of similar age, "
    "age itself no longer discriminates between patients, so the AUROC is usually lower."
)
_RATIO_READING: Final = "Above 1, the outcome is more frequent in the group than the model predicts; below 1, it is less frequent. Bars are 95 % intervals."


def of_audit(bias: BiasAudit | None) -> list[Figure]:
    """Return the figures of an audit: AUROC and calibration by group, and both by period."""
    if bias is None:
        return []
    drawn = (
        _by_group(bias, "groups", "auroc", "AUROC by group", _AUROC_READING),
        _by_group(
            bias,
            "group_calibration",
            "observed_expected",
            "Observed ÷ expected by group",
            _RATIO_READING,
            1.0,
        ),
        _by_period(bias, "periods", "auroc", "AUROC"),
        _by_period(bias, "period_calibration", "observed_expected", "Observed ÷ expected", 1.0),
    )
    return [figure for figure in drawn if figure is not None]


def _by_group(
    bias: BiasAudit, name: str, metric: str, title: str, reading: str, ideal: float | None = None
) -> Figure | None:
    """Plot a figure of each group with its interval; the dashed line is its ideal, or the figure of all patients."""
    overall = bias.groups[0].figures.get(metric)
    columns = bias.columns
    # Bands of age ascend; in the audit the reference is first.
    ordered = sorted(
        bias.groups[1:],
        key=lambda group: (columns.index(group.by), group.level == words.UNKNOWN, group.level),
    )
    known = [
        (group, estimate)
        for group in ordered
        if (estimate := group.figures.get(metric)) is not None and estimate.value is not None
    ]
    if len(known) < 2 or overall is None or overall.value is None:
        return None
    reference = overall.value if ideal is None else ideal
    rows: list[Row] = []
    for by in dict.fromkeys(group.by for group, _ in known):
        rows.append(Row(words.capitalized(by).replace("_", " "), is_heading=True))
        rows += [
            Row(group.level, words.brief(estimate), _with_ends(estimate))
            for group, estimate in known
            if group.by == by
        ]

    description = (
        f"{title}: {len(known)} groups with 95 % intervals; the dashed line is {words.number(reference, 3)}."
    )
    table = tuple((f"{group.by}: {group.level}", words.brief(estimate)) for group, estimate in known)
    return Figure(
        name,
        title,
        reading,
        *both(partial(charts.intervals, name, title, description, rows, title, reference=reference)),
        ("Group", "Value (95 % CI)"),
        table,
    )


def _with_ends(estimate: Estimate) -> tuple[float, float, float]:
    assert estimate.value is not None
    low, high = (estimate.value if end is None else end for end in (estimate.low, estimate.high))
    return estimate.value, low, high


def _by_period(
    bias: BiasAudit, name: str, metric: str, words_of: str, ideal: float | None = None
) -> Figure | None:
    """Plot a figure over the periods, one panel for all patients and one for each group with two periods or more."""
    periods = [period.period for period in bias.groups[0].periods]
    panels = [
        Panel(
            group.level if group.by == "all" else f"{group.by}: {group.level}", _points(group.periods, metric)
        )
        for group in bias.groups
    ]
    panels = [panel for panel in panels if len(panel.points) > 1]
    overall = bias.groups[0].figures.get(metric)
    if not panels or overall is None:
        return None
    reference = overall.value if ideal is None else ideal
    title = f"{words_of} by {bias.unit}"

    description = f"{title}, in {words.plural(len(panels), 'panel')} with 95 % intervals."
    table = tuple(
        (panel.label, periods[at], f"{words.number(value, 3)} ({words.ends(low, high, 3)})")
        for panel in panels
        for at, value, low, high in panel.points
    )
    line = "the value for all patients" if ideal is None else "the ideal"
    reading = (
        f"Points are values with their 95 % intervals; all panels have the same scales. The dashed line is {line}. "
        f"A {bias.unit} with too few patients has no point."
    )
    return Figure(
        name,
        title,
        reading,
        *both(partial(small_multiples, name, title, description, panels, periods, reference=reference)),
        ("Group", bias.unit or "Period", "Value (95 % CI)"),
        table,
    )


def _points(periods: Sequence[PeriodBias], metric: str) -> tuple[tuple[int, float, float, float], ...]:
    return tuple(
        (place, *_with_ends(estimate))
        for place, period in enumerate(periods)
        if (estimate := period.figures.get(metric)) is not None and estimate.value is not None
    )


def pictograms(result: Result) -> list[Figure]:
    """Draw 100 samples at each threshold that was tried."""
    return [
        _pictogram(number, rule, counts, *hundred(result))
        for number, (rule, counts) in enumerate(flagged_of_hundred(result).items(), start=1)
    ]


def hundred(result: Result) -> tuple[str, str]:
    """Return what is counted, ``100 patients`` or, if a patient has several samples, ``100 samples``, and the pronoun for it."""
    is_each_once = result.cohort.n_samples == result.cohort.n_patients
    return ("100 patients", "whom") if is_each_once else ("100 samples", "which")


def flagged_of_hundred(result: Result) -> dict[str, dict[str, int]]:
    """Return of 100 samples the numbers ``hit``, ``false``, ``missed`` and ``rest`` at each threshold that was tried."""
    rules = sorted({key.partition("/")[0] for key in result.headline if "/" in key})
    return {rule: counts for rule in rules if (counts := _of_hundred(result, rule)) is not None}


def _pictogram(number: int, rule: str, counts: Mapping[str, int], unit: str, pronoun: str) -> Figure:
    title = words.capitalized(words.rule_words(rule))
    n_flagged, n_cases = counts["hit"] + counts["false"], counts["hit"] + counts["missed"]
    reading = (
        f"Of {unit}, {n_cases} {have(n_cases)} the outcome. The model flags {n_flagged}, of {pronoun} {counts['hit']} "
        f"{have(counts['hit'])} the outcome."
    )
    name = f"hundred_{number}"
    return Figure(
        name,
        title,
        reading,
        pictogram(name.replace("_", "-"), f"{unit}: {title}", counts),
        None,
        (f"{unit.split()[1].capitalize()} of 100", "Flagged", "Not flagged"),
        (
            ("With the outcome", str(counts["hit"]), str(counts["missed"])),
            ("Without the outcome", str(counts["false"]), str(counts["rest"])),
        ),
    )


def have(n: int) -> str:
    """Return ``has`` or ``have``."""
    return "has" if n == 1 else "have"


def _of_hundred(result: Result, rule: str) -> dict[str, int] | None:
    """Return whole numbers of 100 samples, from the mean sensitivity, alert rate and prevalence on the test sets."""
    alerts = result.headline.get(f"{rule}/alerts_per_100")
    sensitivity = result.headline.get(f"{rule}/sensitivity")
    if alerts is None or sensitivity is None or alerts.mean is None or sensitivity.mean is None:
        return None
    cases = 100 * tested_prevalence(result)
    n_cases, n_flagged = round(cases), round(alerts.mean)
    hit = min(round(sensitivity.mean * cases), n_cases, n_flagged)
    false = min(n_flagged - hit, 100 - n_cases)
    return {"hit": hit, "false": false, "missed": n_cases - hit, "rest": 100 - n_cases - false}
