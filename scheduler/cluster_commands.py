"""What ``mlho`` does with runs in a cluster: submit, wait, show, suspend, resume, cancel; by the user's kubeconfig."""

import argparse
import datetime as dt
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from mlho.errors import MlhoError, SpecError
from mlho.spec import API_VERSION
from scheduler import console
from scheduler.resource import DesiredState, dated, from_resource

if TYPE_CHECKING:
    from scheduler.cluster import Cluster, Kind

_POLL_SECONDS: Final = 1.0
_NAMES: Final = {
    "trainingrun": "TrainingRun",
    "trun": "TrainingRun",
    "scoringrun": "ScoringRun",
    "srun": "ScoringRun",
}
_ENDS: Final = {"Succeeded": 0, "Failed": 1, "Cancelled": 3}
TIMED_OUT: Final = 124  # as timeout(1) has it


def add_cluster_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("submit", parents=[common], help="start a run in a Kubernetes cluster")
    parser.add_argument("spec", type=Path, help="the specification or resource (YAML)")
    parser.add_argument(
        "--by-date", action="store_true", help="name it by today's date: made twice, it is the same run"
    )
    parser.add_argument("--wait", action="store_true", help="until it has ended")
    add_place(parser)
    parser.set_defaults(command=_submit)
    for name, command, words in (
        ("wait", _wait_command, "wait for a run in a cluster to end"),
        ("suspend", _suspend, "stop a run in a cluster for a while: it keeps no workers"),
        ("resume", _resume, "let a suspended run go on"),
        ("logs", _logs, "the last lines of a run's workers"),
    ):
        parser = commands.add_parser(name, parents=[common], help=words)
        parser.add_argument("run", help="trainingrun/NAME or scoringrun/NAME")
        add_place(parser)
        parser.set_defaults(command=command)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which cluster, and where in it."""
    parser.add_argument("--context", help="of the kubeconfig (default: the current one)")
    parser.add_argument("--namespace", "-n", help="(default: the context's)")
    parser.add_argument("--timeout", type=float, default=86_400, metavar="SECONDS", help="how long to wait")


def is_in_cluster(run: str | None) -> bool:
    """Whether a run is named as Kubernetes does: kind/name."""
    return run is not None and run.partition("/")[0].lower() in _NAMES


def _cluster(options: argparse.Namespace) -> "tuple[Cluster, str]":
    from scheduler.cluster import Cluster, ClusterError

    context = getattr(options, "context", None)
    try:
        cluster = Cluster.of_user(context=context)
    except ClusterError:
        if context is not None:
            raise
        cluster = Cluster.of_pod()
    return cluster, getattr(options, "namespace", None) or cluster.namespace


def _named(run: str) -> "tuple[Kind, str]":
    from scheduler.cluster import RUN_KINDS

    kind, separator, name = run.partition("/")
    if not separator or not name or kind.lower() not in _NAMES:
        raise SpecError(f"run {run[:100]!r}: write trainingrun/NAME or scoringrun/NAME.")
    return RUN_KINDS[_NAMES[kind.lower()]], name


def _submit(options: argparse.Namespace) -> int:
    from scheduler.cluster import RUN_KINDS, Conflict

    obj = _read(options.spec)
    if options.by_date:
        obj = dated(obj, dt.datetime.now().astimezone().date())
    cluster, namespace = _cluster(options)
    obj["metadata"] = {**obj["metadata"], "namespace": namespace}
    from_resource(obj)  # says what is wrong in our words, before the cluster does
    shown = f"{obj['kind'].lower()}/{obj['metadata']['name']}"
    try:
        cluster.create(RUN_KINDS[obj["kind"]], obj)
        console.out.print(f"{shown} created", markup=False)
    except Conflict:
        if not options.by_date:
            raise
        console.out.print(f"{shown} is there already", markup=False)
    return _wait(cluster, namespace, shown, options.timeout) if options.wait else 0


def _read(path: Path) -> dict[str, Any]:
    try:
        obj = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: cannot be read as YAML.") from error
    if (
        not isinstance(obj, dict)
        or obj.get("kind") not in _NAMES.values()
        or "name" not in (obj.get("metadata") or {})
        or not isinstance(obj.get("spec"), dict)
    ):
        raise SpecError(f"{path}: expected a TrainingRun or a ScoringRun with metadata.name and spec.")
    return {"apiVersion": API_VERSION, **obj}


def _wait_command(options: argparse.Namespace) -> int:
    cluster, namespace = _cluster(options)
    return _wait(cluster, namespace, options.run, options.timeout)


def _wait(cluster: "Cluster", namespace: str, run: str, seconds: float) -> int:
    """Wait for a run to end, showing what changes; the exit code says how."""
    from scheduler.cluster import ClusterUnavailable

    kind, name = _named(run)
    until, shown = time.monotonic() + seconds, ""
    while time.monotonic() < until:
        try:
            status = cluster.get(kind, namespace, name).get("status") or {}
        except ClusterUnavailable:
            status = {}
        words = _line(status)
        if words and words != shown:
            console.err.print(f"{run}  {words}", markup=False)
            shown = words
        if status.get("phase") in _ENDS:
            for label, uri in (status.get("outputs") or {}).items():
                console.out.print(f"{label:<13} {uri}", markup=False)
            return _ENDS[status["phase"]]
        time.sleep(_POLL_SECONDS)
    console.err.print(f"{run}: has not ended after {seconds:.0f} s.", markup=False)
    return TIMED_OUT


def _line(status: Mapping[str, Any]) -> str:
    words = [status.get(name) for name in ("phase", "stage", "progress", "headline", "reason", "message")]
    return "  ".join(str(own) for own in words if own)


def show_status(options: argparse.Namespace) -> int:
    """Print the status of a run in a cluster as JSON."""
    kind, name = _named(options.run)
    cluster, namespace = _cluster(options)
    status = cluster.get(kind, namespace, name).get("status") or {}
    print(json.dumps(status, indent=1, ensure_ascii=False))  # noqa: T201 - the command's output
    return 0


def cancel_in_cluster(options: argparse.Namespace) -> int:
    """Have a run cancelled."""
    return _want(options, DesiredState.CANCELLED)


def _suspend(options: argparse.Namespace) -> int:
    return _want(options, DesiredState.SUSPENDED)


def _resume(options: argparse.Namespace) -> int:
    return _want(options, DesiredState.RUNNING)


def _want(options: argparse.Namespace, desired: DesiredState) -> int:
    kind, name = _named(options.run)
    cluster, namespace = _cluster(options)
    cluster.merge(kind, namespace, name, {"spec": {"desiredState": desired.value}})
    console.out.print(f"{options.run}: desiredState is {desired.value}", markup=False)
    return 0


def _logs(options: argparse.Namespace) -> int:
    from scheduler.cluster import Kind
    from scheduler.objects import run_selector

    kind, name = _named(options.run)
    cluster, namespace = _cluster(options)
    uid = cluster.get(kind, namespace, name)["metadata"]["uid"]
    pods = cluster.list(Kind.POD, namespace, selector=run_selector(uid)).items
    if not pods:
        console.err.print(f"{options.run}: no worker pod is there.", markup=False)
    for pod in pods:
        own = pod["metadata"]["name"]
        try:
            lines = cluster.log_of(namespace, own, lines=50)
        except MlhoError as error:
            lines = f"{error}\n"
        print(f"--- {own}\n{lines}", end="")  # noqa: T201 - the command's output
    return 0


def add_operate(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command ``operate``."""
    parser = commands.add_parser(
        "operate", parents=[common], help="carry out the runs of a Kubernetes cluster; what the chart starts"
    )
    parser.add_argument("--config", type=Path, required=True, help="the configuration that the chart writes")
    parser.add_argument("--port", type=int, default=8080, help="of /healthz, /readyz and /metrics")
    parser.add_argument(
        "--kubeconfig", type=Path, help="to run it outside of the cluster (default: the pod's own account)"
    )
    parser.set_defaults(command=_operate)


def _operate(options: argparse.Namespace) -> int:
    from scheduler.operate import operate  # brings the kubernetes client, which takes its time

    return operate(options)
