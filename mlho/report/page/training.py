"""Content of the report of a training run: from its Result to figures, formatted text and rows. Pure functions."""

from collections.abc import Mapping
from typing import Any, Final

import yaml

from mlho.report import words
from mlho.report.comparison import tables_since
from mlho.report.figures.catalogue import figures_of
from mlho.report.figures.figure import Figure
from mlho.report.page import bias, cells, checks, header, limits, population, sections
from mlho.report.page.questions import questions
from mlho.report.page.times import times
from mlho.report.result import Result

SECTIONS: Final = {
    "questions": "Questions",
    "cohort": "Cohort",
    "ledger": "Data ledger",
    "leakage": "Leakage checks",
    "quality": "Data quality",
    "performance": "Performance",
    "features": "Features",
    "stability": "Stability",
    "candidates": "Candidates",
    "errors": "Errors per patient",
    "model": "Final model",
    "changes": "Changes since an earlier run",
    "limits": "Limits",
    "lineage": "Lineage",
}


def content(result: Result) -> dict[str, Any]:
    """Return the values for the template of the report, in the order of its sections."""
    return {
        "result": result,
        "sections": SECTIONS,
        "not_predictive": words.NOT_PREDICTIVE,
        "min_cell": words.min_cell_of(result.lineage.spec),
        **_figures(figures_of(result)),
        **_head(result),
        **_data(result),
        **_performance(result),
        **_features(result),
        **_model(result),
        **_lineage(result),
    }


def _figures(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {
        "figures": figures,
        "bias_figures": figures,
        "profiles": [figure for name, figure in figures.items() if name.startswith("profile_")],
        "pictograms": [figure for name, figure in figures.items() if name.startswith("hundred_")],
    }


def _head(result: Result) -> dict[str, Any]:
    return {
        "eyebrow": header.eyebrow(result),
        "heading": header.heading(result),
        "about": header.about(result),
        "with_outcome": population.with_outcome(result.cohort),
        "tiles": sections.tiles(result),
        "questions": questions(result),
        "why_not_predictive": limits.why_not_predictive(result),
    }


def _data(result: Result) -> dict[str, Any]:
    return {
        "cohort": result.cohort,
        "attrition": population.attrition(result.cohort),
        "characteristics": population.characteristics(result.cohort),
        "is_by_rule": header.rules_of(result) is not None,
        "label_ledger": population.label_ledger(result.cohort),
        "ledger": population.ledger(result.ledger),
        "leakage": checks.leakage(result.leakage),
        "quality": checks.quality(result.quality),
    }


def _performance(result: Result) -> dict[str, Any]:
    return {
        "split": sections.split_rows(result),
        "is_drawn": result.split is None and not limits.is_pooled(result),
        "test_sets": words.test_sets_in_words(result.test_sets),
        "iterations": words.plural(len(result.iterations), "iteration"),
        "headline": sections.headline(result),
        "later": sections.later_rows(result),
        "times": times(result),
        "winners": sections.winners(result),
        "operating": sections.operating_points(result),
        "bias": None if result.bias is None else bias.content(result.bias),
    }


def _features(result: Result) -> dict[str, Any]:
    listed = result.features[: sections.MAX_FEATURES]
    n_left_out = len(result.features) - len(listed)
    min_cell = words.min_cell_of(result.lineage.spec)
    return {
        "consensus_words": sections.consensus_words(result),
        "features": [cells.feature_row(feature, len(result.iterations), min_cell) for feature in listed],
        "features_left_out": words.count(n_left_out) if n_left_out else "",
        "consensus_facts": sections.facts(result.consensus),
        "stability_facts": sections.stability_facts(result),
        "confidence_levels": sections.confidence_levels(result),
    }


def _model(result: Result) -> dict[str, Any]:
    return {
        "candidates": sections.candidates(result),
        "error_notes": sections.error_notes(result),
        "model_facts": sections.model_facts(result),
        "thresholds": sections.thresholds(result),
        "tests": [
            (test.meaning or test.name, "passed" if test.passed else "FAILED", test.level, test.detail)
            for test in result.final_model.tests
        ],
        "gates": [
            (gate.words, {True: "passed", False: "FAILED", None: "open"}[gate.passed], gate.detail)
            for gate in result.gates or ()
        ],
    }


def _lineage(result: Result) -> dict[str, Any]:
    return {
        "changes": None if result.changes is None else tables_since(result.changes),
        "limits": limits.limits(result),
        "input_files": sections.input_files(result),
        "left_out": sections.left_out(result),
        "lineage_facts": sections.lineage_facts(result),
        "spec_text": yaml.safe_dump(result.lineage.spec, sort_keys=True, allow_unicode=True, width=100),
        "iteration_rows": sections.iteration_rows(result),
    }
