"""The record of a run: its states, and the processes that may write it."""

import datetime as dt
import threading
import time

import pytest

from mlho.errors import DataError, MlhoError, SpecError, StoreAccessDenied, StoreOutage
from mlho.protocol.redis_client import QueueUnavailable
from mlho.steps.proposals import Leader
from mlho.store.memory import MemoryStore
from scheduler.engine.outages import StoreGivenUp
from scheduler.queue.executions import RunCancelled
from scheduler.queue.leadership import LeadershipLost
from scheduler.queue.run import Stopped
from scheduler.runs import record as records
from scheduler.runs.record import (
    Recording,
    RunCost,
    RunState,
    read_record,
    state_after,
    swap_record,
    used_tasks,
)
from scheduler.runs.stored import StoredRun, finished_run, stored_runs
from tests.limits import GUARD_SECONDS

RUN = "0123456789abcdef"
COST = RunCost(cpu_seconds=1.0, read_bytes=1, stored_bytes=1)
SPEC = b"{kind: TrainingRun, metadata: {name: a}, spec: {}}"


@pytest.fixture
def store(memory_store: MemoryStore) -> MemoryStore:
    memory_store.put_if_absent(f"runs/{RUN}/spec.yaml", SPEC)
    return memory_store


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (SpecError("x"), RunState.FAILED),
        (DataError("x", "x", expected="x", got="x", remedy="x"), RunState.FAILED),
        (MlhoError("x"), RunState.FAILED),
        (ZeroDivisionError(), RunState.FAILED),
        (KeyboardInterrupt(), RunState.STOPPED),
        (Stopped(), RunState.STOPPED),
        (StoreOutage("x"), RunState.STOPPED),
        (StoreAccessDenied("x"), RunState.STOPPED),
        (StoreGivenUp("x"), RunState.STOPPED),
        (QueueUnavailable("x"), RunState.STOPPED),
        (LeadershipLost("x"), RunState.STOPPED),
        (RunCancelled("x"), RunState.CANCELLED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_an_error_ends_a_run_in_one_state(error, state):
    """An error sets the state failed only if running the same command again cannot help."""
    assert state_after(error) is state


def test_an_error_in_the_handling_of_an_interrupt_stops_a_run():
    """A library may raise an error of its own when Ctrl-C interrupts it. The run can be continued, as after Ctrl-C itself."""
    error = OSError()
    error.__context__ = KeyboardInterrupt()

    assert state_after(error) is RunState.STOPPED


@pytest.mark.parametrize("spec", [b"", b"[1", b"{}", b"\xff", b"{kind: TrainingRun, metadata: }"])
def test_a_run_with_a_damaged_specification_is_listed(store, spec):
    """It does not hide the other runs of the store, it is never finished, and it can be named, to delete it."""
    store.put_if_absent("runs/fedcba9876543210/spec.yaml", spec)
    found = {run.run_id: (run.name, run.kind, run.state) for run in stored_runs(store)}

    assert found == {
        RUN: ("a", "TrainingRun", RunState.STOPPED),
        "fedcba9876543210": ("(damaged spec.yaml)", "", RunState.STOPPED),
    }


def break_off(recording: Recording, error: BaseException, *, tasks: list[str]) -> None:
    """Begin a run that uses these tasks, and end it with an error."""
    fresh = [list(tasks)]
    recording.begin(lambda: fresh.pop() if fresh else [])
    recording.__exit__(type(error), error, None)


def test_an_interrupt_during_an_outage_makes_no_request():
    """A silent store takes longer to fail than a pod has to end. The record of the run is no longer renewed instead."""

    class Silent(MemoryStore):
        is_away = False

        def get(self, key):
            assert not self.is_away
            return super().get(key)

    store = Silent()
    recording = Recording(store, RUN, is_away=lambda: store.is_away)
    recording.begin(lambda: ["ab" * 32])
    store.is_away = True
    recording.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    store.is_away = False

    record = read_record(store, RUN)
    assert record is not None
    assert record.state is RunState.RUNNING


def test_a_run_without_renewals_is_shown_as_stopped(store):
    """A run that has not renewed its record for five minutes is shown as stopped, because its process no longer runs."""
    Recording(store, RUN).begin(list)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=301)

    assert [stored.state for stored in stored_runs(store)] == [RunState.RUNNING]
    assert [stored.state for stored in stored_runs(store, now=later)] == [RunState.STOPPED]


def test_a_scheduler_that_lost_the_run_does_not_write_its_record(store):
    """A scheduler that lost its leadership does not write the run's record, neither at its end nor after an error, because
    the record is the successor's.
    """
    with Recording(store, RUN) as first:
        first.begin(list)
        with Recording(store, RUN) as second:
            second.begin(list)
            first.finish(n_new=3, cost=COST)
            assert read_record(store, RUN).state is RunState.RUNNING
            second.finish(n_new=2, cost=COST)
    break_off(Recording(store, RUN), LeadershipLost("another scheduler took over"), tasks=["ab" * 32])

    assert read_record(store, RUN).state is RunState.RUNNING
    assert used_tasks(store, RUN) == set()


