"""Parts of the operator that need no cluster: leader election, informer cache, Events and health."""

import datetime as dt
import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from mlho.errors import SpecError
from mlho.settings import Settings
from scheduler.api.client import ClusterError, ClusterUnavailable, Conflict, Kind, Listed
from scheduler.api.status import ConditionType
from scheduler.controller import checks, controller, informer
from scheduler.controller.conditions import EventReason, RunEvent
from scheduler.controller.event_recorder import EventRecorder, event_object
from scheduler.controller.informer import Cache, Watcher
from scheduler.controller.observation import RunProgress
from scheduler.controller.run_thread import Backend
from scheduler.engine.progress import StageProgress
from scheduler.replica import leader_election
from scheduler.replica.health import Health, serve_health
from scheduler.replica.leader_election import GIVE_UP_SECONDS, LEASE_SECONDS, LeaderElector
from tests.limits import GUARD_SECONDS
from tests.unit.scheduler.in_memory import RUN, OneCluster, leading, resource, wait_until

NOW = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)


class OneLease:
    """An in-memory Lease; ``rival``, if set, is written before the next write."""

    def __init__(self) -> None:
        self.found: dict[str, Any] | None = None
        self.versions = itertools.count(1)
        self.rival: Mapping[str, Any] | None = None

    def read(self) -> dict[str, Any] | None:
        """Return the Lease."""
        return self.found

    def write(self, spec: Mapping[str, Any], found: dict[str, Any] | None) -> bool:
        """Write the Lease if it has not changed since it was read."""
        if self.rival is not None:
            self.found, self.rival = {"spec": dict(self.rival), "version": next(self.versions)}, None
        if found is not self.found:
            return False
        self.found = {"spec": dict(spec), "version": next(self.versions)}
        return True


class Clock:
    """A clock that moves only when a test sets it."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


def elector(door: OneLease, name: str, clock: Clock) -> LeaderElector:
    """Return the elector of one replica."""
    return LeaderElector(door, name, clock=clock, now=lambda: NOW + dt.timedelta(seconds=clock.seconds))


def test_a_replica_takes_over_when_the_leader_stops_renewing():
    """A second replica leads only after the Lease has not changed for its whole duration by the replica's own clock."""
    door, clock = OneLease(), Clock()
    first, second = elector(door, "a", clock), elector(door, "b", clock)

    assert first.try_once()
    assert not second.try_once()
    clock.seconds += LEASE_SECONDS - 1
    assert first.try_once()
    clock.seconds += LEASE_SECONDS - 1
    assert not second.try_once()
    clock.seconds += LEASE_SECONDS
    assert second.try_once()
    assert door.found is not None
    assert door.found["spec"]["leaseTransitions"] == 2


def test_a_leader_that_cannot_renew_gives_up_before_another_may_take_over():
    """A leader that cannot renew its Lease stops leading before another may take over. The time counts from its last successful request."""
    door, clock = OneLease(), Clock()
    first = elector(door, "a", clock)
    first.try_once()

    clock.seconds += GIVE_UP_SECONDS - 0.1
    assert first.is_leading
    clock.seconds += 0.2
    assert not first.is_leading
    assert GIVE_UP_SECONDS < LEASE_SECONDS


def test_one_of_two_concurrent_replicas_leads():
    """If two replicas write the Lease at the same time, the API server rejects the second write, and one replica leads."""
    door, clock = OneLease(), Clock()
    door.rival = {"holderIdentity": "b", "leaseDurationSeconds": LEASE_SECONDS}

    assert not elector(door, "a", clock).try_once()


def test_a_lease_that_was_released_is_free_at_once():
    """A released Lease can be acquired at once, without waiting for its expiry."""
    door, clock = OneLease(), Clock()
    first, second = elector(door, "a", clock), elector(door, "b", clock)
    first.try_once()
    assert not second.try_once()

    first.release()

    assert second.try_once()


