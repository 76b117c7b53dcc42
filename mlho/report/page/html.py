"""The report of a training run: a self-contained HTML page, made from its Result alone."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlho.printable import printable
from mlho.report import words
from mlho.report.comparison import Comparison, Table, comparison_tables, tables_since
from mlho.report.evolution import Evolution, evolution_figures, evolution_tables
from mlho.report.external import ExternalEvaluation
from mlho.report.figures.catalogue import figures_of
from mlho.report.figures.figure import Figure
from mlho.report.page import bias, cells, checks, external, header, population, sections, site
from mlho.report.page.questions import questions
from mlho.report.page.times import times
from mlho.report.result import Result
from mlho.report.site import Site, SiteModel
from mlho.report.svg.canvas import chart_style
from mlho.report.variants import VariantComparison, variant_tables

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


def render_html(result: Result) -> str:
    """Render the whole page. Equal results give equal bytes.

    Returns
    -------
    str
        HTML with inline style, script and charts. It loads nothing, and works without its script.
    """
    figures = figures_of(result)
    min_cell = sections.min_cell_of(result)
    listed = result.features[: sections.MAX_FEATURES]
    context: dict[str, Any] = {
        "result": result,
        "cohort": result.cohort,
        "sections": SECTIONS,
        "not_predictive": words.NOT_PREDICTIVE,
        "min_cell": min_cell,
        "style": _asset("report.css") + Markup(chart_style()),  # noqa: S704 - a file of this package
        "script": _asset("report.js"),
        "figures": figures,
        "profiles": [figure for name, figure in figures.items() if name.startswith("profile_")],
        "eyebrow": header.eyebrow(result),
        "heading": header.heading(result),
        "about": header.about(result),
        "bias": None if result.bias is None else bias.content(result.bias),
        "bias_figures": figures,
        "pictograms": [figure for name, figure in figures.items() if name.startswith("hundred_")],
        "with_outcome": population.with_outcome(result.cohort),
        "tiles": sections.tiles(result),
        "questions": questions(result),
        "attrition": population.attrition(result.cohort),
        "characteristics": population.characteristics(result.cohort),
        "is_by_rule": header.rules_of(result) is not None,
        "label_ledger": population.label_ledger(result.cohort),
        "ledger": population.ledger(result.ledger),
        "leakage": checks.leakage(result.leakage),
        "quality": checks.quality(result.quality),
        "split": sections.split_rows(result),
        "headline": sections.headline(result),
        "later": sections.later_rows(result),
        "times": times(result),
        "winners": sections.winners(result),
        "operating": sections.operating_points(result),
        "consensus_words": sections.consensus_words(result),
        "features": [cells.feature_row(feature, len(result.iterations), min_cell) for feature in listed],
        "features_left_out": words.count(n) if (n := len(result.features) - len(listed)) else "",
        "consensus_facts": sections.facts(result.consensus),
        "stability_facts": sections.stability_facts(result),
        "confidence_levels": sections.confidence_levels(result),
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
        "changes": None if result.changes is None else tables_since(result.changes),
        "limits": sections.limits(result),
        "input_files": sections.input_files(result),
        "left_out": sections.left_out(result),
        "lineage_facts": sections.lineage_facts(result),
        "spec_text": yaml.safe_dump(result.lineage.spec, sort_keys=True, allow_unicode=True, width=100),
        "iteration_rows": sections.iteration_rows(result),
    }
    # Applied once to the whole page, so that no text from the data can bypass it.
    return printable(_environment().get_template("report.html.j2").render(context), lines=True)


def render_dossier(dossier: Mapping[str, Any]) -> str:
    """Render the page of a dossier, as :func:`mlho.report.dossier.document.make_dossier` returns it."""
    kind = "Prediction" if dossier["predictive"] else "Association"
    context = {
        "dossier": dossier,
        "heading": dossier["title"] or f"{kind} of “{dossier['outcome']}”",
        "not_predictive": words.NOT_PREDICTIVE,
        "style": _asset("report.css"),
    }
    return printable(_environment().get_template("dossier.html.j2").render(context), lines=True)


def render_evaluation(evaluation: ExternalEvaluation) -> str:
    """Render the page of an evaluation on other data; see :func:`render_html`."""
    context = {
        **external.content(evaluation),
        "evaluation": evaluation,
        "style": _asset("report.css") + Markup(chart_style()),  # noqa: S704 - a file of this package
        "script": _asset("report.js"),
    }
    return printable(_environment().get_template("evaluation.html.j2").render(context), lines=True)


def render_comparison(comparison: Comparison) -> str:
    """Render the page of a comparison of two runs; see :func:`render_html`."""
    context = {
        "comparison": comparison,
        "style": _asset("report.css"),
        "tables": comparison_tables(comparison),
    }
    return printable(_environment().get_template("comparison.html.j2").render(context), lines=True)


def render_variants(comparison: VariantComparison) -> str:
    """Render the page of a comparison of a run with its variants; see :func:`render_html`."""
    runs = [comparison.base, *(variant.run for variant in comparison.variants)]
    facts = [
        (run.name, f"{run.run}: {run.classifier}, {words.plural(run.n_patients, 'patient')}") for run in runs
    ]
    return _study(
        comparison.summary,
        "One algorithm on other data",
        f"{comparison.base.name} and {words.plural(len(comparison.variants), 'variant')}",
        [("Outcome", comparison.base.outcome), *facts],
        variant_tables(comparison),
    )


def render_evolution(evolution: Evolution) -> str:
    """Render the page of windows after the index date; see :func:`render_html`."""
    past = (
        "all history"
        if evolution.past_days is None
        else f"the {words.plural(evolution.past_days, 'day')} up to the index date"
    )
    return _study(
        evolution.summary,
        "Evolving phenotypes",
        f"New codes after the index date, by “{evolution.outcome}”",
        [
            ("Windows", "; ".join(evolution.windows)),
            ("New relative to", past),
            ("Groups", "; ".join(evolution.groups)),
        ],
        evolution_tables(evolution),
        evolution_figures(evolution),
    )


def render_changes(name: str, summary: Sequence[str], tables: Sequence[Table]) -> str:
    """Render the page of the dated changes in the tables of a specification; see :func:`render_html`."""
    return _study(summary, "Changes over the calendar", f"Changes in the tables of {name}", [], tables)


def _study(
    summary: Sequence[str],
    eyebrow: str,
    heading: str,
    facts: Sequence[tuple[str, str]],
    tables: Sequence[Table],
    figures: Sequence[Figure] = (),
) -> str:
    context = {
        "summary": summary,
        "eyebrow": eyebrow,
        "heading": heading,
        "facts": facts,
        "tables": tables,
        "figures": figures,
        "style": _asset("report.css") + Markup(chart_style()),  # noqa: S704 - a file of this package
    }
    return printable(_environment().get_template("study.html.j2").render(context), lines=True)


def render_site(site_facts: Site, pages: Mapping[str, str]) -> str:
    """Render the first page of a store. ``pages`` are the addresses of the pages of its models by name."""
    return _site_page("site.html.j2", site.index_content(site_facts, pages))


def render_site_model(model: SiteModel, site_facts: Site) -> str:
    """Render the page of one model of a store."""
    runs = {run.run: run for run in site_facts.runs}
    return _site_page("site_model.html.j2", site.model_content(model, site_facts, runs))


def _site_page(template: str, content: Mapping[str, Any]) -> str:
    context = {
        **content,
        "style": _asset("report.css") + Markup(chart_style()),  # noqa: S704 - a file of this package
        "script": _asset("report.js"),
    }
    return printable(_environment().get_template(template).render(context), lines=True)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mlho.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["count"] = words.count
    return environment


@cache
def _asset(name: str) -> Markup:
    """Return a file of this package, to be included unescaped."""
    text = resources.files("mlho.report").joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 - a file of this package
