"""Pass mutated specifications and tables to the command, in this process, and count failures.

A failure is a traceback, an undocumented exit code, more than 20 seconds of CPU time or ten times as much wall time, a control character
on the terminal, or a published result of a run that dropped input without a message. Long form: ``make mutations``. A seed identifies a case.
"""

import argparse
import contextlib
import io
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import structlog

import scheduler.cli.parser
from mlho.errors import MlhoError
from mlho.printable import has_control
from mlho.spec.scoring import parse_any_spec
from mlho.spec.training import RunSpec
from tests.builders import InlinePool, write_spec
from tests.failures.mutated_specs import mutated_spec
from tests.failures.mutated_tables import TABLES, Case, write, write_mutated

SECONDS: Final = 20.0  # of CPU time, so that a busy machine causes no failure
WAITING_SECONDS: Final = 10 * SECONDS
DOCUMENTED: Final = frozenset((0, 2, 3, 4))  # success; invalid specification; invalid table; invalid bundle
SMALL: Final[dict[str, Any]] = {
    "features": {"aggregates": ["presence", "last"], "demographics": ["age", "sex"]},
    "validation": {"iterations": 1, "folds": 2, "seed": 7, "bootstrapReplicates": 0},
    "candidates": [{"classifier": "glmboost", "grid": {"nSteps": [10]}}],
    "report": {"minCell": 0},
    "cohort.unknownPatients": "keep",
    "cohort.conflictingLabels": "any",
}


@dataclass(frozen=True)
class CommandOutput:
    """Exit code, output, duration and failure of a command."""

    code: int
    out: str
    err: str
    seconds: float
    failure: str = ""


class _TooLong(BaseException):
    """Raised by a timer when the time limit is reached."""


def call(arguments: list[str]) -> CommandOutput:
    """Call the command in this process, with a time limit."""

    def stop(*_: object) -> None:
        raise _TooLong

    out, err, failure, code = io.StringIO(), io.StringIO(), "", -1
    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, SECONDS),
        signal.SIGALRM: (signal.ITIMER_REAL, WAITING_SECONDS),
    }
    old = {number: signal.signal(number, stop) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    began = time.monotonic()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = scheduler.cli.parser.main(arguments)
    except _TooLong:
        failure = f"took more than {SECONDS:.0f} s"
    except Exception:
        failure = "traceback: " + traceback.format_exc()[-1500:]
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, old[number])
        structlog.reset_defaults()
    return CommandOutput(code, out.getvalue(), err.getvalue(), time.monotonic() - began, failure)


def what_is_wrong(response: CommandOutput) -> str:
    """Return the failure that a command's output and exit code show; empty if there is none."""
    both = response.out + response.err
    if response.failure:
        return response.failure
    if response.code not in DOCUMENTED:
        return f"exit code {response.code}: {response.err[-800:]}"
    if "Traceback" in both or "Report this as a defect" in both or "error of the program" in both:
        return f"defect: {response.err[-800:]}"
    if has_control(both.replace("\n", "").replace("\t", "")):
        return f"control character on the terminal: {both!r:.400}"
    if response.code and not response.err.strip():
        return "an error without words"
    return ""


def judge_spec(seed: int, folder: Path) -> tuple[str, str]:
    """Plan a mutated specification, and run some of the accepted ones. Return the outcome and the failure."""
    path = folder / "spec.yaml"
    path.write_bytes(mutated_spec(seed))
    store = folder / f"store-{seed}"
    response = call(["plan", str(path), "--store", str(store), "--workers", "1"])
    wrong = what_is_wrong(response)
    outcome = f"exit {response.code}"
    if not wrong and response.code == 0 and seed % 4 == 0 and _is_cheap(path):
        response = call(["run", str(path), "--store", str(store)])
        wrong, outcome = what_is_wrong(response), f"run, exit {response.code}"
    shutil.rmtree(store, ignore_errors=True)
    return outcome, wrong


def _is_cheap(path: Path) -> bool:
    try:
        spec = parse_any_spec(path.read_text(encoding="utf-8"))
    except MlhoError:
        return False
    if not isinstance(spec, RunSpec):
        return False
    validation = spec.spec.validation
    return validation.iterations * validation.folds <= 6 and all(
        candidate.classifier in ("glmboost", "xgboost")
        and candidate.grid
        and max(map(max, candidate.grid.values())) <= 60
        for candidate in spec.spec.candidates
    )


