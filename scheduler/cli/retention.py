"""The commands ``mlho delete`` and ``mlho prune``: list the objects to delete, ask for confirmation, and delete them."""

import argparse
import datetime as dt
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

from mlho.errors import SpecError, plural
from mlho.store.base import Store
from scheduler.cli import terminal
from scheduler.cli.help import DELETE_ABOUT, PRUNE_ABOUT
from scheduler.cli.listing import RUN_HELP, existing_store
from scheduler.cli.options import Commands, DeleteOptions, PruneOptions, RemovalOptions, positive
from scheduler.cli.results.site import renew
from scheduler.runs.deletion import Deletion, delete_runs
from scheduler.runs.garbage import store_time
from scheduler.runs.origin import kept_with_origins
from scheduler.runs.retention import expired_runs
from scheduler.runs.stored import StoredRun, find_run, stored_runs

_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}


def add_retention(commands: Commands) -> None:
    """Add the commands ``delete`` and ``prune``."""
    delete = commands.add(
        "delete", _delete, "delete runs, and the artifacts that no other run uses", DELETE_ABOUT
    )
    delete.add_argument("run", nargs="+", help=RUN_HELP)
    prune = commands.add("prune", _prune, "delete old runs, and the artifacts that no run uses", PRUNE_ABOUT)
    prune.add_argument(
        "--keep",
        type=positive,
        metavar="N",
        help="delete ended runs but the N newest of each name, kind and state",
    )
    prune.add_argument(
        "--older-than",
        type=_age,
        metavar="AGE",
        help="delete only runs that were last started at least this long ago: 90d, 12h, 4w (default with --keep: any age)",
    )
    for parser in (delete, prune):
        parser.add_argument("--yes", "-y", action="store_true", help="delete without confirmation")
        parser.add_argument(
            "--json", action="store_true", help="print the objects to delete as JSON; deletes only with --yes"
        )


def _delete(options: DeleteOptions) -> int:
    store = existing_store(options)
    runs = stored_runs(store)
    try:
        wanted_runs = [find_run(runs, wanted) for wanted in options.run]
    except SpecError as error:
        raise SpecError(f"{error} If a deletion was interrupted, mlho prune completes it.") from None
    return _carry_out(store, wanted_runs, options)


def _prune(options: PruneOptions) -> int:
    store = existing_store(options)
    runs: Sequence[StoredRun] = ()
    if options.keep is not None or options.older_than is not None:
        now = store_time(store)
        runs = expired_runs(
            stored_runs(store, now=now),
            keep=options.keep or 1,
            older_than=options.older_than or dt.timedelta(0),
            now=now,
        )
    return _carry_out(store, _without_promoted(store, runs), options)


def _without_promoted(store: Store, runs: Sequence[StoredRun]) -> list[StoredRun]:
    """Return the runs that no channel needs. State why the others are kept."""
    kept = kept_with_origins(store) if runs else {}
    for run in runs:
        if run.run_id in kept:
            terminal.print_note(f"Kept run {run.run_id} ({run.name}): {kept[run.run_id]}.")
    return [run for run in runs if run.run_id not in kept]


def _carry_out(store: Store, runs: Sequence[StoredRun], options: RemovalOptions) -> int:
    act = options.yes or (not options.json and _is_confirmed(store, runs))
    if options.json:
        terminal.print_json(deletion_facts(delete_runs(store, runs, act=act), is_done=act))
    elif act:
        print_deletion(delete_runs(store, runs, act=True), verb="Deleted")
    if act:
        renew(store, options.store)
    return 0


def _is_confirmed(store: Store, runs: Sequence[StoredRun]) -> bool:
    """List the objects to delete, and ask on a terminal."""
    planned = delete_runs(store, runs, act=False)
    print_deletion(planned, verb="Would delete")
    if not (planned.runs or planned.n_files or (planned.collected and planned.collected.n_objects)):
        return False
    if sys.stdin is None or not sys.stdin.isatty():
        terminal.out.print("Nothing was deleted. To delete, add --yes.")
        return False
    terminal.out.print("Delete? [y/N] ", end="", markup=False)
    try:
        is_confirmed = input().strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        terminal.out.print()
        is_confirmed = False
    if not is_confirmed:
        terminal.out.print("Nothing was deleted.")
    return is_confirmed


def print_deletion(deletion: Deletion, *, verb: str) -> None:
    """Print the runs of a deletion, and the numbers and sizes of files and artifacts."""
    for run in deletion.runs:
        started = f"{run.started.astimezone():%Y-%m-%d %H:%M}"
        terminal.print_line(f"{verb} run {run.run_id} ({run.name}, {run.state}, {started})")
    sizes = f"{verb} {plural(deletion.n_files, 'file')} in run folders, {terminal.size(deletion.n_bytes)}"
    collected = deletion.collected
    if collected is None:
        names = ", ".join(run.run_id for run in deletion.unknown[:5])
        terminal.print_line(f"{sizes}.")
        terminal.print_note(
            f"Artifacts stay: {plural(len(deletion.unknown), 'run')} of an earlier version did not list their artifacts ({names}). Run their "
            "specifications again, which reuses all existing artifacts, or delete them."
        )
        return
    terminal.print_line(
        f"{sizes}, and {collected.n_objects:,} artifacts that no run uses, {terminal.size(collected.n_bytes)}."
    )
    if collected.n_young:
        terminal.print_line(
            f"{collected.n_young:,} more ({terminal.size(collected.young_bytes)}) are younger than 24 hours. A later mlho prune removes them."
        )


def deletion_facts(deletion: Deletion, *, is_done: bool) -> dict[str, Any]:
    """Return the counts of a deletion as plain JSON types."""
    collected = deletion.collected
    return {
        "deleted": is_done,
        "runs": [run.run_id for run in deletion.runs],
        "files": deletion.n_files,
        "bytes": deletion.n_bytes,
        "artifacts": collected.n_objects if collected is not None else None,
        "artifact_bytes": collected.n_bytes if collected is not None else None,
        "young_artifacts": collected.n_young if collected is not None else None,
        "runs_of_earlier_versions": [run.run_id for run in deletion.unknown],
    }


def _age(text: str) -> dt.timedelta:
    match = re.fullmatch(r"([0-9]{1,5})([hdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an age: write 90d (days), 12h (hours) or 4w (weeks)"
        )
    return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})
