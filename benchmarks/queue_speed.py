"""Measure the queue's own cost: 10,000 empty tasks dispatched, run, committed and observed; and one task at a time.

    python benchmarks/queue_speed.py [TASKS | --short]

Workers are two processes with one slot each, the server is Valkey from its wheel, and the store is a folder. The remaining
cost is that of signing, claims, leases, child processes and commit records. The folder is in ``TMPDIR``; a second line shows
the same in memory (``/dev/shm``); the difference is the cost of the disk. CPU seconds of all processes are printed, because
wall times mean little on a busy machine.
"""

import os
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from _command import processes_below
from _figures import show
from _queueing import N_WORKERS, how_many, show_load

from mlho.steps.base import Task
from mlho.steps.records import Outcome
from scheduler.queue.executor import QueueExecutor
from tests.services.queue_home import Home, result
from tests.services.queue_steps import task

N_TASKS, N_SHORT, N_ALONE = 10_000, 1_000, 300
MOST_SECONDS, MOST_MS = 14.0, 3.0
IN_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Taken:
    """Resources used by a number of tasks."""

    wall_seconds: float
    cpu_seconds: float
    alone_ms: float


def main() -> int:
    n_tasks = how_many(__doc__, "TASKS", usual=N_TASKS, short=N_SHORT)
    show_load()
    taken = _measure(n_tasks, None)
    is_fast = show(
        f"{n_tasks:,} no-op tasks, {N_WORKERS} workers, in a folder",
        taken.wall_seconds,
        MOST_SECONDS * n_tasks / N_TASKS,
        "s",
    )
    is_cheap = show("a worker's time for one task", _ms(taken.wall_seconds, n_tasks), MOST_MS, "ms")
    _tell("in a folder", taken, n_tasks)
    if IN_MEMORY.is_dir():
        _tell("in memory", _measure(n_tasks, IN_MEMORY), n_tasks)
    show_load()
    return 0 if is_fast and is_cheap else 1


def _measure(n_tasks: int, place: Path | None) -> Taken:
    with tempfile.TemporaryDirectory(dir=place) as folder, Home(Path(folder)) as home:
        for _ in range(N_WORKERS):
            home.start_worker()
        with home.executor() as executor:
            home.wait_for_slots(N_WORKERS, seconds=60)
            result(executor.submit(_noop("warm")))
            before = _cpu_seconds()
            seconds = _run_all(executor, n_tasks)
            cpu = _cpu_seconds() - before
            alone = [_seconds_of(executor, f"alone{i}") for i in range(min(N_ALONE, n_tasks))]
    return Taken(seconds, cpu, 1000 * median(alone))


def _tell(where: str, taken: Taken, n_tasks: int) -> None:
    print(
        f"  {where}: {taken.wall_seconds:.2f} s, CPU of all processes {taken.cpu_seconds:.1f} s ({1000 * taken.cpu_seconds / n_tasks:.2f} ms a task), "
        f"a task alone there and back {taken.alone_ms:.2f} ms"
    )


def _ms(seconds: float, n_tasks: int) -> float:
    return 1000 * N_WORKERS * seconds / n_tasks


def _noop(name: str) -> Task:
    return task("test_noop", name, Path("unused"))


def _run_all(executor: QueueExecutor, n_tasks: int) -> float:
    """Keep the window full, as a run does."""
    began = time.perf_counter()
    waiting = deque(f"t{i}" for i in range(n_tasks))
    running: set[Future[Outcome]] = set()
    while waiting or running:
        room = min(executor.counters.window - len(running), len(waiting))
        running.update(executor.submit_all([_noop(waiting.popleft()) for _ in range(room)]))
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
    return time.perf_counter() - began


def _seconds_of(executor: QueueExecutor, name: str) -> float:
    began = time.perf_counter()
    result(executor.submit(_noop(name)))
    return time.perf_counter() - began


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and its descendants: scheduler, server, workers and their children."""
    return sum(seconds for seconds, _ in processes_below(os.getpid()).values())


if __name__ == "__main__":
    sys.exit(main())
