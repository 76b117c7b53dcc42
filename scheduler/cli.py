"""The ``mlho`` command."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mlho import __version__
from mlho.errors import MlhoError
from mlho.log import configure
from mlho.scoring_spec import ScoringRunSpec, load_any_spec, load_scoring_spec
from mlho.spec import RunSpec, load_spec
from mlho.store import open_store
from mlho.store.keys import RUNS, run_key
from mlho.store.probe import probe_store
from scheduler import console
from scheduler.about import ABOUT, RUN_ABOUT, SCORE_ABOUT
from scheduler.cluster_commands import (
    add_cluster_commands,
    add_operate,
    add_place,
    cancel_in_cluster,
    is_in_cluster,
    show_status,
)
from scheduler.listing import find_run, list_runs, result_of, runs_of
from scheduler.local import LocalPool
from scheduler.manifest import data_root, make_manifest
from scheduler.runs import Finished, Run, Undertaking, carry_out

DEFAULT_STORE: Final = "mlho-store"
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    configure(options.log, verbose=options.log == "json")
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        return _say_stopped()
    except MlhoError as error:
        console.err.print(f"[bold red]error:[/] {_escaped(error)}")
        return error.exit_code
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the reader has gone; say nothing more
        return 0
    except Exception as error:
        if _is_interrupt(error):
            return _say_stopped()
        raise


def _say_stopped() -> int:
    console.err.print("\nStopped. What was done is kept: run the same command to go on.")
    return INTERRUPTED


def _is_interrupt(error: BaseException | None) -> bool:
    """Tell whether Ctrl-C is behind an error: it came while compiled code called ours, which wraps what it catches."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


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
        help="folder of the artifacts, or s3://bucket/prefix (default: ./%(default)s)",
    )
    parser = argparse.ArgumentParser(
        prog="mlho", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"mlho {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands, common)
    _add_score(commands, common)
    _add_plan(commands, common)
    _add_show(commands, common)
    _add_demo(commands, common)
    _add_queue_commands(commands, common)
    add_cluster_commands(commands, common)
    add_operate(commands, common)
    version = commands.add_parser(
        "version", parents=[common], help="versions of this program and its libraries"
    )
    version.set_defaults(command=_version)
    crd = commands.add_parser(
        "crd", parents=[common], help="the CustomResourceDefinitions of this version, for kubectl apply"
    )
    crd.set_defaults(command=_crd)
    return parser


def _add_run(commands: Any, common: argparse.ArgumentParser) -> None:
    run = commands.add_parser(
        "run",
        parents=[common],
        help="carry out a run",
        description=RUN_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("spec", type=Path, help="the specification (YAML)")
    _add_workers(run, default=None)
    _add_broker(run)
    _add_metrics(run)
    run.set_defaults(command=_run)


def _add_score(commands: Any, common: argparse.ArgumentParser) -> None:
    score = commands.add_parser(
        "score",
        parents=[common],
        help="score patients with a bundle",
        description=SCORE_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    score.add_argument("spec", type=Path, help="the specification of a scoring run (YAML)")
    _add_workers(score, default=None)
    _add_broker(score)
    _add_metrics(score)
    score.set_defaults(command=_score)


def _add_workers(parser: argparse.ArgumentParser, *, default: int | None = 1) -> None:
    """``--workers``; with a ``default`` of ``None`` it may be 0, and depends on the broker if it is not given."""
    parser.add_argument(
        "--workers",
        type=_positive if default is not None else _not_negative,
        default=default and usable_cpus(),
        metavar="N",
        help=f"worker processes on this machine (default: usable cores, {usable_cpus()}; with --broker redis://…: 0)",
    )


def _add_broker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--broker",
        metavar="ADDRESS",
        help="share the run over a queue: redis://HOST:PORT/0 (password in MLHO_BROKER), or embedded: a queue and workers "
        "on this machine, for this command",
    )


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metrics-port", type=int, help="with --broker: serve Prometheus metrics of the run")
    parser.add_argument(
        "--metrics-address", default="127.0.0.1", help="where to serve them (default: %(default)s)"
    )


def _add_queue_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    for name, command, words in (
        ("status", _status, "who works on a run, and what is quarantined, as JSON"),
        ("cancel", _cancel, "stop a run on a queue: nothing more of it starts"),
        ("retry", _retry, "give a run's quarantined tasks new starts"),
    ):
        parser = commands.add_parser(name, parents=[common], help=words)
        parser.add_argument(
            "run",
            nargs="?",
            help="a run's id, the beginning of one, or its name (default: the only one); trainingrun/NAME in a cluster",
        )
        _add_broker(parser)
        add_place(parser)
        parser.set_defaults(command=command)


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


def _not_negative(text: str) -> int:
    return 0 if text == "0" else _positive(text)


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
    finished = _carry_out(run, options) if options.broker is None else _carry_out_on_queue(run, options)
    _print_finished(run, finished, options.store)
    return 0


def _score(options: argparse.Namespace) -> int:
    from scheduler.scores_shown import show_scores
    from scheduler.scoring import prepare_scoring

    run = prepare_scoring(load_scoring_spec(options.spec), options.spec, open_store(options.store))
    finished = _carry_out(run, options) if options.broker is None else _carry_out_on_queue(run, options)
    show_scores(run.store, finished.run_id)
    console.out.print()
    console.out.print(f"run      {finished.run_id} ({_done_words(finished)})", markup=False)
    root = _shown_address(options.store)
    console.out.print(f"scores   {root}/{run.key('manifest.json')}", markup=False)
    return 0


def _prepare(spec: RunSpec, spec_path: Path, store_address: str) -> Run:
    store = open_store(store_address)
    probe_store(store)
    data = data_root(spec, spec_path)
    manifest = make_manifest(spec.spec.data.tables, data)
    return Run(spec, manifest, data, store)


def _carry_out(run: Undertaking, options: argparse.Namespace) -> Finished:
    n_workers = options.workers or usable_cpus()
    with (
        console.ProgressBar(enabled=options.log == "text") as bar,
        LocalPool(options.store, run.data, n_workers=n_workers) as pool,
    ):
        return carry_out(run, pool, bar, n_slots=n_workers)


def _carry_out_on_queue(run: Undertaking, options: argparse.Namespace) -> Finished:
    from scheduler.embedded import EMBEDDED
    from scheduler.queued import Place, carry_out_on_queue, settings_for  # Celery takes its time to import

    broker, settings = settings_for(options.broker)
    n_workers = options.workers
    if broker == EMBEDDED:
        n_workers = n_workers or usable_cpus()
    place = Place(broker, options.store, n_workers or 0, options.metrics_port, options.metrics_address)
    with console.ProgressBar(enabled=options.log == "text") as bar:
        return carry_out_on_queue(run, place, settings, bar, tell=_tell)


def _tell(words: str) -> None:
    console.err.print(words, markup=False)


def _status(options: argparse.Namespace) -> int:
    if is_in_cluster(options.run):
        return show_status(options)
    from scheduler.queued import status_of

    store = open_store(options.store)
    found = status_of(store, find_run(store, options.run), _broker(options))
    print(json.dumps(found, indent=1))  # noqa: T201 - the command's output
    return 0


def _cancel(options: argparse.Namespace) -> int:
    if is_in_cluster(options.run):
        return cancel_in_cluster(options)
    from scheduler.queued import cancel_run

    store = open_store(options.store)
    console.out.print(cancel_run(store, find_run(store, options.run), _broker(options)), markup=False)
    return 0


def _retry(options: argparse.Namespace) -> int:
    from scheduler.queued import retry_run

    store = open_store(options.store)
    console.out.print(retry_run(store, find_run(store, options.run)), markup=False)
    return 0


def _broker(options: argparse.Namespace) -> str | None:
    """The broker of the command line or the environment, if there is one that others can reach."""
    from mlho.settings import Settings
    from scheduler.embedded import EMBEDDED

    broker: str | None = options.broker or Settings.from_environment().broker
    return None if broker == EMBEDDED else broker


def _print_finished(run: Run, finished: Finished, store_address: str) -> None:
    result = result_of(run.store, finished.run_id)
    for sentence in [*result["summary"], *(f"Warning: {own}" for own in result["warnings"])]:
        console.out.print(sentence, markup=False)
    console.out.print()
    console.out.print(console.attrition_table(result["cohort"]))
    console.out.print()
    console.out.print(console.ledger_table(result["ledger"]))
    console.out.print()
    folder = f"{_shown_address(store_address)}/{RUNS}/{finished.run_id}"
    console.out.print(f"run      {finished.run_id} ({_done_words(finished)})", markup=False)
    console.out.print(f"result   {finished.report.facts['result_digest']}", markup=False)
    console.out.print(f"bundle   {folder}/bundle", markup=False)
    console.out.print(f"report   {folder}/report.html", markup=False)


def _done_words(finished: Finished) -> str:
    return f"{finished.n_tasks} tasks, {finished.n_new} of them new, {console.duration(finished.seconds)}"


def _shown_address(store_address: str) -> str:
    return store_address.rstrip("/") if "://" in store_address else str(Path(store_address))


def _plan(options: argparse.Namespace) -> int:
    from scheduler.estimate import estimate

    spec = load_any_spec(options.spec)
    if isinstance(spec, ScoringRunSpec):
        from scheduler.scores_shown import plan_table
        from scheduler.scoring import prepare_scoring

        run = prepare_scoring(spec, options.spec, open_store(options.store))
        console.out.print(plan_table(run, n_workers=options.workers))
        return 0
    data = data_root(spec, options.spec)
    manifest = make_manifest(spec.spec.data.tables, data)
    shown = estimate(spec, manifest, n_workers=options.workers)
    console.out.print(shown)
    return 0


def _show(options: argparse.Namespace) -> int:
    store = open_store(options.store)
    if options.run is None:
        list_runs(store, options.store)
        return 0
    run = find_run(store, options.run)
    if run in runs_of(store, kind="ScoringRun"):
        from scheduler.scores_shown import read_manifest, show_scores

        if options.json:
            print(json.dumps(read_manifest(store, run), indent=1, ensure_ascii=False))  # noqa: T201 - the output
        else:
            show_scores(store, run)
        return 0
    result = result_of(store, run)
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


def _report(options: argparse.Namespace) -> int:
    store = open_store(options.store)
    path = store.path(run_key(find_run(store, options.run, kind="TrainingRun"), "report.html"))
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
    console.out.print(check_planted(options.folder, result_of(run.store, finished.run_id)))
    return 0


def _crd(_options: argparse.Namespace) -> int:
    from scheduler.crd import render_crds

    print(render_crds(), end="")  # noqa: T201 - the command's output
    return 0


def _version(_options: argparse.Namespace) -> int:
    from mlho.steps.write_report import versions

    for name, version in versions().items():
        console.out.print(f"{name:<16}{version}", markup=False)
    console.out.print(f"{'python':<16}{sys.version.split()[0]}", markup=False)
    return 0