def test_a_renewal_does_not_take_back_a_released_lease():
    """A renewal that waits for the API server during the release does not acquire the free Lease: this process is about to exit."""
    door, clock = OneLease(), Clock()
    leader = elector(door, "a", clock)
    leader.try_once()

    leader.release()

    assert not leader.try_once()
    assert door.found is not None
    assert door.found["spec"]["holderIdentity"] == ""


class HungLease(OneLease):
    """A Lease whose API server stops answering after the first renewal."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.ended = threading.Event()
        self.has_answered = False

    def read(self) -> dict[str, Any] | None:
        """Return the Lease; later, wait while the time passes."""
        if self.found is not None:
            self.clock.seconds += GIVE_UP_SECONDS
            self.ended.wait(GUARD_SECONDS)
            self.has_answered = True
        return super().read()


def test_a_request_without_an_answer_does_not_delay_the_end_of_a_leader(monkeypatch: pytest.MonkeyPatch):
    """A leader whose renewal hangs stops leading in time, although the request is still open."""
    monkeypatch.setattr(leader_election, "RENEW_SECONDS", 0.01)
    clock = Clock()
    door = HungLease(clock)
    leader = elector(door, "a", clock)
    leader.try_once()

    assert not leader.lead(threading.Event())
    assert not door.has_answered
    door.ended.set()


class FaultyCluster:
    """A cluster of which one list has an object that the client cannot read."""

    def __init__(self) -> None:
        self.n_lists = 0
        self.ended = threading.Event()

    def list(self, kind: Kind, namespace: str, *, selector: str = "") -> Listed:
        """Return an invalid list first, then an empty one."""
        self.n_lists += 1
        return Listed(({"metadata": {}},) if self.n_lists == 1 else (), "1")

    def watch(self, *_: Any, **__: Any) -> Iterator[tuple[str, Any]]:
        """Yield nothing."""
        self.ended.wait(GUARD_SECONDS)
        yield from ()


def test_an_informer_survives_an_object_that_it_cannot_read(monkeypatch: pytest.MonkeyPatch):
    """After an unexpected error an informer lists again. Without it, the operator would see no further change, and say nothing."""
    monkeypatch.setattr(informer, "_PAUSES", (0.01,))
    cluster = FaultyCluster()
    watcher = Watcher(cluster, Kind.JOB, "ehr", Cache(lambda old, new: None))  # type: ignore[arg-type]

    watcher.start()

    assert watcher.synced.wait(GUARD_SECONDS)
    watcher.stop()
    cluster.ended.set()


def thing(uid: str, version: int, namespace: str = "ehr") -> dict[str, Any]:
    """Return an object as a watch delivers it."""
    return {"metadata": {"uid": uid, "resourceVersion": str(version), "namespace": namespace}}


def test_a_cache_ignores_older_versions():
    """The cache ignores an older or equal version, because a response and a watch may arrive in any order."""
    seen: list[tuple[Any, Any]] = []
    cache = Cache(lambda old, new: seen.append((old, new)))

    for version in (2, 3, 2, 3):
        cache.put(thing("a", version))

    assert cache.get("a") == thing("a", 3)
    assert seen == [(None, thing("a", 2)), (thing("a", 2), thing("a", 3))]


def test_a_list_removes_missing_objects_of_its_namespace_only():
    """A list removes missing objects of its own namespace only, because each namespace is listed separately."""
    cache = Cache(lambda old, new: None)
    for obj in (thing("a", 1), thing("b", 1), thing("c", 1, "other")):
        cache.put(obj)

    cache.replace({"b": thing("b", 4)}, version=5, namespace="ehr")

    assert sorted(obj["metadata"]["uid"] for obj in cache.all()) == ["b", "c"]


def test_a_list_of_one_kind_of_runs_keeps_the_other():
    """Both kinds of runs share a cache. A list of the scoring runs does not remove the training runs."""
    cache = Cache(lambda old, new: None)
    cache.put({"kind": "TrainingRun", **thing("a", 1)})
    cache.put({"kind": "ScoringRun", **thing("b", 1)})

    cache.replace({}, version=5, namespace="ehr", kind="ScoringRun")

    assert [obj["metadata"]["uid"] for obj in cache.all()] == ["a"]


def test_a_list_keeps_an_object_that_was_created_after_it():
    """A Job that is created while a list is under way stays in the cache. Without it, the operator would create a second one."""
    cache = Cache(lambda old, new: None)
    cache.put(thing("new", 8))

    cache.replace({}, version=7, namespace="ehr")

    assert cache.get("new") == thing("new", 8)


def test_a_late_response_does_not_bring_back_a_deleted_object():
    """The response to a status write can arrive after the object's deletion. The run of a deleted resource must not start again."""
    cache = Cache(lambda old, new: None)
    cache.put(thing("a", 1))
    cache.remove(thing("a", 3))

    cache.put(thing("a", 2))

    assert cache.get("a") is None


