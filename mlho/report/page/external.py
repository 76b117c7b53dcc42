"""Content of the page of an evaluation on other data: from its figures to formatted text and rows. Pure functions."""

from collections.abc import Mapping
from typing import Any, Final

from mlho.report import words
from mlho.report.external import ExternalEvaluation
from mlho.report.figures import groups, performance
from mlho.report.figures.figure import Figure
from mlho.report.page import bias, cells
from mlho.report.result import Estimate

SECTIONS: Final = {
    "cohort": "Cohort and rows",
    "performance": "Performance",
    "recalibration": "Recalibration",
    "groups": "Months, sites and groups",
}
MIN_CELL: Final = 11
OPERATING: Final = ("sensitivity", "specificity", "ppv", "npv", "alerts_per_100", "number_needed_to_evaluate")
_CORRECTIONS: Final = (
    ("Shift of the log-odds", "shift"),
    ("Intercept of the line", "intercept"),
    ("Slope of the line", "slope"),
)

Rows = list[tuple[str, ...]]


def content(own: ExternalEvaluation) -> dict[str, Any]:
    """Return what the template shows beside the evaluation itself."""
    return {
        "sections": SECTIONS,
        "min_cell": min_cell_of(own),
        "facts": facts(own),
        "attrition": [(step.rule, *map(_shown, (step.patients, step.samples))) for step in own.attrition],
        "ledger": [
            ("used", words.count(own.ledger.rows_used)),
            *((rule.rule, words.count(rule.rows)) for rule in own.ledger.rules if rule.rows),
        ],
        "codes": code_rows(own),
        "figures": figure_rows(own),
        "thresholds": thresholds(own),
        "charts": charts(own),
        "corrections": [
            (name, words.estimate(getattr(own.recalibration, field), 3)) for name, field in _CORRECTIONS
        ],
        "recalibrated": recalibrated(own.recalibration.figures),
        "bias": bias.content(own.bias),
        "bias_figures": {figure.name: figure for figure in groups.of_audit(own.bias)},
    }


def min_cell_of(own: ExternalEvaluation) -> int:
    """Return the smallest number of patients that may be shown."""
    return int(own.spec.get("report", {}).get("minCell", MIN_CELL))


def facts(own: ExternalEvaluation) -> Rows:
    """Return what was evaluated on what."""
    dates = own.index_dates
    share = own.share_without_events
    return [
        ("Bundle", own.bundle_digest),
        ("Classifier", own.classifier),
        ("Trained for", own.trained_on),
        ("Data", own.data_digest),
        *([("Index dates", f"{dates.first} to {dates.last}")] if dates else []),
        ("Samples without events", words.HIDDEN if share is None else words.percent(share, 0)),
        ("Codes that the bundle does not know", words.count(own.unknown_codes)),
    ]


def code_rows(own: ExternalEvaluation) -> Rows:
    """Return the codes that are new or have vanished since training."""
    if own.codes is None:
        return []
    return [
        (shift.code, name, words.percent(shift.training, 2), words.percent(shift.now, 2))
        for name, shifts in (("new", own.codes.new), ("vanished", own.codes.vanished))
        for shift in shifts
    ]


def figure_rows(own: ExternalEvaluation) -> Rows:
    """Return every figure without a threshold, on these data and in training."""
    keys = words.metric_order([key for key in own.figures if "/" not in key])
    return [
        (
            cells.with_note(words.metric_name(key), words.metric_meaning(key)),
            _estimate(own.figures[key]),
            cells.spread_cell(own.trained.get(key)),
        )
        for key in keys
    ]


def thresholds(own: ExternalEvaluation) -> dict[str, Any] | None:
    """Return the performance at the bundle's thresholds; None without any."""
    rows = [
        (
            words.rule_words(rule),
            words.number(value, 3),
            *(_estimate(own.figures.get(f"{rule}/{name}")) for name in OPERATING),
        )
        for rule, value in own.thresholds.items()
        if value is not None
    ]
    columns = ("Rule", "Threshold", *map(words.metric_name, OPERATING))
    return {"columns": columns, "rows": rows} if rows else None


def charts(own: ExternalEvaluation) -> list[Figure]:
    """Return the curves."""
    min_cell = min_cell_of(own)
    drawn = (
        performance.roc_of(own.curves),
        performance.precision_recall_of(own.curves, own.n_positive_samples / own.n_samples),
        performance.calibration_of(own.curves, min_cell, typical=0, which="these data"),
        performance.decision_of(own.curves, min_cell),
    )
    return [figure for figure in drawn if figure is not None]


def recalibrated(figures: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any] | None:
    """Return the versions of the probabilities side by side; None without a correction."""
    if not figures:
        return None
    names = list(next(iter(figures.values())))
    rows = [(version, *(_estimate(own[name]) for name in names)) for version, own in figures.items()]
    return {"columns": ("Probabilities", *map(words.metric_name, names)), "rows": rows}


def _estimate(figure: Estimate | None) -> str:
    return words.ABSENT if figure is None else words.brief(figure)


def _shown(n: int | None) -> str:
    return words.HIDDEN if n is None else words.count(n)
