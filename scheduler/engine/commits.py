"""The commits of a plan, in as little memory as the run loop needs.

A plan can have a hundred thousand tasks, and a commit record takes some kilobytes of memory. Later tasks need
only the key and the digest of each commit. The few callers that need a whole record read it from the store
again.
"""

import struct
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Final, override

from mlho.errors import CommitLost
from mlho.steps.commit_log import CommitLog
from mlho.steps.proposals import SOLE_LEADER, Leader
from mlho.steps.records import Commit, read_commit
from mlho.store.base import Store
from scheduler.engine.plan import Committed
from scheduler.runs.record import RunCost

# Key and digest in binary form, seconds, and bytes of the files: this takes a third of the memory of objects.
_RECORD: Final = struct.Struct("<32s32sdQ")


class _Known(Mapping[str, Committed]):
    """View of packed records."""

    def __init__(self, records: Mapping[str, bytes]) -> None:
        self._records = records

    @override
    def __getitem__(self, name: str) -> Committed:
        key, digest, _, _ = _RECORD.unpack(self._records[name])
        return Committed(key.hex(), digest.hex())

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    @override
    def __len__(self) -> int:
        return len(self._records)


class Commits(MutableMapping[str, Commit]):
    """Commits by task name. Each record is read from the store on access."""

    def __init__(self, store: Store, leader: Leader = SOLE_LEADER) -> None:
        self.log = CommitLog(store, leader)
        self._store = store
        self._records: dict[str, bytes] = {}
        self.known: Mapping[str, Committed] = _Known(self._records)
        """Key and digest of each commit by task name, without a request to the store."""
        self._fresh: list[str] = []

    @override
    def __getitem__(self, name: str) -> Commit:
        known = self.known[name]
        commit = read_commit(self._store, known.task)
        if commit is None:
            raise CommitLost(
                f"commit {known.task[:12]}…: it was in the store, and is now missing or damaged. Run the same command again.",
                sha256=known.task,
            )
        return commit

    @override
    def __setitem__(self, name: str, commit: Commit) -> None:
        n_bytes = sum(file.size for file in commit.files.values())
        key, digest = bytes.fromhex(commit.task), bytes.fromhex(commit.digest)
        self._records[name] = _RECORD.pack(key, digest, commit.seconds, n_bytes)
        self._fresh.append(commit.task)

    def cost(self, *, read_bytes: int) -> RunCost:
        """Return the cost of the known tasks, without a request to the store."""
        seconds, stored_bytes = 0.0, 0
        for _, _, task_seconds, n_bytes in map(_RECORD.unpack, self._records.values()):
            seconds += task_seconds
            stored_bytes += n_bytes
        return RunCost(cpu_seconds=round(seconds, 3), read_bytes=read_bytes, stored_bytes=stored_bytes)

    def drain(self) -> list[str]:
        """Return the keys of the tasks that were added since the last call."""
        n_fresh = len(self._fresh)
        keys = self._fresh[:n_fresh]
        del self._fresh[:n_fresh]
        return keys

    @override
    def __delitem__(self, name: str) -> None:
        del self._records[name]

    @override
    def __contains__(self, name: object) -> bool:
        return name in self._records

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    @override
    def __len__(self) -> int:
        return len(self._records)

    def lost(self, task_key: str) -> str | None:
        """Return the name of the task with this key if it was committed and its record is now missing or damaged."""
        name = next((name for name, commit in self.known.items() if commit.task == task_key), None)
        return name if name is not None and read_commit(self._store, task_key) is None else None

    def naming(self, sha256: str) -> list[str]:
        """Return the names of the tasks with a file of this digest. All commit records are read."""
        names = list(self.known)
        matches = self._store.each(lambda name: self._names(name, sha256), names)
        return [name for name, is_found in zip(names, matches, strict=True) if is_found]

    def _names(self, name: str, sha256: str) -> bool:
        commit = read_commit(self._store, self.known[name].task)
        return commit is not None and any(file.sha256 == sha256 for file in commit.files.values())
