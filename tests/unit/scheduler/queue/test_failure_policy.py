"""Decisions after a failed attempt, if an outage of the store interrupts one of them."""

import errno
from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import cast

import pytest

from mlho.errors import StoreOutage
from mlho.protocol.documents import Execution, State, quarantine_key
from mlho.protocol.events import Event, EventKind
from mlho.protocol.failures import INFRASTRUCTURE_SECONDS, Failure, FailureClass, OtherVersion, Quarantined
from mlho.protocol.messages import TaskMessage
from mlho.steps.proposals import SOLE_LEADER, Leader
from mlho.steps.records import Outcome
from mlho.store.memory import MemoryStore
from scheduler.controller.run_thread import _trouble_of
from scheduler.engine.outages import StoreHealth
from scheduler.queue import failure_policy
from scheduler.queue.dispatch import Outbox, Sender
from scheduler.queue.executor import QueueExecutor
from scheduler.queue.executor_state import InFlight, Pending, QueueCounters
from scheduler.queue.failure_policy import FailurePolicy
from scheduler.queue.leases import Leases
from scheduler.queue.run import _Upkeep
from scheduler.queue.watcher import QueueWatcher

EXECUTION = Execution(run="0123456789abcdef", number=1, state=State.OPEN, data="")
TASK = "a" * 64
CRASH = Failure(FailureClass.POISON, "TaskCrashed", "the task's process ended with code 1.")


AWAY = Failure(FailureClass.INFRASTRUCTURE, "StoreOutage", "s3://b: no answer.")
BAD_TABLE = Failure(FailureClass.INPUT, "DataError", "labels: no such column.")
OUTDATED = Failure.of(OtherVersion("task aaaa…: another version."), step="a task")
NO_FILES = Failure.of(OSError(errno.EMFILE, ""), step="a task")
DISK_FULL = Failure(FailureClass.INFRASTRUCTURE, "StoreUnavailable", "cache: no space left on device.")


class Clock:
    """A monotonic clock."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class LosingStore(MemoryStore):
    """A store that loses the reply to its first write."""

    has_lost = False

    def put_if_absent(self, key: str, data: bytes) -> bool:
        done = super().put_if_absent(key, data)
        if not self.has_lost:
            self.has_lost = True
            raise StoreOutage("s3://b: no answer.")
        return done


class CountingSender:
    """A sender that counts its messages."""

    def __init__(self) -> None:
        self.n_sent = 0

    def send(self, messages: Sequence[TaskMessage], *, leader: Leader) -> None:
        self.n_sent += len(messages)


class Queue:
    """A watcher with one task in flight, without a Redis."""

    def __init__(self, store: MemoryStore) -> None:
        self.sender = CountingSender()
        in_flight = InFlight(QueueCounters())
        self.counters = in_flight.counters
        outbox = Outbox(EXECUTION, cast(Sender, self.sender), SOLE_LEADER, in_flight.counters)
        self.policy = FailurePolicy(store, EXECUTION, SOLE_LEADER, in_flight, outbox)
        self.watcher = QueueWatcher(
            store,
            EXECUTION,
            cast(Leases, None),
            SOLE_LEADER,
            in_flight,
            outbox,
            self.policy,
            is_new=True,
        )
        self.future: Future[Outcome]
        self.future, pending = in_flight.add(TASK, "run_iteration", {})
        assert pending is not None
        self.pending: Pending = pending
        outbox.send([pending])

    def answer(self, kind: EventKind) -> None:
        """Answer the last message."""
        (nonce,) = self.pending.nonces
        event = Event(execution=EXECUTION.id, task=TASK, nonce=nonce, event=kind)
        self.watcher._handle_events([event])


def test_a_task_that_is_quarantined_in_an_outage_is_not_sent_for_ever() -> None:
    """Workers return a quarantined task at once: sending it again would repeat that without an end."""
    store = LosingStore()
    queue = Queue(store)
    with pytest.raises(StoreOutage):
        queue.policy._quarantine(queue.pending, CRASH, 3)
    assert store.exists(quarantine_key(EXECUTION.run, TASK))  # and the scheduler does not know
    queue.answer(EventKind.RELEASED)

    assert queue.sender.n_sent == 1
    assert isinstance(queue.future.exception(timeout=0), Quarantined)


def test_a_task_that_a_worker_returns_is_sent_again() -> None:
    """A worker that stops returns its tasks."""
    queue = Queue(MemoryStore())
    queue.answer(EventKind.RELEASED)

    assert queue.sender.n_sent == 2
    assert not queue.future.done()


def test_a_full_disk_is_printed_while_its_task_is_repeated() -> None:
    """The command prints the cause once, not only in the log, because the task is repeated for minutes."""
    queue, printed = Queue(MemoryStore()), list[str]()
    upkeep = _Upkeep(None, queue.counters, printed.append)
    upkeep.update((), 1)
    for _ in range(2):
        queue.policy.decide(queue.pending, DISK_FULL, 1)
        upkeep.update((), 1)

    (line,) = printed
    assert DISK_FULL.message in line
    assert "5 min" in line


@pytest.mark.parametrize(
    ("failure", "shown"),
    [(DISK_FULL, "DiskUnavailable"), (NO_FILES, "SystemError"), (OUTDATED, "WorkerOutdated")],
    ids=["disk", "system", "version"],
)
def test_a_run_is_degraded_while_a_task_is_repeated(failure: Failure, shown: str) -> None:
    """The status of a run in a cluster names a full disk or a worker of another version until the task is settled."""
    queue = Queue(MemoryStore())
    executor = cast(QueueExecutor, SimpleNamespace(counters=queue.counters))
    assert _trouble_of(StoreHealth(), executor) is None

    queue.policy.decide(queue.pending, failure, 1)
    trouble = _trouble_of(StoreHealth(), executor)
    assert trouble is not None
    reason, message = trouble
    assert reason == shown
    assert failure.message in message
    assert "5 min" in message
    assert not queue.future.done()
    queue.policy.decide(queue.pending, BAD_TABLE, 2)

    assert queue.future.done()
    assert _trouble_of(StoreHealth(), executor) is None


def test_the_time_of_an_outage_does_not_count_for_another_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run waits a day for object storage, and five minutes for a disk; neither wait shortens the other."""
    clock = Clock()
    monkeypatch.setattr(failure_policy, "time", clock)
    queue = Queue(MemoryStore())
    queue.policy.decide(queue.pending, AWAY, 1)
    clock.now += 4 * INFRASTRUCTURE_SECONDS
    queue.policy.decide(queue.pending, DISK_FULL, 1)
    clock.now += INFRASTRUCTURE_SECONDS
    queue.policy.decide(queue.pending, DISK_FULL, 1)
    assert not queue.future.done()
    clock.now += 1
    queue.policy.decide(queue.pending, DISK_FULL, 1)

    assert queue.future.done()
