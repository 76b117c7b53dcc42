"""The ``mlho`` command."""

import argparse
import errno
import io
import os
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlho import __version__
from mlho.errors import MlhoError, SpecError
from mlho.log import configure
from mlho.processes import is_interrupt, usable_cpus
from mlho.settings import STORE, Settings
from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import load_spec
from mlho.store.keys import run_key
from scheduler.cli import terminal
from scheduler.cli.about import add_about
from scheduler.cli.cluster import (
    add_cluster_commands,
    add_export,
    add_operate,
    add_place,
    cancel_in_cluster,
    is_in_cluster,
    run_in_cluster,
    show_status,
)
from scheduler.cli.completion import add_completion
from scheduler.cli.evaluation.compare import add_compare
from scheduler.cli.evaluation.evaluate import add_evaluate
from scheduler.cli.evaluation.recalibrate import add_recalibrate
from scheduler.cli.evaluation.worklist import add_worklist
from scheduler.cli.help import ABOUT, RUN_ABOUT, SCORE_ABOUT
from scheduler.cli.init import add_init
from scheduler.cli.listing import (
    RUN_HELP,
    add_list,
    existing_store,
    find_finished,
    find_id,
    list_runs,
    result_of,
    store_to_read,
)
from scheduler.cli.options import (
    Commands,
    DemoOptions,
    NamedRunOptions,
    PlanOptions,
    QueueOptions,
    ReportOptions,
    ShowOptions,
    not_negative,
    positive,
)
from scheduler.cli.registry.commands import add_registry
from scheduler.cli.registry.test import add_test
from scheduler.cli.results.changes import add_changes
from scheduler.cli.results.dossier import add_dossier
from scheduler.cli.results.lineage import add_lineage
from scheduler.cli.results.purge import add_purge
from scheduler.cli.results.site import add_site, renew
from scheduler.cli.retention import add_retention
from scheduler.cli.run import (
    PROGRESS,
    carry_out_one,
    prepare_with_warnings,
    print_finished,
    print_left_out,
    run_command,
    usable_store,
)
from scheduler.cli.scoring.command import score_command
from scheduler.cli.scoring.dates import add_nights, load_as_of_today
from scheduler.cli.validate import add_validate, inspect_first
from scheduler.engine.prepare import prepare
from scheduler.runs.record import read_record
from scheduler.runs.stored import MODELS, RECALIBRATION, SCORING, StoredRun

if TYPE_CHECKING:
    from mlho.inspection.findings import Inspection

DEFAULT_STORE: Final = "mlho-store"
INTERRUPTED: Final = 130  # 128 + SIGINT, the shell convention


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as on stderr: no locale makes a command fail
    options = argparse.Namespace(is_resumed=False)
    try:
        parser = _parser()
        if not (sys.argv[1:] if arguments is None else arguments):
            parser.print_help(sys.stderr)
            return SpecError.exit_code
        options = parser.parse_args(arguments)
        configure(options.log, verbose=options.log == "json")
        return int(options.command(options))
    except KeyboardInterrupt:
        return _print_stopped(is_resumed=options.is_resumed)
    except MlhoError as error:
        terminal.print_error(error)
        return error.exit_code
    except BrokenPipeError:
        _drop_output()  # the reader has closed the pipe
        return 0
    except Exception as error:
        if is_interrupt(error):
            return _print_stopped(is_resumed=options.is_resumed)
        if isinstance(error, OSError) and error.strerror:  # of a file that an option names, or of a full disk
            _drop_output()
            return _print_system_error(error)
        raise


def _drop_output() -> None:
    """Drop output that cannot be written. The interpreter would try it again when it exits, and fail."""
    try:
        print(end="", flush=True)  # noqa: T201 - writes nothing more
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_stopped(*, is_resumed: bool) -> int:
    remedy = (
        "Committed results are kept: run the same command to continue."
        if is_resumed
        else "Run the same command again."
    )
    terminal.print_note(f"\nStopped. {remedy}")
    return INTERRUPTED


def _print_system_error(error: OSError) -> int:
    words = f"{error.filename or 'a file'}: {error.strerror}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        words += (
            f" Free some space, and run the same command again. Temporary files are in {tempfile.gettempdir()}; TMPDIR names another "
            "folder."
        )
    terminal.print_error(words)
    return MlhoError.exit_code


def _parser() -> argparse.ArgumentParser:
    log_options = argparse.ArgumentParser(add_help=False)
    log_options.add_argument(
        "--log", choices=("text", "json"), default="text", help="json: one line per event on stderr"
    )
    common = argparse.ArgumentParser(add_help=False, parents=[log_options])
    common.add_argument(
        "--store",
        default=os.environ.get(STORE) or DEFAULT_STORE,
        help=f"folder of the artifacts, or s3://bucket/prefix (default: {STORE}, else ./{DEFAULT_STORE})",
    )
    parser = argparse.ArgumentParser(
        prog="mlho", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"mlho {__version__}")
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _COMMANDS:
        # Commands on a cluster have no store.
        add(Commands(parsers, log_options if add is add_cluster_commands else common))
    add_completion(parsers)
    return parser


