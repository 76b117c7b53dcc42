"""Measure the scheduler's memory for a large run: 100,000 tasks, from the plan to the last commit.

    python benchmarks/queue_memory.py [TASKS | --short]

The plan is that of a real specification with the largest allowed numbers of iterations (1,000) and folds (20), and with as
many partitions as are needed to reach the number of tasks. Its steps do nothing.

The run uses the scheduler's own loop, two workers and a folder. The figure is the peak memory of this process.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from _figures import show
from _queueing import N_WORKERS, NullObserver, Planned, how_many, peak_mb, show_load

from mlho.spec.training import parse_spec
from mlho.steps.base import InputFile
from mlho.store.local import LocalStore
from scheduler.engine.loop import carry_out
from scheduler.engine.plan import Manifest, Plan, plan_run
from tests.services.queue_home import Home

N_TASKS, N_SHORT = 100_000, 2_000
N_FOLDS, N_BLOCKS, N_SAMPLES = 20, 16, 1_000_000
MOST_MB = 200.0
SPEC = """
apiVersion: mlho.io/v1alpha1
kind: TrainingRun
metadata: {{name: large}}
spec:
  data: {{source: native, tables: {{events: events/, labels: labels.parquet}}}}
  cohort: {{outcome: label, index: {{column: index_date}}}}
  validation: {{iterations: {iterations}, folds: {folds}}}
  candidates: [{{classifier: glmboost}}]
"""


def main() -> int:
    n_tasks = how_many(__doc__, "TASKS", usual=N_TASKS, short=N_SHORT)
    show_load()
    bare, began = peak_mb(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Home(Path(folder)) as home:
        for _ in range(N_WORKERS):
            home.start_worker()
        manifest = _manifest(n_tasks)
        plan = _plan(manifest, n_tasks)
        planned = peak_mb()
        with home.executor() as executor:
            home.wait_for_slots(N_WORKERS, seconds=60)
            run = Planned(plan, home.folder, LocalStore(home.store.root), manifest)
            carry_out(run, executor, NullObserver(), n_slots=lambda: executor.counters.window)
    is_ok = show(f"a scheduler of {len(plan):,} tasks, peak memory", peak_mb(), MOST_MB, "MB")
    print(
        f"  {bare:.0f} MB before, {planned:.0f} MB with the plan; all done after {time.perf_counter() - began:.0f} s"
    )
    show_load()
    return 0 if is_ok else 1


def _manifest(n_tasks: int) -> Manifest:
    n_partitions = max(4, n_tasks - _iterations(n_tasks) * (N_FOLDS + 2))
    events = tuple(_file(f"events/part-{number:05d}.parquet", number) for number in range(n_partitions))
    return Manifest({"events": events, "labels": (_file("labels.parquet", 0),)})


def _file(key: str, number: int) -> InputFile:
    return InputFile(key=key, size=1_000_000 + number, version=f"{number:064x}")


def _plan(manifest: Manifest, n_tasks: int) -> Plan:
    spec = parse_spec(SPEC.format(iterations=_iterations(n_tasks), folds=N_FOLDS))
    plan = dict(plan_run(spec.spec, manifest, n_blocks=N_BLOCKS, n_samples=N_SAMPLES))
    for name, task in plan.items():
        plan[name] = replace(task, kind="test_noop")
    return plan


def _iterations(n_tasks: int) -> int:
    return min(1000, max(1, n_tasks // (2 * (N_FOLDS + 2))))


if __name__ == "__main__":
    sys.exit(main())
