"""Compare the cost of learning with that of its parts, and the whole command with a common script.

    python benchmarks/learning.py [--patients 50000] [--iterations 1] [--codes 5000] [--no-rival]

``mlho.synthetic`` generates the cohort (about 210 rows per patient). The first part measures the CPU time of iterations in
this process, with selection in every fold, glmboost and xgboost, permuted labels, shadows and intervals, and then again with
timed parts: the rankings on columns in memory, and the fits and predictions on the matrices of the run. The whole may take
1.25 times the parts. The second part compares ``mlho run`` with one iteration of five folds with ``_rival.py``: each as a
whole command, in CPU time of all processes. The wall time is printed, too, but depends more on other load.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from _command import read_result, run_mlho, write_spec
from _figures import show
from _problem import prepare

from mlho.method.classifiers.base import Classifier, FittedClassifier
from mlho.method.selection.levels import ColumnBlocks
from mlho.synthetic import make_cohort
from mlho.training.iterations import iteration as iterations
from mlho.training.iterations import selection as selections
from mlho.training.iterations.design import Design
from mlho.training.iterations.problem import Problem

LIMIT, RIVAL_GOAL = 1.25, 4.0
ALONE = ("rankings", "fits", "predictions")
PARTS = {
    "fits": (Classifier, "fit_settings"),
    "predictions": (FittedClassifier, "predict_proba"),
    "matrices": (Design, "matrix"),
    "intervals": (iterations, "evaluate"),
    "shadows": (iterations, "see_shadows"),
    "splits": (Problem, "partition"),
}


def learn(problem: Problem, n_iterations: int) -> None:
    """Run the learning tasks of these iterations."""
    for number in range(1, n_iterations + 1):
        selection, folds = iterations.select_and_run_folds(problem, number)
        iterations.finish_iteration(problem, number, selection, folds)


def timed_parts(problem: Problem, n_iterations: int) -> dict[str, float]:
    """Return CPU seconds by part. "The rest" reads, screens and packs columns, and creates shadows."""
    seconds: dict[str, float] = {}
    started = time.process_time()
    with ExitStack() as stack:
        for name, (owner, attribute) in PARTS.items():
            stack.enter_context(_timed(owner, attribute, name, seconds))
        stack.enter_context(_timed_rankings(seconds))
        learn(problem, n_iterations)
    seconds["the rest"] = time.process_time() - started - sum(seconds.values())
    return seconds


@contextmanager
def _timed(owner: Any, attribute: str, name: str, seconds: dict[str, float]) -> Iterator[None]:
    original: Callable[..., Any] = getattr(owner, attribute)

    def call(*args: Any, **options: Any) -> Any:
        started = time.process_time()
        try:
            return original(*args, **options)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - started

    with patch.object(owner, attribute, call):
        yield


@contextmanager
def _timed_rankings(seconds: dict[str, float]) -> Iterator[None]:
    """Time the ranking alone, by creating its columns beforehand."""
    with _timed(selections, "rank_columns", "rankings", seconds):
        rank = selections.rank_columns

        def call(columns: ColumnBlocks, *args: Any, shadows: ColumnBlocks | None, **options: Any) -> Any:
            shadow_columns = None if shadows is None else in_memory(shadows)
            return rank(in_memory(columns), *args, shadows=shadow_columns, **options)

        with patch.object(selections, "rank_columns", call):
            yield


def in_memory(columns: ColumnBlocks) -> ColumnBlocks:
    """Return the same columns, created in memory."""
    blocks = list(columns.blocks())
    return ColumnBlocks(columns.n_samples, columns.n_columns, lambda: blocks, is_binary=columns.is_binary)


def measure_learning(folder: Path, spec: Path, n_iterations: int) -> bool:
    """Print the parts, and the ratio of the whole to those with a limit."""
    problem = prepare(spec, folder / "cohort", folder / "store")
    learn(problem, 1)  # in practice, compiled code comes from the cache on disk
    started = time.process_time()
    learn(problem, n_iterations)
    whole = time.process_time() - started
    parts = timed_parts(problem, n_iterations)
    for name, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        print(
            f"  {name:<12} {seconds:8.2f} s  {seconds / sum(parts.values()):5.1%}{'  alone' if name in ALONE else ''}"
        )
    alone = sum(parts[name] for name in ALONE)
    print(f"learning / (rankings + fits + predictions): {whole:.2f} s / {alone:.2f} s = {whole / alone:.3f}")
    print(
        f"peak resident memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )
    return show(
        f"learning, {n_iterations} iteration(s), CPU",
        whole,
        LIMIT * alone,
        "s",
        source=f"{LIMIT} × its parts alone",
    )


def measure_rival(folder: Path, spec: Path) -> bool:
    """Run both commands, and print their time and memory."""
    usage = run_mlho(spec, folder / "store-of-command", n_workers=2)
    headline = read_result(folder / "store-of-command")["headline_auroc"][0]["value"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    program = Path(__file__).with_name("_rival.py")
    rival = subprocess.run(
        [sys.executable, str(program), str(folder / "cohort")], capture_output=True, text=True, check=True
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"AUROC: ours {headline:.4f} on a test set, with report and bundle; the rival's {rival.stdout.strip()} out of fold"
    )
    show("whole command, wall", usage.wall_seconds, wall, "s", source="pandas, scikit-learn, xgboost")
    show("whole command, CPU", usage.cpu_seconds, cpu, "s", source="pandas, scikit-learn, xgboost")
    return show(
        "whole command, wall",
        usage.wall_seconds,
        wall / RIVAL_GOAL,
        "s",
        source=f"the rival's / {RIVAL_GOAL:g}: goal",
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=50_000)
    parser.add_argument("--codes", type=int, default=5_000)
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--no-rival", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_cohort(
            folder / "cohort", n_patients=options.patients, n_codes=options.codes, n_partitions=8, seed=7
        )
        spec = write_spec("learning", folder / "cohort", folder, {})
        is_ok = measure_learning(folder, spec, options.iterations)
        if not options.no_rival:
            measure_rival(folder, spec)
    return 0 if is_ok else 1


if __name__ == "__main__":
    sys.exit(main())
