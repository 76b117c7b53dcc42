"""Cluster commands of ``mlho``, by the user's kubeconfig: submit, wait, status, suspend, resume, cancel, logs, export.

The output for a run in a cluster uses the same terms as for a local run.
"""

import argparse
import datetime as dt
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlho.errors import MlhoError, SpecError, plural
from mlho.printable import printable
from mlho.protocol.documents import NOT_ON_A_QUEUE, State
from mlho.spec.reading import parse_mapping, read_text
from mlho.spec.training import API_VERSION
from mlho.store import open_store
from scheduler.api.names import scheduled_time
from scheduler.api.resource import DesiredState, dated, from_resource, with_annotations
from scheduler.api.status import TASKS_QUARANTINED
from scheduler.cli import terminal
from scheduler.cli.listing import RUN_HELP, checked_output, existing_store, find_finished
from scheduler.cli.options import (
    Commands,
    ExportOptions,
    NamedRunOptions,
    OperateOptions,
    SubmitOptions,
    WaitOptions,
)
from scheduler.cli.scoring.dates import add_nights
from scheduler.cli.validate import inspect_before_submission
from scheduler.runs.export import export_run, output_lines, split_output

if TYPE_CHECKING:
    from scheduler.api.client import Cluster, Kind

_POLL_SECONDS: Final = 1.0
_UNSEEN_SECONDS: Final = 30.0  # without a status; a scheduler writes the first one within seconds
_NAMES: Final = {
    "trainingrun": "TrainingRun",
    "trun": "TrainingRun",
    "scoringrun": "ScoringRun",
    "srun": "ScoringRun",
}
_ENDS: Final = {"Succeeded": 0, "Failed": 1, "Cancelled": 3}
TIMED_OUT: Final = 124  # exit code of timeout(1)


def add_cluster_commands(commands: Commands) -> None:
    """Add the commands that require a cluster."""
    parser = commands.add("submit", _submit, "start a run in a Kubernetes cluster")
    parser.add_argument("spec", type=Path, help="the specification or resource (YAML)")
    parser.add_argument(
        "--by-date",
        action="store_true",
        help="append today's date to the name; submitting it twice gives the same run",
    )
    parser.add_argument(
        "--scheduled-by",
        metavar="JOB",
        help="with --by-date in a CronJob: the name of its Kubernetes Job, whose scheduled day is used instead of today",
    )
    add_nights(parser)
    parser.add_argument("--wait", action="store_true", help="wait until it has ended")
    _add_timeout(parser)
    add_place(parser)
    for name, command, words in (
        ("wait", _wait_command, "wait for a run in a cluster to end"),
        ("suspend", _suspend, "suspend a run in a cluster, and remove its workers"),
        ("resume", _resume, "resume a suspended run"),
        ("logs", _logs, "print the last log lines of a run's workers"),
    ):
        parser = commands.add(name, command, words)
        parser.add_argument("run", help="trainingrun/NAME or scoringrun/NAME")
        if name == "wait":
            _add_timeout(parser)
        add_place(parser)


