"""The runs under chaos with their expected results, the faults, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mlho.steps.records import parse_record
from mlho.store.base import Store
from mlho.store.local import LocalStore
from scheduler.engine.loop import PreparedRun, carry_out
from tests.builders import InlineExecutor, NullObserver, make_tables, run_inline, write_spec, write_tables
from tests.services.chaos_run import ChaosRun

CHILD: Final = "child killed"
WORKER: Final = "worker killed"
SCHEDULER: Final = "scheduler killed"
PUBLISHING: Final = "scheduler killed when all was done"
STOP: Final = "scheduler stopped, and woken later"
REDIS: Final = "Redis killed"
FLUSH: Final = "Redis emptied"
DUPLICATE: Final = "message delivered twice"
STORE_REFUSED: Final = "store answered 503"
STORE_LOST: Final = "reply of a PUT lost"

TRAINING_CHANGES: Final[Mapping[str, Any]] = {
    "validation.iterations": 3,
    "candidates": [{"classifier": "glmboost", "grid": {"nSteps": [20, 40]}}, {"classifier": "elasticnet"}],
}
PROGRAM: Final = Path(__file__).with_name("chaos_run.py")


@dataclass(frozen=True)
class Subject:
    """A run under chaos, and its expected result."""

    run: str
    """Id of the run."""
    scheduler: Sequence[str]
    """Arguments of Python that drive it."""
    expected: Mapping[str, str]
    """Task key to digest of its artifact, undisturbed."""
    bundle: Mapping[str, bytes] = field(default_factory=dict)
    """Files of the bundle by name, undisturbed."""

    @property
    def is_training(self) -> bool:
        """Return whether it is a real training run."""
        return bool(self.bundle)


@dataclass
class Verdict:
    """The outcome of a chaos run."""

    tasks: int = 0
    lost: int = 0
    """Tasks of the undisturbed run that are not committed."""
    foreign: int = 0
    """Committed tasks that the undisturbed run does not have."""
    other_bytes: int = 0
    """Artifacts with another digest than the undisturbed run's."""
    committed_twice: int = 0
    """Tasks whose commit record was written again, or whose record is not the one that was written."""
    started_again: int = 0
    """Starts beyond the first of each task."""
    started_after_commit: int = 0
    """Starts of tasks that were committed already."""
    written_late: int = 0
    """Keys of store or Redis that are new or changed after a stopped scheduler was woken when all was over."""
    quarantines_released: int = 0
    schedulers_refused: int = 0
    """Schedulers that found no Redis when they started."""
    is_same_bundle: bool = True
    faults: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Return whether chaos changed nothing."""
        return self.n_differences == 0

    @property
    def n_differences(self) -> int:
        """Return the number of differences from an undisturbed run: tasks, keys, the bundle."""
        wrong_tasks = self.lost + self.foreign + self.other_bytes + self.committed_twice
        return wrong_tasks + self.written_late + (not self.is_same_bundle)


def chaos_subject(folder: Path, n_tasks: int) -> Subject:
    """Return the plan of small tasks, and its result without faults."""
    store = LocalStore(folder / "undisturbed")
    run: PreparedRun = ChaosRun(n_tasks, store)
    carry_out(run, InlineExecutor(store, folder), NullObserver(), n_slots=8)
    return Subject(run.run_id, [str(PROGRAM), "scheduler", "--tasks", str(n_tasks)], manifest_of(store))


def training_subject(folder: Path, store_address: str) -> Subject:
    """Return a small training run, and its result without faults."""
    data = write_tables(folder / "cohort", make_tables(300, seed=3), partitions=3)
    store = LocalStore(folder / "undisturbed")
    home = run_inline(data, store, TRAINING_CHANGES)
    spec = write_spec(data, TRAINING_CHANGES)
    command = ["-m", "scheduler", "run", str(spec), "--store", store_address, "--log", "json"]
    return Subject(home.finished.run_id, command, manifest_of(store), home.bundle())


def manifest_of(store: Store) -> dict[str, str]:
    """Return the digest of the artifact for each task key in a store. For a report it is that of its result, because a report contains times."""
    found = (parse_record(store.get(key), key.rsplit("/", 1)[1]) for key in store.keys("commits/"))
    commits = [commit for commit in found if commit is not None]
    return {commit.task: str(commit.facts.get("result_digest", commit.digest)) for commit in commits}


def short_of(verdict: Verdict, plan: Mapping[str, int], *, on_store: bool) -> dict[str, tuple[int, int]]:
    """Return the faults that occurred less often than planned: fault to (planned, occurred)."""
    promised = {**plan, DUPLICATE: verdict.tasks // 50}
    if on_store:
        promised |= {STORE_REFUSED: verdict.tasks // 5, STORE_LOST: verdict.tasks // 50}
    return {
        fault: (n, verdict.faults.get(fault, 0))
        for fault, n in promised.items()
        if verdict.faults.get(fault, 0) < n
    }
