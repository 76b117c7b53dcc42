"""The tables that ``mlho run`` prints and publishes for a document of several runs: variants, or windows after the index date."""

import hashlib
from collections.abc import Sequence

from mlho.report.comparison import Table
from mlho.report.evolution import EVERYONE, Evolution, evolution_tables
from mlho.report.variants import VariantComparison, variant_tables
from mlho.spec.cohort import Evolution as Windows
from mlho.store import open_store
from mlho.store.keys import run_key
from scheduler.cli import terminal
from scheduler.cli.evaluation.compare import run_facts_of
from scheduler.cli.listing import result_of
from scheduler.engine.process_pool import call_beside
from scheduler.engine.training_run import TrainingRun

_DIGITS = 16  # hexadecimal digits of a digest in a name
type Study = VariantComparison | Evolution


def publish_study(
    document: TrainingRun, address: str, runs: Sequence[TrainingRun]
) -> tuple[str, Study] | None:
    """Put the finished runs of one document side by side, and publish the result as JSON and as a page in the folder of the first.

    Returns
    -------
    tuple of (str, VariantComparison or Evolution), or None
        Key of both files without their suffix, and their content. The key ends with the digest of the JSON, so that equal runs give
        one file. None for a document without variants and windows.
    """
    section = document.spec.spec
    names = [(run.run_id, run.spec.metadata.name) for run in runs]
    if section.variants is not None:
        kind = "variants"
        text, page = call_beside(_compared, address, names)
        study: Study = VariantComparison.model_validate_json(text)
    elif section.evolution is not None:
        kind = "evolution"
        text, page = call_beside(_traced, address, names, _groups(section.evolution))
        study = Evolution.model_validate_json(text)
    else:
        return None
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    key = run_key(runs[0].run_id, f"{kind}-{digest}")
    document.store.put_if_absent(f"{key}.json", text.encode())
    document.store.put_if_absent(f"{key}.html", page.encode())
    return key, study


def print_study(study: Study, place: str) -> None:
    """Print the sentences and tables of a study, and where its page is."""
    tables: list[Table] = (
        variant_tables(study) if isinstance(study, VariantComparison) else evolution_tables(study)
    )
    kind = "variants" if isinstance(study, VariantComparison) else "evolution"
    terminal.out.print()
    terminal.out.print(kind.capitalize(), markup=False, style="bold")
    terminal.print_lines(study.summary)
    terminal.print_tables(terminal.text_table(*table) for table in tables)
    terminal.out.print()
    terminal.print_line(f"{kind:<8} {place}.html")


def _groups(windows: Windows) -> list[str]:
    """Return the group of each run, in the order of the runs."""
    return [group for group in (EVERYONE, *(group.name for group in windows.groups)) for _ in windows.windows]


def _compared(address: str, runs: list[tuple[str, str]]) -> tuple[str, str]:
    """Return the comparison as JSON and as a page."""
    from mlho.external.variants import compare_variants
    from mlho.report.page.html import render_variants

    store = open_store(address)
    base, *others = runs
    # One variant at a time: a run's facts hold its cohort and dictionary.
    comparison = compare_variants(
        run_facts_of(store, *base), (run_facts_of(store, run, name) for run, name in others)
    )
    return comparison.model_dump_json(), render_variants(comparison)


def _traced(address: str, runs: list[tuple[str, str]], groups: list[str]) -> tuple[str, str]:
    """Return the evolution as JSON and as a page."""
    from mlho.report.evolution import trace_evolution
    from mlho.report.page.html import render_evolution
    from mlho.report.result import Result

    store = open_store(address)
    results = [Result.model_validate(result_of(store, run)) for run, _ in runs]
    evolution = trace_evolution(
        [(*run, group, result) for run, group, result in zip(runs, groups, results, strict=True)]
    )
    return evolution.model_dump_json(), render_evolution(evolution)
