"""The scheduler's access to Redis, on a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from mlho.protocol.documents import State, is_over, read_execution
from mlho.protocol.events import Event, EventKind, ReportedFailure
from mlho.protocol.failures import Failure, FailureClass
from mlho.protocol.names import Names
from mlho.steps.proposals import Leader
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from scheduler.engine.progress import StageProgress
from scheduler.queue.errors import LEASE_EXPIRED
from scheduler.queue.executions import (
    begin_execution,
    cancel_execution,
    end_execution,
    quarantine_task,
    quarantined_for,
    quarantined_tasks,
    release_quarantine,
)
from scheduler.queue.leadership import AnotherScheduler, LeadershipLost, StoreLease
from scheduler.queue.leases import Leases
from tests.services.redis_servers import Server

RUN = "0123456789abcdef"
NAMES = Names(f"{RUN}-1")
KEY = b"0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
def leases(server: Server) -> Iterator[Leases]:
    found = Leases(server.url, NAMES, key=KEY)
    found.remove_keys()
    yield found
    found.close()


@pytest.fixture
def raw(server: Server) -> Iterator["redis.Redis"]:
    client = redis.Redis.from_url(server.url, decode_responses=True)
    yield client
    client.close()


def test_declaring_twice_keeps_the_first_epoch(leases: Leases, raw: "redis.Redis") -> None:
    leases.declare(1)
    leases.declare(2)
    assert raw.get(NAMES.epoch) == "1"


def test_progress_is_read_as_it_was_published(leases: Leases) -> None:
    """Progress is read as it was published, but only after the execution was declared."""
    stages = (StageProgress("cohort", 1, 1), StageProgress("encode", 2, 7))
    leases.publish_progress(stages)
    before = leases.progress()
    leases.declare(1)
    leases.publish_progress(stages)
    assert (before, leases.progress()) == ((), stages)


def _told(kind: EventKind, nonce: int, *, execution: str = NAMES.execution, **fields: Any) -> Event:
    return Event(execution=execution, task="ab" * 32, nonce=f"{nonce:032x}", event=kind, **fields)


FAILURE = ReportedFailure.of(Failure(FailureClass.INPUT, "DataError", "no column", "cd" * 32))


def test_signed_events_come_in_order_and_nothing_else_does(leases: Leases, raw: "redis.Redis") -> None:
    """Signed events are returned in order. Messages of any other form, including bytes that are not text, are dropped and counted."""
    first, last = (
        _told(EventKind.COMMITTED, 1, new=True),
        _told(EventKind.FAILED, 2, attempt=1, failure=FAILURE),
    )
    genuine = last.signed(KEY)
    nonsense = (
        "no json",
        b"\xff\xfe",
        "[" * 100_000,
        '{"event": "committed", "task": "x"}',
        genuine[64:],
        "0" * 64 + genuine[64:],
        genuine.replace('"attempt":1', '"attempt":3'),
        genuine.replace("cdcd", "abab", 1),
        last.signed(b"somebody else's key, long enough"),
        _told(EventKind.COMMITTED, 1, execution=f"{RUN}-9").signed(KEY),
        _told(EventKind.FAILED, 1).signed(KEY),
        "x" * 200_000,
    )
    raw.rpush(NAMES.events, first.signed(KEY), *nonsense, genuine)
    assert leases.wait_for_events(0.1) == [first, last]
    assert leases.n_dropped == len(nonsense)
    assert leases.wait_for_events(0.1) == []
    assert last.why == Failure(FailureClass.INPUT, "DataError", "no column", "cd" * 32)


def test_slots_of_live_workers_are_summed(leases: Leases, raw: "redis.Redis") -> None:
    """The slots of workers with a recent heartbeat are summed. Invalid worker names and implausible heartbeats are ignored."""
    now = int(raw.time()[0]) * 1000
    raw.zadd(
        NAMES.workers, {"w1/2": now + 8_000, "w2/3": now + 8_000, "gone/8": now - 1, "liar/7": now + 99_000}
    )
    raw.zadd(
        NAMES.workers,
        dict.fromkeys(["x", "/5", "x/", "x/y", "x/-1", "x/0", "x/99999", "x/1e9", ""], now + 8_000),
    )
    assert leases.look().slots == 5
    raw.zadd(NAMES.workers, {f"many-{number}/9999": now + 8_000 for number in range(9)})
    assert leases.look().slots == 4_096


def test_counts_and_progress_that_are_none_are_not_shown(leases: Leases, raw: "redis.Redis") -> None:
    raw.hset(
        NAMES.counters, mapping={"refused:forged": "7", "refused:foreign": "many", "x": "-1", "y": "9" * 400}
    )
    assert leases.counters() == {"refused:forged": 7, "refused:foreign": 0, "x": 0, "y": 0}
    assert leases.look().n_refused == 7
    for text in (
        "no json",
        "[1]",
        '[["a", 2, 1]]',
        '[["a", "1", 2]]',
        "[[1, 1, 1]]",
        "{}",
        "7",
        "[" * 100_000,
    ):
        raw.set(NAMES.progress, text)
        assert leases.progress() == ()


def test_queue_is_read_by_message_id(leases: Leases, raw: "redis.Redis") -> None:
    raw.lpush(
        NAMES.queue, '{"headers": {"id": "task.nonce"}}', "no json", '{"headers": []}', b"\xff", "[" * 100_000
    )
    assert leases.queued() == ["task.nonce"]


def test_execution_opens_goes_on_ends_and_opens_again(tmp_path: Path) -> None:
    """Execution 1 opens and, while open, continues. After its end the next one is 2, and after a cancellation the next is 3."""
    store = LocalStore(tmp_path)
    first, is_new = begin_execution(store, RUN, tmp_path)
    assert (first.id, is_new) == (f"{RUN}-1", True)
    assert begin_execution(store, RUN, tmp_path) == (first, False)
    end_execution(store, first, State.FINISHED)
    assert is_over(store, first)
    second, is_new = begin_execution(store, RUN, tmp_path)
    assert (second.id, is_new) == (f"{RUN}-2", True)
    cancel_execution(store, second)
    assert is_over(store, second)
    third, is_new = begin_execution(store, RUN, tmp_path)
    assert (third.id, is_new) == (f"{RUN}-3", True)
    assert not is_over(store, third)


def test_scheduler_that_was_stopped_while_it_began_opens_nothing(tmp_path: Path) -> None:
    """A scheduler that was paused after reading the pointer, while another carried out the run, is refused when it continues."""
    store = LocalStore(tmp_path)

    class AnotherDoesAll(Leader):
        def check(self) -> None:
            end_execution(store, begin_execution(store, RUN, tmp_path)[0], State.FINISHED)

    with pytest.raises(AnotherScheduler):
        begin_execution(store, RUN, tmp_path, leader=AnotherDoesAll())
    found = read_execution(store, RUN)
    assert found is not None
    assert (found.number, found.state) == (1, State.FINISHED)


def test_leader_that_left_need_not_be_waited_for(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with StoreLease(store, RUN) as first:
        first.check()
    with StoreLease(store, RUN) as second:
        second.check()


@pytest.mark.parametrize(
    ("number", "waits"), [(1, 0.0), (2, 5.0)], ids=["taking", "renewing what is too old to trust"]
)
def test_a_scheduler_that_is_paused_during_its_election_does_not_lead(number: int, waits: float) -> None:
    """A scheduler that is paused for a minute after its write does not lead, because another took over meanwhile."""
    now = [100.0]

    class Stopping(MemoryStore):
        n_swaps = 0

        def compare_and_swap(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
            done = super().compare_and_swap(key, data, expected=expected)
            self.n_swaps += 1
            if self.n_swaps == number:
                now[0] += 60.0
                super().compare_and_swap(key, b'{"token": "another"}', expected=data)
            return done

    leader = StoreLease(Stopping(), RUN, clock=lambda: now[0])
    leader._acquire()
    now[0] += waits
    with pytest.raises(LeadershipLost):
        leader.check()


def test_two_leaders_at_once_are_refused(tmp_path: Path) -> None:
    """While the first leader renews its lease, a second one is refused. The host is changed so that only renewals show that
    the first is alive.
    """
    store = LocalStore(tmp_path)
    with StoreLease(store, RUN) as first:
        first._identity["host"] = "elsewhere"  # another host, so that the process cannot be checked
        first._renew()
        with pytest.raises(AnotherScheduler), StoreLease(store, RUN):
            pass


def test_quarantine_stands_until_it_is_released(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    quarantine_task(store, RUN, "ab" * 32, LEASE_EXPIRED, step="fit", attempts=3)
    assert quarantined_tasks(store, RUN) == ["ab" * 32]
    assert quarantined_for(store, RUN, "ab" * 32) == (LEASE_EXPIRED, 3)
    assert release_quarantine(store, RUN) == 1
    assert quarantined_tasks(store, RUN) == []
    assert quarantined_for(store, RUN, "ab" * 32) is None
