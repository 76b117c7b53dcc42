"""Compat mode: what workers propose and the scheduler adopts, and that two different outputs of a task are never both let pass."""

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
    """A store like a server without conditional writes: a look, then a write, and between the two anything may happen."""

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
    """A record of a task with one file of this digest; its seconds are no part of what it says."""
    file = StoredFile(sha256=digit * 64, size=1)
    return Commit(task=task, kind="merge_dictionary", files={"out": file}, facts={}, seconds=seconds)


def proposals_in(store: MemoryStore) -> list[str]:
    return list(store.keys(f"{PROPOSALS}/"))


def test_a_worker_proposes_and_the_scheduler_commits():
    """Nothing is committed until it is adopted; then the proposal is gone and the record is the worker's."""
    store = Loose()
    outcome = propose(store, commit_of("a"))

    assert (outcome.is_new, outcome.is_proposed) == (True, True)
    assert read_commit(store, TASK) is None
    assert adopt(store, TASK) == commit_of("a") == read_commit(store, TASK)
    assert proposals_in(store) == []


def test_where_nothing_was_proposed_nothing_is_adopted():
    """No record is made of nothing, and one that is there is found."""
    store = Loose()

    assert adopt(store, TASK) is None
    store.put_if_absent(commit_key(TASK), commit_of("a").model_dump_json().encode())
    assert adopt(store, TASK) == commit_of("a")


def test_two_attempts_with_the_same_bytes_are_one():
    """The second one finds the first one's proposal, or proposes the same; the scheduler commits once."""
    store = Loose()
    propose(store, commit_of("a", seconds=1))
    again = propose(store, commit_of("a", seconds=9))

    assert again.is_proposed
    assert len(proposals_in(store)) == 1
    assert adopt(store, TASK) == commit_of("a", seconds=1)


def test_an_attempt_after_the_commit_proposes_nothing():
    """It finds the record, and takes its own proposal back."""
    store = Loose()
    propose(store, commit_of("a"))
    adopt(store, TASK)
    late = propose(store, commit_of("a"))

    assert (late.is_new, late.is_proposed) == (False, False)
    assert proposals_in(store) == []


def test_two_attempts_with_different_bytes_are_an_error_and_neither_is_committed():
    """Both proposals go, so that the next try starts clean."""
    store = Loose()
    propose(store, commit_of("a"))
    propose(store, commit_of("b"))

    with pytest.raises(MlhoError, match="gave different bytes"):
        adopt(store, TASK)
    assert read_commit(store, TASK) is None
    assert proposals_in(store) == []


def test_an_attempt_after_the_commit_with_other_bytes_is_an_error():
    """The record stays."""
    store = Loose()
    propose(store, commit_of("a"))
    adopt(store, TASK)

    with pytest.raises(MlhoError, match="gave different bytes"):
        propose(store, commit_of("b"))
    assert read_commit(store, TASK) == commit_of("a")
    assert proposals_in(store) == []


def test_a_late_proposal_is_compared_before_the_run_is_published():
    """A worker looked for a record just before there was one: its proposal stays, and the last look finds it."""
    store = Loose()
    propose(store, commit_of("a"))
    adopt(store, TASK)
    store.put_if_absent(proposal_key(TASK, commit_of("b").digest), commit_of("b").model_dump_json().encode())

    with pytest.raises(MlhoError, match="gave different bytes"):
        adopt_late(store, [TASK])
    assert read_commit(store, TASK) == commit_of("a")
    assert proposals_in(store) == []


def test_proposals_of_other_runs_are_left_alone():
    """Another run of the same store is under way: its proposals are its own scheduler's to judge."""
    store = Loose()
    propose(store, commit_of("a"))
    adopt(store, TASK)
    propose(store, commit_of("c", OTHER))
    adopt_late(store, [TASK])

    assert proposals_in(store) == [proposal_key(OTHER, commit_of("c").digest)]


@pytest.mark.parametrize("content", [b"", b"{", b"{}", commit_of("b").model_dump_json().encode()])
def test_a_proposal_that_is_not_what_its_key_says_is_removed(content):
    """Cut off, empty, of another version, or of other bytes than its key: its task runs again."""
    store = Loose()
    store.put_if_absent(proposal_key(TASK, commit_of("a").digest), content)

    assert adopt(store, TASK) is None
    assert find_proposal(store, TASK) is None
    assert proposals_in(store) == []


def test_whoever_lost_the_lead_commits_nothing():
    """The look comes right before the write."""
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
    """A worker only proposes, and what it cannot read stays until that is adopted."""
    store = Loose()
    store.put_if_absent(commit_key(TASK), commit_of("a").to_bytes()[:-9])

    assert propose(store, commit_of("a")).is_proposed
    assert read_commit(store, TASK) is None
    assert adopt(store, TASK) == commit_of("a") == read_commit(store, TASK)


def test_a_damaged_proposal_is_removed():
    """Its task runs again."""
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
    """Tasks only propose, the run's loop adopts; result and bundle are those of a strict store, and no proposal is left."""
    data = write_tables(tmp_path / "data", make_tables(), partitions=2)
    strict, loose = run_inline(data, MemoryStore()), run_inline(data, Loose())

    assert loose.digest == strict.digest
    assert loose.bundle() == strict.bundle()
    assert proposals_in(loose.run.store) == []


class Schedule:
    """Actors in threads of which exactly one moves at a time, from one request to the store to the next, in a seeded order."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._mine = threading.local()
        self._paused: dict[str, threading.Semaphore] = {}
        self._back = threading.Semaphore(0)
        self.errors: dict[str, MlhoError] = {}

    def turn(self) -> None:
        """Wait to be moved; free for whoever is no actor."""
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
    """Two workers propose, two schedulers adopt, all at once; then the last look of a run. Return who noticed that bytes differ."""
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


def test_different_bytes_are_noticed_in_whatever_order_things_happen():
    """1,500 orders of every single request of two workers and two schedulers that both believe to lead: somebody notices each time."""
    unnoticed = [seed for seed in range(N_SCHEDULES) if not _play(seed, adopt)[1]]

    assert unnoticed == []


def test_equal_bytes_are_committed_in_whatever_order_things_happen():
    """The same orders, and the same bytes: nobody complains, and the record is there."""
    for seed in range(N_SCHEDULES // 3):
        store, noticed = _play(seed, adopt, second="a")

        assert noticed == set()
        assert read_commit(store, TASK) is not None
        assert proposals_in(store) == []


def test_the_orders_find_a_scheduler_that_removes_what_it_has_not_compared():
    """The test above can fail: a careless scheduler, which clears all proposals after its commit, lets a difference pass."""

    def careless(store: Loose, task: str) -> None:
        if adopt(store, task) is not None:
            discard(store, task)

    assert any(not _play(seed, careless)[1] for seed in range(N_SCHEDULES))
