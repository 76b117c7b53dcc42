"""Ready and finished tasks, from plan and commits alone."""

from hypothesis import given
from hypothesis import strategies as st

from mlho.steps.records import Commit
from scheduler.engine.plan import Manifest, PlannedTask, plan_run
from scheduler.engine.progress import StageProgress
from scheduler.engine.ready_tasks import MOST_NEEDS, ReadyTasks
from tests.builders import make_spec

PLAN = {
    "a": PlannedTask("a", "define_cohort", "cohort"),
    "b": PlannedTask("b", "check_splits", "learn", needs={"cohort": ("a",)}),
    "c": PlannedTask("c", "run_fold", "learn", needs={"cohort": ("a",), "splits": ("b",)}),
}


def committed(*names: str) -> dict[str, Commit]:
    return {name: Commit(task=name, kind="x", files={}, seconds=0) for name in names}


def all_ready(progress: ReadyTasks) -> list[str]:
    return [task.name for ready in iter(lambda: progress.next_ready(100), []) for task in ready]


def ready(done, taken=()):
    return all_ready(ReadyTasks(PLAN, committed(*done), taken))


def test_a_task_is_ready_when_all_its_needs_are_committed():
    """A task is ready when all its needs are committed, and only until it is taken or done."""
    assert ready([]) == ["a"]
    assert ready([], taken=["a"]) == []
    assert ready(["a"]) == ["b"]
    assert ready(["a", "b"]) == ["c"]
    assert ready(["a", "b", "c"]) == []


def test_a_lost_commit_makes_its_task_ready_again():
    """A lost commit makes its task ready again, and the tasks that need it wait."""
    assert ready(["b", "c"]) == ["a"]


def test_done_is_counted_by_stage_in_order():
    """Finished tasks are counted by stage in order. Stages without tasks and commits of other plans are left out."""
    assert ReadyTasks(PLAN, committed("a", "b", "other")).by_stage() == (
        StageProgress("cohort", 1, 1),
        StageProgress("learn", 1, 2),
    )


def test_a_commit_makes_tasks_ready_that_waited_only_for_it():
    """A commit is counted and makes the tasks ready that waited only for it. A task that is put back is returned once more."""
    progress = ReadyTasks(PLAN, {})

    assert all_ready(progress) == ["a"]
    progress.take_in("a")
    assert progress.by_stage() == (StageProgress("cohort", 1, 1), StageProgress("learn", 0, 2))
    assert all_ready(progress) == ["b"]
    progress.put_back("b")
    assert all_ready(progress) == ["b"]
    progress.take_in("b")
    assert all_ready(progress) == ["c"]


def test_at_most_the_requested_number_of_tasks_is_returned():
    """At most the requested number of tasks is returned, in the plan's order. A negative number gives none."""
    plan = {name: PlannedTask(name, "check_splits", "learn") for name in "abc"}
    progress = ReadyTasks(plan, {})

    assert [task.name for task in progress.next_ready(2)] == ["a", "b"]
    assert progress.next_ready(0) == progress.next_ready(-1) == []
    assert all_ready(progress) == ["c"]


def test_tasks_with_very_many_needs_are_returned_a_few_at_a_time():
    """Tasks with very many needs are returned a few at a time, because each holds the keys of all its inputs in the scheduler's memory."""
    wide = tuple(f"part{number}" for number in range(MOST_NEEDS))
    plan = {name: PlannedTask(name, "encode_partition", "encode") for name in wide}
    plan |= {name: PlannedTask(name, "merge_dictionary", "pack", needs={"all": wide}) for name in "ab"}
    progress = ReadyTasks(plan, {name: Commit(task=name, kind="x", files={}, seconds=0) for name in wide})

    assert [task.name for task in progress.next_ready(9)] == ["a"]
    assert [task.name for task in progress.next_ready(9)] == ["b"]
    assert progress.next_ready(9) == []


@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_every_order_of_commits_ends_the_plan(random, n_blocks):
    """Any order of commits finishes the plan, with each task done once."""
    manifest = Manifest({"events": (), "labels": ()})
    plan = plan_run(make_spec().spec, manifest, n_blocks=n_blocks, n_samples=10**6)
    progress, done = ReadyTasks(plan, {}), []
    ready_now = all_ready(progress)
    while ready_now:
        name = ready_now.pop(random.randrange(len(ready_now)))
        progress.take_in(name)
        done.append(name)
        ready_now += all_ready(progress)

    assert sorted(done) == sorted(plan)
