"""An in-memory cluster and a leading scheduler."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from scheduler.api.client import Kind, Listed
from scheduler.api.config import ClusterConfig
from scheduler.controller.controller import Operator
from scheduler.controller.run_thread import Backend
from tests.limits import GUARD_SECONDS

RUN: Final = "0123456789abcdef"


def resource(uid: str, *, is_accepted: bool) -> dict[str, Any]:
    """Return a suspended run, which a former leader has accepted or which was never checked."""
    accepted = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "observedGeneration": 1,
    }
    moment = {"lastTransitionTime": "2026-11-24T12:00:00Z"}
    status = {"phase": "Suspended", "runId": RUN, "conditions": [{**accepted, **moment}]}
    return {
        "apiVersion": "mlho.io/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": uid, "namespace": "ehr", "uid": uid, "generation": 1, "resourceVersion": "1"},
        "spec": {
            "data": {"uri": "/nowhere", "tables": {"events": "events/", "labels": "labels.parquet"}},
            "cohort": {"index": {"date": "2026-01-01"}},
            "desiredState": "Suspended",
        },
        "status": status if is_accepted else {},
    }


class OneCluster:
    """An in-memory cluster with a list of runs and a watch that reports ``changes`` and their deletion."""

    def __init__(self, *runs: dict[str, Any]) -> None:
        self.runs = runs
        self.changes: list[dict[str, Any]] = []
        self.deleted = threading.Event()
        self.ended = threading.Event()
        self.statuses: list[dict[str, Any]] = []
        self.deletions: list[tuple[Kind, str, str]] = []

    def list(self, kind: Kind, namespace: str, *, selector: str = "") -> Listed:
        """Return the runs. The cluster has no workers."""
        return Listed(self.runs if kind is Kind.TRAINING_RUN and not self.deleted.is_set() else (), "1")

    def watch(
        self, kind: Kind, namespace: str, version: str, *, selector: str = ""
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the changes, and the deletion of all runs once it happens."""
        while not (self.deleted.is_set() or self.ended.is_set()):
            while kind is Kind.TRAINING_RUN and self.changes:
                yield "MODIFIED", self.changes.pop(0)
            self.deleted.wait(0.02)
        if kind is Kind.TRAINING_RUN and not self.ended.is_set():
            yield from (("DELETED", run) for run in self.runs)
        self.ended.wait()

    def apply(self, kind: Kind, obj: dict[str, Any], *, part: str = "") -> dict[str, Any]:
        """Record a status."""
        self.statuses.append(obj["status"])
        run = next(
            candidate for candidate in self.runs if candidate["metadata"]["uid"] == obj["metadata"]["uid"]
        )
        version = str(1 + len(self.statuses))
        return {**run, **obj, "metadata": {**run["metadata"], "resourceVersion": version}}

    def delete(self, kind: Kind, namespace: str, name: str, *, found: dict[str, Any]) -> None:
        """Delete the only run."""
        assert found["metadata"]["resourceVersion"]
        self.deletions.append((kind, namespace, name))
        self.deleted.set()

    def create(self, kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
        """Accept an Event."""
        return obj


@contextmanager
def leading(
    cluster: OneCluster, backend: Backend, namespaces: Sequence[str] = ("ehr",), *, kueue: bool = False
) -> Iterator[Operator]:
    """Start a scheduler that has just become leader, and stop it at the end."""
    worker = {"image": "localhost/worker:1"}
    config = ClusterConfig.model_validate(
        {
            "watchNamespaces": list(namespaces),
            "namespace": "ehr",
            "store": backend.store_address,
            "kueueEnabled": kueue,
            "worker": worker,
        }
    )
    operator = Operator(cluster, config, backend, identity="b")  # type: ignore[arg-type]  # as much of it as is needed
    operator.start()
    try:
        yield operator
    finally:
        cluster.ended.set()
        operator.stop()


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until the condition holds, for at most a minute, because a busy machine is slow."""
    until = time.monotonic() + GUARD_SECONDS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)
