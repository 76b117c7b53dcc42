"""The runs of a store: listed, found by id or name, and their results."""

import json
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from mlho.errors import ArtifactNotFound, SpecError
from mlho.store.base import Store
from mlho.store.keys import RUNS, run_key
from scheduler.cli import terminal
from scheduler.cli.show_scores import read_manifest


def list_runs(store: Store, address: str) -> None:
    """Print every run of a store with its state."""
    runs = runs_of(store)
    if not runs:
        terminal.out.print(f"No runs in {address}. Start one: mlho run spec.yaml", markup=False)
        return
    table = Table(show_edge=False)
    for name in ("run", "name", "state", "outcome", "AUROC"):
        table.add_column(name)
    scoring = runs_of(store, kind="ScoringRun")
    for run, name in runs.items():
        if run in scoring:
            table.add_row(run, Text(name), *map(Text, _state_of_scoring(store, run)), "")
            continue
        if not store.exists(run_key(run, "result.json")):
            table.add_row(run, Text(name), "not finished", "", "")
            continue
        result = result_of(store, run)
        auroc = result["headline"]["auroc"]["mean"]
        table.add_row(
            run, Text(name), "finished", Text(result["outcome"]), "" if auroc is None else f"{auroc:.3f}"
        )
    terminal.out.print(table)


def _state_of_scoring(store: Store, run: str) -> tuple[str, str]:
    try:
        scores = read_manifest(store, run)["scores"]
    except SpecError:
        return "not finished", "scores"
    return "finished", f"{scores['outcome']}: {scores['samples']:,} scores"


def runs_of(store: Store, *, kind: str | None = None) -> dict[str, str]:
    """Return the runs of a store, of one kind or of all kinds: id to name."""
    found = {}
    for key in store.keys(f"{RUNS}/"):
        parts = key.split("/")
        if len(parts) == 3 and parts[2] == "spec.yaml":
            document = yaml.safe_load(store.get(key))
            if kind in (None, document["kind"]):
                found[parts[1]] = str(document["metadata"]["name"])
    return found


def find_run(store: Store, wanted: str | None, *, kind: str | None = None) -> str:
    """Return the id of the run with this name, id or id prefix. Without one, return the only run.

    Raises
    ------
    SpecError
        No run matches, or several do.
    """
    runs = runs_of(store, kind=kind)
    matches = [
        run for run, name in runs.items() if wanted is None or run.startswith(wanted) or name == wanted
    ]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(f"{run} ({name})" for run, name in list(runs.items())[:10]) or "none"
    problem = "no run matches" if not matches else f"{len(matches)} runs match"
    raise SpecError(f"{problem} {wanted or 'without a name'}. The store has: {listed}.")


def result_of(store: Store, run: str) -> dict[str, Any]:
    """Return ``result.json`` of a training run.

    Raises
    ------
    SpecError
        The run is not finished.
    """
    try:
        result: dict[str, Any] = json.loads(store.get(run_key(run, "result.json")))
    except ArtifactNotFound:
        raise SpecError(
            f"run {run}: not finished. Run its specification again: it goes on where it was."
        ) from None
    return result
