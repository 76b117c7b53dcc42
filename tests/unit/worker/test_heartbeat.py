"""A heartbeat does not take back a lease that its worker releases at the same time."""

import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from mlho.protocol.documents import Execution, State
from mlho.protocol.messages import TaskMessage
from mlho.protocol.names import Names
from mlho.store.local import LocalStore
from scheduler.queue.leases import Leases
from tests.limits import GUARD_SECONDS
from tests.services.redis_servers import Server
from worker.child_processes import Children
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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "valkey") as running:
        yield running


def test_a_lease_released_during_a_heartbeat_can_be_claimed_at_once(server: Server, tmp_path: Path) -> None:
    """A heartbeat that was prepared before the release of a lease does not take the lease again."""
    claims, leases = SlowClaims(server.url), Leases(server.url, NAMES)
    leases.declare(1)
    heartbeats = HeartbeatThread(
        claims,
        Children(1, "", ""),
        LocalStore(tmp_path / "store"),
        EXECUTION,
        worker="w",
        slots=1,
        on_end=lambda: None,
    )
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


def _release(heartbeats: HeartbeatThread, claims: Claims, lease: Lease) -> None:
    with heartbeats.ending(lease):
        claims.release(lease, "an event", counts=True)


def _message(nonce: int) -> TaskMessage:
    expires = int(time.time() * 1000) + 60_000
    return TaskMessage(run=RUN, execution=EXECUTION.id, task=TASK, expires=expires, nonce=f"{nonce:032x}")
