"""The queue's executor: sends ready tasks to workers and returns futures of their outcomes.

The watcher settles them: the commit record exists, the task is sent again, or its future fails.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Self

from mlho.errors import StoreOutage
from mlho.protocol.documents import Execution, place_in, write_task
from mlho.protocol.redis_client import QueueUnavailable
from mlho.steps.base import Task
from mlho.steps.proposals import SOLE_LEADER, Leader
from mlho.steps.records import Outcome
from mlho.store.base import Store
from scheduler.engine.outages import StoreHealth
from scheduler.queue.dispatch import Outbox, Sender
from scheduler.queue.errors import still_quarantined
from scheduler.queue.executions import quarantined_for, quarantined_tasks
from scheduler.queue.executor_state import InFlight, Pending, QueueCounters
from scheduler.queue.failure_policy import FailurePolicy
from scheduler.queue.leases import Leases
from scheduler.queue.watcher import QueueWatcher


class QueueExecutor:
    """Runs tasks on the workers of one execution.

    Parameters
    ----------
    leader : Leader
        Checked before anything is sent or decided.
    is_new : bool
        Whether no task of the execution can have run yet.
    health : StoreHealth, optional
        Receives outages of the store that workers report.
    """

    def __init__(
        self,
        store: Store,
        execution: Execution,
        leases: Leases,
        sender: Sender,
        *,
        leader: Leader = SOLE_LEADER,
        is_new: bool,
        health: StoreHealth | None = None,
    ) -> None:
        self.counters = QueueCounters(health=health or StoreHealth())
        self.is_new = is_new
        self._store = store
        self._run = execution.run
        self._leader = leader
        self._quarantined: frozenset[str] = frozenset()
        self._in_flight = InFlight(self.counters)
        self._outbox = Outbox(execution, sender, leader, self.counters)
        policy = FailurePolicy(store, execution, leader, self._in_flight, self._outbox)
        self._watcher = QueueWatcher(
            store, execution, leases, leader, self._in_flight, self._outbox, policy, is_new=is_new
        )

    def __enter__(self) -> Self:
        self._quarantined = frozenset(quarantined_tasks(self._store, self._run))
        self._watcher.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._watcher.stop()

    def submit(self, task: Task) -> "Future[Outcome]":
        """Send one task to the workers, as :meth:`submit_all` does."""
        return self.submit_all([task])[0]

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        """Send tasks to the workers in one batch.

        The future of each task returns its outcome or raises its error. Raise LeadershipLost if another scheduler is the leader.
        """
        # In compat mode without Redis the watcher sends the tasks, after its own check.
        with suppress(QueueUnavailable):
            self._leader.check()
        futures: list[Future[Outcome]] = []
        fresh: list[tuple[Pending, Task]] = []
        try:
            for task in tasks:
                future, pending = self._register(task)
                futures.append(future)
                if pending is not None:
                    fresh.append((pending, task))
            self._store.each(lambda pair: write_task(self._store, pair[1], pair[0].task), fresh)
        except StoreOutage:
            for pending, _ in fresh:
                self._in_flight.pop(pending)  # the loop hands them out again, and they must not count as sent
            raise
        try:
            self._outbox.send([pending for pending, _ in fresh])
        except QueueUnavailable as error:
            self.counters.note_outage(error)
            for pending, _ in fresh:
                pending.due_at = 0.0  # the watcher sends it when Redis is back
        return futures

    def _register(self, task: Task) -> "tuple[Future[Outcome], Pending | None]":
        """Return the future of a task, and the pending entry to send if the task is not yet in flight."""
        key = task.key
        known = quarantined_for(self._store, self._run, key) if key in self._quarantined else None
        if known is None:
            return self._in_flight.add(key, task.kind, place_in(task.params))
        self.counters.quarantined += 1
        future: Future[Outcome] = Future()
        future.set_exception(still_quarantined(self._run, task.kind, key, *known))
        return future, None