def test_a_list_brings_back_an_object_that_an_earlier_list_lacked():
    """A list is complete: an object that an earlier, wrong list lacked is in the cache again."""
    cache = Cache(lambda old, new: None)
    cache.put(thing("a", 1))
    cache.replace({}, version=2, namespace="ehr")

    cache.replace({"a": thing("a", 1)}, version=3, namespace="ehr")

    assert cache.get("a") == thing("a", 1)


def test_an_event_names_its_run_and_its_reason():
    """An Event has the type, reason and uid of its run. Its message is cut to 1,000 characters, and its name is valid for a
    run's name of any length.
    """
    obj = {
        "apiVersion": "mlho.io/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "a" * 253, "namespace": "ehr", "uid": "u"},
    }

    event = event_object(obj, RunEvent(EventReason.FAILED, "x" * 5000, is_warning=True), "pod-1", NOW)

    assert (event["type"], event["reason"], len(event["message"])) == ("Warning", "Failed", 1000)
    assert event["involvedObject"]["uid"] == "u"
    assert len(event["metadata"]["name"]) <= 253


@pytest.mark.parametrize(
    ("answers", "n_requests", "n_recorded"),
    [
        ([None], 1, 1),
        ([ClusterUnavailable("no answer"), ClusterUnavailable("no answer"), None], 3, 1),
        ([ClusterUnavailable("the reply is lost"), Conflict("it exists")], 2, 1),
        ([ClusterUnavailable("no answer")] * 4, 3, 0),
        ([ClusterError("forbidden"), None], 1, 0),
    ],
    ids=["served", "served later", "reply lost", "never served", "refused"],
)
def test_a_request_for_an_event_is_repeated_twice(monkeypatch, answers, n_requests, n_recorded):
    """A transient error of the API server loses no Event. One that lasts, or a refusal, delays the run by seconds at most."""
    obj = {
        "apiVersion": "mlho.io/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "a", "namespace": "b", "uid": "u"},
    }
    names = []

    def create(_kind, event):
        names.append(event["metadata"]["name"])
        if (error := answers[len(names) - 1]) is not None:
            raise error

    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    recorder = EventRecorder(SimpleNamespace(create=create), "pod-1")
    recorder.record(obj, RunEvent(EventReason.FAILED, "x", is_warning=True))

    assert (len(names), len(set(names)), recorder.n_recorded) == (n_requests, 1, n_recorded)


@pytest.mark.parametrize(("is_well", "status"), [(True, 200), (False, 503)])
def test_health_is_served_over_http(is_well: bool, status: int):
    """The health server answers readiness probes by status code and serves metrics to Prometheus."""
    server = serve_health(
        Health(lambda: True, lambda: is_well, lambda: {"mlho_scheduler_runs": {"Running": 2}}), port=0
    )
    address = f"http://127.0.0.1:{server.server_address[1]}"

    with urlopen(f"{address}/metrics") as answer:
        assert answer.read().splitlines()[-1] == b'mlho_scheduler_runs{phase="Running"} 2.0'
    try:
        with urlopen(f"{address}/readyz") as answer:
            found = answer.status
    except HTTPError as error:
        found = error.code
        error.close()
    server.shutdown()
    server.server_close()

    assert found == status


