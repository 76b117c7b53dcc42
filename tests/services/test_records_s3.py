"""Commit records in object storage: a flipped bit is detected, and the record is replaced on the condition of the damaged version."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlho.steps.records import Commit, read_commit, write_commit
from mlho.store.keys import commit_key
from mlho.store.s3_settings import COMPAT
from mlho.store.s3_store import S3Store
from tests.services.s3_servers import S3Server
from tests.services.test_store_s3 import new_store

pytestmark = pytest.mark.usefixtures("credentials")


def commit_of(task: str, seconds: float = 0.5) -> Commit:
    return Commit(task=task, kind="k", files={}, facts={"result_digest": "57"}, seconds=seconds)


def damaged(task: str, place: int) -> bytes:
    """Return the record of a task with one flipped bit."""
    data = bytearray(commit_of(task).to_bytes())
    data[place // 8] ^= 1 << place % 8
    return bytes(data)


@pytest.fixture(params=["seaweedfs", "moto", "compat"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[S3Store]:
    server: S3Server = request.getfixturevalue("rclone" if request.param == "compat" else request.param)
    changes = {"conditional": COMPAT} if request.param == "compat" else {}
    return new_store(server, tmp_path, **changes)


def test_a_flipped_bit_is_recognised_and_the_record_replaced(store):
    """A flipped bit in every fourth byte is detected, and the record is replaced. tests/unit/steps/test_records.py flips every
    bit without a server, which does not know the places.
    """
    places = range(3, 8 * len(commit_of("0000").to_bytes()), 4 * 8)

    def mend(place: int) -> bool:
        task = f"{place:04x}"
        store.bucket.put(store.prefix + commit_key(task), damaged(task, place))
        was_none = read_commit(store, task) is None
        return (
            was_none
            and write_commit(store, commit_of(task)) is None
            and read_commit(store, task) == commit_of(task)
        )

    mended = store.each(mend, list(places))

    assert [place for place, is_mended in zip(places, mended, strict=True) if not is_mended] == []


def test_a_whole_record_that_came_meanwhile_stays(store):
    """An intact record that was written in the meantime stays, because a replacement requires the damaged version's ETag (in
    compat mode a check by the scheduler).
    """
    key = store.prefix + commit_key("aaaa")
    store.bucket.put(key, damaged("aaaa", 100))
    etag = store.bucket.get(key)[1]

    assert write_commit(store, commit_of("aaaa", seconds=1)) is None
    assert not store.bucket.put(key, commit_of("aaaa", seconds=2).to_bytes(), if_match=etag)
    assert write_commit(store, commit_of("aaaa", seconds=3)) == commit_of("aaaa", seconds=1)


def test_several_writers_replace_a_damaged_record_once(store):
    """Of several writers that replace a damaged record, one succeeds and the others find its record."""
    if not store.has_one_winner:
        pytest.skip("in compat mode only the scheduler writes records")
    store.bucket.put(store.prefix + commit_key("bbbb"), b"{")
    found = store.each(lambda n: write_commit(store, commit_of("bbbb", seconds=n)), [1.0, 2.0, 3.0, 4.0])
    stays = read_commit(store, "bbbb")

    assert found.count(None) == 1
    assert {record.seconds for record in found if record is not None} == {stays.seconds}
    assert stays.seconds == 1.0 + found.index(None)
