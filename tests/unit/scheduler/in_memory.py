"""A cluster in memory, and a scheduler that leads in it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from scheduler.api.client import Kind, Listed
from scheduler.api.config import ClusterConfig
from scheduler.controller.controller import Operator
from scheduler.controller.run_thread import Backend

RUN: Final = "0123456789abcdef"


def resource(uid: str, *, is_accepted: bool) -> dict[str, Any]:
    """A suspended run in the cluster, which a former leader has accepted or nobody has looked at yet."""
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
    """A cluster in memory: what there is, and a watch that tells what is deleted."""

    def __init__(self, *runs: dict[str, Any]) -> None:
        self.runs = runs
        self.deleted = threading.Event()
        self.ended = threading.Event()
        self.statuses: list[dict[str, Any]] = []
        self.deletions: list[tuple[Kind, str, str]] = []

    def list(self, kind: Kind, namespace: str, *, selector: str = "") -> Listed:
        """The runs; no worker has ever been there."""
        return Listed(self.runs if kind is Kind.TRAINING_RUN and not self.deleted.is_set() else (), "1")

    def watch(
        self, kind: Kind, namespace: str, version: str, *, selector: str = ""
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The deletion of all runs, once it happens."""
        while not (self.deleted.is_set() or self.ended.is_set()):
            self.deleted.wait(0.02)
        if kind is Kind.TRAINING_RUN and not self.ended.is_set():
            yield from (("DELETED", own) for own in self.runs)
        self.ended.wait()

    def apply(self, kind: Kind, obj: dict[str, Any], *, part: str = "") -> dict[str, Any]:
        """Take a status in."""
        self.statuses.append(obj["status"])
        run = next(own for own in self.runs if own["metadata"]["uid"] == obj["metadata"]["uid"])
        version = str(1 + len(self.statuses))
        return {**run, **obj, "metadata": {**run["metadata"], "resourceVersion": version}}

    def delete(self, kind: Kind, namespace: str, name: str, *, found: dict[str, Any]) -> None:
        """Take out the only run that there is."""
        assert found["metadata"]["resourceVersion"]
        self.deletions.append((kind, namespace, name))
        self.deleted.set()

    def create(self, kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
        """Take an Event in."""
        return obj


@contextmanager
def leading(cluster: OneCluster, backend: Backend) -> Iterator[None]:
    """A scheduler that has just taken over."""
    worker = {"image": "localhost/worker:1"}
    config = ClusterConfig.model_validate(
        {"watchNamespaces": ["ehr"], "namespace": "ehr", "store": backend.store_address, "worker": worker}
    )
    operator = Operator(cluster, config, backend, identity="b")  # type: ignore[arg-type]  # as much of it as is needed
    operator.start()
    try:
        yield
    finally:
        cluster.ended.set()
        operator.stop()


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for at most a minute: a busy machine is slow."""
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)
