"""Measure the pause of a run between two stages, from the last commit of one to the first start of the next.

    python benchmarks/queue_stages.py [STAGES | --short]

A plan of many small stages runs through the scheduler's own loop with two workers and a folder. Each stage waits for all
tasks of the previous one. The time of a commit is that of its file; the task itself notes the time of its start.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from _figures import show
from _queueing import N_WORKERS, NullObserver, Planned, how_many, planned, show_load

from mlho.steps.records import Commit, read_commit
from mlho.store.keys import commit_key
from mlho.store.local import LocalStore
from scheduler.engine.loop import carry_out
from scheduler.engine.plan import PlannedTask
from tests.services.queue_home import Home
from tests.services.queue_steps import noted_times

N_STAGES, N_SHORT, N_TASKS = 400, 30, 8
MOST_MS = 300.0


def main() -> int:
    n_stages = how_many(__doc__, "STAGES", usual=N_STAGES, short=N_SHORT)
    show_load()
    gaps = _gaps_ms(n_stages)
    median, p99, most = np.percentile(gaps, [50, 99, 100])
    is_ok = show(f"between two of {n_stages} stages, p99", p99, MOST_MS, "ms")
    print(f"  median {median:.1f} ms, longest {most:.1f} ms")
    show_load()
    return 0 if is_ok else 1


def _gaps_ms(n_stages: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder, Home(Path(folder)) as home:
        for _ in range(N_WORKERS):
            home.start_worker()
        stages = _stages(n_stages, home.starts)
        run = Planned({task.name: task for stage in stages for task in stage}, home.folder, home.store)
        with home.executor() as executor:
            home.wait_for_slots(N_WORKERS, seconds=60)
            carry_out(run, executor, NullObserver(), n_slots=lambda: executor.counters.window)
        committed = _times_of_commits(run)
        starts = [min(noted_times(home.starts, task.name)[0] for task in stage) for stage in stages]
    ends = [max(committed[task.name] for task in stage) for stage in stages]
    return [1000 * (start - end) for end, start in zip(ends[:-1], starts[1:], strict=True)]


def _stages(n_stages: int, starts: Path) -> list[list[PlannedTask]]:
    stages: list[list[PlannedTask]] = []
    for number in range(n_stages):
        before = tuple(task.name for task in stages[-1]) if stages else ()
        stages.append(
            [planned("test_noted", f"{number}/{index}", starts, before) for index in range(N_TASKS)]
        )
    return stages


def _times_of_commits(run: Planned) -> dict[str, float]:
    """Return the time of each task's commit in a finished run, in seconds since 1970, by task name."""
    assert isinstance(run.store, LocalStore)
    commits: dict[str, Commit] = {}
    times = {}
    for name, task in run.plan.items():
        key = task.bind(commits).key
        commit = read_commit(run.store, key)
        assert commit is not None
        commits[name] = commit
        times[name] = run.store.path(commit_key(key)).stat().st_mtime
    return times


if __name__ == "__main__":
    sys.exit(main())
