"""Content of the sections on groups and periods in a report or an evaluation. Pure functions."""

from collections.abc import Sequence
from typing import Any, Final

from mlho.errors import capitalized
from mlho.report import words
from mlho.report.bias.audit import (
    AlertGap,
    BiasAudit,
    GroupBias,
    GroupComparison,
    GroupTrend,
    PatientErrors,
    PeriodBias,
)
from mlho.report.page import cells
from mlho.report.parts import Estimate
from mlho.report.words import DASH

SIGNIFICANT: Final = 0.05  # adjusted p value
MOST_ROWS: Final = 30  # of a table of differences; result.json has all
Rows = list[tuple[str, ...]]
_GAPS: Final = {
    "equal_opportunity": "Equal opportunity (sensitivity)",
    "equalised_odds": "Equalised odds (sensitivity, specificity)",
    "demographic_parity": "Demographic parity (share flagged)",
}
_OUTCOMES: Final = {1: "with the outcome", 0: "without the outcome"}


def content(bias: BiasAudit) -> dict[str, Any]:
    """Return the tables of an audit, and sentences for those that would be empty."""
    rule = next((rule for rule in bias.rules if "alert-rate" in rule), next(iter(bias.rules), None))
    compared = [comparison for comparison in bias.comparisons if is_found(comparison)]
    errors = [comparison for comparison in bias.errors if is_found(comparison)]
    trends = [trend for trend in bias.trends if is_found(trend)]
    return {
        "rule": "" if rule is None else words.rule_words(rule),
        "performance": _performance(bias.groups, rule),
        "calibration": _calibration(bias.groups),
        "contradicted": _contradicted(bias.groups),
        "compared": _compared(compared),
        "compared_words": _found_words(compared, bias.comparisons, "difference"),
        "errors": [
            (
                _name(comparison),
                comparison.reference,
                _OUTCOMES[comparison.outcome],
                _cell(comparison.delta),
                _p(comparison.adjusted),
            )
            for comparison in errors
        ],
        "errors_words": _found_words(errors, bias.errors, "comparison"),
        "gaps": [_gap(gap) for gap in bias.gaps],
        "trends": _trends(trends),
        "trends_words": _found_words(trends, bias.trends, "trend"),
        "unit": bias.unit,
        "periods": [
            (
                period.period,
                words.counted(period.n_samples),
                words.counted(period.n_positive),
                *(_cell(period.figures.get(name)) for name in ("auroc", "observed_expected", "brier")),
            )
            for period in bias.groups[0].periods
            if not _is_hidden(period)
        ],
        "hidden_periods": _hidden_periods(bias),
    }


def _is_hidden(period: PeriodBias) -> bool:
    return period.n_samples is None and not period.figures


def _hidden_periods(bias: BiasAudit) -> str:
    """State that periods of which nothing is shown are not listed; empty without any.

    Their number is not known here: the audit leaves out periods with fewer samples than may be shown.
    """
    if not any(map(_is_hidden, bias.groups[0].periods)):
        return ""
    return (
        f"{capitalized(bias.unit or 'period')}s of which no count and no figure may be shown are not listed."
    )


def _contradicted(groups: Sequence[GroupBias]) -> Rows:
    return [
        (
            _name(group),
            words.counted(labels.n_samples),
            _cell(labels.observed),
            words.number(labels.expected, 3),
        )
        for group in groups
        if (labels := group.contradicted) is not None
    ]


def _compared(comparisons: Sequence[GroupComparison]) -> Rows:
    return [
        (
            _name(comparison),
            comparison.reference,
            metric_words(comparison.metric),
            _cell(comparison.difference),
            _cell(comparison.ratio, 2),
            _p(comparison.adjusted),
        )
        for comparison in sorted(comparisons, key=lambda comparison: comparison.adjusted or 0.0)[:MOST_ROWS]
    ]


def _trends(trends: Sequence[GroupTrend]) -> Rows:
    return [
        (
            _name(trend),
            metric_words(trend.metric),
            words.count(trend.n_periods),
            _cell(trend.per_year),
            _p(trend.adjusted),
        )
        for trend in sorted(trends, key=lambda trend: trend.adjusted or 0.0)[:MOST_ROWS]
    ]


