"""Measure how many slots the queue keeps busy with sleeping tasks, as a share of their ideal use.

    python benchmarks/scale.py [SLOTS …] [--rounds 5] [--seconds 2]

The usual slots are 1, 64 and 256 with five tasks of 2 s for each, and 1,024 with 24 tasks of 5 s, because the queue's own
cost per task limits the number of tasks per second. Redis and the store are real; slots are threads of workers
(``_sleepers.py``), at most 64 in each, because one machine cannot run so many processes. The share is measured from the first
message to the last result.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from _command import processes_below
from _figures import show
from _queueing import show_load
from _sleepers import sleep_task

from mlho.steps.records import Outcome
from scheduler.queue.executor import QueueExecutor
from tests.services.queue_home import Home

PROGRAM = Path(__file__).with_name("_sleepers.py")
SLOTS_OF_A_WORKER = 64
USUAL = (1, 64, 256, 1024)
LARGE, LARGE_SECONDS = 1024, 5.0
ROUNDS, LARGE_ROUNDS = (
    5,
    24,
)  # all slots start and end at once, which takes seconds at 1,024 slots and little of a long run
GOAL = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slots", nargs="*", type=int, default=USUAL, metavar="SLOTS")
    parser.add_argument(
        "--rounds", type=int, help=f"tasks for each slot (default: {ROUNDS}, from 1,024 slots {LARGE_ROUNDS})"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of a task, below 1,024 slots")
    options = parser.parse_args()
    show_load()
    are_ok = [
        _measure(
            slots,
            options.rounds or (LARGE_ROUNDS if slots >= LARGE else ROUNDS),
            LARGE_SECONDS if slots >= LARGE else options.seconds,
        )
        for slots in options.slots
    ]
    show_load()
    return 0 if all(are_ok) else 1


def _measure(n_slots: int, n_rounds: int, seconds: float) -> bool:
    with tempfile.TemporaryDirectory() as folder, Home(Path(folder)) as home:
        for start in range(0, n_slots, SLOTS_OF_A_WORKER):
            home.start_worker(slots=min(SLOTS_OF_A_WORKER, n_slots - start), program=PROGRAM, verbose=False)
        with home.executor() as executor:
            home.wait_for_slots(n_slots, seconds=300)
            for warm in executor.submit_all([sleep_task(f"warm{i}", 0.0) for i in range(n_slots)]):
                warm.result()
            began, cpu_before = time.perf_counter(), cpu_seconds()
            _run_all(executor, n_slots * n_rounds, seconds)
            wall, cpu = time.perf_counter() - began, cpu_seconds() - cpu_before
    share = n_rounds * seconds / wall
    n_tasks = n_slots * n_rounds
    print(
        f"{n_slots:>5} slots, {n_tasks:,} tasks of {seconds:g} s: {wall:.2f} s, {share:.3f} of the ideal; "
        f"CPU of scheduler, Redis and workers {1000 * cpu / n_tasks:.2f} ms a task"
    )
    return show(f"{n_slots} slots: what is lost", 1 - share, 1 - GOAL, "", source="goal")


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its descendants."""
    return sum(seconds for seconds, _ in processes_below(os.getpid()).values())


def _run_all(executor: QueueExecutor, n_tasks: int, seconds: float) -> None:
    """Keep the window full, as a run does."""
    waiting = deque(sleep_task(f"t{number}", seconds) for number in range(n_tasks))
    running: set[Future[Outcome]] = set()
    while waiting or running:
        room = min(executor.counters.window - len(running), len(waiting))
        running.update(executor.submit_all([waiting.popleft() for _ in range(room)]))
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()


if __name__ == "__main__":
    sys.exit(main())
