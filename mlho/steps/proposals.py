"""Proposals: how tasks are committed in a store without conditional writes (compat mode).

A worker never writes a commit record there. It writes its blobs, and then a *proposal*: the record that it would have written, under a key made
of the task and the digest of the files. The scheduler adopts it: it lists the task's proposals, then looks for a record, then writes one, and only
then removes the listed proposals. So every proposal is compared with the record that stays, by the scheduler that lists it or by the worker that
wrote it, and attempts that gave different bytes never pass unnoticed, without any condition that a server would have to keep
(docs/decisions/0008-compat-mode.md has the proof).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from mlho.errors import ArtifactNotFound
from mlho.steps.records import Commit, Outcome, different_bytes, parse_record, read_commit, write_commit
from mlho.store.base import Store
from mlho.store.keys import PROPOSALS, proposal_key, proposals_prefix


class Leader:
    """The right of a scheduler to write for a run. This base class always has it, because no other scheduler takes part."""

    def check(self) -> None:
        """Return if this scheduler leads the run; raise otherwise."""

    def wait(self, *, seconds: float = math.inf, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Check as :meth:`check` does, but wait while the answer is not available, and call ``meanwhile`` repeatedly."""
        self.check()


SOLE_LEADER: Final = Leader()


def find_proposal(store: Store, task_key: str) -> Outcome | None:
    """Return the proposal of an earlier attempt at a task that the scheduler has not adopted yet, so that the attempt need not be repeated."""
    first = next(_read_all(store, task_key), None)
    return Outcome(first, is_new=False, is_proposed=True) if first is not None else None


def propose(store: Store, commit: Commit) -> Outcome:
    """Write a proposal for the scheduler to adopt, unless the task is committed meanwhile.

    Raises
    ------
    MlhoError
        The task is committed with other bytes.
    """
    key = proposal_key(commit.task, commit.digest)
    store.put_if_absent(key, commit.to_bytes())
    done = read_commit(store, commit.task)
    if done is None:
        return Outcome(commit, is_new=True, is_proposed=True)
    store.delete(key)  # the scheduler has finished this task and would not find the proposal
    if done.digest != commit.digest:
        raise different_bytes(commit)
    return Outcome(done, is_new=False)


def adopt(store: Store, task_key: str, *, leader: Leader = SOLE_LEADER) -> Commit | None:
    """Commit a proposal for a task and remove all its proposals. Return the record, or ``None`` without a proposal.

    Parameters
    ----------
    leader : Leader
        Checked right before the record is written.

    Raises
    ------
    MlhoError
        Attempts gave different bytes. Their proposals are removed, so that the task is done again.
    """
    proposals = list(_read_all(store, task_key))
    done = read_commit(store, task_key)  # read after the proposals are listed: see the module docstring
    if not proposals:
        return done
    if len({proposal.digest for proposal in [*proposals, *([done] if done else [])]}) > 1:
        leader.check()
        _remove(store, proposals)
        raise different_bytes(proposals[0])
    if done is None:
        leader.check()
        done = write_commit(store, proposals[0]) or proposals[0]
    _remove(store, proposals)
    return done


def adopt_late(store: Store, task_keys: Iterable[str]) -> None:
    """Compare and remove proposals that arrived after their task was committed. Called once before a run is published.

    Raises
    ------
    MlhoError
        A proposal and the commit record have different bytes.
    """
    late = {key.split("/")[2] for key in store.keys(f"{PROPOSALS}/")}
    for task_key in sorted(late.intersection(task_keys)):
        adopt(store, task_key)


def discard(store: Store, task_key: str) -> None:
    """Remove all proposals of a task without comparing them, because one of their files is damaged."""
    for key in store.keys(proposals_prefix(task_key)):
        store.delete(key)


def _remove(store: Store, proposals: Iterable[Commit]) -> None:
    """Remove only these proposals. Later ones have not been compared."""
    for proposal in proposals:
        store.delete(proposal_key(proposal.task, proposal.digest))


def _read_all(store: Store, task_key: str) -> Iterator[Commit]:
    """Yield the proposals of a task. Remove one that is unreadable or does not match its key: its task runs again."""
    for key in store.keys(proposals_prefix(task_key)):
        try:
            commit = parse_record(store.get(key), task_key)
        except ArtifactNotFound:
            continue  # adopted meanwhile
        if commit is not None and key == proposal_key(task_key, commit.digest):
            yield commit
        else:
            store.delete(key)
