"""The command ``mlho recalibrate``: a new version of a model with a new calibrator, fitted on recent labels."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from mlho.model.files import DOCUMENT, facts_of
from mlho.spec.data import without_training
from mlho.spec.scoring import BundleSource
from mlho.spec.training import RunSpec, parse_spec
from mlho.steps.base import Task
from mlho.steps.records import Commit, write_commit
from mlho.store.base import Store
from mlho.store.inputs import open_data
from mlho.store.keys import run_key, uses_prefix
from scheduler.cli import terminal
from scheduler.cli.evaluation.evaluate import add_data, asked_spec
from scheduler.cli.options import Commands, RecalibrateOptions
from scheduler.cli.run import usable_store
from scheduler.cli.validate import inspect_first
from scheduler.engine.manifest import data_root
from scheduler.engine.process_pool import call_beside
from scheduler.engine.publication import publish_blob, put_blobs, renamed, spec_yaml
from scheduler.engine.scoring_run import bundle_now, read_bundle
from scheduler.engine.training_run import gated, prepare_recalibration
from scheduler.runs.origin import training_spec
from scheduler.runs.record import Recording, RunCost, RunState, read_record, refuse_deletion

_SUFFIX: Final = "-recalibrated"

RECALIBRATE_ABOUT: Final = """\
Recalibrate a model on recent labelled data: a new version with its own bundle, tests and gates.

The log-odds of the bundle get an intercept and a slope (--intercept: an intercept only), fitted on these data and evaluated on
patients outside each fit. Features and model stay the same. Thresholds move with the probabilities, so the same patients alert. The
data are described as for mlho evaluate. Gates are those of --spec, or else of the training run.

The new version is written to the store as a run: promote it by its name or id. Repeating the command changes nothing.
"""


def add_recalibrate(commands: Commands) -> None:
    """Add ``mlho recalibrate``."""
    parser = commands.add(
        "recalibrate",
        _recalibrate,
        "make a new version of a model with a new calibrator",
        RECALIBRATE_ABOUT,
    )
    add_data(parser)
    parser.add_argument("--intercept", action="store_true", help="fit an intercept only, and keep the slope")
    parser.add_argument(
        "--name", help=f"name of the new version (default: that of the model, with {_SUFFIX})"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _recalibrate(options: RecalibrateOptions) -> int:
    store = usable_store(options)
    source = bundle_now(BundleSource(uri=options.bundle), store)
    bundle = read_bundle(source, Path("spec.yaml"), store)
    data_spec, path = asked_spec(options, bundle)
    data_spec, trained = _only_data(data_spec), training_spec(source, store)
    spec = _named(gated(data_spec, trained), trained or data_spec, options.name)
    inspect_first(spec, data_root(spec, path))
    correction: Literal["intercept", "line"] = "intercept" if options.intercept else "line"
    prepared = prepare_recalibration(spec, source, bundle, correction, path, store)
    run = prepared.run_id
    refuse_deletion(run, read_record(store, run))
    clock = time.monotonic()
    files = call_beside(
        _files,
        dict(bundle.files),
        spec,
        prepared.data,
        correction,
        prepared.data_digest,
        prepared.n_known_labels,
    )
    computed = round(time.monotonic() - clock, 3)
    with Recording(store, run) as recording:
        record = read_record(store, run)
        is_new = record is None or record.state is not RunState.FINISHED
        if is_new:
            recording.begin(list, seconds=computed)  # from here on, mlho delete refuses the run
        stored_bytes = _publish(store, run, {**prepared.description, **files})
        cost = RunCost(cpu_seconds=computed, read_bytes=prepared.manifest.n_bytes, stored_bytes=stored_bytes)
        if is_new:
            recording.finish(n_new=1, cost=cost)
    result = json.loads(files["result.json"])
    if options.json:
        terminal.print_json({**result, "run": run, "name": spec.metadata.name})
    else:
        _show(result, spec.metadata.name, run)
    return 0


def _only_data(spec: RunSpec) -> RunSpec:
    """Return the specification without fields that have no effect, so that they do not enter the run's id."""
    section = without_training(spec.spec).model_copy(update={"recalibrate": None})
    return spec.model_copy(update={"spec": section})


def _named(spec: RunSpec, model: RunSpec, name: str | None) -> RunSpec:
    run_name = name or renamed(model, _SUFFIX).metadata.name
    document = {**yaml.safe_load(spec_yaml(spec)), "metadata": {"name": run_name}}
    return parse_spec(yaml.safe_dump(document), where="--name" if name else "metadata.name")


def _files(
    bundle: Mapping[str, bytes],
    spec: RunSpec,
    data: Path | str,
    correction: Literal["intercept", "line"],
    data_digest: str,
    n_known_labels: int,
) -> dict[str, bytes]:
    from mlho.external.command import recalibration_files
    from mlho.steps.publish.write_report import versions

    root = open_data(data)
    return recalibration_files(
        bundle,
        spec.spec,
        root,
        correction,
        data_digest=data_digest,
        versions=versions(),
        n_known_labels=n_known_labels,
    )


def _publish(store: Store, run: str, files: Mapping[str, bytes]) -> int:
    """Commit the files and publish them in the folder of the run; ``result.json``, which marks it as finished, comes last.

    Return their number of bytes.
    """
    refuse_deletion(run, read_record(store, run))  # it may have begun while the files were computed
    stored = put_blobs(store, files)
    digest = facts_of(files[f"bundle/{DOCUMENT}"]).sha256
    task = Task(kind="pin_bundle", params={"digest": digest, "run": run})
    facts = {"bundle_digest": digest}
    write_commit(store, Commit(task=task.key, kind=task.kind, files=stored, facts=facts, seconds=0.0))
    store.put_if_absent(f"{uses_prefix(run)}recalibrate", f"{task.key}\n".encode())
    for name in sorted(files, key=lambda name: (name == "result.json", name != "spec.yaml", name)):
        publish_blob(store, stored[name].sha256, run_key(run, name))
    return sum(file.size for file in stored.values())


def _show(result: Mapping[str, Any], name: str, run: str) -> None:
    terminal.print_lines(terminal.result_sentences(result))
    terminal.out.print()
    terminal.print_line(f"model    {name}, run {run}")
    terminal.print_line(f"bundle   {result['final_model']['bundle_digest']}")
    terminal.print_line(f'promote  mlho promote {run} --channel NAME --why "…"')
