"""The status of a ModelChannel shows the state of the channel in the store."""

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from mlho.errors import StoreOutage
from mlho.store.keys import channel_key
from mlho.store.memory import MemoryStore
from scheduler.api.client import ClusterError, Kind, Listed
from scheduler.api.config import ClusterConfig
from scheduler.channels import reporter
from scheduler.channels.reporter import ChannelReporter
from scheduler.registry.gates import GateFailed
from scheduler.registry.promotion import promote, roll_back
from scheduler.runs.channels import read_channel
from scheduler.runs.stored import find_run, stored_runs
from tests.unit.scheduler.runs.planted import GATES, author, passed, plant_run, promoted

A, B, C = "a" * 16, "b" * 16, "c" * 16
LATER = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)


class Channels:
    """An in-memory cluster with ModelChannels, a store, and the reporter that writes the channels' state into their status."""

    def __init__(self, *names: str, **config: Any) -> None:
        self.objects = {name: channel_object(name) for name in names}
        self.store = MemoryStore()
        self.n_writes = 0
        self.outage: Exception | None = None
        for run in (A, B):
            plant_run(self.store, run)
        plant_run(self.store, C, gates=GATES)
        worker = {"image": "localhost/worker:1"}
        document = {"watchNamespaces": ["ehr"], "namespace": "ehr", "store": "s3://mlho", "worker": worker}
        backend = SimpleNamespace(store=self.opened, data_of=lambda run: "s3://ehr/ward-a/")
        self.reporter = ChannelReporter(
            self,  # type: ignore[arg-type]  # as much of a cluster as is needed
            ClusterConfig.model_validate({**document, **config}),
            backend,  # type: ignore[arg-type]  # as above
            now=lambda: LATER,
        )

    def opened(self) -> MemoryStore:
        if self.outage is not None:
            raise self.outage
        return self.store

    def list(self, kind: Kind, namespace: str) -> Listed:
        assert (kind, namespace) == (Kind.MODEL_CHANNEL, "ehr")
        return Listed(tuple(self.objects.values()), "1")

    def apply(self, kind: Kind, obj: dict[str, Any], *, part: str) -> None:
        assert (kind, part) == (Kind.MODEL_CHANNEL, "status")
        self.objects[obj["metadata"]["name"]]["status"] = obj["status"]
        self.n_writes += 1

    def shown(self, name: str = "production") -> dict[str, Any]:
        """Run one pass and return the resulting status."""
        self.reporter.report()
        return dict(self.objects[name]["status"])

    def refused(self, run: str = C, minutes: int = 30) -> None:
        """Attempt a promotion that a gate blocks."""
        found = find_run(stored_runs(self.store), run)
        with pytest.raises(GateFailed):
            promote(self.store, found, "production", author(minutes=minutes), test=passed)


