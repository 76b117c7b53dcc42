"""The scripts on a real server behave like their Python model at each step."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mlho.protocol.messages import TaskMessage
from mlho.protocol.names import KEEP_SECONDS, TYPES, Names
from mlho.protocol.redis_client import QueueUnavailable
from mlho.protocol.scripts import LEASE_MS
from scheduler.queue.leases import Leases
from tests.services.redis_servers import Server
from tests.unit.protocol.model import Model
from worker.claims import Claims, Lease

RUN = "0123456789abcdef"
EXECUTION = f"{RUN}-1"
NAMES = Names(EXECUTION)
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
    """Random claims, heartbeats, completions, releases, expirations and losses, applied to both server and model."""

    server: Server

    @initialize()
    def begin(self) -> None:
        self.raw = redis.Redis.from_url(self.server.url, decode_responses=True)
        self.raw.flushall()
        self.names = Names(EXECUTION)
        self.claims = Claims(self.server.url, self.names, lease_ms=FAR_MS)
        self.leases = Leases(self.server.url, self.names, lease_ms=FAR_MS)
        self.leases.declare(1)
        self.model = Model(epoch=1)
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
    )
    def claim(self, task: str, owner: str, nonce: int, is_stale: bool) -> None:
        expires = _now_ms() + (-1_000 if is_stale else FAR_MS)
        found = self.claims.claim(_message(task, nonce, expires=expires), owner)
        expected = self.model.claim(task, owner, f"{nonce:032x}", is_stale=is_stale)
        assert (found.verdict.value, found.attempt) == expected
        if expected[0] == "claimed":
            self.held.append(Lease(task, owner, found.attempt))

    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        leases = data.draw(st.lists(st.sampled_from(self.held), unique=True)) if self.held else []
        reply = self.claims.heartbeat("w1", 2, leases)
        expected = self.model.heartbeat([(lease.task, lease.owner, lease.attempt) for lease in leases])
        assert (reply.beat.value, set(reply.lost)) == expected

    @rule(task=st.sampled_from(TASKS), owner=st.sampled_from(OWNERS))
    def complete(self, task: str, owner: str) -> None:
        self.claims.complete(Lease(task, owner, 1), "an event")
        self.model.complete(task, owner)

    @rule(task=st.sampled_from(TASKS), owner=st.sampled_from(OWNERS), counts=st.booleans())
    def release(self, task: str, owner: str, counts: bool) -> None:
        found = self.claims.release(Lease(task, owner, 1), "an event", counts=counts)
        assert found == self.model.release(task, owner, counts=counts)

    @rule(task=st.sampled_from(TASKS))
    def expire(self, task: str) -> None:
        """Let a lease expire by moving its end into the past."""
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
        assert set(raw.zrange(names.nonces, 0, -1)) == self.model.nonces
        assert raw.llen(names.events) == len(self.model.events)

    @invariant()
    def one_holder(self) -> None:
        """A lease has exactly one owner."""
        if hasattr(self, "raw"):
            assert set(self.model.owners) == self.model.live | self.model.expired


def test_scripts_equal_their_model(server: Server) -> None:
    """In 100 random histories of up to 40 steps, scripts and model give the same answers and the same state."""
    machine = type("BoundMachine", (Machine,), {"server": server})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture
def raw(server: Server) -> Iterator["redis.Redis"]:
    client = redis.Redis.from_url(server.url, decode_responses=True)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def claims(server: Server) -> Iterator[Claims]:
    claims = Claims(server.url, NAMES)
    yield claims
    claims.close()


@pytest.fixture
def leases(server: Server) -> Iterator[Leases]:
    leases = Leases(server.url, NAMES)
    yield leases
    leases.close()


def test_emptied_server_does_not_know_which_start_it_is(
    raw: "redis.Redis", claims: Claims, leases: Leases
) -> None:
    """After FLUSHALL, the first claim has attempt 0, which means that the store has to supply the number."""
    leases.declare(2)
    expires = _now_ms() + FAR_MS
    first = claims.claim(_message(TASKS[0], 1, expires=expires), "w:1")
    assert (first.verdict, first.attempt) == ("claimed", 0)
    assert claims.release(Lease(TASKS[0], "w:1", 1), "an event", counts=True)
    second = claims.claim(_message(TASKS[0], 2, expires=expires), "w:2")
    assert (second.verdict, second.attempt) == ("claimed", 2)


def test_a_claim_whose_reply_was_lost_is_an_unknown_start(
    raw: "redis.Redis", claims: Claims, leases: Leases
) -> None:
    """The second request does not know what the first was told: after FLUSHALL its count of 1 says nothing."""
    leases.declare(2)
    message = _message(TASKS[0], 1, expires=_now_ms() + FAR_MS)
    claims.claim(message, "w:1")
    again = claims.claim(message, "w:1")
    assert (again.verdict, again.attempt) == ("claimed", 0)


def test_a_claim_whose_reply_was_lost_has_a_whole_lease(
    raw: "redis.Redis", claims: Claims, leases: Leases
) -> None:
    """The lease of the first request may be over when the second arrives; the task must not count as failed."""
    leases.declare(1)
    message = _message(TASKS[0], 1, expires=_now_ms() + FAR_MS)
    claims.claim(message, "w:1")
    raw.zadd(NAMES.leases, {TASKS[0]: 1})
    claims.claim(message, "w:1")
    assert leases.reap() == []


@pytest.mark.parametrize(
    "hint", ["many", "-1", "nan", "inf", "-inf", "1e308", "0x", "", "99999999999999999999"]
)
def test_count_that_is_none_is_an_unknown_start(
    raw: "redis.Redis", claims: Claims, leases: Leases, hint: str
) -> None:
    """An invalid attempt count in Redis means an unknown attempt (0) and is replaced by a valid count."""
    leases.declare(1)
    raw.hset(NAMES.attempts, TASKS[0], hint)
    found = claims.claim(_message(TASKS[0], 1, expires=_now_ms() + FAR_MS), "w:1")
    assert (found.verdict, found.attempt) == ("claimed", 0)
    assert raw.hget(NAMES.attempts, TASKS[0]) == "1"
    raw.zadd(NAMES.leases, {TASKS[0]: 1})
    raw.hset(NAMES.attempts, TASKS[0], hint)
    assert [reaped.attempts for reaped in leases.reap()] == [0]


@pytest.mark.parametrize("score", ["+inf", "1e300", "9e15"])
def test_lease_of_years_ends_within_two_leases(raw: "redis.Redis", leases: Leases, score: str) -> None:
    """A lease with an implausible end is shortened to two lease times and not ended, because its worker may be alive and the
    clock of Redis may have been set back.
    """
    raw.zadd(NAMES.leases, {TASKS[0]: score, TASKS[1]: _now_ms() + LEASE_MS})  # type: ignore[dict-item]
    assert leases.reap() == []
    assert leases.n_dropped == 1
    assert raw.zscore(NAMES.leases, TASKS[0]) <= _now_ms() + 2 * LEASE_MS
    assert leases.reap() == []
    assert leases.n_dropped == 1


def _put(raw: "redis.Redis", key: str, kind: str) -> None:
    put = {"string": lambda: raw.set(key, "x"), "list": lambda: raw.rpush(key, "x"), "set": lambda: raw.sadd(key, "x"), "hash": lambda: raw.hset(key, "x", "y"), "zset": lambda: raw.zadd(key, {"x": 1}), "stream": lambda: raw.xadd(key, {"x": "y"})}  # fmt: skip
    raw.delete(key)
    put[kind]()


@pytest.mark.parametrize("kind", ["string", "list", "set", "hash", "zset", "stream"])
@pytest.mark.parametrize("name", TYPES)
def test_a_key_of_the_wrong_type_is_deleted_and_the_next_call_succeeds(
    raw: "redis.Redis", claims: Claims, leases: Leases, name: str, kind: str
) -> None:
    """A key of the wrong type is deleted, and the next call succeeds. Claim, heartbeat, complete and release raise only
    QueueUnavailable, for each key and type.
    """
    lease = Lease(TASKS[0], "w:1", 1)
    calls: list[Callable[[], object]] = [
        lambda: claims.claim(_message(TASKS[0], 1, expires=_now_ms() + FAR_MS), "w:1"),
        lambda: claims.heartbeat("w", 1, [lease]),
        lambda: claims.release(lease, "an event", counts=False),
        lambda: claims.complete(lease, "an event"),
        lambda: claims.tell("an event"),
        lambda: claims.count("refused:forged"),
    ]
    for call in calls:
        _put(raw, getattr(NAMES, name), kind)
        is_met = False
        try:
            call()
        except QueueUnavailable:
            is_met = True
            call()
        assert is_met <= (kind != TYPES[name])
    leases.mend(1_000)
    assert leases.mend(1_000) == 0
    leases.look()
    leases.reap()
    leases.queued()
    leases.wait_for_events(0.01)


def test_a_worker_that_mends_leaves_no_key_without_an_end(raw: "redis.Redis", claims: Claims) -> None:
    """The counter of mended keys may be the only key that is left, as after the end of an execution."""
    _put(raw, NAMES.counters, "list")
    claims.mend()
    assert 0 < raw.ttl(NAMES.counters) <= KEEP_SECONDS


def test_flooded_key_is_deleted(raw: "redis.Redis", leases: Leases) -> None:
    """A list that is longer than the number of tasks in progress allows is deleted. Nonces and commits are kept, because
    they grow with the number of messages.
    """
    for name in ("events", "queue"):
        raw.rpush(getattr(NAMES, name), *["x"] * 101)
    raw.zadd(NAMES.nonces, {f"x{n}": n for n in range(101)})
    raw.sadd(NAMES.committed, *[f"x{n}" for n in range(101)])
    assert leases.mend(100) == 2
    assert sorted(raw.keys()) == sorted([NAMES.nonces, NAMES.committed])


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
