"""The commit log of a store: reads and writes commit records, and hides compat mode from all callers.

Without conditional writes (compat mode) workers only propose records, and the scheduler that leads the run adopts them
(``mlho/steps/proposals.py``).
"""

from collections.abc import Callable, Iterable

from mlho.steps.proposals import SOLE_LEADER, Leader, adopt, adopt_late, discard, find_proposal, propose
from mlho.steps.records import Commit, Outcome, different_bytes, read_commit, write_commit
from mlho.store.base import Store
from mlho.store.keys import commit_key


class CommitLog:
    """Commit records of a store.

    Parameters
    ----------
    leader : Leader
        Confirms before each adoption that this scheduler may write.
    """

    def __init__(self, store: Store, leader: Leader = SOLE_LEADER) -> None:
        self._store = store
        self._leader = leader

    @property
    def is_adopted(self) -> bool:
        """Return whether workers propose records and the scheduler adopts them."""
        return not self._store.has_one_winner

    def once(self, task_key: str, make: Callable[[], Commit]) -> Outcome:
        """Return the outcome of a task. Make and write (or propose) its record unless an earlier attempt has.

        Raises
        ------
        MlhoError
            Another attempt gave different bytes.
        """
        done = read_commit(self._store, task_key)
        if done is not None:
            return Outcome(done, is_new=False)
        if self.is_adopted:
            return find_proposal(self._store, task_key) or propose(self._store, make())
        commit = make()
        first = write_commit(self._store, commit)
        if first is not None and first.digest != commit.digest:
            raise different_bytes(commit)
        return Outcome(first or commit, is_new=first is None)

    def find(self, task_key: str) -> Commit | None:
        """Return the record of a task, after adopting a proposal for it if necessary; ``None`` if there is neither."""
        commit = read_commit(self._store, task_key)
        if commit is None and self.is_adopted:
            commit = adopt(self._store, task_key, leader=self._leader)
        return commit

    def remove(self, task_key: str) -> None:
        """Delete the record of a task and all proposals for it, because one of its files is damaged."""
        if self.is_adopted:
            discard(self._store, task_key)
        self._store.delete(commit_key(task_key))

    def compare_late(self, task_keys: Iterable[str]) -> None:
        """Compare proposals that arrived after their task was committed. Called once before a run is published."""
        if self.is_adopted:
            adopt_late(self._store, task_keys)