def _performance(groups: Sequence[GroupBias], rule: str | None) -> Rows:
    names = (
        "auroc",
        "observed_expected",
        f"{rule}/sensitivity",
        f"{rule}/specificity",
        f"{rule}/alerts_per_100",
    )
    return [
        (
            cells.with_note(_name(group), group.reason or ""),
            words.counted(group.n_samples),
            words.counted(group.n_positive),
            *(_cell(group.figures.get(name), 1 if name.endswith("100") else 3) for name in names),
        )
        for group in groups
    ]


def _calibration(groups: Sequence[GroupBias]) -> Rows:
    """Return calibration before and after recalibration within the group; ECE with its value under perfect calibration."""
    rows: Rows = []
    for group in groups:
        if not group.figures:
            continue
        perfect = group.perfect.get("ece_equal_count")
        rows.append(
            (
                _name(group),
                _cell(group.figures["in_the_large"]),
                _cell(group.recalibrated.get("in_the_large")),
                _cell(group.figures["ece_equal_count"]),
                DASH
                if perfect is None
                else cells.with_note(words.number(perfect.mean, 3), f"up to {words.number(perfect.high, 3)}"),
                _cell(group.recalibrated.get("ece_equal_count")),
                _cell(group.figures["brier"]),
            )
        )
    return rows


def _name(group: GroupBias | GroupComparison | GroupTrend | PatientErrors) -> str:
    return group.level if group.by == "all" else f"{group.by}: {group.level}"


def metric_words(metric: str) -> str:
    """Return a figure in words, with the rule of its threshold.

    Examples
    --------
    >>> metric_words("error_positive")
    'Mean error of the probability, with the outcome'
    """
    rule, _, name = metric.rpartition("/")
    known = {
        "error_positive": "Mean error of the probability, with the outcome",
        "error_negative": "Mean error of the probability, without the outcome",
        "in_the_large": words.metric_name("calibration_in_the_large"),
        "observed_expected": "Observed ÷ expected",
    }
    text = known.get(name) or words.metric_name(name)
    return f"{text}, {words.rule_words(rule)}" if rule else text


def _gap(gap: AlertGap) -> tuple[str, ...]:
    rule, _, name = gap.metric.rpartition("/")
    by_chance = DASH if gap.by_chance is None else words.number(gap.by_chance, 3)
    return gap.by, _GAPS[name], words.rule_words(rule), _cell(gap.value), by_chance


def n_tested(computed: Sequence[GroupComparison] | Sequence[PatientErrors] | Sequence[GroupTrend]) -> int:
    """Return how many of the figures have a p value."""
    return sum(figure.adjusted is not None for figure in computed)


def is_found(figure: GroupComparison | PatientErrors | GroupTrend) -> bool:
    """Return whether a figure is significant after correction."""
    return figure.adjusted is not None and figure.adjusted < SIGNIFICANT


def _found_words(
    found: Sequence[object],
    computed: Sequence[GroupComparison] | Sequence[PatientErrors] | Sequence[GroupTrend],
    noun: str,
) -> str:
    """State how many of the tests are significant; empty without figures."""
    n, n_found = n_tested(computed), len(found)
    if not computed:
        return ""
    if not n:
        return f"{words.plural(len(computed), noun)} without a test: there are no bootstrap replicates, or too few patients."
    if not n_found:
        return f"None of {words.plural(n, noun)} is significant after correction for their number."
    more = f" The first {MOST_ROWS} are listed." if n_found > MOST_ROWS else ""
    return f"{n_found} of {words.plural(n, noun)} {'is' if n_found == 1 else 'are'} significant after correction for their number.{more}"


def _cell(estimate: Estimate | None, digits: int = 3) -> str:
    if estimate is None or estimate.value is None:
        return DASH
    return cells.with_ends(estimate.value, estimate.low, estimate.high, digits)


def _p(adjusted: float | None) -> str:
    return DASH if adjusted is None else words.p_value(adjusted)
