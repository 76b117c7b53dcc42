"""If a commit record is lost or damaged while its run is in progress on the queue, its task runs again at once."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from mlho.protocol.failures import INFRASTRUCTURE_SECONDS
from mlho.steps.base import Task
from mlho.steps.records import Outcome
from mlho.store.keys import commit_key
from mlho.store.memory import MemoryStore
from scheduler.engine.loop import carry_out
from scheduler.engine.training_run import TrainingRun
from scheduler.queue.executor import QueueExecutor
from tests.builders import Home as Whole
from tests.builders import NullObserver, make_tables, run_inline, write_tables
from tests.services.queue_home import Home

TABLES = make_tables(200, seed=6)
KINDS = ("define_cohort", "pack_features", "run_iteration", "write_report")
_MOST_SECONDS = (
    240.0  # limit of the whole run; retries of the task that reads the record would take five minutes
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Return the undisturbed run on the same tables."""
    return run_inline(write_tables(tmp_path_factory.mktemp("whole"), TABLES), MemoryStore())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    write_tables(tmp_path, TABLES)
    with Home(tmp_path) as home:
        yield home


class Losing:
    """An executor that damages the first commit record of each of these kinds before the run loop receives it."""

    def __init__(
        self, executor: QueueExecutor, kinds: Sequence[str], damage: Callable[[Path], None], root: Path
    ) -> None:
        self.submitted: list[str] = []
        self._executor = executor
        self._kinds = kinds
        self._damage = damage
        self._root = root

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        """Send tasks to the workers."""
        return [self._submit(task) for task in tasks]

    def _submit(self, task: Task) -> "Future[Outcome]":
        is_first = task.kind in self._kinds and task.kind not in self.submitted
        self.submitted.append(task.kind)
        told: Future[Outcome] = Future()

        def settle(found: "Future[Outcome]") -> None:
            error = found.exception()
            if error is not None:
                told.set_exception(error)
                return
            if is_first:
                self._damage(self._root / commit_key(task.key))
            told.set_result(found.result())

        self._executor.submit(task).add_done_callback(settle)
        return told


def truncate(path: Path) -> None:
    """Truncate a file, as a full disk would."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-7])


@pytest.mark.parametrize("damage", [Path.unlink, truncate], ids=["deleted", "truncated"])
def test_commits_that_are_lost_during_a_run_are_made_again_at_once(
    home: Home, whole: Whole, damage: Callable[[Path], None]
) -> None:
    """Lost commit records, read by the plan, by a worker's task and at the end, do not change the result. Their tasks run
    again long before the retries of their readers end.
    """
    home.start_worker()
    run = TrainingRun(whole.run.spec, whole.run.manifest, home.folder, home.store)
    with home.executor() as executor:
        home.wait_for_slots(1)
        losing = Losing(executor, KINDS, damage, home.store.root)
        began = time.monotonic()
        finished = carry_out(run, losing, NullObserver(), n_slots=2)
        seconds = time.monotonic() - began

    assert finished.report.facts["result_digest"] == whole.digest
    n_submitted, n_without_losses = Counter(losing.submitted), Counter(whole.kinds())
    assert {kind: n_submitted[kind] - n_without_losses[kind] for kind in KINDS} == dict.fromkeys(KINDS, 1)
    assert seconds < _MOST_SECONDS < INFRASTRUCTURE_SECONDS
