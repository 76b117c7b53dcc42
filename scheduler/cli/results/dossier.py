"""The command ``mlho dossier``: reporting checklists of a finished run, answered from its result and its author's statements."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlho.errors import SpecError
from mlho.printable import printable_json
from mlho.spec.expansion import expand
from mlho.spec.training import load_spec, parse_spec, run_id
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.cli import terminal
from scheduler.cli.listing import RUN_HELP, existing_store, find_finished
from scheduler.cli.options import Commands, DossierOptions
from scheduler.runs.stored import TRAINING, StoredRun

if TYPE_CHECKING:
    from mlho.report.result import Result

ABOUT: Final = """\
Answer the reporting checklists of a finished training run: TRIPOD+AI, the source attributes of HTI-1, and CHAI's model card.

Figures come from the run's result, each with the place where it can be checked. Facts that no program can know (funding, ethical approval,
monitoring, and so on) are stated by the author in metadata.statements of the specification; missing ones are shown as open.

  mlho dossier readmission                          writes dossier.html and dossier.json into this folder
  mlho dossier readmission --spec mlho.yaml         with statements that were added after the run
  mlho dossier readmission --complete               exit code 1 while anything is open, for a pipeline
"""
NAMES: Final = ("dossier.html", "dossier.json")


def add_dossier(commands: Commands) -> None:
    """Add ``mlho dossier``."""
    dossier = commands.add(
        "dossier", _dossier, "answer reporting checklists (TRIPOD+AI, HTI-1, CHAI) from a finished run", ABOUT
    )
    dossier.add_argument("run", nargs="?", help=f"{RUN_HELP} (default: the only one)")
    dossier.add_argument(
        "--spec", type=Path, help="the run's specification, if statements were added after the run"
    )
    dossier.add_argument(
        "--to",
        type=Path,
        metavar="FOLDER",
        default=Path(),
        help="where both files are written (default: this folder)",
    )
    dossier.add_argument("--complete", action="store_true", help="exit with code 1 while anything is open")
    dossier.add_argument("--json", action="store_true", help="print the dossier as JSON, and write no file")


def _dossier(options: DossierOptions) -> int:
    from mlho.report.dossier.document import make_dossier
    from mlho.report.page.html import render_dossier

    store = existing_store(options)
    run = find_finished(store, options.run, kind=TRAINING)
    result = _result(store, run)
    dossier = make_dossier(run.run_id, result, _statements(store, run, options.spec))
    if options.json:
        terminal.print_json(dossier)
    else:
        options.to.mkdir(parents=True, exist_ok=True)
        for name, text in zip(NAMES, (render_dossier(dossier), printable_json(dossier) + "\n"), strict=True):
            (options.to / name).write_text(text, encoding="utf-8")
            terminal.print_line(str(options.to / name))
        _tell_open(dossier)
    return 1 if options.complete and dossier["open"] else 0


def _result(store: Store, run: StoredRun) -> "Result":
    from pydantic import ValidationError

    from mlho.report.result import Result

    try:
        return Result.model_validate_json(store.get(run_key(run.run_id, "result.json")))
    except ValidationError:
        raise SpecError(
            f"run {run.run_id}: its result.json was written by a different version, and cannot be read. Use that version, or run again."
        ) from None


def _statements(store: Store, run: StoredRun, path: Path | None) -> dict[str, str]:
    """Return the author's statements: of the given specification, or of the run."""
    if path is None:
        where = run_key(run.run_id, "spec.yaml")
        spec = parse_spec(store.get(where).decode(), where=where)
    else:
        spec = load_spec(path)
        manifest = json.loads(store.get(run_key(run.run_id, "manifest.json")))
        if all(run_id(run_spec, manifest) != run.run_id for run_spec in expand(spec)):
            raise SpecError(
                f"{path}: not the specification of run {run.run_id}. Expected the same spec, with other metadata only."
            )
    statements = spec.metadata.statements
    return {} if statements is None else statements.model_dump(by_alias=True, exclude_none=True)


def _tell_open(dossier: dict[str, Any]) -> None:
    for checklist in dossier["checklists"]:
        states = ", ".join(f"{n} {state}" for state, n in checklist["states"].items())
        terminal.print_line(f"{checklist['title']}: {states}")
    if dossier["open"]:
        fields = ", ".join(item["field"] for item in dossier["open"])
        terminal.print_line(f"open: {fields}")
