"""Compat mode: workers propose, the scheduler commits, and two different outputs of one task are always detected."""

import random
import threading
from collections.abc import Callable

import pytest

from mlho.errors import MlhoError
from mlho.steps.base import Task
from mlho.steps.proposals import Leader, adopt, adopt_late, discard, find_proposal, propose
from mlho.steps.records import Commit, StoredFile, read_commit
from mlho.store.keys import PROPOSALS, commit_key, proposal_key, proposals_prefix
from mlho.store.memory import MemoryStore
from tests.builders import make_tables, run_inline, write_tables

TASK = Task(kind="merge_dictionary").key
OTHER = Task(kind="merge_dictionary", params={"block": 2}).key
N_SCHEDULES = 1500


class Loose(MemoryStore):
    """A store without conditional writes: it checks, then writes, and another process may write in between."""

    has_one_winner = False

    def __init__(self, turn: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._turn = turn

    def put_if_absent(self, key, data):
        if self.exists(key):
            return False
        self._turn()
        self._write(key, data)
        return True

    def exists(self, key):
        self._turn()
        return super().exists(key)

    def get(self, key):
        self._turn()
        return super().get(key)

    def keys(self, prefix):
        self._turn()
        return super().keys(prefix)

    def delete(self, key):
        self._turn()
        super().delete(key)


def commit_of(digit: str, task: str = TASK, *, seconds: float = 1.0) -> Commit:
    """Return a commit record of a task with one file of this digest. The seconds are not part of the record's digest."""
    file = StoredFile(sha256=digit * 64, size=1)
    return Commit(task=task, kind="merge_dictionary", files={"out": file}, facts={}, seconds=seconds)


def proposals_in(store: MemoryStore) -> list[str]:
    return list(store.keys(f"{PROPOSALS}/"))


def test_a_worker_proposes_and_the_scheduler_commits():
    """A proposal is not a commit. After the scheduler adopts it, the record is the worker's and the proposal is deleted."""
    store = Loose()
    outcome = propose(store, commit_of("a"))

    assert (outcome.is_new, outcome.is_proposed) == (True, True)
    assert read_commit(store, TASK) is None
    assert adopt(store, TASK) == commit_of("a") == read_commit(store, TASK)
    assert proposals_in(store) == []


def test_where_nothing_was_proposed_nothing_is_adopted():
    """Without a proposal, nothing is committed, and an existing record is returned."""
    store = Loose()

    assert adopt(store, TASK) is None
    store.put_if_absent(commit_key(TASK), commit_of("a").model_dump_json().encode())
    assert adopt(store, TASK) == commit_of("a")


def test_two_attempts_with_the_same_bytes_are_one():
    """Two attempts with equal bytes share one proposal, and the scheduler commits once."""
    store = Loose()
    propose(store, commit_of("a", seconds=1))
    again = propose(store, commit_of("a", seconds=9))

    assert again.is_proposed
    assert len(proposals_in(store)) == 1
    assert adopt(store, TASK) == commit_of("a", seconds=1)


def test_an_attempt_after_the_commit_proposes_nothing():
    """An attempt after the commit finds the record and withdraws its own proposal."""
    store = Loose()
    propose(store, commit_of("a"))
    adopt(store, TASK)
    late = propose(store, commit_of("a"))

    assert (late.is_new, late.is_proposed) == (False, False)
    assert proposals_in(store) == []


def test_two_attempts_with_different_bytes_are_an_error_and_neither_is_committed():
    """Two proposals with different bytes raise an error, nothing is committed, and both are deleted so that a retry starts clean."""
    store = Loose()
    propose(store, commit_of("a"))
    propose(store, commit_of("b"))

    with pytest.raises(MlhoError, match="gave different bytes"):
        adopt(store, TASK)
    assert read_commit(store, TASK) is None
    assert proposals_in(store) == []


def test_an_attempt_after_the_commit_with_other_bytes_is_an_error():
    """An attempt with other bytes after the commit raises an error, and the record stays."""
    store = Loose()
    propose(store, commit_of("a"))
    adopt(store, TASK)

    with pytest.raises(MlhoError, match="gave different bytes"):
        propose(store, commit_of("b"))
    assert read_commit(store, TASK) == commit_of("a")
    assert proposals_in(store) == []


def test_a_late_proposal_is_compared_before_the_run_is_published():
    """A worker that checked for a record just before it was written leaves a proposal. The comparison before publication
    detects its different bytes.
    """
    store = Loose()
    propose(store, commit_of("a"))
    adopt(store, TASK)
    store.put_if_absent(proposal_key(TASK, commit_of("b").digest), commit_of("b").model_dump_json().encode())

    with pytest.raises(MlhoError, match="gave different bytes"):
        adopt_late(store, [TASK])
    assert read_commit(store, TASK) == commit_of("a")
    assert proposals_in(store) == []


def test_proposals_of_other_runs_are_left_alone():
    """Proposals for other tasks are left alone, because the scheduler of another run on the same store handles them."""
    store = Loose()
    propose(store, commit_of("a"))
    adopt(store, TASK)
    propose(store, commit_of("c", OTHER))
    adopt_late(store, [TASK])

    assert proposals_in(store) == [proposal_key(OTHER, commit_of("c").digest)]


@pytest.mark.parametrize("content", [b"", b"{", b"{}", commit_of("b").model_dump_json().encode()])
def test_a_proposal_that_does_not_match_its_key_is_removed(content):
    """A proposal that is truncated, empty, of another version or that does not match its key is deleted, and its task runs again."""
    store = Loose()
    store.put_if_absent(proposal_key(TASK, commit_of("a").digest), content)

    assert adopt(store, TASK) is None
    assert find_proposal(store, TASK) is None
    assert proposals_in(store) == []


def test_a_scheduler_that_lost_its_leadership_commits_nothing():
    """Leadership is checked right before the write, so that a former leader commits nothing and its proposal stays."""
    store = Loose()
    propose(store, commit_of("a"))

    class Former(Leader):
        def check(self):
            raise MlhoError("another scheduler took over")

    with pytest.raises(MlhoError, match="took over"):
        adopt(store, TASK, leader=Former())
    assert read_commit(store, TASK) is None
    assert find_proposal(store, TASK) is not None


def test_a_damaged_record_is_replaced_by_the_scheduler_alone():
    """Only the scheduler replaces a damaged record. A worker proposes, and the record stays until the proposal is adopted."""
    store = Loose()
    store.put_if_absent(commit_key(TASK), commit_of("a").to_bytes()[:-9])

    assert propose(store, commit_of("a")).is_proposed
    assert read_commit(store, TASK) is None
    assert adopt(store, TASK) == commit_of("a") == read_commit(store, TASK)


def test_a_damaged_proposal_is_removed():
    """A damaged proposal is deleted, so that its task runs again."""
    store = Loose()
    propose(store, commit_of("a"))
    (key,) = proposals_in(store)
    whole = store.get(key)
    store.compare_and_swap(key, whole.replace(b'"seconds":', b'"seconds":9'), expected=whole)

    assert find_proposal(store, TASK) is None
    assert proposals_in(store) == []


def test_discarded_proposals_are_gone():
    store = Loose()
    propose(store, commit_of("a"))
    discard(store, TASK)

    assert list(store.keys(proposals_prefix(TASK))) == []


def test_a_whole_run_in_compat_mode_gives_the_same_bytes(tmp_path):
    """A whole run in compat mode gives the same result and bundle as a strict store and leaves no proposal."""
    data = write_tables(tmp_path / "data", make_tables(), partitions=2)
    strict, loose = run_inline(data, MemoryStore()), run_inline(data, Loose())

    assert loose.digest == strict.digest
    assert loose.bundle() == strict.bundle()
    assert proposals_in(loose.run.store) == []


class Schedule:
    """Runs actors in threads, one at a time, and switches between them at each request to the store in a seeded order."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._mine = threading.local()
        self._paused: dict[str, threading.Semaphore] = {}
        self._back = threading.Semaphore(0)
        self.errors: dict[str, MlhoError] = {}

    def turn(self) -> None:
        """Wait for this actor's turn. A thread that is not an actor continues at once."""
        semaphore = getattr(self._mine, "semaphore", None)
        if semaphore is not None:
            self._back.release()
            semaphore.acquire()

    def run(self, actors: dict[str, Callable[[], object]]) -> None:
        self._paused = {name: threading.Semaphore(0) for name in actors}
        threads = {
            name: threading.Thread(target=self._act, args=(name, do), daemon=True)
            for name, do in actors.items()
        }
        for thread in threads.values():
            thread.start()
        while self._paused:
            self._paused[self._dice.choice(sorted(self._paused))].release()
            self._back.acquire()
        for thread in threads.values():
            thread.join()

    def _act(self, name: str, do: Callable[[], object]) -> None:
        self._mine.semaphore = self._paused[name]
        self._mine.semaphore.acquire()
        try:
            do()
        except MlhoError as error:
            self.errors[name] = error
        del self._paused[name]
        self._back.release()


def _play(
    seed: int, adopting: Callable[[Loose, str], object], *, second: str = "b"
) -> tuple[Loose, set[str]]:
    """Let two workers propose and two schedulers adopt concurrently, then compare late proposals. Return the store and the
    actors that detected different bytes.
    """
    schedule = Schedule(seed)
    store = Loose(schedule.turn)
    schedule.run(
        {
            "first worker": lambda: propose(store, commit_of("a")),
            "second worker": lambda: propose(store, commit_of(second)),
            "first scheduler": lambda: adopting(store, TASK),
            "second scheduler": lambda: adopting(store, TASK),
        }
    )
    noticed = set(schedule.errors)
    try:
        adopting(store, TASK)
        adopt_late(store, [TASK])
    except MlhoError:
        noticed.add("last look")
    return store, noticed


def test_different_bytes_are_detected_in_any_order_of_requests():
    """Different bytes are detected in each of 1,500 orders of the requests of two workers and two schedulers that both assume leadership."""
    unnoticed = [seed for seed in range(N_SCHEDULES) if not _play(seed, adopt)[1]]

    assert unnoticed == []


def test_equal_bytes_are_committed_in_any_order_of_requests():
    """Equal bytes raise no error in any of these orders, and the record is committed."""
    for seed in range(N_SCHEDULES // 3):
        store, noticed = _play(seed, adopt, second="a")

        assert noticed == set()
        assert read_commit(store, TASK) is not None
        assert proposals_in(store) == []


def test_the_schedules_detect_a_scheduler_that_deletes_uncompared_proposals():
    """The schedules detect a defective scheduler that deletes all proposals after its commit, which proves that the tests above can fail."""

    def careless(store: Loose, task: str) -> None:
        if adopt(store, task) is not None:
            discard(store, task)

    assert any(not _play(seed, careless)[1] for seed in range(N_SCHEDULES))
