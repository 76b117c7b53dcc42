"""The ``mlho`` command."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mlho import __version__
from mlho.errors import ArtifactNotFound, MlhoError, SpecError
from mlho.log import configure
from mlho.spec import RunSpec, load_spec
from mlho.store import open_store
from mlho.store.base import Store
from mlho.store.keys import RUNS, run_key
from scheduler import console
from scheduler.local import LocalPool
from scheduler.manifest import data_root, make_manifest
from scheduler.runs import Finished, Run, carry_out

DEFAULT_STORE: Final = "mlho-store"
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count

_ABOUT = """\
Train models on electronic health records: select the features that come back, fit, calibrate, judge, and report.

  mlho demo                    a made-up cohort with known effects, a run on it, and its report: start here
  mlho plan spec.yaml          what a run would do, without doing it
  mlho run spec.yaml           do it; stopped, the same command goes on where it was
  mlho show                    the runs of a store; with a run's id or name, its result in the terminal
  mlho report RUN              where a run's report is
"""

_RUN_ABOUT = """\
Carry out a training run on this machine.

The specification is one YAML file; `mlho plan` checks it without running. Artifacts go to the store (a folder).
What is done is never done again: after Ctrl-C or a crash the same command goes on, and a finished run does nothing.
The number of workers changes how long it takes, and nothing else.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    configure(options.log, verbose=options.log == "json")
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        console.err.print("\nStopped. What was done is kept: run the same command to go on.")
        return INTERRUPTED
    except MlhoError as error:
        console.err.print(f"[bold red]error:[/] {_escaped(error)}")
        return error.exit_code
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the reader has gone; say nothing more
        return 0


