"""Leadership of a run in compat mode with a real Redis: one of two schedulers leads, and only the leader commits."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import redis

from mlho.errors import MlhoError, StoreOutage
from mlho.protocol.documents import Execution, State, leader_key
from mlho.protocol.redis_client import QueueUnavailable
from mlho.steps.base import Task
from mlho.store.keys import commit_key
from mlho.store.memory import MemoryStore
from scheduler.engine.outages import StoreHealth
from scheduler.queue.executor import QueueExecutor
from scheduler.queue.leadership import AnotherScheduler, Leadership, LeadershipLost, RedisLease, StoreLease
from tests.limits import GUARD_SECONDS
from tests.services.redis_servers import Server

RUN = "0123456789abcdef"
KEY = f"mlho:{RUN}:leader"
LEASE_SECONDS = 2.0


class Loose(MemoryStore):
    """A store without conditional writes."""

    has_one_winner = False


class Losing(MemoryStore):
    """A store that loses the reply to its next write."""

    loses_reply = False

    def compare_and_swap(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        done = super().compare_and_swap(key, data, expected=expected)
        if self.loses_reply:
            self.loses_reply = False
            raise StoreOutage("s3://b: no answer.")
        return done


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
def raw(server: Server) -> Iterator["redis.Redis"]:
    client = redis.Redis.from_url(server.url, decode_responses=True)
    client.flushall()
    yield client
    client.close()


def lease(server: Server, *, seconds: float = LEASE_SECONDS) -> RedisLease:
    return RedisLease(server.url, RUN, lease_seconds=seconds)


def test_one_of_two_schedulers_leads(server: Server, raw: "redis.Redis") -> None:
    """A second scheduler gives up when it sees that the first one renews its lease, and the first one continues."""
    with lease(server) as first:
        with pytest.raises(AnotherScheduler, match="another scheduler leads it"), lease(server):
            pass
        first.check()


def test_a_lease_is_released_after_the_reply_to_its_renewal_was_lost() -> None:
    """The next scheduler, on another host, need not wait for a lease that nobody holds."""
    store, times = Losing(), iter([0.0, 0.0, *[500.0] * 9])
    with StoreLease(store, RUN, lease_seconds=1000.0, clock=lambda: next(times)) as leader:
        store.loses_reply = True
        with pytest.raises(StoreOutage):
            leader.check()

    assert json.loads(store.get(leader_key(RUN))) == {"token": ""}


def test_a_lease_expires_if_its_run_ends_during_an_outage() -> None:
    """Nothing is asked of a store that does not answer, so that a scheduler ends within the time that a pod has."""
    store, health = MemoryStore(), StoreHealth()
    with StoreLease(store, RUN, lease_seconds=1000.0, health=health):
        held = store.get(leader_key(RUN))
        health.failed("watch", StoreOutage("s3://b: no answer."))

    assert store.get(leader_key(RUN)) == held


class Away(RedisLease):
    """A lease of which Redis does not answer."""

    n_checks = 0

    def __init__(self) -> None:
        pass

    def check(self) -> None:
        self.n_checks += 1
        assert self.n_checks < 4, "waits for Redis"
        raise QueueUnavailable("no answer")


def test_a_run_that_waits_for_redis_can_be_stopped() -> None:
    """While it waits for the answer, the run is shown and can be stopped. Tasks are handed out without a wait: they are sent later."""
    sender = Mock(send=Mock(side_effect=QueueUnavailable("no answer")))
    execution = Execution(run=RUN, number=1, state=State.OPEN, data="")
    executor = QueueExecutor(MemoryStore(), execution, Mock(), sender, leader=Away(), is_new=True)
    task = Task(kind="define_cohort")
    (future,) = executor.submit_all([task])
    with pytest.raises(KeyboardInterrupt):
        Away().wait(meanwhile=Mock(side_effect=KeyboardInterrupt))

    assert not future.done()
    assert executor.counters.is_degraded


def test_a_lease_is_renewed_after_the_reply_to_its_renewal_was_lost() -> None:
    """To find the own record again is no renewal: a rival takes over a record that has not changed for a whole lease."""
    store, times = Losing(), iter([0.0, 0.0, *[500.0] * 9])
    with StoreLease(store, RUN, lease_seconds=1000.0, clock=lambda: next(times)) as leader:
        store.loses_reply = True
        with pytest.raises(StoreOutage):
            leader.check()
        before = json.loads(store.get(leader_key(RUN)))["renewal"]
        leader.check()

        assert json.loads(store.get(leader_key(RUN)))["renewal"] > before


def test_a_scheduler_of_a_deleted_run_names_the_deletion_and_the_remedy() -> None:
    """Without its pointer no other scheduler continues the run, so the message must not promise that."""
    store, times = MemoryStore(), iter([0.0, 0.0, *[500.0] * 9])
    with StoreLease(store, RUN, lease_seconds=1000.0, clock=lambda: next(times)) as leader:
        store.delete(leader_key(RUN))
        for _ in range(2):
            with pytest.raises(LeadershipLost, match=r"was deleted.*run the same command again"):
                leader.check()


def test_key_of_another_type_is_taken_over(server: Server, raw: "redis.Redis") -> None:
    """A key of another type is replaced, because no scheduler wrote it."""
    with lease(server) as leader:
        raw.delete(KEY)
        raw.rpush(KEY, "x")
        leader.check()
        assert raw.type(KEY) == "string"


def test_of_eight_schedulers_that_start_at_once_one_works(server: Server, raw: "redis.Redis") -> None:
    barrier, winners, losers = threading.Barrier(8), [], []

    def start() -> None:
        barrier.wait()
        try:
            with lease(server) as leader:
                winners.append(leader)
                until = time.monotonic() + GUARD_SECONDS
                while len(winners) + len(losers) < 8 and time.monotonic() < until:
                    time.sleep(0.02)
                leader.check()
        except AnotherScheduler:
            losers.append(1)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(winners), len(losers)) == (1, 7)


def test_a_scheduler_that_left_need_not_be_waited_for(server: Server, raw: "redis.Redis") -> None:
    """A scheduler that exits deletes its key, so that the next one leads at once."""
    with lease(server, seconds=GUARD_SECONDS):
        assert raw.exists(KEY)
    assert not raw.exists(KEY)
    began = time.monotonic()
    with lease(server, seconds=GUARD_SECONDS) as second:
        second.check()
    assert time.monotonic() - began < GUARD_SECONDS


def test_a_scheduler_that_died_is_waited_for_until_its_right_expires(
    server: Server, raw: "redis.Redis"
) -> None:
    raw.set(KEY, "of one that was killed", px=700)
    with lease(server) as leader:
        leader.check()


def test_a_scheduler_that_lost_its_lease_may_not_commit(server: Server, raw: "redis.Redis") -> None:
    """A scheduler that was paused while another took over fails the check before each commit, and leaving does not delete the other's key."""
    with lease(server) as old:
        raw.set(KEY, "of the new one")
        with pytest.raises(LeadershipLost, match="took over"):
            old.check()
    assert raw.get(KEY) == "of the new one"