def judge_tables(seed: int, folder: Path) -> tuple[str, str]:
    """Run on mutated tables. Return the outcome and the failure."""
    case = write_mutated(folder / f"data-{seed}", seed)
    store = folder / f"store-{seed}"
    response = call(["run", str(_spec_for(case)), "--store", str(store)])
    wrong = what_is_wrong(response)
    results = [*store.glob("runs/*/result.json")]
    if not wrong and response.code and results:
        wrong = "a result of a run that failed"
    if not wrong and response.code == 0:
        wrong = _what_was_dropped(case, json.loads(results[0].read_text(encoding="utf-8")))
    for place in (case.folder, store):
        shutil.rmtree(place, ignore_errors=True)
    return f"exit {response.code}", f"{'; '.join(case.faults)} ({case.suffix}): {wrong}" if wrong else ""


def _spec_for(case: Case) -> Path:
    places = {
        f"data.tables.{name}": f"{name}{case.suffix}" for name in ("labels", "demographics", "concepts")
    }
    return write_spec(case.folder, {**SMALL, **places})


def _what_was_dropped(case: Case, result: dict[str, Any]) -> str:
    """Return the input that a result does not account for."""
    if 0 <= case.n_events != result["ledger"]["rows_in"]:
        return f"{result['ledger']['rows_in']} rows of events read of {case.n_events}"
    n_labels = sum(result["cohort"]["label_ledger"].values())
    if 0 <= case.n_labels != n_labels:
        return f"{n_labels} label rows read of {case.n_labels}"
    if case.needs_word and _words(result) == _words(good_result()):
        return f"nothing is said of: {', '.join(case.needs_word)}"
    return ""


def _words(result: dict[str, Any]) -> Any:
    """Return all parts of a result that can report dropped or odd input."""
    rules = [(rule["rule"], rule["rows"]) for rule in result["ledger"]["rules"]]
    return result["warnings"], rules, result["cohort"]["label_ledger"], result["inputs"].get("left_out")


@cache
def good_result() -> dict[str, Any]:
    """Return the result of the tables without a fault."""
    with tempfile.TemporaryDirectory(prefix="mlho-mutations-") as name:
        case = Case(Path(name), ".parquet", TABLES.events.num_rows, TABLES.labels.num_rows)
        write_good(case)
        response = call(["run", str(_spec_for(case)), "--store", f"{name}/store"])
        assert response.code == 0, response.err
        (path,) = Path(name).glob("store/runs/*/result.json")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def write_good(case: Case) -> None:
    """Write the tables without a fault."""
    (case.folder / "events").mkdir(parents=True, exist_ok=True)
    for name, table in {
        "events/part-0": TABLES.events,
        "labels": TABLES.labels,
        "demographics": TABLES.demographics,
        "concepts": TABLES.concepts,
    }.items():
        write(case.path(name), table)


@contextlib.contextmanager
def in_this_process() -> Iterator[Path]:
    """Run tasks in this process, one after the other, and yield a folder with valid tables."""
    import scheduler.cli.run

    old = scheduler.cli.run.LocalPool
    scheduler.cli.run.LocalPool = InlinePool  # type: ignore[assignment,misc]  # the fixture of the other tests does the same
    try:
        with tempfile.TemporaryDirectory(prefix="mlho-mutations-") as name:
            write_good(Case(Path(name), ".parquet", 0, 0))
            yield Path(name)
    finally:
        scheduler.cli.run.LocalPool = old  # type: ignore[misc]


JUDGES: Final[dict[str, Callable[[int, Path], tuple[str, str]]]] = {
    "specifications": judge_spec,
    "tables": judge_tables,
}


def judged(kind: str, seeds: range) -> tuple[Counter[str], dict[int, str]]:
    """Return the counts of outcomes, and the failures by seed."""
    outcomes: Counter[str] = Counter()
    failures: dict[int, str] = {}
    with in_this_process() as folder:
        for seed in seeds:
            outcome, wrong = JUDGES[kind](seed, folder)
            outcomes[outcome] += 1
            if sum(outcomes.values()) % 500 == 0:
                print(f"{kind}: {sum(outcomes.values()):,} done", file=sys.stderr, flush=True)  # noqa: T201
            if wrong:
                failures[seed] = wrong
                print(f"{kind} {seed}: {wrong}\n", file=sys.stderr, flush=True)  # noqa: T201 - the command's output
    return outcomes, failures


def main() -> int:
    """Judge the requested numbers of cases, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--specifications", type=int, default=5_000)
    parser.add_argument("--tables", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with")
    options = parser.parse_args()
    n_failures = 0
    for kind in JUDGES:
        n = getattr(options, kind)
        began = time.monotonic()
        outcomes, failures = judged(kind, range(options.first, options.first + n))
        counts = ", ".join(f"{n_own:,} {outcome}" for outcome, n_own in sorted(outcomes.items()))
        seconds = time.monotonic() - began
        print(f"{kind}: {len(failures)} failures of {n:,} in {seconds:.0f} s ({counts})", flush=True)  # noqa: T201
        n_failures += len(failures)
    return 1 if n_failures else 0


if __name__ == "__main__":
    sys.exit(main())
