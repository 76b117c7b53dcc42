"""What a run's loop knows: what is committed, under way, given up, and what waits for the store."""

import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from mlho.errors import StoreOutage
from mlho.protocol.failures import Quarantined
from mlho.steps.records import Outcome
from scheduler.engine.commits import Commits
from scheduler.engine.outages import StoreHealth
from scheduler.engine.plan import Plan, PlannedTask
from scheduler.engine.ready_tasks import Progress


class Observer(Protocol):
    """Whoever watches a run, such as a progress bar."""

    def update(self, stages: list[tuple[str, int, int]], running: int) -> None:
        """Show the stages (name, done, all) and how many tasks run."""


class Shown:
    """The observer, which can be shown the same again while the store is waited for: that is where a run is stopped."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._shown: tuple[list[tuple[str, int, int]], int] | None = None

    def update(self, stages: list[tuple[str, int, int]], running: int) -> None:
        """Show it."""
        self._shown = (stages, running)
        self._observer.update(stages, running)

    def again(self) -> None:
        """Show the same once more."""
        if self._shown is not None:
            self._observer.update(*self._shown)


@dataclass
class State:
    """Commits by task name, tasks under way, attempts."""

    plan: Plan
    commits: Commits
    health: StoreHealth
    running: "dict[Future[Outcome], PlannedTask]" = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    n_lost: Counter[str] = field(default_factory=Counter)
    """How often the commit record of a task was found lost, by its name."""

    n_new: int = 0
    quarantined: dict[str, Quarantined] = field(default_factory=dict)
    """Tasks that used up their starts, by name; the others go on."""

    forgotten: set[str] = field(default_factory=set)
    """Digests of the blobs that were damaged, and are made again."""

    resting: dict[str, float] = field(default_factory=dict)
    """Tasks that the store did not serve, by name: when each may start again, by the monotonic clock."""

    again_at: float = 0.0
    """Nothing is handed out before."""

    def has_needs_of(self, task: PlannedTask) -> bool:
        """Whether all that a task reads is there; one of its inputs may be made again meanwhile, which is no fault of its own."""
        return all(need in self.commits for needs in task.needs.values() for need in needs)

    def taken(self) -> set[str]:
        """Names of the tasks that are not to be handed out: under way, quarantined, or at rest."""
        under_way = {task.name for task in self.running.values()}
        return under_way | self.quarantined.keys() | self.resting.keys()

    @property
    def is_waiting(self) -> bool:
        """Whether it is only the store that is waited for."""
        return bool(self.resting) or time.monotonic() < self.again_at

    def rest(self, planned: PlannedTask, error: StoreOutage) -> None:
        """Have a task, and all that is not handed out yet, wait for the store."""
        self.again_at = time.monotonic() + self.health.failed(planned.name, error)
        self.resting[planned.name] = self.again_at

    def rested(self) -> list[str]:
        """Names of the tasks that have waited long enough; they are ready again."""
        names = [name for name, until in self.resting.items() if until <= time.monotonic()]
        for name in names:
            del self.resting[name]
        return names

    def look_again(self) -> Progress:
        """Work out anew what is ready, when commits were lost or the plan has grown."""
        return Progress(self.plan, self.commits, self.taken())
