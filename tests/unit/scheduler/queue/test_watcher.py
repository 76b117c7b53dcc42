"""The watcher of an execution while Redis does not answer."""

import socket
from collections.abc import Callable
from typing import cast

import pytest

from mlho.protocol.documents import Execution, State, cancel_key, execution_key, read_execution
from mlho.protocol.redis_client import QueueUnavailable
from mlho.steps.proposals import SOLE_LEADER, Leader
from mlho.store.memory import MemoryStore
from scheduler.queue.dispatch import Outbox
from scheduler.queue.executions import RunCancelled, cancel_execution
from scheduler.queue.executor_state import InFlight, QueueCounters
from scheduler.queue.failure_policy import FailurePolicy
from scheduler.queue.leases import Leases
from scheduler.queue.run import _ending, cancel_run
from scheduler.queue.watcher import QueueWatcher

EXECUTION = Execution(run="0123456789abcdef", number=1, state=State.OPEN, data="")


@pytest.fixture
def unused_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class LostRedis:
    """The client of a Redis that does not answer."""

    def mend(self, most: int) -> int:
        raise QueueUnavailable("broker: does not answer.")

    def cancel(self) -> None:
        raise QueueUnavailable("broker: does not answer.")


class LostLeader(Leader):
    """The leadership in compat mode, of which Redis is a part."""

    def check(self) -> None:
        raise QueueUnavailable("broker: does not answer.")


@pytest.mark.parametrize("leader", [SOLE_LEADER, LostLeader()], ids=["strict", "compat"])
def test_a_run_is_cancelled_by_the_store_while_redis_does_not_answer(leader: Leader) -> None:
    """The flag in the store decides in both modes of a store, so that no cancellation waits for Redis."""
    store, in_flight = MemoryStore(), InFlight(QueueCounters(is_degraded=True))
    watcher = QueueWatcher(
        store,
        EXECUTION,
        cast(Leases, LostRedis()),
        leader,
        in_flight,
        cast(Outbox, None),
        cast(FailurePolicy, None),
        is_new=True,
    )
    cancel_execution(store, EXECUTION)

    with pytest.raises(RunCancelled):
        watcher._poll()


@pytest.mark.parametrize("error", [RunCancelled("cancelled"), None], ids=["cancelled", "finished"])
def test_only_a_cancelled_run_ends_without_redis_in_compat_mode(error: RunCancelled | None) -> None:
    """A cancelled execution needs no closing, because its flag ends it. Others wait for the leadership to be confirmed."""
    store, waits = MemoryStore(), []

    class Waits(LostLeader):
        def wait(self, *, seconds: float = 0.0, meanwhile: Callable[[], None] = lambda: None) -> None:
            waits.append(seconds)
            self.check()

    def end() -> None:
        with _ending(store, EXECUTION, cast(Leases, LostRedis()), Waits(), cleans_up=True):
            if error is not None:
                raise error

    with pytest.raises(RunCancelled if error else QueueUnavailable):
        end()
    assert waits == ([] if error else [60.0])
    assert read_execution(store, EXECUTION.run) is None


def test_a_cancellation_that_cannot_reach_redis_states_that_it_is_in_the_store(unused_port: int) -> None:
    """The command fails, because its address of Redis is wrong or Redis is down, and states that the run ends nevertheless."""
    store = MemoryStore()
    store.compare_and_swap(execution_key(EXECUTION.run), EXECUTION.to_bytes(), expected=None)

    with pytest.raises(QueueUnavailable, match=r"The run is cancelled nevertheless.* within seconds"):
        cancel_run(store, EXECUTION.run, f"redis://127.0.0.1:{unused_port}/0")
    assert store.exists(cancel_key(EXECUTION))
