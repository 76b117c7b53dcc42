"""Progress: plan and commits in, what is ready and done out. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from mlho.steps.base import Commit
from scheduler.plan import STAGES, Plan, PlannedTask


def ready_tasks(plan: Plan, commits: Mapping[str, Commit], taken: Collection[str]) -> Iterator[PlannedTask]:
    """Tasks whose needs are all committed, in the plan's order; those taken or done are left out."""
    for task in plan.values():
        if task.name not in commits and task.name not in taken and _is_ready(task, commits):
            yield task


def _is_ready(task: PlannedTask, commits: Mapping[str, Commit]) -> bool:
    return all(name in commits for names in task.needs.values() for name in names)


def done_by_stage(plan: Plan, commits: Collection[str]) -> list[tuple[str, int, int]]:
    """Stage, tasks done and tasks in all, for the stages that the plan has."""
    total = Counter(task.stage for task in plan.values())
    done = Counter(plan[name].stage for name in commits if name in plan)
    return [(stage, done[stage], total[stage]) for stage in STAGES if total[stage]]
