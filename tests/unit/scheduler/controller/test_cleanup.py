"""The run of a deleted resource is cancelled, even by a scheduler that never saw the resource."""

import json
import threading
import time
from pathlib import Path
from typing import Any, Final

import pytest

from mlho.protocol.documents import Execution, State, cancel_key, execution_key
from mlho.settings import Settings
from mlho.store.base import Store
from scheduler.api.client import ClusterError, Kind, Listed, NotFound
from scheduler.controller import informer
from scheduler.controller.cleanup import Cleaner
from scheduler.controller.run_thread import Backend
from tests.limits import GUARD_SECONDS
from tests.unit.scheduler.in_memory import RUN, OneCluster, leading, resource, wait_until

OWNER: Final = "ehr.mlho-scheduler"
NOWHERE: Final = "redis://127.0.0.1:1/0"  # only the last step of a cancellation needs Redis


def backend_in(folder: Path) -> Backend:
    """Return a backend with a store in this folder."""
    return Backend(str(folder), Settings(broker=NOWHERE, signing_key=b"k" * 32))


def note(store: Store, uid: str, run_id: str = RUN) -> None:
    """Write the note of a former leader that this resource's run is in progress."""
    store.put_if_absent(f"operator/runs/{OWNER}/{uid}", json.dumps({"run": run_id}).encode())


def notes(store: Store) -> list[str]:
    """Return the uids of the noted resources."""
    return [key.rsplit("/", 1)[1] for key in store.keys("operator/runs/")]


def execution(store: Store, state: State) -> Execution:
    """Write the run's execution as a former leader left it, and return it."""
    execution = Execution(run=RUN, number=1, state=state, data="s3://ehr/cohort/")
    store.compare_and_swap(execution_key(RUN), execution.to_bytes(), expected=None)
    return execution


def test_a_note_is_written_read_and_forgotten(tmp_path: Path):
    """Notes are kept by release, so that another release on the same store has separate notes."""
    backend = backend_in(tmp_path)
    cleaner, other = Cleaner(backend, OWNER), Cleaner(backend, "other.mlho-scheduler")
    cleaner.note("a", RUN)
    other.note("b", RUN)
    found: list[Any] = []

    cleaner.find(found.append)
    wait_until(lambda: bool(found))
    cleaner.forget("a")
    wait_until(lambda: notes(backend.store()) == ["b"])

    assert found == [{"a": RUN}]


@pytest.mark.parametrize("content", [b"{}", b"[]", b"{"])
def test_a_note_of_another_form_does_not_hide_the_others(tmp_path: Path, content: bytes):
    """A note that this version cannot read is left out, and the runs of deleted resources are still cancelled."""
    backend = backend_in(tmp_path)
    backend.store().put_if_absent(f"operator/runs/{OWNER}/odd", content)
    cleaner = Cleaner(backend, OWNER)
    cleaner.note("a", RUN)
    found: list[Any] = []

    cleaner.find(found.append)
    wait_until(lambda: bool(found))

    assert found == [{"a": RUN}]


def test_a_cancellation_without_redis_is_finished_later(tmp_path: Path):
    """A cancellation while Redis is unavailable leaves the cancel flag and the note, so that the next scheduler can finish it."""
    backend = backend_in(tmp_path)
    store, cleaner = backend.store(), Cleaner(backend, OWNER)
    open_one = execution(store, State.OPEN)
    cleaner.note("a", RUN)
    flagged = threading.Event()

    cleaner.cancel("a", RUN, flagged=flagged.set)
    assert flagged.wait(GUARD_SECONDS)
    cleaner.stop()

    assert store.exists(cancel_key(open_one))
    assert notes(store) == ["a"]


def test_a_resource_deleted_before_a_takeover_is_cancelled(tmp_path: Path):
    """The run of a resource that was deleted before this scheduler became leader is cancelled, because its note remains."""
    backend = backend_in(tmp_path)
    left = execution(backend.store(), State.OPEN)
    note(backend.store(), "gone")

    with leading(OneCluster(), backend):
        wait_until(lambda: backend.store().exists(cancel_key(left)))


class ReplacedDefinition(OneCluster):
    """A cluster that does not serve training runs until the upgrade of their CRD ends."""

    def __init__(self, *runs: dict[str, Any]) -> None:
        super().__init__(*runs)
        self.asked = threading.Event()
        self.is_upgraded = threading.Event()

    def list(self, kind: Kind, namespace: str, *, selector: str = "") -> Listed:
        """Return 404 for a kind that is not served, as the API server does."""
        if kind is Kind.TRAINING_RUN and not self.is_upgraded.is_set():
            self.asked.set()
            raise NotFound("the server could not find the requested resource", status=404)
        return super().list(kind, namespace, selector=selector)