def add_export(commands: Commands) -> None:
    """Add the command that copies the outputs of a run from any store."""
    parser = commands.add(
        "export", _export, "copy a run's report, result and bundle, or its scores, into a folder"
    )
    parser.add_argument(
        "run",
        nargs="?",
        help=f"{RUN_HELP} (default: the only one); trainingrun/NAME in a cluster: "
        "its store is reached with your credentials, at MLHO_S3_ENDPOINT if that is set",
    )
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="a new folder (default: the run's id, in this folder)"
    )
    parser.add_argument(
        "--mlflow",
        action="store_true",
        help="also make the folder an MLflow model: mlflow.pyfunc.load_model loads it where mlho is installed",
    )
    add_place(parser)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the options that select the cluster and the namespace."""
    parser.add_argument(
        "--context",
        help="context of the kubeconfig (default: the current one)",
    )
    parser.add_argument("--namespace", "-n", help="namespace (default: that of the context)")


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        type=float,
        default=86_400,
        metavar="SECONDS",
        help="maximum wait, then exit code 124 (default: one day)",
    )


def is_in_cluster(run: str | None) -> bool:
    """Return whether a run is given in the form of Kubernetes: kind/name."""
    return run is not None and run.partition("/")[0].lower() in _NAMES


def _cluster(options: object) -> "tuple[Cluster, str]":
    from scheduler.api.client import Cluster, ClusterError

    context = getattr(options, "context", None)
    try:
        cluster = Cluster.of_user(context=context)
    except ClusterError as nowhere:
        if context is not None:
            raise
        try:
            cluster = Cluster.of_pod()
        except ClusterError:
            raise nowhere from None
    return cluster, getattr(options, "namespace", None) or cluster.namespace


def _named(run: str | None) -> "tuple[Kind, str]":
    from scheduler.api.client import RUN_KINDS

    run = run or ""
    kind, _, name = run.partition("/")
    if not name or kind.lower() not in _NAMES:
        raise SpecError(f"run {run[:100]!r}: write trainingrun/NAME or scoringrun/NAME.")
    return RUN_KINDS[_NAMES[kind.lower()]], name


def _submit(options: SubmitOptions) -> int:
    obj = _read(options.spec)
    if options.by_date and options.as_of:
        raise SpecError("--by-date uses today's date: give either --by-date or --as-of.")
    if options.scheduled_by and not options.by_date:
        raise SpecError("--scheduled-by: needs --by-date.")
    days = [_day(options.scheduled_by)] if options.by_date else options.as_of
    if not days:
        return _submit_one(obj, options, is_dated=False)
    return max(_submit_one(dated(obj, day), options, is_dated=True) for day in days)


def _day(job: str | None) -> dt.date:
    """Return the scheduled day of a CronJob's Kubernetes Job, in the time zone of this process. Without one, return today.

    A Job that starts late, or is retried after midnight, thus creates the run of its scheduled day.
    """
    now = dt.datetime.now(dt.UTC)
    time = scheduled_time(job, now) if job else now
    if time is None:
        terminal.print_note(f"Kubernetes Job {job} was not created by a CronJob. Today's date is used.")
    return (time or now).astimezone().date()


def _submit_one(obj: dict[str, Any], options: SubmitOptions, *, is_dated: bool) -> int:
    """Create a run. One with a date in its name may exist already."""
    from scheduler.api.client import RUN_KINDS, Conflict

    cluster, namespace = _cluster(options)
    if options.namespace is None:
        namespace = obj["metadata"].get("namespace") or namespace
    obj["metadata"] = {**with_annotations(obj["metadata"]), "namespace": namespace}
    resource = from_resource(obj)  # reports errors in our own terms, before the cluster rejects the resource
    inspect_before_submission(resource.spec)
    run = f"{obj['kind'].lower()}/{obj['metadata']['name']}"
    try:
        cluster.create(RUN_KINDS[obj["kind"]], obj)
        terminal.print_line(f"{run} created")
    except Conflict:
        if not is_dated:
            raise
        terminal.print_line(f"{run} already exists")
    return _wait(cluster, namespace, run, options.timeout) if options.wait else 0


def _read(path: Path) -> dict[str, Any]:
    obj = parse_mapping(read_text(path), where=str(path))
    if (
        obj.get("kind") not in _NAMES.values()
        or "name" not in (obj.get("metadata") or {})
        or not isinstance(obj.get("spec"), dict)
    ):
        raise SpecError(f"{path}: expected a TrainingRun or a ScoringRun with metadata.name and spec.")
    return {"apiVersion": API_VERSION, **obj}


def _wait_command(options: WaitOptions) -> int:
    cluster, namespace = _cluster(options)
    return _wait(cluster, namespace, options.run, options.timeout)


def _wait(cluster: "Cluster", namespace: str, run: str | None, seconds: float) -> int:
    """Wait for a run to end and print its changes. Return the exit code for its phase."""
    from scheduler.api.client import ClusterUnavailable

    kind, name = _named(run)
    began, printed = time.monotonic(), ""
    while (waited := time.monotonic() - began) < seconds:
        try:
            status = cluster.get(kind, namespace, name).get("status") or {}
            words = _line(status) or (_unseen(namespace) if waited >= _UNSEEN_SECONDS else "")
        except ClusterUnavailable:
            status, words = {}, ""
        if words and words != printed:
            terminal.print_note(f"{run}  {words}")
            printed = words
        if status.get("phase") in _ENDS:
            _print_outputs(status.get("runId", ""), status.get("outputs") or {})
            return _ENDS[status["phase"]]
        time.sleep(_POLL_SECONDS)
    terminal.print_note(f"{run}: has not ended after {seconds:.0f} s.")
    return TIMED_OUT


def _unseen(namespace: str) -> str:
    return (
        f"has no status after {_UNSEEN_SECONDS:.0f} s: no scheduler carries out the runs of the namespace {namespace}. Install "
        "the chart there, add the namespace to watchNamespaces of a release, or check that the pods of its scheduler run."
    )


def _line(status: Mapping[str, Any]) -> str:
    words = [status.get(name) for name in ("phase", "stage", "progress", "headline", "reason", "message")]
    return "  ".join(str(word) for word in words if word)


def _print_outputs(run: str, outputs: Mapping[str, str]) -> None:
    terminal.print_lines(output_lines(run, outputs) if outputs else ())


def _status_of(options: NamedRunOptions) -> dict[str, Any]:
    """Return the status of a resource; empty before the scheduler has seen it."""
    kind, name = _named(options.run)
    cluster, namespace = _cluster(options)
    return cluster.get(kind, namespace, name).get("status") or {}


def show_status(options: NamedRunOptions) -> int:
    """Print the status of a run in a cluster as JSON: the fields of ``mlho status``, then the resource's own status."""
    terminal.print_json(shown_status(_status_of(options)))
    return 0