class Patience:
    """How long checks wait for the store until the status shows it: for as long as the test says, however slow the machine is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch.setattr
        self._patch(checks, "_PATIENCE_SECONDS", GUARD_SECONDS)
        self._patch(controller, "_RESYNC_SECONDS", 0.1)

    def end(self) -> None:
        """Show from the next pass on that the store does not answer."""
        self._patch(checks, "_PATIENCE_SECONDS", 0.0)


class SilentBackend(Backend):
    """A backend whose store does not answer until it is released."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), Settings(broker="redis://127.0.0.1:1/0", signing_key=b"k" * 32))
        self.answers = threading.Event()

    def prepare(self, spec: Any) -> Any:
        """Wait for the release, then report an invalid specification."""
        self.answers.wait(GUARD_SECONDS)
        raise SpecError("data.uri: of another kind. Give a folder.")


def test_a_run_with_a_silent_store_shows_it_until_the_check_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """While the store does not answer, the run's status says so. The result of the check then replaces that reason."""
    patience = Patience(monkeypatch)
    monkeypatch.setattr(controller, "STATUS_SECONDS", 0.1)
    backend, cluster = SilentBackend(tmp_path), OneCluster(resource("new", is_accepted=False))

    def reasons() -> list[str]:
        return [status["conditions"][0]["reason"] for status in cluster.statuses]

    with leading(cluster, backend):
        wait_until(lambda: reasons() == ["NotChecked"])
        patience.end()
        wait_until(lambda: reasons() == ["NotChecked", "StoreUnavailable"])
        backend.answers.set()
        wait_until(lambda: reasons() == ["NotChecked", "StoreUnavailable", "InvalidSpec"])


def test_all_runs_that_wait_for_a_silent_store_show_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every run that waits for a silent store has this reason in its status, including runs for which no check thread is free."""
    patience, backend = Patience(monkeypatch), SilentBackend(tmp_path)
    cluster = OneCluster(*(resource(f"run-{number}", is_accepted=False) for number in range(20)))

    with leading(cluster, backend):
        wait_until(lambda: len(cluster.statuses) == 20)
        patience.end()
        wait_until(lambda: len(cluster.statuses) >= 40)
        backend.answers.set()

    reasons = [status["conditions"][0]["reason"] for status in cluster.statuses[:40]]
    assert reasons == ["NotChecked"] * 20 + ["StoreUnavailable"] * 20


def test_a_resource_that_has_outlived_its_end_is_deleted(tmp_path: Path):
    """A resource whose TTL after its end is over is deleted, and its run stays in the store."""
    ended = resource("old", is_accepted=True)
    ended["spec"]["ttlSecondsAfterFinished"] = 60
    moment = {"lastTransitionTime": "2026-01-01T12:00:00Z", "reason": "Succeeded", "observedGeneration": 1}
    ended["status"] |= {
        "phase": "Succeeded",
        "finishedAt": "2026-01-01T12:00:00Z",
        "conditions": [{"type": "Succeeded", "status": "True", **moment}],
    }
    kept = tmp_path / "runs" / "0123456789abcdef" / "result.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    cluster = OneCluster(ended)

    with leading(cluster, SilentBackend(tmp_path)):
        wait_until(lambda: bool(cluster.deletions))

    assert cluster.deletions == [(Kind.TRAINING_RUN, "ehr", "old")]
    assert cluster.statuses == []
    assert kept.read_text() == "{}"


class LastTaskThread:
    """The thread of a run that ends while the scheduler waits for it to stop."""

    started = threading.Event()

    def __init__(self, _backend: Backend, prepared: Any, *_: Any, **__: Any) -> None:
        self.run_id = prepared.run_id
        self.progress = RunProgress(execution=f"{RUN}-1", stages=(StageProgress("learn", 2, 2),))
        self.is_alive = True

    @property
    def has_ended(self) -> bool:
        """Return whether the run has ended."""
        return self.progress.end is not None

    def start(self) -> None:
        """Start the run."""
        self.started.set()

    def stop(self) -> None:
        """Request a stop, which is too late because the last task is done."""

    def join(self, _seconds: float) -> bool:
        """Wait for the end of the run."""
        self.progress = replace(self.progress, end=ConditionType.SUCCEEDED, end_reason="Succeeded")
        self.is_alive = False
        return True

    def snapshot(self) -> RunProgress:
        """Return the progress."""
        return self.progress


def test_a_run_that_ends_while_the_scheduler_stops_has_ended_in_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run that ends while the scheduler stops is Succeeded in its status. Otherwise the next leader would open a second execution."""
    found = resource("late", is_accepted=True)
    found["spec"]["desiredState"] = "Running"
    cluster, backend = OneCluster(found), ReadyBackend(tmp_path)
    monkeypatch.setattr(controller, "RunThread", LastTaskThread)

    with leading(cluster, backend):
        assert LastTaskThread.started.wait(GUARD_SECONDS)

    assert cluster.statuses[-1]["phase"] == "Succeeded"
    assert cluster.statuses[-1]["execution"] == f"{RUN}-1"