def channel_object(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ehr", "uid": name, "generation": 1}
    return {"apiVersion": "mlho.io/v1alpha1", "kind": "ModelChannel", "metadata": metadata, "spec": {}}


def ready(status: dict[str, Any]) -> tuple[str, str]:
    """Return status and reason of the only condition."""
    (condition,) = status["conditions"]
    return condition["status"], condition["reason"]


def test_it_shows_the_entry_in_use():
    """The status shows bundle, time, author and reason after a promotion, a second one and a rollback. A pass without a
    change writes nothing.
    """
    cluster = Channels("production", "staging")
    promoted(cluster.store, A)
    first = cluster.shown()
    n_writes = cluster.n_writes
    assert cluster.shown() == first
    assert cluster.n_writes == n_writes
    promoted(cluster.store, B, why="AUROC is higher", minutes=5)
    second = cluster.shown()
    roll_back(cluster.store, "production", author("alerts doubled", minutes=9), test=passed)
    third = cluster.shown()

    assert (first["runId"], first["entry"], first["since"]) == (A, 1, "2026-11-30T12:00:00Z")
    assert (first["model"], first["promotedBy"], first["testsPassed"]) == ("risk", "ann@clinic", 1)
    assert ready(first) == ("True", "Live")
    assert (second["bundle"], second["replaces"]) != (first["bundle"], None)
    assert (second["replaces"], second["why"]) == (first["bundle"], "AUROC is higher")
    assert (third["bundle"], third["entry"], third["restores"]) == (first["bundle"], 3, 1)
    assert ready(cluster.objects["staging"]["status"]) == ("False", "NoModel")


def test_it_shows_the_last_refused_promotion_until_the_next_one_succeeds():
    """A refused promotion is shown with the failed gate and the measured figure until a promotion succeeds."""
    cluster = Channels("production")
    cluster.refused(minutes=-30)
    assert cluster.shown()["refusal"]["runId"] == C
    promoted(cluster.store, A)
    assert "refusal" not in cluster.shown()
    cluster.refused()
    found = cluster.shown()
    assert (found["runId"], found["refusal"]["at"]) == (A, "2026-11-30T12:30:00Z")
    assert "AUROC at least 0.9: 0.800" in found["refusal"]["message"]
    run = find_run(stored_runs(cluster.store), C)
    promote(cluster.store, run, "production", author("urgent", minutes=40), force=True, test=passed)
    forced = cluster.shown()

    assert "refusal" not in forced
    assert forced["gates"] == "1 of 2 failed, overridden"


def test_a_damaged_log_is_shown_as_such_and_no_model_with_it(monkeypatch):
    """A damaged log is shown as ChannelDamaged without a model, even if no entry was added since the last full read."""
    cluster = Channels("production")
    promoted(cluster.store, A)
    cluster.shown()
    key = channel_key("production", 1)
    data = bytearray(cluster.store.get(key))
    data[30] ^= 1
    cluster.store.delete(key)
    cluster.store.put_if_absent(key, bytes(data))
    monkeypatch.setattr(reporter, "_VERIFY_SECONDS", 0.0)
    found = cluster.shown()

    assert ready(found) == ("False", "ChannelDamaged")
    assert "entry 1 is damaged" in found["conditions"][0]["message"]
    assert "model" not in found


def test_an_outage_of_the_store_keeps_the_last_state():
    """During an outage of the store, the status keeps the last known model with the condition Unknown. It is Live after the outage."""
    cluster = Channels("production")
    promoted(cluster.store, A)
    before = cluster.shown()
    cluster.outage = StoreOutage("the object storage does not answer.")
    during = cluster.shown()
    cluster.outage = None

    assert (during["bundle"], ready(during)) == (before["bundle"], ("Unknown", "StoreUnavailable"))
    assert ready(cluster.shown()) == ("True", "Live")


def test_a_namespace_sees_no_model_of_tables_that_it_may_not_read():
    """If ``store.prefixes`` do not cover the data of a model, the status shows neither the model nor its author nor a refused promotion."""
    cluster = Channels("production", prefixes={"ehr": ["s3://ehr/ward-b"]})
    cluster.refused()
    assert "refusal" not in cluster.shown()
    promoted(cluster.store, A)
    found = cluster.shown()

    assert ready(found) == ("False", "ForeignAddress")
    assert set(found) == {"conditions", "observedGeneration"}
    allowed = Channels("production", prefixes={"ehr": ["s3://ehr/ward-a"]})
    promoted(allowed.store, A)
    assert ready(allowed.shown()) == ("True", "Live")


def test_a_namespace_that_cannot_be_read_does_not_affect_the_others(monkeypatch):
    """A deleted namespace, or one without the rights, is reported after the status of all others is written."""
    channels = Channels("production", watchNamespaces=["gone", "ehr"])
    readable = channels.list

    def list_objects(kind: Kind, namespace: str) -> Listed:
        if namespace == "gone":
            raise ClusterError("modelchannels in gone: forbidden.")
        return readable(kind, namespace)

    monkeypatch.setattr(channels, "list", list_objects)
    with pytest.raises(ClusterError, match="gone"):
        channels.reporter.report()

    assert channels.n_writes == 1


def test_a_log_that_has_not_changed_is_not_read_again():
    """A pass lists the keys of the log and reads only new entries."""
    cluster = Channels("production")
    promoted(cluster.store, A)
    cluster.shown()
    keys = []
    get = cluster.store.get
    cluster.store.get = lambda key: keys.append(key) or get(key)  # type: ignore[method-assign]
    cluster.shown()
    assert keys == []
    promoted(cluster.store, B, minutes=5)
    keys.clear()
    cluster.shown()

    assert set(keys) == {channel_key("production", number) for number in (1, 2)}
    assert read_channel(cluster.store, "production").head is not None