class SuspendedLeader(Leader):
    """A scheduler that is suspended while it begins, until another one has finished the run."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.n_checks = 0

    def check(self) -> None:
        """Let the other scheduler finish the run at the first call. From then on it leads."""
        self.n_checks += 1
        if self.n_checks > 1:
            raise LeadershipLost("another scheduler took over")
        with Recording(self.store, RUN) as successor:
            successor.begin(list)
            successor.finish(n_new=1, cost=COST)


def test_a_scheduler_that_was_suspended_while_it_began_does_not_replace_the_record(store):
    """A scheduler that wakes after another one has finished the run does not write that it is running."""
    recording = Recording(store, RUN, leader=SuspendedLeader(store))

    with pytest.raises(LeadershipLost):
        recording.begin(list)

    assert read_record(store, RUN).state is RunState.FINISHED


def test_the_tasks_of_a_failed_run_are_listed_with_its_reason(store):
    """The tasks of a failed run are listed once, so that they are kept for its next start."""
    keys = ["ab" * 32, "cd" * 32]
    recording = Recording(store, RUN)
    break_off(recording, SpecError("grid: unknown. Correct it."), tasks=keys)
    recording.list_tasks()

    assert used_tasks(store, RUN) == set(keys)
    assert len(list(store.keys(f"uses/{RUN}/"))) == 1
    (run,) = stored_runs(store)
    assert (run.state, run.reason) == (RunState.FAILED, "grid: unknown. Correct it.")


def test_tasks_that_an_outage_kept_from_the_list_are_listed_later(store, monkeypatch):
    """A list whose write seems to fail is written again, with the tasks added since: the garbage collector would remove the
    artifacts of tasks that no run lists, and a purge would not find the patients in them.
    """
    put, batches = store.put_if_absent, [["ef" * 32], ["cd" * 32], ["ab" * 32]]
    fates = ["not written", "written, and the reply is lost"]

    def put_in_an_outage(key: str, data: bytes) -> bool:
        fate = fates.pop(0) if fates else "answered"
        if fate != "not written":
            put(key, data)
        if fate != "answered":
            raise StoreOutage("no answer")
        return True

    with Recording(store, RUN) as recording:
        recording.begin(lambda: batches.pop() if batches else [])
        monkeypatch.setattr(store, "put_if_absent", put_in_an_outage)
        for _ in range(2):
            with pytest.raises(StoreOutage):
                recording.list_tasks()
        recording.list_tasks()

    assert used_tasks(store, RUN) == {"ab" * 32, "cd" * 32, "ef" * 32}


def test_a_renewal_whose_reply_was_lost_goes_on(store, monkeypatch):
    """The client of the store repeats a swap whose reply was lost, and the repetition fails. The run must go on to renew its
    record: after five minutes without a renewal, it could be deleted while it runs.
    """
    monkeypatch.setattr(records, "RENEW_SECONDS", 0.001)
    swap, renewals = store.compare_and_swap, []

    def with_lost_reply(key: str, data: bytes, *, expected: bytes | None) -> bool:
        renewals.append(swap(key, data, expected=expected))
        return False

    with Recording(store, RUN) as recording:
        recording.begin(list)
        monkeypatch.setattr(store, "compare_and_swap", with_lost_reply)
        until = time.monotonic() + GUARD_SECONDS
        while len(renewals) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        monkeypatch.undo()

    assert renewals[:3] == [True] * 3


def test_a_run_that_was_deleted_while_it_was_carried_out_publishes_nothing(store):
    """A run that did not reach the store for minutes counts as stopped and can be deleted. When it goes on, it says so."""
    recording = Recording(store, RUN)
    recording.begin(list)
    recording.check_not_deleted()
    swap_record(store, RUN, lambda found: found.model_copy(update={"state": RunState.DELETING, "token": ""}))

    with pytest.raises(MlhoError, match="was deleted"):
        recording.check_not_deleted()


class SlowRecording(Recording):
    """A recording whose renewal has read its duration, and writes it only when it is let through."""

    has_begun, is_let_through = threading.Event(), threading.Event()

    def _seconds(self) -> float:
        if threading.current_thread().name != "record":
            return 1.0
        self.has_begun.set()
        assert self.is_let_through.wait(GUARD_SECONDS)
        return 99.0


def test_a_renewal_does_not_change_the_duration_of_a_finished_run(store, monkeypatch):
    """The end of a run waits for a renewal under way, which would otherwise write its duration into the final record."""
    monkeypatch.setattr(records, "RENEW_SECONDS", 0.001)
    with SlowRecording(store, RUN) as recording:
        recording.begin(list)
        assert recording.has_begun.wait(GUARD_SECONDS)
        finish = threading.Thread(target=lambda: recording.finish(n_new=1, cost=COST))
        finish.start()
        finish.join(0.2)  # if it does not wait for the renewal, it is over now
        recording.is_let_through.set()
        finish.join(GUARD_SECONDS)

    record = read_record(store, RUN)
    assert record is not None
    assert (record.state, record.seconds) == (RunState.FINISHED, 1.0)


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        (RunState.RUNNING, "running). Wait until it has ended."),
        (RunState.STOPPED, "stopped). Run its specification again"),
    ],
)
def test_the_remedy_for_an_unfinished_run_depends_on_its_state(state, remedy):
    """A second start of a run that is carried out would be wrong advice."""
    run = StoredRun(RUN, "a", "TrainingRun", state, dt.datetime.now(dt.UTC), None, None)

    with pytest.raises(SpecError) as caught:
        finished_run([run], "a")

    assert remedy in str(caught.value)
