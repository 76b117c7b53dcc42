"""Ready tasks of a plan and progress by stage.

A commit is counted once and touches only the tasks that depend on it, so that the cost per task does not grow
with the plan, from ten tasks to a hundred thousand.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from mlho.steps.records import Commit
from scheduler.engine.plan import STAGES, Plan, PlannedTask
from scheduler.engine.progress import StageProgress, Stages

MOST_NEEDS: Final = 20_000


@dataclass(slots=True)
class _Need:
    """A dependency list that tasks share. Many tasks of a plan need the same long list, and there are few distinct lists."""

    n_missing: int = 0
    waiting: list[int] = field(default_factory=list)
    """Indices in the plan of the waiting tasks."""


type _Needs = tuple[_Need, ...]


class ReadyTasks:
    """The ready tasks of a plan in progress.

    Parameters
    ----------
    plan : Plan
        Tasks in topological order.
    commits : mapping of task name to Commit
        Tasks that are already committed.
    taken : collection of task names
        Tasks that must not be handed out: in flight, quarantined, or waiting for the store.
    """

    def __init__(self, plan: Plan, commits: Mapping[str, Commit], taken: Collection[str] = ()) -> None:
        self._plan = plan
        self._names = list(plan)
        self._place = {name: place for place, name in enumerate(self._names)}
        self._part_of: list[_Needs] = [()] * len(plan)
        self._n_missing = [0] * len(plan)
        self._ready: list[int] = []
        self._total = Counter(task.stage for task in plan.values())
        self._done = Counter(plan[name].stage for name in commits if name in plan)
        needs = self._make_needs(commits)
        for name, place in self._place.items():  # shares the mapping's integers; enumerate() makes new ones
            if name not in commits and name not in taken:
                missing = [
                    need for names in plan[name].needs.values() if (need := needs[id(names)]).n_missing
                ]
                self._add(place, missing)

    def _make_needs(self, commits: Mapping[str, Commit]) -> dict[int, _Need]:
        """Return the dependency lists by identity. Record for each task the lists that contain it."""
        lists = {id(names): names for task in self._plan.values() for names in task.needs.values()}
        needs = {key: _Need() for key in lists}
        same: dict[tuple[int, int], tuple[_Needs, _Needs]] = {}
        for key, names in lists.items():
            need = needs[key]
            for place in (self._place[name] for name in names if name not in commits):
                need.n_missing += 1
                before = self._part_of[place]
                # All tasks in the same lists share one tuple. Keep the previous tuple alive, so that its id
                # is not reused.
                _, self._part_of[place] = same.setdefault((id(before), key), (before, (*before, need)))
        return needs

    def _add(self, place: int, needs: list[_Need]) -> None:
        for need in needs:
            need.waiting.append(place)
        if needs:
            self._n_missing[place] = len(needs)
        else:
            heapq.heappush(self._ready, place)

    def next_ready(self, most: int) -> list[PlannedTask]:
        """Return the first tasks in plan order whose dependencies are all committed.

        Each task is handed out once.

        Parameters
        ----------
        most : int
            Maximum number of tasks. Fewer are returned if they have very many dependencies, because a task holds the keys of
            all of them; call again for the rest.
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
        heapq.heappush(self._ready, self._place[name])

    def take_in(self, name: str) -> None:
        """Count a task as done. Make the tasks ready that waited only for this one."""
        self._done[self._plan[name].stage] += 1
        place = self._place[name]
        needs, self._part_of[place] = self._part_of[place], ()
        for need in needs:
            need.n_missing -= 1
            if not need.n_missing:
                self._release(need.waiting)

    def _release(self, places: list[int]) -> None:
        for place in places:
            self._n_missing[place] -= 1
            if not self._n_missing[place]:
                heapq.heappush(self._ready, place)

    def by_stage(self) -> Stages:
        """Return the progress of each stage of the plan."""
        return tuple(
            StageProgress(stage, self._done[stage], self._total[stage])
            for stage in STAGES
            if self._total[stage]
        )
