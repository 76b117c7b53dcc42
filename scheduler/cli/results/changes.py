"""The command ``mlho changes``: the months in which codes begin, end, rise or fall, and in which effects change."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from mlho.errors import plural
from mlho.printable import cut
from mlho.spec.expansion import expand
from mlho.spec.training import RunSpec, load_spec
from mlho.store.inputs import open_data
from scheduler.cli import terminal
from scheduler.cli.listing import checked_output
from scheduler.cli.options import ChangesOptions, Commands
from scheduler.engine.manifest import data_root
from scheduler.engine.process_pool import call_beside

if TYPE_CHECKING:
    from mlho.external.changes import Change

_NUMBERS: Final = ("Before", "After")
_MEANING: Final = "share of patients with the code in the year before and after, or odds ratio (OR)"
ABOUT: Final = """\
Read the tables of a specification, and print the months in which something changed abruptly:

  begins, ends    a code is recorded only from a month on, or only before it: a new drug, another coding system
  rises, falls    the share of patients with the code at least doubles or halves
  effect          the odds ratio of the code changes: patients with the code against those without, with the same month of the index date

A change is printed if it is beyond chance (0.05 over all codes and months) relative to a linear trend. Codes of few patients
(selection.minPrevalence, report.minCell) are left out, and so are months with less than a twentieth of the patients of the busiest
month. Only --html writes a file.
"""


def add_changes(commands: Commands) -> None:
    """Add ``mlho changes``."""
    parser = commands.add("changes", _changes, "date abrupt changes of codes and of their effects", ABOUT)
    parser.add_argument("spec", type=Path, help="specification file (YAML)")
    parser.add_argument("--json", action="store_true", help="the changes as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write them as a page")


def _changes(options: ChangesOptions) -> int:
    checked_output(options.html, "--html")
    spec = load_spec(options.spec)
    data = data_root(spec, options.spec)
    named = {run_spec.metadata.name: call_beside(_read, run_spec, data) for run_spec in expand(spec)}
    if options.html is not None:
        options.html.write_text(_page(spec.metadata.name, named), encoding="utf-8")
    if options.json:
        plain = {name: [asdict(change) for change in changes] for name, (changes, _) in named.items()}
        terminal.print_json(plain)
        return 0
    for name, (changes, summary) in named.items():
        if changes:
            terminal.print_table(_table(name, changes))
            terminal.out.print()
        terminal.print_lines(summary)
        terminal.print_line(f"{name}: {plural(len(changes), 'change')}.")
    return 0


def _read(spec: RunSpec, data: Path | str) -> "tuple[list[Change], list[str]]":
    from mlho.external.changes import read_changes, summary_of

    changes = read_changes(spec.spec, open_data(data))
    return changes, summary_of(changes)


def _page(name: str, named: "Mapping[str, tuple[list[Change], list[str]]]") -> str:
    from mlho.report.page.html import render_changes

    summary = [
        sentence
        for changes, sentences in named.values()
        for sentence in (*sentences, f"{plural(len(changes), 'change')}.")
    ]
    tables = [
        (f"Changes in the tables of {run}: {_MEANING}", (*_text_columns(changes), *_NUMBERS), _rows(changes))
        for run, (changes, _) in named.items()
    ]
    return render_changes(name, summary, tables)


def _table(name: str, changes: "list[Change]") -> Table:
    table = terminal.new_table(f"Changes in the tables of {name}", _text_columns(changes), _NUMBERS)
    for column in table.columns:
        column.no_wrap = column.header in ("Month", "Code", "Change")
    for row in _rows(changes):
        table.add_row(*map(Text, row))
    return table


def _text_columns(changes: "list[Change]") -> tuple[str, ...]:
    return ("Month", "Code", *(["Description"] if _are_described(changes) else []), "Change")


def _rows(changes: "list[Change]") -> list[tuple[str, ...]]:
    are_described = _are_described(changes)
    return [
        (
            change.month,
            change.code,
            *([cut(change.description or "")] if are_described else []),
            change.kind,
            *(_figure(change.kind, value) for value in (change.before, change.after)),
        )
        for change in changes
    ]


def _are_described(changes: "list[Change]") -> bool:
    return any(change.description for change in changes)


def _figure(kind: str, value: float) -> str:
    return f"OR {value:.2f}" if kind == "effect" else f"{100 * value:.2f} %"
