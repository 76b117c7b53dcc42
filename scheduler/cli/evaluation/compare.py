"""The command ``mlho compare``: what differs between two training runs."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from mlho.printable import printable_json
from mlho.report.changes import PairedChange
from mlho.report.comparison import Comparison, comparison_tables
from mlho.steps.publish.pin_earlier import facts_of
from mlho.store import open_store
from mlho.store.base import Store
from scheduler.cli import terminal
from scheduler.cli.listing import RUN_HELP, existing_store, find_finished, result_of
from scheduler.cli.options import CompareOptions
from scheduler.engine.process_pool import call_beside
from scheduler.runs.earlier import run_artifact
from scheduler.runs.stored import TRAINING

if TYPE_CHECKING:
    from mlho.external.comparison import RunFacts

COMPARE_ABOUT: Final = """\
Compare two finished training runs of a store, A and B: their differences and the consequences.

Performance (paired on the samples that both tested, where there are some, else unpaired), features that enter and leave the consensus, odds ratios that shift, fields of the
specification, input files, rows of the ledgers, and codes. Nothing is computed again and nothing is written but --html.
"""


def add_compare(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``mlho compare``."""
    parser = commands.add_parser(
        "compare",
        parents=[common],
        help="compare two training runs",
        description=COMPARE_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="RUN_A", help=RUN_HELP)
    parser.add_argument("b", metavar="RUN_B", help=RUN_HELP)
    parser.add_argument("--json", action="store_true", help="the whole comparison as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write it as a page")
    parser.set_defaults(command=_compare)


def _compare(options: CompareOptions) -> int:
    store = existing_store(options)
    runs = [find_finished(store, wanted, kind=TRAINING) for wanted in (options.a, options.b)]
    names = [(run.run_id, run.name) for run in runs]
    document, page = call_beside(_compared, options.store, names)
    if options.html is not None:
        options.html.write_text(page, encoding="utf-8")
    if options.json:
        print(printable_json(json.loads(document)))  # noqa: T201 - the command's output
        return 0
    comparison = Comparison.model_validate_json(document)
    for letter, run in (("A", comparison.a), ("B", comparison.b)):
        terminal.out.print(f"{letter}  {run.name} ({run.run})", markup=False)
    for sentence in comparison.summary:
        terminal.out.print(sentence, markup=False)
    for title, columns, rows in comparison_tables(comparison):
        terminal.out.print()
        terminal.print_table(text_table(title, columns, rows))
    return 0


def text_table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    """Return a table of text for the terminal."""
    table = Table(title=title, title_justify="left", show_edge=False)
    for name in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


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
    """Read what is compared of a finished run (id and name)."""
    return facts_of(run_artifact(store, run), result_of(store, run), run=run, name=name)