class SilentStoreThread(LastTaskThread):
    """The thread of a run that waits for a store that does not answer."""

    started = threading.Event()
    waits: ClassVar[list[float]] = []

    def join(self, seconds: float) -> bool:
        """Note the time that is left."""
        self.waits.append(seconds)
        return False


def test_all_waits_of_a_scheduler_that_stops_share_one_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A pod is killed 30 s after SIGTERM, and has to release its Lease before: two waits of 20 s are too many."""
    found = resource("silent", is_accepted=True)
    found["spec"]["desiredState"] = "Running"
    monkeypatch.setattr(controller, "RunThread", SilentStoreThread)
    monkeypatch.setattr(controller, "_STOP_SECONDS", 0.2)
    has_stopped = threading.Event()
    blocked = threading.Thread(target=has_stopped.wait, args=[GUARD_SECONDS])

    with leading(OneCluster(found), ReadyBackend(tmp_path)) as operator:
        assert SilentStoreThread.started.wait(GUARD_SECONDS)
        blocked.start()
        operator._thread, thread = blocked, operator._thread
    has_stopped.set()
    for waited_for in (blocked, thread):
        waited_for.join(GUARD_SECONDS)

    assert SilentStoreThread.waits == [0.0]


class StartingThread(LastTaskThread):
    """The thread of a run that has not opened its execution."""

    started = threading.Event()
    cancelled = threading.Event()

    def __init__(self, _backend: Backend, prepared: Any, *_: Any, **__: Any) -> None:
        super().__init__(_backend, prepared)
        self.progress = RunProgress()

    def cancel(self) -> None:
        """Cancel the run."""
        self.cancelled.set()


@pytest.mark.parametrize("way", ["deleted", "cancelled"])
def test_a_run_that_is_about_to_begin_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str):
    """A run that is deleted or cancelled before it has an execution is cancelled in its thread: no flag in the store can stop it yet."""
    found = resource("new", is_accepted=True)
    found["spec"]["desiredState"] = "Running"
    cluster, backend = OneCluster(found), ReadyBackend(tmp_path)
    monkeypatch.setattr(controller, "RunThread", StartingThread)
    StartingThread.started.clear()
    StartingThread.cancelled.clear()

    with leading(cluster, backend):
        assert StartingThread.started.wait(GUARD_SECONDS)
        if way == "deleted":
            cluster.deleted.set()
        else:
            metadata = found["metadata"] | {"generation": 2, "resourceVersion": "1000"}
            spec = found["spec"] | {"desiredState": "Cancelled"}
            cluster.changes.append({**found, "metadata": metadata, "spec": spec})
        assert StartingThread.cancelled.wait(GUARD_SECONDS)


class ReadyBackend(Backend):
    """A backend whose store has everything that a run needs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), Settings(broker="redis://127.0.0.1:1/0", signing_key=b"k" * 32))

    def prepare(self, spec: Any) -> Any:
        """Return a run that can start."""
        return SimpleNamespace(run_id=RUN, manifest=SimpleNamespace(left_out={}))
