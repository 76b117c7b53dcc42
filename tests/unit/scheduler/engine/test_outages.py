"""Outages of the store: every access waits, the outage is shown, and the run fails after a stated time."""

import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from mlho.errors import SpecError, StoreAccessDenied, StoreOutage
from mlho.settings import Settings, store_patience
from mlho.store.memory import MemoryStore
from scheduler.controller.reasons import failures_shown, reason_of
from scheduler.engine import outages
from scheduler.engine.loop import carry_out
from scheduler.engine.manifest import make_manifest
from scheduler.engine.outages import StoreGivenUp, StoreHealth, watching
from scheduler.engine.training_run import TrainingRun
from tests.builders import InlineExecutor, NullObserver, make_spec, make_tables, run_inline, write_tables
from tests.limits import GUARD_SECONDS
from tests.unit.scheduler.in_memory import wait_until

DENIED = StoreAccessDenied("s3://b: access denied.")
AWAY = StoreOutage("s3://b: no answer.")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "_BACKOFF_SECONDS", (0.01, 0.02))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("data"), make_tables(200, seed=4))


@pytest.fixture(scope="module")
def whole(data: Path) -> str:
    """Return the digest of the result without an outage."""
    return run_inline(data, MemoryStore()).digest


class Faulty(MemoryStore):
    """A store that refuses five requests in a row from the n-th one on."""

    def __init__(self, error: StoreOutage, *, begins: int) -> None:
        super().__init__()
        self.error, self.begins = error, begins
        self.n_requests = self.n_refused = 0

    def _may_refuse(self) -> None:
        self.n_requests += 1
        if self.begins <= self.n_requests < self.begins + 5:
            self.n_refused += 1
            raise self.error

    def get(self, key):
        self._may_refuse()
        return super().get(key)

    def compare_and_swap(self, key, data, *, expected):
        self._may_refuse()
        return super().compare_and_swap(key, data, expected=expected)

    def exists(self, key):
        self._may_refuse()
        return super().exists(key)


def make_run(data: Path, store: MemoryStore) -> TrainingRun:
    spec = make_spec()
    return TrainingRun(spec, make_manifest(spec.spec.data.tables, data), data, store)


def test_an_outage_lasts_until_every_place_succeeds():
    """An outage ends only when every place that failed has succeeded. Its start and end are logged once each."""
    told: list[str] = []
    health = StoreHealth(notify=told.append)

    health.failed("run", AWAY)
    health.failed("leader", AWAY)
    health.failed("run", AWAY)
    health.served("run")
    assert health.outage is not None
    assert health.outage.reason == "StoreUnavailable"
    health.served("leader")

    assert health.outage is None
    assert [words.split(" since")[0].split(",")[0] for words in told] == [
        "Store unavailable",
        "The store is available again",
    ]
    assert "no answer" in told[0]
    assert "gives up after 24 h (MLHO_STORE_PATIENCE)" in told[0]


def test_denied_access_takes_precedence_as_the_reason():
    """Denied access takes precedence over no answer as the reason of an outage, because a person must correct it. The start
    time does not change.
    """
    health = StoreHealth()
    health.failed("watch", AWAY)
    since = health.outage.since
    health.failed("task", DENIED)
    health.failed("watch", AWAY)

    assert (health.outage.reason, health.outage.since) == ("StoreAccessDenied", since)
    assert "access denied" in health.outage.words


def test_the_pauses_grow_and_start_again_after_a_success():
    """The pauses grow for each place separately and start again after a success."""
    health = StoreHealth()

    assert [health.failed("a", AWAY) for _ in range(3)] == [0.01, 0.02, 0.02]
    assert health.failed("b", AWAY) == 0.01
    health.served("a")
    assert health.failed("a", AWAY) == 0.01


def test_patience_ends():
    """When the patience since the first failure is over, the run fails with the last reason."""
    clock = Clock()
    health = StoreHealth(patience=3600, clock=clock)
    health.failed("run", AWAY)
    clock.now += 3600
    health.failed("run", DENIED)
    health.check()
    clock.now += 1

    with pytest.raises(StoreGivenUp, match=r"60 min .*MLHO_STORE_PATIENCE.*access denied") as caught:
        health.check()
    assert reason_of(caught.value) == "StoreAccessDenied"
    (failure,) = failures_shown(caught.value, retry="mlho retry")
    assert "credentials" in failure.remedy


# The kind of the error and the request at which it begins are independent.
@pytest.mark.parametrize(
    ("error", "begins"), [*((AWAY, number) for number in (1, 4, 12, 60, 130)), (DENIED, 30), (DENIED, 90)]
)
def test_a_run_gets_through_an_outage_wherever_it_begins(error, begins, data, whole):
    """A run survives an outage during planning, submission, tasks or publication. No task fails, and the result is the same."""
    store = Faulty(error, begins=begins)
    health = StoreHealth()
    finished = carry_out(
        make_run(data, store), InlineExecutor(store, data), NullObserver(), n_slots=3, health=health
    )

    assert store.n_refused == 5
    assert health.outage is None
    assert finished.report.facts["result_digest"] == whole


class Slow(NullObserver):
    """An observer that takes longer than the pause between two attempts."""

    def update(self, stages, running):
        time.sleep(0.3 if not running else 0)


