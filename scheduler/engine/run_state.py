"""State of the run loop: tasks committed, in flight, quarantined, and waiting for the store."""

import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field

from mlho.errors import StoreOutage
from mlho.protocol.failures import Quarantined
from mlho.steps.records import Outcome
from scheduler.engine.commits import Commits
from scheduler.engine.outages import StoreHealth
from scheduler.engine.plan import Plan, PlannedTask
from scheduler.engine.ready_tasks import ReadyTasks


@dataclass
class LoopState:
    """Commits by task name, tasks in flight, attempts."""

    plan: Plan
    commits: Commits
    health: StoreHealth
    is_whole: bool = False
    """The plan is complete, not only its first tasks."""

    running: "dict[Future[Outcome], PlannedTask]" = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    n_lost: Counter[str] = field(default_factory=Counter)
    """Number of times the commit record of a task was found missing or damaged, by task name."""

    n_new: int = 0
    quarantined: dict[str, Quarantined] = field(default_factory=dict)
    """Tasks that used up their attempts, by name. The other tasks continue."""

    forgotten: set[str] = field(default_factory=set)
    """Digests of the damaged blobs that are being rebuilt."""

    resting: dict[str, float] = field(default_factory=dict)
    """Tasks that failed during an outage of the store, by name: monotonic time of the next attempt."""

    again_at: float = 0.0
    """Monotonic time before which no task is handed out."""

    def has_needs_of(self, task: PlannedTask) -> bool:
        """Return whether all inputs of a task are committed.

        An input that is being rebuilt is not an error of the task.
        """
        return all(need in self.commits for needs in task.needs.values() for need in needs)

    def taken(self) -> set[str]:
        """Return the names of the tasks that must not be handed out: in flight, quarantined, or waiting
        for the store.
        """
        under_way = {task.name for task in self.running.values()}
        return under_way | self.quarantined.keys() | self.resting.keys()

    @property
    def is_waiting(self) -> bool:
        """Return whether the loop waits only for the store."""
        return bool(self.resting) or time.monotonic() < self.again_at

    def rest(self, planned: PlannedTask, error: StoreOutage) -> None:
        """Delay a task, and all tasks that are not yet handed out, until the store may serve again."""
        self.again_at = time.monotonic() + self.health.failed(planned.name, error)
        self.resting[planned.name] = self.again_at

    def rested(self) -> list[str]:
        """Return the names of the tasks whose delay has ended. They are ready again."""
        names = [name for name, until in self.resting.items() if until <= time.monotonic()]
        for name in names:
            del self.resting[name]
        return names

    def recompute_ready(self) -> ReadyTasks:
        """Recompute the ready tasks after commits were lost or the plan has grown."""
        return ReadyTasks(self.plan, self.commits, self.taken())
