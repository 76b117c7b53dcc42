"""Commit records: any damage is detected and repaired, and an intact record is never overwritten."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlho.errors import MlhoError, StoreUnavailable
from mlho.steps.records import Commit, StoredFile, parse_record, read_commit, write_commit
from mlho.store.base import Store
from mlho.store.keys import commit_key
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore

TASK = "0a" * 32
FACTS = {"result_digest": "57" * 32, "n_samples": 1203, "share": 0.25, "names": ["a", "b"]}


def commit_of(seconds: float = 1.25) -> Commit:
    files = {
        "result.json": StoredFile(sha256="ab" * 32, size=12),
        "a/b": StoredFile(sha256="cd" * 32, size=0),
    }
    return Commit(task=TASK, kind="write_report", files=files, facts=FACTS, seconds=seconds)


def flips(data: bytes, *, every: int = 1) -> Iterator[bytes]:
    """Yield the bytes with each single bit flipped, or with every n-th one."""
    for place in range(0, 8 * len(data), every):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        yield bytes(damaged)


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store") if request.param == "folder" else MemoryStore()


def test_a_record_is_json_with_a_digest_of_itself():
    """A record is JSON with a digest of itself, which other programs can read."""
    data = commit_of().to_bytes()

    assert json.loads(data)["facts"] == FACTS
    assert len(json.loads(data)["sha256"]) == 64
    assert parse_record(data, TASK) == commit_of()


def test_every_flipped_bit_and_every_truncation_is_recognised():
    """Every flipped bit and every truncation is detected, including those in the digest, its name and the facts, which the run prints."""
    data = commit_of().to_bytes()

    assert [
        place for place, flipped in enumerate(flips(data)) if parse_record(flipped, TASK) is not None
    ] == []
    assert [n for n in range(len(data)) if parse_record(data[:n], TASK) is not None] == []
    assert parse_record(data + b" ", TASK) is None
    assert parse_record(bytes(len(data)), TASK) is None


def test_a_record_is_bound_to_its_key():
    """An intact record under another task's key is invalid."""
    assert parse_record(commit_of().to_bytes(), "0b" * 32) is None


def test_a_record_of_before_stays_readable():
    """A record of an earlier version, without a digest, stays readable and is still bound to its key."""
    old = commit_of().model_dump_json().encode()

    assert parse_record(old, TASK) == commit_of()
    assert parse_record(old, "0b" * 32) is None
    assert parse_record(old[:-3], TASK) is None


def test_a_whole_record_of_another_version_is_refused_and_kept(store):
    """An intact record of another version is refused and kept, because another program may need it."""

    class Newer(Commit):
        new: int = 1

    data = Newer(**commit_of().model_dump()).to_bytes()
    store.put_if_absent(commit_key(TASK), data)

    with pytest.raises(MlhoError, match="a different version"):
        read_commit(store, TASK)
    with pytest.raises(MlhoError, match="a different version"):
        write_commit(store, commit_of())
    assert store.get(commit_key(TASK)) == data


def test_every_damaged_record_is_replaced_once(store):
    """A damaged record counts as missing and is kept until its task has run again. A second writer finds the first one's record.

    Every seventh flipped bit stands for the others: at least one in each byte. A test above proves that all are recognised.
    """
    key = commit_key(TASK)
    whole = commit_of().to_bytes()
    before = None
    for damaged in flips(whole, every=7):
        assert store.compare_and_swap(key, damaged, expected=before)
        assert read_commit(store, TASK) is None
        assert store.get(key) == damaged
        assert write_commit(store, commit_of()) is None
        assert store.get(key) == whole
        before = whole
    assert write_commit(store, commit_of(seconds=9)) == commit_of()


def test_an_intact_record_of_another_writer_stays():
    """Replacing a damaged record is conditional on its bytes, so that a slower writer keeps the other's intact record."""

    class Raced(MemoryStore):
        def compare_and_swap(self, key, data, *, expected):
            if expected == b"damaged":
                super().compare_and_swap(key, commit_of(seconds=2).to_bytes(), expected=b"damaged")
            return super().compare_and_swap(key, data, expected=expected)

    store = Raced()
    store.put_if_absent(commit_key(TASK), b"damaged")

    assert write_commit(store, commit_of(seconds=3)) == commit_of(seconds=2)
    assert read_commit(store, TASK) == commit_of(seconds=2)


def test_a_record_that_changes_at_each_attempt_is_an_error():
    """A record that changes at each attempt raises an error instead of an endless loop."""

    class Restless(MemoryStore):
        def put_if_absent(self, key, data):
            return False

        def get(self, key):
            return b"damaged"

    with pytest.raises(StoreUnavailable, match="changed at each attempt"):
        write_commit(Restless(), commit_of())
