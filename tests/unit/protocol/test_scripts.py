"""The scripts on a real server do, step for step, what their model in Python does."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mlho.protocol.messages import TaskMessage
from mlho.protocol.names import Names
from scheduler.leases import Leases
from tests.services.redis_servers import Server
from tests.unit.protocol.model import Model
from worker.claims import Claims, Lease

RUN = "0123456789abcdef"
EXECUTION = f"{RUN}-1"
BUDGET = 3
TASKS = [letter * 64 for letter in "abc"]
OWNERS = ["w1:1", "w1:2", "w2:1"]
FAR_MS = 3_600_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("valkey")) as running:
        yield running


def _now_ms() -> int:
    return int(time.time() * 1000)


def _message(task: str, nonce: int, *, expires: int) -> TaskMessage:
    return TaskMessage(run=RUN, execution=EXECUTION, task=task, expires=expires, nonce=f"{nonce:032x}")


class Machine(RuleBasedStateMachine):
    """Random claims, heartbeats, completions, releases, expiries and losses, on server and model alike."""

    server: Server

    @initialize()
    def begin(self) -> None:
        self.raw = redis.Redis.from_url(self.server.url, decode_responses=True)
        self.raw.flushall()
        self.names = Names(EXECUTION)
        self.claims = Claims(self.server.url, self.names, lease_ms=FAR_MS, budget=BUDGET)
        self.leases = Leases(self.server.url, self.names)
        self.leases.declare(1)
        self.model = Model(BUDGET, epoch=1)
        self.held: list[Lease] = []

    def teardown(self) -> None:
        if hasattr(self, "raw"):
            self.raw.close()
            self.leases.close()
            self.claims.close()

    @rule(
        task=st.sampled_from(TASKS),
        owner=st.sampled_from(OWNERS),
        nonce=st.integers(0, 9),
        is_stale=st.booleans() | st.just(False),
        stored=st.sampled_from([-1, 0, 2, 3]),
    )
    def claim(self, task: str, owner: str, nonce: int, is_stale: bool, stored: int) -> None:
        expires = _now_ms() + (-1_000 if is_stale else FAR_MS)
        found = self.claims.claim(_message(task, nonce, expires=expires), owner, stored=stored)
        expected = self.model.claim(task, owner, f"{nonce:032x}", is_stale=is_stale, stored=stored)
        assert (found.verdict.value, found.attempt) == expected
        if expected[0] == "claimed":
            self.held.append(Lease(task, owner, found.attempt))

    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        leases = data.draw(st.lists(st.sampled_from(self.held), unique=True)) if self.held else []
        pulse = self.claims.heartbeat("w1", 2, leases)
        expected = self.model.heartbeat([(lease.task, lease.owner, lease.attempt) for lease in leases])
        assert (pulse.beat.value, set(pulse.lost)) == expected

    @rule(task=st.sampled_from(TASKS), owner=st.sampled_from(OWNERS))
    def complete(self, task: str, owner: str) -> None:
        self.claims.complete(Lease(task, owner, 1), is_new=True)
        self.model.complete(task, owner)

    @rule(task=st.sampled_from(TASKS), owner=st.sampled_from(OWNERS), counts=st.booleans())
    def release(self, task: str, owner: str, counts: bool) -> None:
        found = self.claims.release(Lease(task, owner, 1), {"event": "released"}, counts=counts)
        assert found == self.model.release(task, owner, counts=counts)

    @rule(task=st.sampled_from(TASKS))
    def expire(self, task: str) -> None:
        """Time passes: a lease's end comes to lie in the past."""
        self.raw.zadd(self.names.leases, {task: 1}, xx=True)
        self.model.expire(task)

    @rule()
    def reap(self) -> None:
        assert {found.task: found.attempts for found in self.leases.reap()} == self.model.reap()

    @rule(task=st.sampled_from(TASKS))
    def forget(self, task: str) -> None:
        self.leases.forget(task)
        self.model.committed.discard(task)

    @rule(epoch=st.sampled_from([0, 2]))
    def lose_everything(self, epoch: int) -> None:
        self.raw.flushall()
        self.model.flush()
        if epoch:
            self.leases.declare(epoch)
            self.model.epoch = epoch

    @rule()
    def cancel(self) -> None:
        self.leases.cancel()
        self.model.cancelled = True

    @invariant()
    def same_state(self) -> None:
        if not hasattr(self, "raw"):
            return
        names, raw = self.names, self.raw
        assert set(raw.smembers(names.committed)) == self.model.committed
        found = {task: int(count) for task, count in raw.hgetall(names.attempts).items()}
        assert found == self.model.attempts
        assert raw.hgetall(names.owners) == self.model.owners
        assert set(raw.zrange(names.leases, 0, -1)) == self.model.live | self.model.expired
        assert set(raw.hkeys(names.quarantine)) == self.model.quarantine
        assert set(raw.zrange(names.nonces, 0, -1)) == self.model.nonces
        assert raw.llen(names.events) == len(self.model.events)

    @invariant()
    def one_holder_within_budget(self) -> None:
        """A lease has exactly one owner, and no task was started more often than its budget."""
        if hasattr(self, "raw"):
            assert set(self.model.owners) == self.model.live | self.model.expired
            assert all(count <= BUDGET for count in self.model.attempts.values())


def test_scripts_equal_their_model(server: Server) -> None:
    """100 random histories of up to 40 steps: same answers, same state."""
    machine = type("BoundMachine", (Machine,), {"server": server})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_message_of_an_emptied_server_asks_the_store(server: Server) -> None:
    """After FLUSHALL a task that the store knows of twice may start once more, and then never again."""
    raw = redis.Redis.from_url(server.url)
    raw.flushall()
    claims, leases = Claims(server.url, Names(EXECUTION)), Leases(server.url, Names(EXECUTION))
    leases.declare(2)
    expires = _now_ms() + FAR_MS
    asked = claims.claim(_message(TASKS[0], 1, expires=expires), "w:1")
    assert (asked.verdict, asked.attempt) == ("consult", 0)
    third = claims.claim(_message(TASKS[0], 1, expires=expires), "w:1", stored=2)
    assert (third.verdict, third.attempt) == ("claimed", 3)
    assert claims.release(Lease(TASKS[0], "w:1", 3), {"event": "failed"}, counts=True)
    fourth = claims.claim(_message(TASKS[0], 2, expires=expires), "w:2")
    assert fourth.verdict == "exhausted"
    claims.close()
    leases.close()
    raw.close()


def test_keys_of_an_execution_are_removed_and_no_others(server: Server, tmp_path: Path) -> None:
    raw = redis.Redis.from_url(server.url)
    raw.flushall()
    leases = Leases(server.url, Names(EXECUTION))
    leases.declare(1)
    leases.cancel()
    raw.set("mlho:ffffffffffffffff-1:epoch", 1)
    assert leases.remove_keys() == 2
    assert raw.keys("*") == [b"mlho:ffffffffffffffff-1:epoch"]
    leases.close()
    raw.close()
