"""The outbox and the watcher use the same tasks from two threads."""

import math
from collections.abc import Sequence

import pytest

from mlho.protocol.documents import Execution, State
from mlho.protocol.messages import TaskMessage
from mlho.protocol.redis_client import QueueUnavailable
from mlho.steps.proposals import SOLE_LEADER, Leader
from scheduler.queue.dispatch import Outbox
from scheduler.queue.executor_state import Pending, QueueCounters

EXECUTION = Execution(run="0123456789abcdef", number=1, state=State.OPEN, data="")


class QuickWorker:
    """A sender whose messages a worker answers at once: the watcher has scheduled the retry when ``send`` returns."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending

    def send(self, _messages: Sequence[TaskMessage], *, leader: Leader) -> None:
        self._pending.send_at(42.0)


class NoRedis:
    """A sender without Redis."""

    def send(self, _messages: Sequence[TaskMessage], *, leader: Leader) -> None:
        raise QueueUnavailable("broker: does not answer.")


def test_retry_that_is_scheduled_during_the_sending_stays_scheduled() -> None:
    """A task that failed before its sender returned is sent again at the scheduled time, and does not count as lost."""
    pending = Pending("a" * 64, "fit", {}, due_at=math.inf)
    outbox = Outbox(EXECUTION, QuickWorker(pending), SOLE_LEADER, QueueCounters())  # type: ignore[arg-type]

    outbox.send([pending])

    assert (pending.sent_at, pending.due_at) == (None, 42.0)


def test_task_that_was_not_sent_can_be_sent_again() -> None:
    """After an error of the queue, no task counts as sent."""
    pending, counters = Pending("a" * 64, "fit", {}), QueueCounters()
    outbox = Outbox(EXECUTION, NoRedis(), SOLE_LEADER, counters)  # type: ignore[arg-type]

    with pytest.raises(QueueUnavailable):
        outbox.send([pending])

    assert (pending.sent_at, counters.sent) == (None, 0)
