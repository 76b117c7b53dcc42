"""The HTML pages of a training run (made from its Result only), of evaluations and comparisons, and of a store."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlho.printable import printable
from mlho.report import words
from mlho.report.comparison import Comparison, Table, comparison_tables
from mlho.report.evolution import Evolution, evolution_figures, evolution_tables
from mlho.report.external import ExternalEvaluation, RecalibrationResult
from mlho.report.figures.figure import Figure
from mlho.report.page import external, site, training
from mlho.report.result import Result
from mlho.report.site import Site, SiteModel
from mlho.report.svg.canvas import chart_style
from mlho.report.variants import VariantComparison, variant_tables

_REPORT: Final = "report.html.j2"
_SITE: Final = "site.html.j2"
_SITE_MODEL: Final = "site_model.html.j2"
_TEXTS: Final = ("Code", "Description", "Change", "Group", "Changed fields", "Where")


def render_html(result: Result) -> str:
    """Render the whole page. Equal results give equal bytes.

    Returns
    -------
    str
        HTML with inline style, script and charts. It loads nothing, and works without its script.
    """
    return _page(_REPORT, training.content(result))


def render_dossier(dossier: Mapping[str, Any]) -> str:
    """Render the page of a dossier, as :func:`mlho.report.dossier.document.make_dossier` returns it."""
    kind = "Prediction" if dossier["predictive"] else "Association"
    context = {
        "dossier": dossier,
        "heading": dossier["title"] or f"{kind} of “{dossier['outcome']}”",
        "not_predictive": words.NOT_PREDICTIVE,
        "style": _asset("report.css"),
    }
    return _rendered("dossier.html.j2", context)


def render_evaluation(evaluation: ExternalEvaluation) -> str:
    """Render the page of an evaluation on other data; see :func:`render_html`."""
    return _page("evaluation.html.j2", {**external.content(evaluation), "evaluation": evaluation})


def render_recalibration(evaluation: ExternalEvaluation, new: RecalibrationResult, version: str) -> str:
    """Render the page of a recalibrated model: its result, then the evaluation of the earlier bundle; see :func:`render_html`."""
    shown = evaluation.model_copy(update={"summary": new.summary, "warnings": new.warnings})
    return _page("evaluation.html.j2", {**external.content(shown, new, version), "evaluation": shown})


def render_comparison(comparison: Comparison) -> str:
    """Render the page of a comparison of two runs; see :func:`render_html`."""
    a, b = comparison.a, comparison.b
    facts = [
        (name, f"{run.run}: {run.outcome}, {run.classifier}, {words.plural(run.n_patients, 'patient')}")
        for name, run in (("A", a), ("B", b))
    ]
    return _study(
        comparison.summary,
        "Comparison of two runs",
        f"{a.name} and {b.name}",
        facts,
        comparison_tables(comparison),
    )


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
    }
    return _page("study.html.j2", context)


def prepare_report() -> None:
    """Compile the templates of a report: a third of the time of the first one."""
    _compile(_REPORT)


def prepare_site() -> None:
    """Compile the templates of the site's pages: half of the time of the first ones."""
    _compile(_SITE, _SITE_MODEL)


def _compile(*names: str) -> None:
    for name in (*names, "parts.html.j2"):
        _environment().get_template(name)


def render_site(site_facts: Site, pages: Mapping[str, str]) -> str:
    """Render the first page of a store. ``pages`` are the addresses of the pages of its models by name."""
    return _page(_SITE, site.index_content(site_facts, pages))


def render_site_model(model: SiteModel, site_facts: Site) -> str:
    """Render the page of one model of a store."""
    runs = {run.run: run for run in site_facts.runs}
    return _page(_SITE_MODEL, site.model_content(model, site_facts, runs))


def _page(template: str, content: Mapping[str, Any]) -> str:
    """Render a page that has charts."""
    style = _asset("report.css") + Markup(chart_style())  # noqa: S704 - a file of this package
    return _rendered(template, {**content, "style": style, "script": _asset("report.js")})


def _rendered(template: str, context: Mapping[str, Any]) -> str:
    # printable is applied once to the whole page, so that no text from the data can bypass it.
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
    environment.globals["n_texts"] = _n_texts
    return environment


def _n_texts(columns: Sequence[str]) -> int:
    """Return how many columns, from the first, are text, which is aligned on the left."""
    return next((place for place, name in enumerate(columns) if place and name not in _TEXTS), len(columns))


@cache
def _asset(name: str) -> Markup:
    """Return a file of this package, to be included unescaped."""
    text = resources.files("mlho.report").joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 - a file of this package
