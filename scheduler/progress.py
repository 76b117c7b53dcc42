"""Progress: what of a plan is ready, and how far each stage is.

A commit is taken in once, and looks only at what waits for it: a plan of a hundred thousand tasks costs no more a task
than one of ten.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from mlho.steps.base import Commit
from scheduler.plan import STAGES, Plan, PlannedTask

MOST_NEEDS: Final = 20_000


class Progress:
    """A plan under way.

    Parameters
    ----------
    plan : Plan
        In an order in which each task comes after what it needs.
    commits : mapping of task name to Commit
        What is done already.
    taken : collection of task names
        What is not to be handed out: under way, or given up.
    """

    def __init__(self, plan: Plan, commits: Mapping[str, Commit], taken: Collection[str] = ()) -> None:
        self._plan = plan
        self._order = {name: place for place, name in enumerate(plan)}
        self._names = list(plan)
        self._missing: dict[str, int] = {}
        self._ready: list[int] = []
        self._total = Counter(task.stage for task in plan.values())
        self._done = Counter(plan[name].stage for name in commits if name in plan)
        waiting: dict[str, list[str]] = {}
        for name, task in plan.items():
            if name not in commits and name not in taken:
                self._add(name, task, commits, waiting)
        self._waiting_for = _shared(waiting)

    def _add(
        self,
        name: str,
        task: PlannedTask,
        commits: Mapping[str, Commit],
        waiting: dict[str, list[str]],
    ) -> None:
        missing = {need for needs in task.needs.values() for need in needs} - commits.keys()
        for need in missing:
            waiting.setdefault(need, []).append(name)
        if missing:
            self._missing[name] = len(missing)
        else:
            self.put_back(name)

    def next_ready(self, most: int) -> list[PlannedTask]:
        """The first tasks in the plan's order whose needs are all committed; each is handed out once.

        Parameters
        ----------
        most : int
            How many at most. They are fewer where they need very many others, for whose keys a task has to have room; ask again.
        """
        ready: list[PlannedTask] = []
        n_needs = 0
        while self._ready and len(ready) < most and n_needs < MOST_NEEDS:
            task = self._plan[self._names[heapq.heappop(self._ready)]]
            n_needs += sum(map(len, task.needs.values()))
            ready.append(task)
        return ready

    def put_back(self, name: str) -> None:
        """Make a task ready (again)."""
        heapq.heappush(self._ready, self._order[name])

    def take_in(self, name: str) -> None:
        """Count a task as done, and make ready what waited for it alone."""
        self._done[self._plan[name].stage] += 1
        for waiting in self._waiting_for.pop(name, ()):
            self._missing[waiting] -= 1
            if not self._missing[waiting]:
                del self._missing[waiting]
                self.put_back(waiting)

    def by_stage(self) -> list[tuple[str, int, int]]:
        """Stage, tasks done and tasks in all, for the stages that the plan has."""
        return [(stage, self._done[stage], self._total[stage]) for stage in STAGES if self._total[stage]]


def _shared(lists: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    """The same, with equal values being one: of a plan's many partitions, each is waited for by the same tasks."""
    seen: dict[tuple[str, ...], tuple[str, ...]] = {}
    return {
        name: seen.setdefault(key, key) for name, key in ((name, tuple(own)) for name, own in lists.items())
    }