def test_a_delay_that_ends_within_a_pass_is_no_dead_end(data):
    """Tasks whose submission is delayed by an outage within a pass are not reported as missing."""
    store = Faulty(DENIED, begins=4)
    finished = carry_out(
        make_run(data, store), InlineExecutor(store, data), Slow(), n_slots=3, health=StoreHealth()
    )

    assert finished.report.facts["result_digest"]


class Denied(InlineExecutor):
    """An executor that denies access to all tasks of one kind until it is released."""

    def __init__(self, run: TrainingRun, kind: str) -> None:
        super().__init__(run.store, run.data)
        self.kind, self.is_denied = kind, True

    def submit(self, task):
        if task.kind != self.kind or not self.is_denied:
            return super().submit(task)
        future: Future = Future()
        future.set_exception(DENIED)
        return future


def test_a_refused_task_waits_while_others_continue(data):
    """Missing access for one kind of task delays only tasks of that kind and is shown. When it is granted, the run finishes."""
    run = make_run(data, MemoryStore())
    executor, health = Denied(run, "define_cohort"), StoreHealth()
    seen: list[str] = []

    class Granting(NullObserver):
        def update(self, stages, running):
            seen.append(health.outage.reason if health.outage else "")
            if seen.count("StoreAccessDenied") > 5:
                executor.is_denied = False

    finished = carry_out(run, executor, Granting(), n_slots=2, health=health)

    assert finished.n_new == finished.n_tasks
    assert seen[-1] == ""


def test_a_waiting_run_can_be_stopped_and_continued(data):
    """An observer can stop a run that waits for the store. When the patience is over the run fails, and it can be continued afterwards."""
    store = MemoryStore()
    run = make_run(data, store)
    executor = Denied(run, "run_iteration")

    class StopError(Exception):
        pass

    class Stopping(NullObserver):
        n = 0

        def update(self, stages, running):
            self.n += health.outage is not None
            if self.n > 3:
                raise StopError

    health = StoreHealth()
    with pytest.raises(StopError):
        carry_out(run, executor, Stopping(), n_slots=2, health=health)
    with pytest.raises(StoreGivenUp, match="access denied"):
        carry_out(run, executor, NullObserver(), n_slots=2, health=StoreHealth(patience=0.3))
    executor.is_denied = False
    assert carry_out(run, executor, NullObserver(), n_slots=2).report.facts["result_digest"]


def test_a_store_that_may_be_away_is_asked_all_the_time(monkeypatch):
    """A store that may be unavailable is probed at an interval, so that the start and the end of an outage are noticed even
    without other requests.
    """
    monkeypatch.setattr(outages, "_LOOK_SECONDS", 0.02)

    class Remote(MemoryStore):
        may_be_unavailable = True
        is_away = True

        def ping(self, key):
            assert key == "runs/r/spec.yaml"
            if self.is_away:
                raise AWAY

    store, health = Remote(), StoreHealth()
    with watching(store, "runs/r/spec.yaml", health, run="r"):
        wait_until(lambda: health.outage is not None)
        store.is_away = False
        wait_until(lambda: health.outage is None)
    store.is_away = True
    time.sleep(0.1)
    assert health.outage is None


def test_a_run_that_ends_before_the_next_probe_reports_the_end_of_an_outage(monkeypatch):
    """Otherwise the last thing that the user reads of the store is that it is unavailable."""
    monkeypatch.setattr(outages, "_LOOK_SECONDS", 0.01)
    probed_again, run_ended = threading.Event(), threading.Event()

    class Remote(MemoryStore):
        may_be_unavailable = True
        n_probes = 0

        def ping(self, key):
            self.n_probes += 1
            if self.n_probes > 1:
                probed_again.set()
                run_ended.wait(GUARD_SECONDS)
            raise AWAY

    said = []
    health = StoreHealth(notify=said.append)
    with watching(Remote(), "runs/r/spec.yaml", health, run="r"):
        assert probed_again.wait(GUARD_SECONDS)
        assert health.outage is not None
    run_ended.set()
    assert health.outage is None
    assert "The store is available again" in said[-1]


def test_a_probe_that_fails_by_a_defect_is_repeated(monkeypatch):
    """An error of a library does not end the probes: the outage that they reported before would last until the run gives up."""
    monkeypatch.setattr(outages, "_LOOK_SECONDS", 0.01)
    n_probes = 0

    class Remote(MemoryStore):
        may_be_unavailable = True

        def ping(self, key):
            nonlocal n_probes
            n_probes += 1
            if n_probes < 3:
                raise AWAY if n_probes == 1 else ZeroDivisionError

    health = StoreHealth()
    with watching(Remote(), "runs/r/spec.yaml", health, run="r"):
        wait_until(lambda: n_probes > 2 and health.outage is None)


def test_the_patience_is_a_setting():
    """The patience is one day, unless ``MLHO_STORE_PATIENCE`` is set."""
    assert Settings.from_environment({}).store_patience == store_patience({}) == 86_400
    assert Settings.from_environment({"MLHO_STORE_PATIENCE": "60"}).store_patience == 60
    with pytest.raises(SpecError, match="MLHO_STORE_PATIENCE"):
        store_patience({"MLHO_STORE_PATIENCE": "soon"})
