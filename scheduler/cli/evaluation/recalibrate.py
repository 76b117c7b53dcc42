"""The command ``mlho recalibrate``: a new version of a model with a new calibrator, fitted on recent labels."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from mlho.report.gates import NOT_TO_PROMOTE
from mlho.spec.data import without_training
from mlho.spec.scoring import BundleSource
from mlho.spec.training import RunSpec, parse_spec
from scheduler.cli import terminal
from scheduler.cli.evaluation.evaluate import add_data, asked_spec
from scheduler.cli.listing import result_of
from scheduler.cli.options import Commands, RecalibrateOptions
from scheduler.cli.results.site import renew
from scheduler.cli.run import carry_out_one, usable_store
from scheduler.cli.validate import inspect_first
from scheduler.engine.publication import renamed, spec_yaml
from scheduler.engine.scoring_run import bundle_now, read_bundle
from scheduler.engine.training_run import prepare_recalibration
from scheduler.runs.origin import training_spec

_SUFFIX: Final = "-recalibrated"

RECALIBRATE_ABOUT: Final = """\
Recalibrate a model on recent labelled data: a new version with its own bundle, tests and gates.

The log-odds of the bundle get an intercept and a slope (--intercept: an intercept only), fitted on these data and evaluated on
patients outside each fit. Features and model stay the same. Thresholds move with the probabilities, so the same patients alert. The
data are described as for mlho evaluate. Gates are those of --spec, or else of the training run.

The new version is written to the store as a run: promote it by its name or id. Repeating the command computes nothing.
"""


def add_recalibrate(commands: Commands) -> None:
    """Add ``mlho recalibrate``."""
    parser = commands.add(
        "recalibrate",
        _recalibrate,
        "make a new version of a model with a new calibrator",
        RECALIBRATE_ABOUT,
        is_resumed=True,
    )
    add_data(parser)
    parser.add_argument("--intercept", action="store_true", help="fit an intercept only, and keep the slope")
    parser.add_argument(
        "--name", help=f"name of the new version (default: that of the model, with {_SUFFIX})"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(workers=1, progress="none", broker=None, metrics_port=None, metrics_address="")


def _recalibrate(options: RecalibrateOptions) -> int:
    store = usable_store(options)
    source = bundle_now(BundleSource(uri=options.bundle), store)
    bundle = read_bundle(source, Path("spec.yaml"), store)
    data_spec, path = asked_spec(options, bundle)
    # Fields without an effect do not enter the run's id.
    data_spec = data_spec.model_copy(update={"spec": without_training(data_spec.spec)})
    spec = _named(data_spec, training_spec(source, store) or data_spec, options.name)
    correction = "intercept" if options.intercept else "line"
    run = prepare_recalibration(
        spec, source, bundle, correction, path, store, inspect=partial(inspect_first, trains=False)
    )
    carry_out_one(run, spec.metadata.name, options)
    renew(store, options.store)
    result = result_of(store, run.run_id)
    if options.json:
        terminal.print_json({**result, "run": run.run_id, "name": spec.metadata.name})
    else:
        _show(result, spec.metadata.name, run.run_id)
    return 0


def _named(spec: RunSpec, model: RunSpec, name: str | None) -> RunSpec:
    run_name = name or renamed(model, _SUFFIX).metadata.name
    document = {**yaml.safe_load(spec_yaml(spec)), "metadata": {"name": run_name}}
    return parse_spec(yaml.safe_dump(document), where="--name" if name else "metadata.name")


def _show(result: Mapping[str, Any], name: str, run: str) -> None:
    terminal.print_lines(terminal.result_sentences(result))
    terminal.out.print()
    terminal.print_line(f"model    {name}, run {run}")
    terminal.print_line(f"bundle   {result['final_model']['bundle_digest']}")
    if not _is_barred(result):
        terminal.print_line(f'promote  mlho promote {run} --channel NAME --why "…"')


def _is_barred(result: Mapping[str, Any]) -> bool:
    """Return whether a gate, a test or a warning forbids the promotion."""
    checks = [*(result.get("gates") or ()), *result["final_model"]["tests"]]
    return any(check["passed"] is False for check in checks) or any(
        NOT_TO_PROMOTE in warning for warning in result["warnings"]
    )
