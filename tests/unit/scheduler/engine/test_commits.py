"""The compact mapping of a plan's commits."""

import pytest

from mlho.errors import CommitLost
from mlho.steps.records import Commit, StoredFile
from mlho.store.keys import commit_key
from mlho.store.memory import MemoryStore
from scheduler.engine.commits import Commits
from scheduler.engine.plan import Committed
from scheduler.runs.record import RunCost

AA, BB, CC, DD = (letter * 64 for letter in "abcd")


def committed(store: MemoryStore, task: str, *digests: str) -> Commit:
    """Write a commit record to the store and return it."""
    files = {f"file{number}": StoredFile(sha256=digest, size=1) for number, digest in enumerate(digests)}
    commit = Commit(task=task, kind="x", files=files, seconds=0)
    store.put_if_absent(commit_key(task), commit.model_dump_json().encode())
    return commit


def test_key_and_digest_are_kept_and_the_record_is_read_on_access():
    """The mapping keeps only each commit's key and digest, and reads the record from the store on access."""
    store = MemoryStore()
    first, second = committed(store, AA, "1"), committed(store, BB, "2")
    commits = Commits(store)
    commits["first"] = first
    commits["second"] = second

    assert dict(commits) == {"first": first, "second": second}
    assert commits.known["second"] == Committed(BB, second.digest)
    del commits["first"]
    assert list(commits) == ["second"]
    assert len(commits) == 1
    assert "first" not in commits
    with pytest.raises(KeyError):
        commits["first"]


def test_a_missing_record_is_reported():
    """Access to a deleted record raises CommitLost and says that the same command runs the task again."""
    store = MemoryStore()
    commits = Commits(store)
    commits["first"] = committed(store, AA)
    store.delete(commit_key(AA))

    assert "first" in commits
    with pytest.raises(CommitLost, match=r"missing or damaged\. Run the same command again") as caught:
        commits["first"]
    assert caught.value.sha256 == AA
    assert commits.lost(AA) == "first"


def test_tasks_are_found_by_the_digest_of_a_file():
    """Tasks are found by the digest of a file in their records; a missing record is skipped."""
    store = MemoryStore()
    commits = Commits(store)
    for name, digests in {AA: "12", BB: "3", CC: "24", DD: "2"}.items():
        commits[name] = committed(store, name, *digests)
    store.delete(commit_key(DD))

    assert commits.naming("2") == [AA, CC]
    assert commits.naming("9") == []


def test_the_total_cost_needs_no_records():
    """The total cost is known without reading records. A task that ran again is counted once, with its last cost."""
    commits = Commits(MemoryStore())
    for name, key, seconds, sizes in [
        ("first", AA, 1.5, [10, 20]),
        ("second", BB, 2.0, [5]),
        ("second", BB, 3.0, [7]),
    ]:
        files = {str(number): StoredFile(sha256="1", size=size) for number, size in enumerate(sizes)}
        commits[name] = Commit(task=key, kind="x", files=files, seconds=seconds)

    assert commits.cost(read_bytes=99) == RunCost(cpu_seconds=4.5, read_bytes=99, stored_bytes=37)
    del commits["second"]
    assert commits.cost(read_bytes=0) == RunCost(cpu_seconds=1.5, read_bytes=0, stored_bytes=30)
