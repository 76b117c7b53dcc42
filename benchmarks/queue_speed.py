"""The queue's own cost: 10,000 tasks that do nothing, dispatched, run, committed and observed; and one task at a time.

Run with ``python benchmarks/queue_speed.py [TASKS]``. Workers are two processes of one slot each, the server is Valkey from its wheel, the store a
folder: what remains is signing, claims, leases, child processes and commit records. CPU seconds of this process are
printed beside, because on a busy machine wall time says little.
"""

import resource
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from statistics import median

# The tests' worker program serves here too, and lies beside this folder: hence the path first, then the imports.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from mlho.steps.base import Outcome  # noqa: E402
from scheduler.remote import QueueExecutor  # noqa: E402
from tests.services.queue_home import Home, result  # noqa: E402
from tests.services.queue_steps import task  # noqa: E402

N_TASKS, N_WORKERS, N_ALONE = 10_000, 2, 300
MOST_SECONDS, MOST_MS, MOST_MB = 14.0, 3.0, 200.0


def main() -> int:
    n_tasks = int(sys.argv[1]) if len(sys.argv) > 1 else N_TASKS
    with tempfile.TemporaryDirectory() as folder, Home(Path(folder)) as home:
        for _ in range(N_WORKERS):
            home.start_worker()
        with home.executor() as executor:
            home.wait_for_slots(N_WORKERS, seconds=60)
            result(executor.submit(_noop("warm")))
            before = _cpu_seconds()
            seconds = _run_all(executor, n_tasks)
            cpu = _cpu_seconds() - before
            alone = [_seconds_of(executor, f"alone{i}") for i in range(N_ALONE)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = [
        (f"{n_tasks:,} no-op tasks, {N_WORKERS} workers (s)", seconds, MOST_SECONDS * n_tasks / N_TASKS),
        ("median overhead of one task (ms)", 1000 * N_WORKERS * seconds / n_tasks, MOST_MS),
        ("scheduler's peak memory (MB)", peak, MOST_MB),
    ]
    for name, ours, limit in figures:
        print(f"{name:<48} ours {ours:>8.2f}  limit {limit:>8.2f}  {'ok' if ours <= limit else 'MISSED'}")
    print(f"round trip of a task alone: median {1000 * median(alone):.2f} ms; scheduler CPU {cpu:.1f} s")
    return 0 if all(ours <= limit for _, ours, limit in figures) else 1


def _noop(name: str):
    return task("test_noop", name, Path("unused"))


def _run_all(executor: QueueExecutor, n_tasks: int) -> float:
    """Keep the window full, as a run does."""
    began = time.perf_counter()
    waiting = deque(f"t{i}" for i in range(n_tasks))
    running: set[Future[Outcome]] = set()
    while waiting or running:
        room = min(executor.window - len(running), len(waiting))
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
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