def _escaped(error: BaseException) -> str:
    from rich.markup import escape

    return escape(str(error))


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--log", choices=("text", "json"), default="text", help="json: one line an event on stderr"
    )
    common.add_argument(
        "--store",
        default=os.environ.get("MLHO_STORE", DEFAULT_STORE),
        help="folder of the artifacts (default: ./%(default)s)",
    )
    parser = argparse.ArgumentParser(
        prog="mlho", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"mlho {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands, common)
    _add_plan(commands, common)
    _add_show(commands, common)
    _add_demo(commands, common)
    version = commands.add_parser(
        "version", parents=[common], help="versions of this program and its libraries"
    )
    version.set_defaults(command=_version)
    return parser


def _add_run(commands: Any, common: argparse.ArgumentParser) -> None:
    run = commands.add_parser(
        "run",
        parents=[common],
        help="carry out a run",
        description=_RUN_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("spec", type=Path, help="the specification (YAML)")
    _add_workers(run)
    run.set_defaults(command=_run)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=_positive,
        default=usable_cpus(),
        metavar="N",
        help="worker processes (default: usable cores, %(default)s)",
    )


def _add_plan(commands: Any, common: argparse.ArgumentParser) -> None:
    plan = commands.add_parser(
        "plan", parents=[common], help="check a specification, and show what would run"
    )
    plan.add_argument("spec", type=Path, help="the specification (YAML)")
    _add_workers(plan)
    plan.set_defaults(command=_plan)


def _add_show(commands: Any, common: argparse.ArgumentParser) -> None:
    show = commands.add_parser("show", parents=[common], help="the runs of a store, or one run's result")
    show.add_argument("run", nargs="?", help="a run's id, the beginning of one, or its name")
    show.add_argument("--json", action="store_true", help="the whole result as JSON")
    show.set_defaults(command=_show)
    report = commands.add_parser("report", parents=[common], help="where a run's report is")
    report.add_argument(
        "run", nargs="?", help="a run's id, the beginning of one, or its name (default: the only one)"
    )
    report.set_defaults(command=_report)


def _add_demo(commands: Any, common: argparse.ArgumentParser) -> None:
    demo = commands.add_parser(
        "demo", parents=[common], help="make a cohort with known effects, run on it, and check what came back"
    )
    demo.add_argument(
        "--folder", type=Path, default=Path("demo"), help="where the cohort goes (default: ./%(default)s)"
    )
    demo.add_argument(
        "--patients", type=_positive, default=10_000, help="patients to make (default: %(default)s)"
    )
    _add_workers(demo)
    demo.set_defaults(command=_demo)


def _positive(text: str) -> int:
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return number


def usable_cpus() -> int:
    """Cores that this process may use, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def _run(options: argparse.Namespace) -> int:
    spec = load_spec(options.spec)
    run = _prepare(spec, options.spec, options.store)
    finished = _carry_out(run, options)
    _print_finished(run, finished, options.store)
    return 0


def _prepare(spec: RunSpec, spec_path: Path, store_address: str) -> Run:
    data = data_root(spec, spec_path)
    manifest = make_manifest(spec.spec.data.tables, data)
    return Run(spec, manifest, data, open_store(store_address))


def _carry_out(run: Run, options: argparse.Namespace) -> Finished:
    with (
        console.ProgressBar(enabled=options.log == "text") as bar,
        LocalPool(options.store, run.data, n_workers=options.workers) as pool,
    ):
        return carry_out(run, pool, bar, n_slots=options.workers)


def _print_finished(run: Run, finished: Finished, store_address: str) -> None:
    result = _result(run.store, finished.run_id)
    for sentence in [*result["summary"], *(f"Warning: {own}" for own in result["warnings"])]:
        console.out.print(sentence, markup=False)
    console.out.print()
    console.out.print(console.attrition_table(result["cohort"]))
    console.out.print()
    console.out.print(console.ledger_table(result["ledger"]))
    console.out.print()
    done = f"{finished.n_tasks} tasks, {finished.n_new} of them new, {console.duration(finished.seconds)}"
    folder = Path(store_address) / RUNS / finished.run_id
    console.out.print(f"run      {finished.run_id} ({done})", markup=False)
    console.out.print(f"result   {finished.report.facts['result_digest']}", markup=False)
    console.out.print(f"bundle   {folder / 'bundle'}", markup=False)
    console.out.print(f"report   {folder / 'report.html'}", markup=False)


def _plan(options: argparse.Namespace) -> int:
    from scheduler.estimate import estimate

    spec = load_spec(options.spec)
    data = data_root(spec, options.spec)
    manifest = make_manifest(spec.spec.data.tables, data)
    shown = estimate(spec, manifest, n_workers=options.workers)
    console.out.print(shown)
    return 0


def _show(options: argparse.Namespace) -> int:
    store = open_store(options.store)
    if options.run is None:
        _list_runs(store, options.store)
        return 0
    result = _result(store, _find_run(store, options.run))
    if options.json:
        print(json.dumps(result, indent=1, ensure_ascii=False))  # noqa: T201 - the command's output
        return 0
    for sentence in [*result["summary"], *(f"Warning: {own}" for own in result["warnings"])]:
        console.out.print(sentence, markup=False)
    for table in (
        console.attrition_table(result["cohort"]),
        console.ledger_table(result["ledger"]),
        console.features_table(result["features"], most=20),
    ):
        console.out.print()
        console.out.print(table)
    return 0


def _list_runs(store: Store, address: str) -> None:
    from rich.table import Table

    runs = _runs(store)
    if not runs:
        console.out.print(f"No runs in {address}. Start one: mlho run spec.yaml", markup=False)
        return
    table = Table(show_edge=False)
    for name in ("run", "name", "state", "outcome", "AUROC"):
        table.add_column(name)
    for run, name in runs.items():
        if not store.exists(run_key(run, "result.json")):
            table.add_row(run, name, "not finished", "", "")
            continue
        result = _result(store, run)
        auroc = result["headline"]["auroc"]["mean"]
        table.add_row(run, name, "finished", result["outcome"], "" if auroc is None else f"{auroc:.3f}")
    console.out.print(table)


def _runs(store: Store) -> dict[str, str]:
    """Runs of a store: id to name."""
    import yaml

    found = {}
    for key in store.keys(f"{RUNS}/"):
        parts = key.split("/")
        if len(parts) == 3 and parts[2] == "spec.yaml":
            found[parts[1]] = str(yaml.safe_load(store.get(key))["metadata"]["name"])
    return found


def _find_run(store: Store, wanted: str | None) -> str:
    runs = _runs(store)
    matches = [
        run for run, name in runs.items() if wanted is None or run.startswith(wanted) or name == wanted
    ]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(f"{run} ({name})" for run, name in list(runs.items())[:10]) or "none"
    problem = "no run matches" if not matches else f"{len(matches)} runs match"
    raise SpecError(f"{problem} {wanted or 'without a name'}. The store has: {listed}.")


def _result(store: Store, run: str) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(store.get(run_key(run, "result.json")))
    except ArtifactNotFound:
        raise SpecError(
            f"run {run}: not finished. Run its specification again: it goes on where it was."
        ) from None
    return result


def _report(options: argparse.Namespace) -> int:
    store = open_store(options.store)
    path = store.path(run_key(_find_run(store, options.run), "report.html"))
    console.out.print(str(path), markup=False)
    return 0


def _demo(options: argparse.Namespace) -> int:
    from scheduler.demo import check_planted, make_demo

    console.err.print(f"Making {options.patients:,} patients with known effects in {options.folder} …")
    spec_path = make_demo(options.folder, n_patients=options.patients)
    run = _prepare(load_spec(spec_path), spec_path, options.store)
    finished = _carry_out(run, options)
    _print_finished(run, finished, options.store)
    console.out.print()
    console.out.print(check_planted(options.folder, _result(run.store, finished.run_id)))
    return 0


def _version(_options: argparse.Namespace) -> int:
    from mlho.steps.write_report import versions

    for name, version in versions().items():
        console.out.print(f"{name:<16}{version}", markup=False)
    console.out.print(f"{'python':<16}{sys.version.split()[0]}", markup=False)
    return 0