def test_the_leader_survives_a_loss_of_redis_data(server: Server, raw: "redis.Redis") -> None:
    """After Redis lost all data, the leader's next check restores its key, and a later rival is refused."""
    with lease(server) as leader:
        raw.flushall()
        leader.check()
        with pytest.raises(AnotherScheduler), lease(server):
            pass


def test_while_redis_is_away_nothing_is_committed(tmp_path: Path) -> None:
    """Without Redis, the leadership check fails and nothing is committed. `wait` continues when Redis answers, or fails after its time limit."""
    server = Server(tmp_path)
    server.start()
    try:
        with lease(server) as leader:
            server.kill()
            with pytest.raises(QueueUnavailable):
                leader.check()
            with pytest.raises(QueueUnavailable):
                leader.wait(seconds=0.5)
            back = threading.Timer(0.7, server.start)
            back.start()
            leader.wait()
            back.join()
    finally:
        server.kill()


@pytest.mark.parametrize("damaged", [b"", b"{", b"\xff"])
def test_a_damaged_pointer_is_waited_for_and_replaced(damaged: bytes) -> None:
    """A damaged pointer may belong to a live scheduler. The run waits for one lease duration, then replaces it."""
    store = MemoryStore()
    store.put_if_absent(leader_key(RUN), damaged)
    with StoreLease(store, RUN, lease_seconds=0.3) as leader:
        leader.check()
        assert store.get(leader_key(RUN)) != damaged


def test_in_a_store_that_has_one_winner_redis_is_not_asked() -> None:
    """In a store with conditional writes, leadership needs only the store's pointer and no Redis."""
    with Leadership(MemoryStore(), RUN, "redis://127.0.0.1:1/0") as leader:
        leader.check()


def test_in_compat_mode_both_pointer_and_redis_are_asked(server: Server, raw: "redis.Redis") -> None:
    store = Loose()
    with Leadership(store, RUN, server.url) as leader:
        leader.check()
        assert raw.exists(KEY)
        raw.set(KEY, "of another")
        with pytest.raises(LeadershipLost):
            leader.check()


def test_a_scheduler_without_leadership_leaves_no_commit_record(server: Server, raw: "redis.Redis") -> None:
    """A scheduler that loses leadership between proposal and commit writes no commit record; the new leader writes it."""
    from mlho.steps.proposals import adopt, propose
    from mlho.steps.records import Commit, StoredFile

    store = Loose()
    file = StoredFile(sha256="a" * 64, size=1)
    commit = Commit(task="b" * 64, kind="merge_dictionary", files={"out": file}, facts={}, seconds=1.0)
    with Leadership(store, RUN, server.url) as leader:
        propose(store, commit)
        raw.set(KEY, "of another")
        with pytest.raises(MlhoError, match="took over"):
            adopt(store, commit.task, leader=leader)
        assert not store.exists(commit_key(commit.task))
        raw.delete(KEY)
        assert adopt(store, commit.task, leader=leader) == commit
