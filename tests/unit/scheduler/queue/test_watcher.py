"""The watcher of an execution while Redis does not answer."""

from typing import cast

import pytest

from mlho.protocol.documents import Execution, State
from mlho.protocol.redis_client import QueueUnavailable
from mlho.steps.proposals import SOLE_LEADER
from mlho.store.memory import MemoryStore
from scheduler.queue.dispatch import Outbox
from scheduler.queue.executions import RunCancelled, cancel_execution
from scheduler.queue.executor_state import InFlight, QueueCounters
from scheduler.queue.failure_policy import FailurePolicy
from scheduler.queue.leases import Leases
from scheduler.queue.watcher import QueueWatcher

EXECUTION = Execution(run="0123456789abcdef", number=1, state=State.OPEN, data="")


class LostRedis:
    """The client of a Redis that does not answer."""

    def mend(self, most: int) -> int:
        raise QueueUnavailable("broker: does not answer.")

    def cancel(self) -> None:
        raise QueueUnavailable("broker: does not answer.")


def test_a_run_is_cancelled_by_the_store_while_redis_does_not_answer() -> None:
    """The flag in the store decides, so that nobody has to wait for Redis to cancel a run."""
    store, in_flight = MemoryStore(), InFlight(QueueCounters(is_degraded=True))
    watcher = QueueWatcher(
        store,
        EXECUTION,
        cast(Leases, LostRedis()),
        SOLE_LEADER,
        in_flight,
        cast(Outbox, None),
        cast(FailurePolicy, None),
        is_new=True,
    )
    cancel_execution(store, EXECUTION)

    with pytest.raises(RunCancelled):
        watcher._poll()
