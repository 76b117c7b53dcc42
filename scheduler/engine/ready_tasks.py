"""Progress: what of a plan is ready, and how far each stage is.

A commit is taken in once, and looks only at what waits for it: a plan of a hundred thousand tasks costs no more a task
than one of ten.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from mlho.steps.records import Commit
from scheduler.engine.plan import STAGES, Plan, PlannedTask

MOST_NEEDS: Final = 20_000


@dataclass(slots=True)
class _Need:
    """What tasks wait for together. A plan has many tasks that need the same long list, and few lists."""

    n_missing: int = 0
    waiting: list[int] = field(default_factory=list)
    """Places in the plan of the tasks that wait."""


type _Needs = tuple[_Need, ...]


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
        self._names = list(plan)
        self._place = {name: place for place, name in enumerate(self._names)}
        self._part_of: list[_Needs] = [()] * len(plan)
        self._n_missing = [0] * len(plan)
        self._ready: list[int] = []
        self._total = Counter(task.stage for task in plan.values())
        self._done = Counter(plan[name].stage for name in commits if name in plan)
        needs = self._make_needs(commits)
        for place, (name, task) in enumerate(plan.items()):
            if name not in commits and name not in taken:
                self._add(place, [need for own in task.needs.values() if (need := needs[id(own)]).n_missing])

    def _make_needs(self, commits: Mapping[str, Commit]) -> dict[int, _Need]:
        """What is needed, by the identity of the list that says so; each task learns what it is part of."""
        lists = {id(own): own for task in self._plan.values() for own in task.needs.values()}
        needs = {key: _Need() for key in lists}
        same: dict[tuple[int, int], tuple[_Needs, _Needs]] = {}
        for key, names in lists.items():
            need = needs[key]
            for place in (self._place[name] for name in names if name not in commits):
                need.n_missing += 1
                before = self._part_of[place]
                # One tuple for all that are part of the same; the one before is kept, so that its identity stays its own.
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
        heapq.heappush(self._ready, self._place[name])

    def take_in(self, name: str) -> None:
        """Count a task as done, and make ready what waited for it alone."""
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

    def by_stage(self) -> list[tuple[str, int, int]]:
        """Stage, tasks done and tasks in all, for the stages that the plan has."""
        return [(stage, self._done[stage], self._total[stage]) for stage in STAGES if self._total[stage]]