def shown_status(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resource's status, preceded by the fields that ``mlho status`` prints for a run on a queue."""
    tasks = status.get("tasks") or {}
    states = {"Succeeded": State.FINISHED, "Failed": State.FAILED, "Cancelled": State.CANCELLED}
    state = (
        states.get(status.get("phase", ""), State.OPEN).value if status.get("execution") else NOT_ON_A_QUEUE
    )
    return {
        "run": status.get("runId"),
        "execution": status.get("execution"),
        "state": state,
        "quarantined": [
            failure["task"]
            for failure in status.get("failures") or ()
            if failure["reason"] == TASKS_QUARANTINED
        ],
        "running": tasks.get("running", 0),
        **status,
    }


def run_in_cluster(options: NamedRunOptions) -> str:
    """Return the run id of a resource, for a command that reads its store."""
    if not options.store.startswith("s3://"):
        raise SpecError(
            f"--store: expected the bucket of {options.run}; got a folder on this machine. Give --store "
            "s3://bucket/prefix, the chart's store.uri."
        )
    run: str | None = _status_of(options).get("runId")
    if run is None:
        raise SpecError(
            f"{options.run}: has no run yet, because it was not accepted. See: mlho status {options.run}"
        )
    return run


def cancel_in_cluster(options: NamedRunOptions) -> int:
    """Request the cancellation of a run."""
    return _set_desired_state(
        options, DesiredState.CANCELLED, "cancelled. Its workers end and its queue is deleted within seconds."
    )


def _suspend(options: NamedRunOptions) -> int:
    return _set_desired_state(
        options, DesiredState.SUSPENDED, f"suspended. Resume it with: mlho resume {options.run}"
    )


def _resume(options: NamedRunOptions) -> int:
    return _set_desired_state(options, DesiredState.RUNNING, "resumed.")


def _set_desired_state(options: NamedRunOptions, desired: DesiredState, words: str) -> int:
    kind, name = _named(options.run)
    cluster, namespace = _cluster(options)
    cluster.merge(kind, namespace, name, {"spec": {"desiredState": desired.value}})
    terminal.print_line(f"{options.run}: {words}")
    return 0


def _logs(options: NamedRunOptions) -> int:
    from scheduler.api.client import Kind
    from scheduler.api.objects import run_selector

    kind, name = _named(options.run)
    cluster, namespace = _cluster(options)
    uid = cluster.get(kind, namespace, name)["metadata"]["uid"]
    pods = cluster.list(Kind.POD, namespace, selector=run_selector(uid)).items
    if not pods:
        terminal.print_note(f"{options.run}: no worker pod exists.")
    for pod in pods:
        pod_name = pod["metadata"]["name"]
        try:
            lines = cluster.log_of(namespace, pod_name, lines=50)
        except MlhoError as error:
            lines = f"{error}\n"
        print(printable(f"--- {pod_name}\n{lines}", lines=True), end="", flush=True)  # noqa: T201 - the command's output
    return 0


def _export(options: ExportOptions) -> int:
    is_in_store = not is_in_cluster(options.run)
    checked_output(options.to, "--to", is_folder=True)
    if is_in_store and (options.context or options.namespace):
        terminal.print_note(
            "Warning: --context and --namespace are ignored, because the run is in --store. Name a run in a cluster as "
            "trainingrun/NAME."
        )
    address, run, digest = (options.store, "", None) if is_in_store else _exportable(options)
    store = existing_store(options) if is_in_store else open_store(address)
    run = run or find_finished(store, options.run).run_id
    done = export_run(store, run, options.to or Path(run), expected_digest=digest, mlflow=options.mlflow)
    _print_outputs(done.run, done.outputs)
    words = f"{plural(done.n_files, 'file')}, {terminal.size(done.n_bytes)}, digests verified"
    terminal.print_note(f"{done.folder}: {words if done.is_new else 'is there already'}.")
    return 0


def _exportable(options: NamedRunOptions) -> tuple[str, str, str | None]:
    """Return store address, run id and result digest of a run in a cluster, from its status."""
    status = _status_of(options)
    outputs, run = status.get("outputs") or {}, status.get("runId", "")
    address = outputs.get("result") or outputs.get("scores")
    if not address:
        raise SpecError(
            f"{options.run}: has no results (phase {status.get('phase', 'Pending')}). Wait for it: mlho wait {options.run}"
        )
    return split_output(address, run), run, outputs.get("resultDigest")


def add_operate(commands: Commands) -> None:
    """Add the command ``operate``."""
    parser = commands.add(
        "operate", _operate, "carry out the runs of a Kubernetes cluster; started by the chart"
    )
    parser.add_argument("--config", type=Path, required=True, help="configuration file, written by the chart")
    parser.add_argument("--port", type=int, default=8080, help="port of /healthz, /readyz and /metrics")
    parser.add_argument(
        "--kubeconfig",
        type=Path,
        help="kubeconfig, to run outside the cluster (default: the pod's service account)",
    )


def _operate(options: OperateOptions) -> int:
    from scheduler.replica.program import operate  # imports the kubernetes client, which is slow

    return operate(options.config, port=options.port, kubeconfig=options.kubeconfig)
