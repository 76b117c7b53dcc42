"""Run 400 xgboost fits of about a second each: the queue with two workers compared with joblib with two processes.

    python benchmarks/queue_fits.py [FITS | --short]

Both do the same fits on the same table, with one thread each. They take turns of twenty fits and alternate in going first, so
that other load affects both equally. joblib only runs the fits; the queue also signs, claims and leases each task, and
commits each model to a store. CPU seconds of all processes of each side are printed, too. Fewer than twenty fits
are short ones on a small table, to see whether the program works.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import _fits
from _command import processes_below
from _figures import show
from _fits import N_ROWS, fit, fit_task, write_table
from _queueing import N_WORKERS, how_many, show_load
from joblib import Parallel, delayed

from tests.services.queue_home import Home, result

N_FITS, N_SHORT, N_AT_ONCE = 400, 40, 20
MOST_RATIO = 1.05
_TRIAL_ROUNDS = 20
_WARM = range(-2 * N_WORKERS, 0)  # seeds of fits with one tree each, which import the libraries
_SECONDS = 600.0  # limit for twenty fits on a very busy machine

Turn = Callable[[range], object]


@dataclass
class Side:
    """One of the two programs, with the seconds of each turn."""

    name: str
    turn: Turn
    wall: list[float] = field(default_factory=list)
    cpu: float = 0.0

    def take(self, seeds: range) -> None:
        """Do these fits, and add their seconds."""
        wall, cpu = time.perf_counter(), _cpu_seconds()
        self.turn(seeds)
        self.wall.append(time.perf_counter() - wall)
        self.cpu += _cpu_seconds() - cpu


def main() -> int:
    n_fits = how_many(__doc__, "FITS", usual=N_FITS, short=N_SHORT)
    show_load()
    size = 1.0 if n_fits >= N_AT_ONCE else 0.1
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder), round(size * N_ROWS))
        n_rounds = _rounds_of(size, folder)
        with _queue(Path(folder), n_rounds) as queue, _joblib(folder, n_rounds) as rival:
            for start in range(0, n_fits, N_AT_ONCE):
                seeds = range(start, min(start + N_AT_ONCE, n_fits))
                pair = (queue, rival) if start // N_AT_ONCE % 2 == 0 else (rival, queue)
                for side in pair:
                    side.take(seeds)
    return _show(n_fits, queue, rival)


def _show(n_fits: int, queue: Side, rival: Side) -> int:
    our_seconds, rival_seconds = sum(queue.wall), sum(rival.wall)
    is_ok = show(
        f"{n_fits} fits, {N_WORKERS} workers",
        our_seconds,
        MOST_RATIO * rival_seconds,
        "s",
        source=f"{MOST_RATIO} x joblib n_jobs={N_WORKERS}",
    )
    ratios = [wall / rival_wall for wall, rival_wall in zip(queue.wall, rival.wall, strict=True)]
    print(
        f"  ours / joblib: wall {our_seconds / rival_seconds:.3f} (median of the turns {statistics.median(ratios):.3f}), CPU of all processes {queue.cpu / rival.cpu:.3f}; "
        f"a fit takes {N_WORKERS * rival_seconds / n_fits:.2f} s with joblib"
    )
    show_load()
    return 0 if is_ok else 1


@contextmanager
def _queue(folder: Path, n_rounds: int) -> Iterator[Side]:
    with Home(folder) as home:
        for _ in range(N_WORKERS):
            home.start_worker(program=Path(_fits.__file__))
        with home.executor() as executor:
            home.wait_for_slots(N_WORKERS, seconds=60)

            def turn(seeds: range, n_rounds: int = n_rounds) -> None:
                for future in executor.submit_all([fit_task(n_rounds, seed) for seed in seeds]):
                    result(future, seconds=_SECONDS)

            turn(_WARM, 1)
            yield Side("queue", turn)


@contextmanager
def _joblib(folder: str, n_rounds: int) -> Iterator[Side]:
    with Parallel(n_jobs=N_WORKERS) as parallel:

        def turn(seeds: range, n_rounds: int = n_rounds) -> None:
            parallel(delayed(fit)(folder, n_rounds, seed) for seed in seeds)

        turn(_WARM, 1)
        yield Side("joblib", turn)


def _rounds_of(seconds: float, folder: str) -> int:
    """Return the number of trees that take about this CPU time to fit on this machine."""
    fit(folder, 1, 0)
    before = time.process_time()
    fit(folder, _TRIAL_ROUNDS, 0)
    return max(1, round(seconds * _TRIAL_ROUNDS / (time.process_time() - before)))


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and its descendants, including the other side's, which wait in the meantime."""
    return sum(seconds for seconds, _ in processes_below(os.getpid()).values())


if __name__ == "__main__":
    sys.exit(main())