def _add_run(commands: Commands) -> None:
    run = commands.add("run", run_command, "carry out a run", RUN_ABOUT, is_resumed=True)
    run.add_argument(
        "spec",
        type=Path,
        nargs="+",
        help="specification file (YAML); several run concurrently (needs --broker)",
    )
    _add_execution(run)


def _add_score(commands: Commands) -> None:
    score = commands.add("score", score_command, "score patients with a bundle", SCORE_ABOUT, is_resumed=True)
    score.add_argument("spec", type=Path, help="specification file of a scoring run (YAML)")
    add_nights(score)
    score.add_argument(
        "--again",
        action="store_true",
        help="with --as-of: also score nights that were scored before, with the current tables and model",
    )
    _add_execution(score)


def _add_execution(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that carries out a run."""
    _add_workers(parser, default=None)
    parser.add_argument(
        "--broker",
        metavar="ADDRESS",
        help="run on a queue: redis://HOST:PORT/0 (password in MLHO_BROKER), or embedded: a queue and workers "
        "on this machine, for this command",
    )
    parser.add_argument("--metrics-port", type=int, help="port of the Prometheus metrics (needs --broker)")
    parser.add_argument(
        "--metrics-address",
        default="127.0.0.1",
        help="address of the Prometheus metrics (default: %(default)s)",
    )
    _add_progress(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the finished runs as mlho list --json does, with their folder, in place of the tables",
    )


def _add_workers(parser: argparse.ArgumentParser, *, default: int | None = 1) -> None:
    """Add ``--workers``. With a ``default`` of ``None``, 0 is allowed and the default depends on the broker."""
    parser.add_argument(
        "--workers",
        type=positive if default is not None else not_negative,
        default=default and usable_cpus(),
        metavar="N",
        help=f"worker processes on this machine (default: usable cores, {usable_cpus()}; with --broker redis://…: 0)",
    )


def _add_progress(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--progress",
        choices=PROGRESS,
        default="auto",
        help="auto: bars on a terminal, in a pipe one line for each tenth of a stage; json: one line per second on stderr (default: %(default)s)",
    )


def _add_queue_commands(commands: Commands) -> None:
    for name, command, words in (
        ("status", _status, "progress, workers and quarantined tasks of a run, as JSON"),
        ("cancel", _cancel, "cancel a run on a queue: no further task starts"),
        ("retry", _retry, "give a run's quarantined tasks new attempts"),
    ):
        parser = commands.add(name, command, words)
        parser.add_argument(
            "run",
            nargs="?",
            help=f"{RUN_HELP} (default: the only one); trainingrun/NAME in a cluster",
        )
        if name != "retry":
            parser.add_argument(
                "--broker",
                metavar="ADDRESS",
                help="its queue, for more details and a faster response: redis://HOST:PORT/0 (default: MLHO_BROKER)",
            )
        add_place(parser)


def _add_plan(commands: Commands) -> None:
    plan = commands.add("plan", _plan, "check a specification, and show tasks and cost of the run")
    plan.add_argument("spec", type=Path, help="specification file (YAML)")
    _add_workers(plan)
    plan.add_argument(
        "--json", action="store_true", help="a list of objects, one for each run, with bytes and seconds"
    )


def _add_show(commands: Commands) -> None:
    show = commands.add("show", _show, "show the runs of a store, or the result of one run")
    show.add_argument("run", nargs="?", help=RUN_HELP)
    show.add_argument(
        "--json", action="store_true", help="the whole result as JSON; without a run as mlho list"
    )
    report = commands.add("report", _report, "print the path of a run's report")
    report.add_argument("run", nargs="?", help=f"{RUN_HELP} (default: the only one)")
    report.add_argument("--open", action="store_true", help="show it in your browser, too")


def _add_demo(commands: Commands) -> None:
    demo = commands.add(
        "demo",
        _demo,
        "generate a cohort with known effects, run on it, and check which are found",
        is_resumed=True,
    )
    demo.add_argument(
        "--folder", type=Path, default=Path("demo"), help="folder of the cohort (default: ./%(default)s)"
    )
    demo.add_argument(
        "--patients", type=positive, default=10_000, help="number of patients (default: %(default)s)"
    )
    _add_workers(demo)
    _add_progress(demo)
    demo.set_defaults(broker=None, metrics_port=None, metrics_address="")


def _status(options: QueueOptions) -> int:
    if is_in_cluster(options.run):
        return show_status(options)
    from scheduler.queue.run import status_of

    store = existing_store(options)
    run = find_id(store, options.run)
    record = read_record(store, run)
    cost = record.cost.model_dump() if record is not None and record.cost is not None else None
    status = {**status_of(store, run, _broker(options)), "cost": cost}
    terminal.print_json(status)
    return 0


def _cancel(options: QueueOptions) -> int:
    if is_in_cluster(options.run):
        return cancel_in_cluster(options)
    from scheduler.queue.run import cancel_run

    store = existing_store(options)
    terminal.print_line(cancel_run(store, find_id(store, options.run), _broker(options)))
    return 0


def _retry(options: NamedRunOptions) -> int:
    from scheduler.queue.run import retry_run

    run = run_in_cluster(options) if is_in_cluster(options.run) else options.run
    store = existing_store(options)
    terminal.print_line(retry_run(store, find_id(store, run)))
    return 0


def _broker(options: QueueOptions) -> str | None:
    """Return the broker of the command line or the environment, unless it is embedded and only its own
    command can reach it.
    """
    from scheduler.queue.embedded_server import EMBEDDED

    broker = Settings.from_environment().broker_at(options.broker)
    return None if broker == EMBEDDED else broker


def _plan(options: PlanOptions) -> int:
    from mlho.store.memory import MemoryStore
    from scheduler.cli.estimate import show_plans
    from scheduler.cli.show_scores import plan_facts, plan_table
    from scheduler.engine.scoring_run import ScoringRun

    spec = load_as_of_today(options.spec)
    # A plan of a training run reads nothing from a store, and must not create one.
    store = (
        store_to_read(options, spec.spec.bundle.uri) if isinstance(spec, ScoringRunSpec) else MemoryStore()
    )
    looks: list[Inspection] = []
    run = prepare(spec, options.spec, store, inspect=lambda *tables: looks.extend(inspect_first(*tables)))
    if not isinstance(run, ScoringRun):
        show_plans(run, looks, n_workers=options.workers, as_json=options.json)
    elif options.json:
        terminal.print_json([plan_facts(run, n_workers=options.workers)])
    else:
        terminal.print_table(plan_table(run, n_workers=options.workers))
    print_left_out(run.manifest)
    return 0


def _show(options: ShowOptions) -> int:
    store = existing_store(options)
    if options.run is None:
        runs = list_runs(store, options.store, as_json=options.json)
        if runs and not options.json:
            terminal.print_note(f"To see the result of a run, name it: mlho show {runs[0].name}")
        return 0
    run = find_finished(store, options.run)
    if run.kind == SCORING:
        from scheduler.cli.show_scores import read_manifest, show_scores

        if options.json:
            terminal.print_json(read_manifest(store, run.run_id))
        else:
            show_scores(store, run.run_id)
            _show_cost(run)
        return 0
    result = result_of(store, run.run_id)
    if options.json:
        terminal.print_json(result)
        return 0
    terminal.print_lines(terminal.result_sentences(result))
    if run.kind == RECALIBRATION:
        return 0
    terminal.print_tables(
        [
            terminal.attrition_table(result["cohort"]),
            terminal.ledger_table(result["ledger"]),
            terminal.features_table(result["features"], most=20),
        ]
    )
    _show_cost(run)
    return 0


def _show_cost(run: StoredRun) -> None:
    if run.record is not None and run.record.cost is not None:
        terminal.out.print()
        terminal.print_line(f"Cost: {terminal.cost_words(run.record.cost)}.")


def _report(options: ReportOptions) -> int:
    store = existing_store(options)
    run = find_finished(store, options.run, kind=MODELS).run_id
    path = store.path(run_key(run, "report.html"))
    terminal.print_line(str(path))
    if options.open and not webbrowser.open(path.absolute().as_uri()):
        terminal.print_note("No browser was found here. Open the file in one, or copy it: mlho export.")
        return 1
    return 0


def _demo(options: DemoOptions) -> int:
    from scheduler.cli.demo import check_planted, make_demo

    terminal.print_note(f"Making {options.patients:,} patients with known effects in {options.folder} …")
    spec_path = make_demo(options.folder, n_patients=options.patients)
    run = prepare_with_warnings(load_spec(spec_path), spec_path, usable_store(options))
    finished = carry_out_one(run, run.spec.metadata.name, options)
    renew(run.store, options.store)
    print_finished(run, finished, options.store)
    terminal.print_tables([check_planted(options.folder, result_of(run.store, finished.run_id))])
    return 0


_COMMANDS: Final[Sequence[Callable[[Commands], None]]] = (
    _add_run,
    _add_score,
    add_evaluate,
    add_recalibrate,
    add_compare,
    add_worklist,
    add_init,
    add_validate,
    _add_plan,
    _add_show,
    add_list,
    add_registry,
    add_test,
    add_retention,
    add_purge,
    add_changes,
    add_dossier,
    add_lineage,
    add_site,
    _add_demo,
    _add_queue_commands,
    add_cluster_commands,
    add_export,
    add_operate,
    add_about,
)