def test_a_run_is_not_cancelled_while_its_definition_is_replaced(tmp_path: Path):
    """While the CRD is replaced and its kind is not served, no run is cancelled: a 404 is not an empty list."""
    backend = backend_in(tmp_path)
    left = execution(backend.store(), State.OPEN)
    note(backend.store(), "asleep")
    cluster = ReplacedDefinition(resource("asleep", is_accepted=True))

    with leading(cluster, backend):
        assert cluster.asked.wait(GUARD_SECONDS)
        time.sleep(1)
        assert not backend.store().exists(cancel_key(left))
        cluster.is_upgraded.set()
        time.sleep(1)

    assert not backend.store().exists(cancel_key(left))
    assert notes(backend.store()) == ["asleep"]


class WithoutRight(OneCluster):
    """A cluster in which the scheduler may not read some kinds or namespaces, until it gets the right."""

    def __init__(self, *runs: dict[str, Any], namespace: str = "", kind: Kind | None = None) -> None:
        super().__init__(*runs)
        self.namespace, self.kind = namespace, kind
        self.has_right = threading.Event()

    def list(self, kind: Kind, namespace: str, *, selector: str = "") -> Listed:
        """Return the objects of a namespace, or 403 without the right."""
        if (namespace == self.namespace or kind is self.kind) and not self.has_right.is_set():
            raise ClusterError(f"{kind.value[1]} is forbidden in the namespace {namespace}", status=403)
        items = super().list(kind, namespace, selector=selector).items
        return Listed(tuple(obj for obj in items if obj["metadata"]["namespace"] == namespace), "1")


def test_a_namespace_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The role of a deleted namespace is gone with it. The runs of other namespaces are carried out, no run of this one is cancelled, and
    the refusals are counted. With the right, its runs are carried out.
    """
    monkeypatch.setattr(informer, "_PAUSES", (0.05,))
    backend = backend_in(tmp_path)
    left = execution(backend.store(), State.OPEN)
    note(backend.store(), "theirs")
    theirs = resource("theirs", is_accepted=True)
    theirs["metadata"]["namespace"] = "other"
    cluster = WithoutRight(resource("ours", is_accepted=False), theirs, namespace="other")

    with leading(cluster, backend, ("ehr", "other")) as operator:
        wait_until(lambda: bool(cluster.statuses))
        assert operator.is_ready
        refusals = operator.figures()["mlho_scheduler_api_errors_total"]
        assert isinstance(refusals, int)
        assert refusals > 0
        time.sleep(1)
        assert notes(backend.store()) == ["theirs"]
        assert all(status.get("runId") != RUN for status in cluster.statuses)
        cluster.has_right.set()
        wait_until(lambda: any(status.get("runId") == RUN for status in cluster.statuses))

    assert not backend.store().exists(cancel_key(left))


def test_a_scheduler_that_can_read_no_namespace_is_not_ready(tmp_path: Path):
    """Without any right, a scheduler is not ready, so that a rollout of a wrong role does not replace the last one that works."""
    cluster = WithoutRight(resource("ours", is_accepted=False), namespace="ehr")

    with leading(cluster, backend_in(tmp_path)) as operator:
        wait_until(lambda: operator.figures()["mlho_scheduler_api_errors_total"] != 0)
        time.sleep(0.5)
        assert not operator.is_ready


def test_runs_are_carried_out_without_the_right_to_read_workloads(tmp_path: Path):
    """Kueue's Workloads only give the reason why a run waits: without the right to read them, runs are carried out as without Kueue."""
    cluster = WithoutRight(resource("ours", is_accepted=False), kind=Kind.WORKLOAD)

    with leading(cluster, backend_in(tmp_path), kueue=True):
        wait_until(lambda: bool(cluster.statuses))


def test_a_resource_deleted_later_is_cancelled_by_a_new_leader(tmp_path: Path):
    """A suspended run of a former leader is cancelled when its resource is deleted, although the new leader has only read its note."""
    backend = backend_in(tmp_path)
    left = execution(backend.store(), State.OPEN)
    note(backend.store(), "asleep")
    cluster = OneCluster(resource("asleep", is_accepted=True))

    with leading(cluster, backend):
        time.sleep(1)
        assert not backend.store().exists(cancel_key(left))
        cluster.deleted.set()
        wait_until(lambda: backend.store().exists(cancel_key(left)))


def test_a_run_that_another_resource_asks_for_is_handed_over(tmp_path: Path):
    """If another resource asks for the same run, deleting the first resource removes its note and does not cancel the run."""
    backend = backend_in(tmp_path)
    left = execution(backend.store(), State.OPEN)
    for uid in ("gone", "heir"):
        note(backend.store(), uid)

    with leading(OneCluster(resource("heir", is_accepted=True)), backend):
        wait_until(lambda: notes(backend.store()) == ["heir"])

    assert not backend.store().exists(cancel_key(left))


def test_the_note_of_a_run_that_has_ended_is_forgotten(tmp_path: Path):
    """The note of a finished run is deleted without a cancellation, for example if its scheduler was killed before it could do so."""
    backend = backend_in(tmp_path)
    left = execution(backend.store(), State.FINISHED)
    note(backend.store(), "gone")

    with leading(OneCluster(), backend):
        wait_until(lambda: not notes(backend.store()))

    assert not backend.store().exists(cancel_key(left))
