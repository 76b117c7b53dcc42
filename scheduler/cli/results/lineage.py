"""The command ``mlho lineage``: the inputs and the outputs of a run, also as OpenLineage events and as RO-Crate."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mlho.errors import MlhoError, SpecError, plural
from mlho.store.base import Store
from scheduler.cli import terminal
from scheduler.cli.listing import RUN_HELP, existing_store, find_finished
from scheduler.cli.options import Commands, LineageOptions
from scheduler.runs.lineage import CRATE_FILE, RunLineage, crate, openlineage_events, run_lineage
from scheduler.runs.stored import SCORING, stored_runs

ABOUT: Final = """\
Print the provenance of a finished run: digests of its tables, specification and software, and of its result, bundle or scores.

  mlho lineage readmission                              digests, and the scoring runs that used its bundle
  mlho lineage readmission --openlineage events.ndjson  OpenLineage events START and COMPLETE, one per line
  mlho lineage readmission --post http://marquez:5000/api/v1/lineage
  mlho export readmission --to archive && mlho lineage readmission --crate archive
                                                        adds ro-crate-metadata.json to the exported folder
"""
_SECONDS: Final = 10


def add_lineage(commands: Commands) -> None:
    """Add ``mlho lineage``."""
    lineage = commands.add(
        "lineage", _lineage, "print the origin of a run's result; OpenLineage events, RO-Crate", ABOUT
    )
    lineage.add_argument("run", nargs="?", help=f"{RUN_HELP} (default: the only one)")
    form = lineage.add_mutually_exclusive_group()
    form.add_argument("--openlineage", type=Path, metavar="FILE", help="write OpenLineage events to a file")
    form.add_argument("--post", metavar="URL", help="send OpenLineage events to a server")
    form.add_argument(
        "--crate", type=Path, metavar="FOLDER", help=f"write {CRATE_FILE} into an exported folder"
    )
    form.add_argument("--json", action="store_true", help="print the lineage as JSON")
    lineage.add_argument(
        "--job-namespace",
        default="mlho",
        metavar="NAME",
        help="namespace of the jobs in OpenLineage (default: mlho)",
    )


def _lineage(options: LineageOptions) -> int:
    store = existing_store(options)
    lineage = run_lineage(store, find_finished(store, options.run), address=options.store)
    events = openlineage_events(lineage, namespace=options.job_namespace)
    if options.openlineage is not None:
        options.openlineage.write_text(
            "".join(json.dumps(event) + "\n" for event in events), encoding="utf-8"
        )
        terminal.print_line(str(options.openlineage))
    elif options.post is not None:
        for event in events:
            _post(options.post, event)
        terminal.print_line(f"sent 2 events of run {lineage.run_id}")
    elif options.crate is not None:
        path = _write_crate(lineage, options.crate)
        terminal.print_line(str(path))
    elif options.json:
        terminal.print_json(_plain(lineage))
    else:
        terminal.print_lines(_lines(lineage, store, options.store))
    return 0


def _plain(lineage: RunLineage) -> dict[str, Any]:
    times = {
        name: time and time.isoformat()
        for name, time in (("started", lineage.started), ("ended", lineage.ended))
    }
    datasets = {name: [vars(dataset) for dataset in getattr(lineage, name)] for name in ("inputs", "outputs")}
    return {**vars(lineage), "versions": dict(lineage.versions), **times, **datasets}


def _lines(lineage: RunLineage, store: Store, address: str) -> Iterator[str]:
    yield f"run      {lineage.run_id}  {lineage.kind} {lineage.name}"
    for dataset in lineage.inputs:
        size = (
            f"{plural(dataset.n_files, 'file')}, {dataset.n_bytes:,} bytes"
            if dataset.n_files
            else dataset.namespace
        )
        yield f"input    {dataset.role}: {size}, digest {dataset.digest}"
    yield f"spec     {lineage.spec_digest}"
    if lineage.versions:
        yield f"code     {', '.join(f'{name} {version}' for name, version in sorted(lineage.versions.items()))}"
    for dataset in lineage.outputs:
        yield f"output   {dataset.role}: {dataset.name}, digest {dataset.digest}"
    bundle = next((output.digest for output in lineage.outputs if output.role == "bundle"), None)
    for run in stored_runs(store) if bundle is not None else ():
        if run.kind == SCORING and run.result is not None:
            used = [
                dataset.digest
                for dataset in run_lineage(store, run, address=address).inputs
                if dataset.role == "bundle"
            ]
            if used == [bundle]:
                yield f"used by  {run.run_id}  {run.kind} {run.name}"


def _write_crate(lineage: RunLineage, folder: Path) -> Path:
    if not folder.is_dir():
        raise SpecError(
            f"--crate {folder}: no such folder. Export the run first: mlho export {lineage.run_id} --to {folder}."
        )
    path = folder / CRATE_FILE
    path.write_text(json.dumps(crate(lineage, folder), indent=1) + "\n", encoding="utf-8")
    return path


def _post(url: str, event: dict[str, Any]) -> None:
    if not url.startswith(("http://", "https://")):
        raise SpecError(f"--post {url[:200]!r}: expected http://… or https://….")
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked
        url, data=json.dumps(event).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310 - the scheme is checked
            pass
    except (urllib.error.URLError, OSError) as error:
        raise MlhoError(
            f"--post {url[:200]}: the server did not accept the event ({getattr(error, 'reason', error)}). Check the address, and run "
            "the command again: an event that is sent twice is the same event."
        ) from error
