"""A heartbeat renews leases during an outage of the store, and revives neither a released lease nor a worker that left."""

import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import structlog

from mlho.protocol.documents import Execution, State
from mlho.protocol.messages import TaskMessage
from mlho.protocol.names import Names
from mlho.protocol.redis_client import QueueUnavailable
from mlho.protocol.scripts import HeartbeatState
from mlho.store.base import Store
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from scheduler.queue.leases import Leases
from tests.limits import GUARD_SECONDS
from tests.services.redis_servers import Server
from worker.child_processes import Busy, Children, Ending
from worker.claims import Claims, HeartbeatReply, Lease
from worker.heartbeat import HeartbeatThread

RUN = "0123456789abcdef"
EXECUTION = Execution(run=RUN, number=1, state=State.OPEN, data="")
NAMES = Names(EXECUTION.id)
TASK = "a" * 64


class SlowClaims(Claims):
    """Claims whose heartbeat reaches Redis only when it is let through."""

    def __init__(self, url: str) -> None:
        super().__init__(url, NAMES)
        self.has_begun = threading.Event()
        self.is_let_through = threading.Event()

    def heartbeat(self, worker: str, slots: int, leases: Iterable[Lease]) -> HeartbeatReply:
        self.has_begun.set()
        assert self.is_let_through.wait(GUARD_SECONDS)
        return super().heartbeat(worker, slots, leases)


class SilentStore(MemoryStore):
    """A store that does not answer until it is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.is_let_through = threading.Event()

    def get(self, key: str) -> bytes:
        assert self.is_let_through.wait(GUARD_SECONDS)
        return super().get(key)


class CountingClaims(Claims):
    """Claims that count their heartbeats and need no Redis."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1/0", NAMES)
        self.n_beats = 0

    def heartbeat(self, worker: str, slots: int, leases: Iterable[Lease]) -> HeartbeatReply:
        self.n_beats += 1
        return HeartbeatReply(HeartbeatState.GO_ON, frozenset())


class FailingClaims(Claims):
    """Claims whose heartbeats fail with the given causes, in this order; ``None`` succeeds."""

    def __init__(self, causes: list[str | None]) -> None:
        super().__init__("redis://127.0.0.1:1/0", NAMES)
        self._causes = iter(causes)

    def heartbeat(self, worker: str, slots: int, leases: Iterable[Lease]) -> HeartbeatReply:
        cause = next(self._causes)
        if cause is not None:
            raise QueueUnavailable(cause)
        return HeartbeatReply(HeartbeatState.GO_ON, frozenset())


class LateChildren(Children):
    """Children of which one begins its task after the worker was told to stop."""

    def __init__(self) -> None:
        super().__init__(1, "", "")
        self.is_at_work = False
        self.ended: list[tuple[str, Ending]] = []

    def busy(self) -> list[Busy]:
        return [Busy("w:1", 1, 0.0)] if self.is_at_work else []

    def end(self, owner: str, ending: Ending) -> None:
        self.ended.append((owner, ending))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "valkey") as running:
        yield running


def test_a_lease_released_during_a_heartbeat_can_be_claimed_at_once(server: Server, tmp_path: Path) -> None:
    """A heartbeat that was prepared before the release of a lease does not take the lease again."""
    claims, leases = SlowClaims(server.url), Leases(server.url, NAMES)
    leases.declare(1)
    heartbeats = _heartbeats(claims, LocalStore(tmp_path / "store"))
    lease = Lease(TASK, "w:1", 1)
    assert claims.claim(_message(1), lease.owner).verdict == "claimed"
    with heartbeats.holding(lease):
        beat = threading.Thread(target=heartbeats.beat)
        beat.start()
        assert claims.has_begun.wait(GUARD_SECONDS)
        release = threading.Thread(target=_release, args=(heartbeats, claims, lease))
        release.start()
        release.join(0.2)  # if it does not wait for the heartbeat, it is over now
        claims.is_let_through.set()
        beat.join(GUARD_SECONDS)
        release.join(GUARD_SECONDS)
        heartbeats.beat()
    assert claims.claim(_message(2), "w:2").verdict == "claimed"
    leases.close()
    claims.close()


def test_leases_are_renewed_while_the_store_does_not_answer() -> None:
    """A heartbeat does not wait for the store, whose answer may take minutes: the leases would expire meanwhile."""
    claims, store = CountingClaims(), SilentStore()
    heartbeats = _heartbeats(claims, store)
    beats = threading.Thread(target=lambda: [heartbeats.beat() for _ in range(6)], daemon=True)
    beats.start()
    beats.join(GUARD_SECONDS / 4)
    n_beats = claims.n_beats
    store.is_let_through.set()

    assert n_beats == 6


def test_a_task_that_begins_while_the_worker_stops_is_ended_too() -> None:
    """A thread that has just found the worker open starts its task after all others were killed; it must not run on."""
    children = LateChildren()
    heartbeats = _heartbeats(CountingClaims(), MemoryStore(), children)
    heartbeats.end_all(Ending.DRAINED)
    children.is_at_work = True
    heartbeats.beat()

    assert children.ended == [("w:1", Ending.DRAINED)]


def test_a_heartbeat_under_way_does_not_bring_back_a_worker_that_left(server: Server) -> None:
    """The scheduler does not count the slots of a worker that left during its own heartbeat."""
    claims, leases = SlowClaims(server.url), Leases(server.url, NAMES)
    leases.declare(1)
    heartbeats = _heartbeats(claims, MemoryStore())
    beat = threading.Thread(target=heartbeats.beat)
    beat.start()
    assert claims.has_begun.wait(GUARD_SECONDS)
    leave = threading.Thread(target=heartbeats.leave)
    leave.start()
    leave.join(0.2)  # if it does not wait for the heartbeat, it is over now
    claims.is_let_through.set()
    beat.join(GUARD_SECONDS)
    leave.join(GUARD_SECONDS)
    heartbeats.beat()

    assert leases.look().slots == 0
    leases.close()
    claims.close()


def test_an_outage_of_redis_is_logged_once_with_each_cause_and_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log of a worker shows why Redis does not serve, and since when it does again, without a line for each heartbeat."""
    claims = FailingClaims(["refused", "refused", "denied", None, None, "refused"])
    heartbeats = _heartbeats(claims, MemoryStore())
    logger = structlog.testing.CapturingLogger()
    monkeypatch.setattr("worker.heartbeat.log", logger)
    for _ in range(6):
        heartbeats.beat()

    assert [(*call.args, call.kwargs.get("error")) for call in logger.calls] == [
        ("queue_unavailable", "refused"),
        ("queue_unavailable", "denied"),
        ("queue_recovered", None),
        ("queue_unavailable", "refused"),
    ]


def _heartbeats(claims: Claims, store: Store, children: Children | None = None) -> HeartbeatThread:
    children = children or Children(1, "", "")
    return HeartbeatThread(claims, children, store, EXECUTION, worker="w", slots=1, on_end=lambda: None)


def _release(heartbeats: HeartbeatThread, claims: Claims, lease: Lease) -> None:
    with heartbeats.ending(lease):
        claims.release(lease, "an event", counts=True)


def _message(nonce: int) -> TaskMessage:
    expires = int(time.time() * 1000) + 60_000
    return TaskMessage(run=RUN, execution=EXECUTION.id, task=TASK, expires=expires, nonce=f"{nonce:032x}")
