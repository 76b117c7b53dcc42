"""The commands that list the runs of a store and read one of them: ``mlho list``, and the functions that other commands share with it."""

import os
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from mlho.errors import ArtifactNotFound, SpecError
from mlho.settings import STORE
from mlho.spec.scoring import CHANNEL_BUNDLE, RUN_BUNDLE
from mlho.store import open_store
from mlho.store.base import Store
from mlho.store.keys import run_key
from mlho.store.memory import MemoryStore
from mlho.store.probe import PROBES
from scheduler.cli import terminal
from scheduler.cli.help import LIST_ABOUT
from scheduler.cli.options import Commands, ListOptions, StoreOptions
from scheduler.runs.stored import StoredRun, find_run, finished_run, headline_of, read_document, stored_runs

RUN_HELP: Final = "a run's id, the beginning of one, or a name: its newest run"


def add_list(commands: Commands) -> None:
    """Add the command ``list``."""
    parser = commands.add("list", _list, "the runs of a store, the newest first", LIST_ABOUT)
    parser.add_argument("--json", action="store_true", help="a list of objects, with times in UTC")


def _list(options: ListOptions) -> int:
    list_runs(existing_store(options), options.store, as_json=options.json)
    return 0


def list_runs(store: Store, address: str, *, as_json: bool) -> list[StoredRun]:
    """Print every run of a store, the newest first. Return them."""
    runs = stored_runs(store)
    headlines = store.each(lambda run: headline_of(store, run), runs)
    if as_json:
        facts = [run_facts(run, headline) for run, headline in zip(runs, headlines, strict=True)]
        terminal.print_json(facts)
        return runs
    if not runs:
        terminal.print_line(f"No runs in {address}. Start one: mlho run spec.yaml")
        return runs
    optional = ("core hours", "kind", "duration", "started")
    terminal.print_table(_table(runs, headlines), optional=optional)
    return runs


def _table(runs: list[StoredRun], headlines: list[str]) -> Table:
    table = terminal.new_table(None)
    for name in ("name", "kind", "run", "started", "duration", "core hours", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("headline")
    for run, headline in zip(runs, headlines, strict=True):
        seconds, cost = (run.record.seconds, run.record.cost) if run.record is not None else (0.0, None)
        table.add_row(
            Text(run.name),
            run.kind.removesuffix("Run").lower(),
            run.run_id,
            f"{run.started.astimezone():%Y-%m-%d %H:%M}",
            terminal.duration(seconds) if seconds else "",
            f"{cost.cpu_seconds / 3600:.2g}" if cost is not None else "",
            str(run.state),
            Text(headline or run.reason or ""),
        )
    return table


def run_facts(run: StoredRun, headline: str) -> dict[str, Any]:
    """Return the facts about a run that ``mlho list --json`` prints."""
    record = run.record
    return {
        "name": run.name,
        "kind": run.kind,
        "run": run.run_id,
        "started": run.started.isoformat(timespec="seconds"),
        "ended": record.ended.isoformat(timespec="seconds") if record is not None and record.ended else None,
        "seconds": record.seconds if record is not None else None,
        "state": str(run.state),
        "headline": headline or None,
        "cost": record.cost.model_dump() if record is not None and record.cost is not None else None,
        "reason": run.reason,
    }


def existing_store(options: StoreOptions) -> Store:
    """Return the store for a command that starts no run. A folder that does not exist is an error, and is not created.

    Raise StoreOutage if the store does not answer within seconds.
    """
    if not _is_there(options.store):
        raise SpecError(
            f"--store {options.store}: no such folder, so it has no runs. Give an existing folder or bucket (--store, or "
            f"{STORE}), or start one: mlho run spec.yaml."
        )
    store = open_store(options.store)
    store.ping(PROBES)
    return store


def store_to_read(options: StoreOptions, *bundles: str) -> Store:
    """Return the store for a command that reads bundles and writes nothing.

    The store must exist only if a bundle is given by run or channel.
    """
    is_needed = any(bundle.startswith((RUN_BUNDLE, CHANNEL_BUNDLE)) for bundle in bundles)
    return existing_store(options) if is_needed or _is_there(options.store) else MemoryStore()


def _is_there(address: str) -> bool:
    return "://" in address or Path(address).expanduser().is_dir()


def checked_output(path: Path | None, option: str, *, is_folder: bool = False) -> None:
    """Refuse a file or folder of an option that cannot be written, before any work is done.

    Raise SpecError if the file is a folder, the folder is a file, the folder of the file does not exist, or this user may not write there.
    """
    if path is None:
        return
    if is_folder and path.exists() and not path.is_dir():
        raise SpecError(f"{option} {path}: is a file. Give a folder.")
    if not is_folder and path.is_dir():
        raise SpecError(f"{option} {path}: is a folder. Give the name of a file.")
    if not is_folder and not path.parent.is_dir():
        raise SpecError(
            f"{option} {path}: its folder does not exist. Create the folder, or give another file."
        )
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not os.access(nearest, os.W_OK):
        raise SpecError(f"{option} {path}: not writable for this user. Give another place.")


def find_id(store: Store, wanted: str | None) -> str:
    """Return the id of the run with this id, this beginning of an id, or the newest of this name.

    Raise SpecError if no run matches, or several do.
    """
    return find_run(stored_runs(store), wanted).run_id


def find_finished(
    store: Store, wanted: str | None, *, kind: str | tuple[str, ...] | None = None
) -> StoredRun:
    """Return the run that :func:`find_id` finds, if it is finished.

    Raise SpecError if no run matches, several do, or it is not finished.
    """
    return finished_run(stored_runs(store), wanted, kind=kind)


def result_of(store: Store, run: str) -> dict[str, Any]:
    """Return ``result.json`` of a training run. Raise SpecError if the run is not finished."""
    return last_document(store, run, run_key(run, "result.json"))


def last_document(store: Store, run: str, key: str) -> dict[str, Any]:
    """Return the JSON document that a run writes last. Raise SpecError if it does not exist."""
    try:
        return read_document(store, run, key)
    except ArtifactNotFound:
        raise SpecError(f"run {run}: not finished. Run its specification again to continue it.") from None
