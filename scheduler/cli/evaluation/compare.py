"""The command ``mlho compare``: the differences between two training runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlho.errors import SpecError
from mlho.report.changes import PairedChange
from mlho.report.comparison import Comparison, comparison_tables
from mlho.steps.publish.pin_earlier import facts_of
from mlho.store import open_store
from mlho.store.base import Store
from scheduler.cli import terminal
from scheduler.cli.listing import RUN_HELP, checked_output, existing_store, find_finished, result_of
from scheduler.cli.options import Commands, CompareOptions
from scheduler.engine.process_pool import call_beside
from scheduler.runs.earlier import run_artifact
from scheduler.runs.stored import RECALIBRATION, TRAINING, StoredRun, stored_runs

if TYPE_CHECKING:
    from mlho.external.comparison import RunFacts

COMPARE_ABOUT: Final = """\
Compare two finished training runs of a store, A and B: their differences and the consequences.

Performance (paired on the samples that both tested, if there are any, otherwise unpaired), features that enter and leave the
consensus, odds ratios that shift, fields of the specification, input files, rows of the ledgers, and codes. Nothing is recomputed,
and only --html writes a file.
"""


def add_compare(commands: Commands) -> None:
    """Add ``mlho compare``."""
    parser = commands.add("compare", _compare, "compare two training runs", COMPARE_ABOUT)
    parser.add_argument("a", metavar="RUN_A", help=RUN_HELP)
    parser.add_argument("b", metavar="RUN_B", help=RUN_HELP)
    parser.add_argument("--json", action="store_true", help="the whole comparison as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write it as a page")


def _compare(options: CompareOptions) -> int:
    checked_output(options.html, "--html")
    store = existing_store(options)
    runs = [_training_run(store, wanted) for wanted in (options.a, options.b)]
    names = [(run.run_id, run.name) for run in runs]
    document, page = call_beside(_compared, options.store, names)
    if options.html is not None:
        options.html.write_text(page, encoding="utf-8")
    if options.json:
        terminal.print_json(json.loads(document))
        return 0
    comparison = Comparison.model_validate_json(document)
    for letter, run in (("A", comparison.a), ("B", comparison.b)):
        terminal.print_line(f"{letter}  {run.name} ({run.run})")
    terminal.print_lines(comparison.summary)
    terminal.print_tables(terminal.text_table(*table) for table in comparison_tables(comparison))
    return 0


def _training_run(store: Store, wanted: str) -> StoredRun:
    """Return the finished training run. For a recalibration, the error names the command that compares it."""
    try:
        return find_finished(store, wanted, kind=TRAINING)
    except SpecError:
        runs = stored_runs(store)
        other = next(
            (run for run in runs if run.kind == RECALIBRATION and wanted in (run.run_id, run.name)), None
        )
        if other is None:
            raise
    raise SpecError(
        f"run {other.run_id} ({other.name}): is a {RECALIBRATION}, which trains no model and has no test sets. Expected a {TRAINING}. "
        f"To compare both bundles, evaluate each on the same labelled data: mlho evaluate run:{other.run_id} --spec SPEC, and the same "
        "for the training run."
    )


def _compared(address: str, runs: list[tuple[str, str]]) -> tuple[str, str]:
    """Return the comparison as JSON and as a page."""
    from mlho.external.comparison import compare_runs
    from mlho.report.page.html import render_comparison

    store = open_store(address)
    comparison = compare_runs(*(run_facts_of(store, run, name) for run, name in runs))
    return comparison.model_dump_json(), render_comparison(comparison)


def comparison_page(address: str, a: tuple[str, str], b: tuple[str, str]) -> str:
    """Return the page of the comparison of two runs (id and name)."""
    return _compared(address, [a, b])[1]


def paired_change(address: str, a: tuple[str, str], b: tuple[str, str]) -> PairedChange:
    """Return the difference of two runs (id and name), B minus A, on the samples that both tested."""
    from mlho.external.comparison import compare_runs

    store = open_store(address)
    return compare_runs(run_facts_of(store, *a), run_facts_of(store, *b)).paired


def run_facts_of(store: Store, run: str, name: str) -> "RunFacts":
    """Read the compared parts of a finished run, given by id and name."""
    return facts_of(run_artifact(store, run), result_of(store, run), run=run, name=name)
