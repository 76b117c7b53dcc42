"""Content of the page of an evaluation on other data, or of a recalibration: formatted text and rows. Pure functions."""

from collections.abc import Mapping
from typing import Any, Final

from mlho.report import words
from mlho.report.external import ExternalEvaluation, RecalibrationResult
from mlho.report.figures import groups, performance
from mlho.report.figures.figure import Figure
from mlho.report.page import bias, cells
from mlho.report.page.header import period
from mlho.report.page.sections import OPERATING
from mlho.report.result import Estimate

SECTIONS: Final = {
    "cohort": "Cohort and rows",
    "performance": "Performance",
    "recalibration": "Recalibration",
    "groups": "Months, sites and groups",
}
_CORRECTIONS: Final = (
    ("Shift of the log-odds", "shift"),
    ("Intercept of the line", "intercept"),
    ("Slope of the line", "slope"),
)

Rows = list[tuple[str, ...]]


def content(
    evaluation: ExternalEvaluation, new: RecalibrationResult | None = None, version: str = ""
) -> dict[str, Any]:
    """Return the values of the template in addition to the evaluation itself; ``new`` has its row ``version`` under Recalibration."""
    return {
        "kind": "Recalibration" if new else "Evaluation on other data",
        "version": version,
        "sections": SECTIONS,
        "min_cell": words.min_cell_of(evaluation.spec),
        "facts": facts(evaluation, new),
        "attrition": [
            (step.rule, *map(words.counted, (step.patients, step.samples))) for step in evaluation.attrition
        ],
        "ledger": [
            ("used", words.count(evaluation.ledger.rows_used)),
            *((rule.rule, words.count(rule.rows)) for rule in evaluation.ledger.rules if rule.rows),
        ],
        "codes": code_rows(evaluation),
        "code_counts": code_counts(evaluation),
        "figures": figure_rows(evaluation),
        "thresholds": thresholds(evaluation),
        "charts": charts(evaluation),
        "corrections": [
            (name, words.brief(getattr(evaluation.recalibration, field))) for name, field in _CORRECTIONS
        ],
        "recalibrated": recalibrated(evaluation.recalibration.figures),
        "bias": bias.content(evaluation.bias),
        "bias_figures": {figure.name: figure for figure in groups.of_audit(evaluation.bias)},
    }


def facts(evaluation: ExternalEvaluation, new: RecalibrationResult | None = None) -> Rows:
    """Return the evaluated bundle, the new one of a recalibration, and the data of the evaluation."""
    dates = evaluation.index_dates
    share = evaluation.share_without_events
    return [
        *([("New bundle", new.final_model.bundle_digest)] if new else []),
        ("Recalibrated from" if new else "Bundle", evaluation.bundle_digest),
        ("Classifier", evaluation.classifier),
        ("Trained for", evaluation.trained_on),
        ("Data", evaluation.data_digest),
        *([("Index dates", period(dates))] if dates else []),
        ("Samples without events", words.HIDDEN if share is None else words.percent(share, 0)),
        ("Codes that the bundle does not use", words.count(evaluation.unknown_codes)),
    ]


def code_rows(evaluation: ExternalEvaluation) -> Rows:
    """Return the codes that are new or have vanished since training."""
    if evaluation.codes is None:
        return []
    return [
        (shift.code, name, words.percent(shift.training, 2), words.percent(shift.now, 2))
        for name, shifts in (("new", evaluation.codes.new), ("vanished", evaluation.codes.vanished))
        for shift in shifts
    ]


def code_counts(evaluation: ExternalEvaluation) -> dict[str, str]:
    """Return how many codes are new, have vanished and were compared."""
    codes = evaluation.codes
    if codes is None:
        return {}
    return {name: words.count(getattr(codes, f"n_{name}")) for name in ("new", "vanished", "compared")}


def figure_rows(evaluation: ExternalEvaluation) -> Rows:
    """Return every figure without a threshold, on these data and in training."""
    keys = words.metric_order([key for key in evaluation.figures if "/" not in key])
    return [
        (
            cells.with_note(words.metric_name(key), words.metric_meaning(key)),
            _estimate(evaluation.figures[key]),
            cells.spread_cell(evaluation.trained.get(key)),
        )
        for key in keys
    ]


def thresholds(evaluation: ExternalEvaluation) -> dict[str, Any] | None:
    """Return the performance at the bundle's thresholds; None without any."""
    rows = [
        (
            words.rule_words(rule),
            words.number(value, 3),
            *(_estimate(evaluation.figures.get(f"{rule}/{name}"), digits) for name, digits in OPERATING),
        )
        for rule, value in evaluation.thresholds.items()
        if value is not None
    ]
    columns = ("Rule in training", "Threshold", *(words.metric_name(name) for name, _ in OPERATING))
    return {"columns": columns, "rows": rows} if rows else None


def charts(evaluation: ExternalEvaluation) -> list[Figure]:
    """Return the curves."""
    return performance.of_curves(
        evaluation.curves,
        prevalence=evaluation.n_positive_samples / evaluation.n_samples,
        smallest=words.min_cell_of(evaluation.spec),
        typical=0,
        which="these data",
    )


def recalibrated(figures: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any] | None:
    """Return the versions of the probabilities side by side; None without a correction."""
    if not figures:
        return None
    names = list(next(iter(figures.values())))
    rows = [
        (version, *(_estimate(estimates[name]) for name in names)) for version, estimates in figures.items()
    ]
    return {"columns": ("Probabilities", *map(words.metric_name, names)), "rows": rows}


def _estimate(figure: Estimate | None, digits: int = 3) -> str:
    if figure is None:
        return words.ABSENT
    if figure.value is None or figure.low is None:
        return words.brief(figure, digits) + (f" ({figure.reason})" if figure.reason else "")
    return cells.with_ends(figure.value, figure.low, figure.high, digits)
