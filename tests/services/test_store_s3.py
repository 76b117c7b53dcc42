"""The store in object storage over real HTTP: the contract of every store, and behaviour that needs a server."""

import datetime as dt
import hashlib
import inspect
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

from mlho.errors import ArtifactDamaged, SpecError, StoreAccessDenied, StoreUnavailable
from mlho.steps.records import Commit, StoredFile
from mlho.store import open_store
from mlho.store.base import file_digest
from mlho.store.cache import BlobCache
from mlho.store.keys import blob_key, commit_key, uses_prefix
from mlho.store.probe import probe_store
from mlho.store.s3 import Bucket, _client
from mlho.store.s3_store import S3Store
from scheduler.runs import garbage
from scheduler.runs.garbage import collect
from tests.contract import test_store as suite
from tests.limits import GUARD_SECONDS, SLOWER
from tests.ports import free_port
from tests.services.s3_servers import (
    BUCKET,
    READ_ONLY_KEY,
    S3Server,
    client_of,
    seaweedfs_server,
)

pytestmark = pytest.mark.usefixtures("credentials")
_PART_BYTES = 5 << 20

# The contract of every store, with this file's fixture.
globals().update(
    {
        name: test
        for name, test in vars(suite).items()
        if name.startswith("test_") and "store" in inspect.signature(test).parameters
    }
)


@pytest.fixture(params=["seaweedfs", "moto"])
def server(request: pytest.FixtureRequest) -> S3Server:
    return request.getfixturevalue(request.param)


@pytest.fixture
def store(server: S3Server, tmp_path: Path) -> S3Store:
    return new_store(server, tmp_path)


def new_store(server: S3Server, folder: Path, *, prefix: str | None = None, **settings) -> S3Store:
    """Return a store under a new prefix."""
    prefix = f"{uuid4().hex[:8]}/" if prefix is None else prefix
    bucket = Bucket(BUCKET, server.settings(**settings), where=f"s3://{BUCKET}/{prefix}")
    return S3Store(bucket, prefix, BlobCache(folder / "cache"))


def uploads(server: S3Server, prefix: str) -> list[str]:
    """Return the keys of unfinished multipart uploads."""
    found = client_of(server).list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    return [upload["Key"] for upload in found.get("Uploads", ())]


def test_the_probe_accepts_a_server_that_keeps_the_promise(store):
    """The probe accepts SeaweedFS and moto, which honor conditional writes, and leaves no object."""
    probe_store(store)

    assert list(store.keys("")) == []


def test_the_probe_refuses_a_server_that_overwrites(rclone, tmp_path):
    """The probe refuses rclone's server, which ignores the condition of a write."""
    with pytest.raises(SpecError, match=r"overwrites existing objects .*refuses_second_write"):
        probe_store(new_store(rclone, tmp_path))


def test_a_refreshed_object_is_young_and_the_same(store):
    """Refreshing an object makes it newer by copying it onto itself, which is the only way that servers offer, and does not change its bytes."""
    store.put_if_absent("a", b"whole")
    before = next(store.objects("a")).modified
    time.sleep(1.1)  # servers list whole seconds

    assert store.bucket.refresh(f"{store.prefix}a", after_seconds=0.0)
    assert next(store.objects("a")).modified > before
    assert store.get("a") == b"whole"
    assert not store.put_if_absent("a", b"other")


def test_a_page_in_a_bucket_has_the_media_type_of_a_page(store):
    """A page has the media type of HTML, because a browser would otherwise save it instead of showing it."""
    store.put_if_absent("site/index.html", b"<p>")
    store.bucket.refresh(f"{store.prefix}site/index.html", after_seconds=0.0)
    found = store.bucket.get(f"{store.prefix}site/index.html")

    client = _client(os.getpid(), store.bucket.settings)
    head = client.head_object(Bucket=store.bucket.name, Key=f"{store.prefix}site/index.html")
    assert found[0] == b"<p>"
    assert head["ContentType"] == "text/html; charset=utf-8"


def test_garbage_in_a_bucket_is_collected(store, monkeypatch):
    """Unused objects are collected by the server's clock, and those that a run uses stay."""
    task, other, digest = "ab" * 32, "cd" * 32, hashlib.sha256(b"kept").hexdigest()
    # The folders of these objects only: tests/unit/scheduler/runs visits all 256, each of which takes a request.
    monkeypatch.setattr(garbage, "_SHARDS", sorted({"ab", "cd", "ee", digest[:2]}))
    kept = Commit(task=task, kind="x", files={"a": StoredFile(sha256=digest, size=4)}, seconds=1.0)
    lost = kept.model_copy(update={"task": other})
    for key, data in {
        blob_key(digest): b"kept",
        blob_key("e" * 64): b"lost",
        commit_key(task): kept.to_bytes(),
        commit_key(other): lost.to_bytes(),
        f"{uses_prefix('run')}1": f"{task}\n".encode(),
    }.items():
        store.put_if_absent(key, data)
    young = collect(store, {"run"}, act=True)
    old = collect(store, {"run"}, act=True, grace=dt.timedelta(hours=-1))

    assert (young.n_objects, young.n_young) == (0, 2)
    assert (old.n_objects, old.n_bytes) == (2, 4 + len(lost.to_bytes()))
    assert list(store.keys("")) == sorted([blob_key(digest), commit_key(task), f"{uses_prefix('run')}1"])


def test_a_folder_needs_no_probe(tmp_path):
    """A store in a folder is not probed and not changed."""
    store = open_store(str(tmp_path / "store"))

    probe_store(store)

    assert list(store.keys("")) == []


def _race(server: S3Server, folder: Path, prefix: str, barrier, wins) -> None:
    store = new_store(server, folder, prefix=prefix)
    for number in range(10):
        barrier.wait(GUARD_SECONDS)
        if store.put_if_absent(f"commits/{number}", str(os.getpid()).encode()):
            wins[number] += 1


def test_of_eight_processes_exactly_one_wins_each_key(seaweedfs, tmp_path):
    """If eight processes write ten keys at the same time, each key has exactly one winner."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(8)
    wins = context.Array("i", 10)
    arguments = (seaweedfs, tmp_path, "race/", barrier, wins)
    processes = [context.Process(target=_race, args=arguments) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(GUARD_SECONDS)

    assert [process.exitcode for process in processes] == [0] * 8
    assert list(wins) == [1] * 10


def test_a_client_is_created_again_after_a_fork(seaweedfs, tmp_path):
    """Parent and child can both use a store that was opened before the fork."""
    store = new_store(seaweedfs, tmp_path)
    store.put_if_absent("from/parent", b"parent")
    context = multiprocessing.get_context("fork")
    child = context.Process(target=store.put_if_absent, args=("from/child", b"child"))
    child.start()
    child.join(GUARD_SECONDS)

    assert child.exitcode == 0
    assert [store.get(key) for key in store.keys("from/")] == [b"child", b"parent"]


def test_several_requests_are_under_way_at_once(store):
    """Four requests that wait for each other all finish, so they run concurrently."""
    meeting = threading.Barrier(4, timeout=GUARD_SECONDS)

    assert sorted(store.each(lambda _: meeting.wait(), range(4))) == [0, 1, 2, 3]


def test_committed_objects_survive_a_killed_server(tmp_path):
    """After SIGKILL and restart of the server, every object exists and still cannot be overwritten."""
    server = seaweedfs_server(tmp_path)
    server.start()
    try:
        client_of(server).create_bucket(Bucket=BUCKET)
        store = new_store(server, tmp_path)
        for number in range(20):
            assert store.put_if_absent(f"commits/{number}", b"%d" % number)
        server.kill()
        server.start()

        assert [store.get(f"commits/{number}") for number in range(20)] == [b"%d" % n for n in range(20)]
        assert not store.put_if_absent("commits/7", b"another")
    finally:
        server.stop()


def test_a_write_waits_for_a_server_that_restarts(tmp_path):
    """A write that begins while the server is down succeeds after its restart."""
    server = seaweedfs_server(tmp_path)
    server.start()
    try:
        client_of(server).create_bucket(Bucket=BUCKET)
        store = new_store(server, tmp_path, max_attempts=2, deadline_seconds=GUARD_SECONDS)
        server.kill()
        back = threading.Timer(1.0, server.start)
        back.start()
        assert store.put_if_absent("commits/a", b"1")
        back.join()

        assert store.get("commits/a") == b"1"
    finally:
        server.stop()


@pytest.mark.parametrize("size", [_PART_BYTES, 20_000_001], ids=["one part", "two parts"])
def test_a_large_file_goes_in_parts_and_is_written_once(server, tmp_path, size):
    """A large file is uploaded in parts, read back whole, and not overwritten by a second writer. No upload stays open."""
    store = new_store(server, tmp_path, multipart_bytes=_PART_BYTES)
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(os.urandom(size))
    second.write_bytes(os.urandom(size))
    prefix = store.prefix

    assert store.bucket.put_file(f"{prefix}big", first)
    assert not store.bucket.put_file(f"{prefix}big", second)
    assert store.get("big") == first.read_bytes()
    assert uploads(server, prefix) == []


def test_a_large_file_that_fails_leaves_no_upload(seaweedfs, tmp_path):
    """If the upload of a large file fails, its parts are deleted and the key does not exist."""
    store = new_store(seaweedfs, tmp_path, multipart_bytes=_PART_BYTES)
    path = tmp_path / "file"
    path.write_bytes(bytes(20_000_000))

    def parts(upload, path):
        yield {"PartNumber": 1, "ETag": store.bucket._upload_part(upload, 1, bytes(_PART_BYTES))}
        raise OSError("the disk is gone")

    store.bucket._upload_parts = parts
    with pytest.raises(OSError, match="the disk is gone"):
        store.bucket.put_file(f"{store.prefix}big", path)

    assert uploads(seaweedfs, store.prefix) == []
    assert list(store.keys("")) == []


def test_many_keys_are_listed_over_pages(seaweedfs, tmp_path):
    """A listing over several pages has each key once, sorted."""
    store = new_store(seaweedfs, tmp_path)
    names = sorted(f"a/{number}" for number in range(25))
    for name in names:
        store.put_if_absent(name, b"1")
    found = [obj.key.removeprefix(store.prefix) for obj in store.bucket.listed(f"{store.prefix}a/", page=7)]

    assert found == names
    assert list(store.keys("a/")) == names


def test_a_blob_is_fetched_once_and_mapped_from_the_cache(seaweedfs, tmp_path):
    """A second access to a blob uses the local copy, and deletion removes both."""
    writer = new_store(seaweedfs, tmp_path / "writer")
    reader = new_store(seaweedfs, tmp_path / "reader", prefix=writer.prefix)
    file = tmp_path / "block.arr"
    file.write_bytes(os.urandom(100_000))
    key = blob_key(file_digest(file))
    writer.put_file_if_absent(key, file)
    first = reader.path(key)
    client_of(seaweedfs).delete_object(Bucket=BUCKET, Key=reader.prefix + key)

    assert first.read_bytes() == file.read_bytes()
    assert reader.path(key) == first
    reader.delete(key)
    assert not first.exists()


def test_a_blob_that_was_stored_here_is_not_fetched(seaweedfs, tmp_path):
    """A blob that this node stored is in its cache and is not fetched."""
    store = new_store(seaweedfs, tmp_path)
    file = tmp_path / "block.arr"
    file.write_bytes(b"block")
    key = blob_key(file_digest(file))
    store.put_file_if_absent(key, file)
    client_of(seaweedfs).delete_object(Bucket=BUCKET, Key=store.prefix + key)

    assert store.path(key).read_bytes() == b"block"


def test_a_blob_damaged_in_the_bucket_is_refused_and_not_kept(seaweedfs, tmp_path):
    """A blob with the wrong digest is rejected and not kept; the error has the digest, so that its task runs again. Correct
    bytes are then accepted.
    """
    store = new_store(seaweedfs, tmp_path)
    file = tmp_path / "block.arr"
    file.write_bytes(b"whole")
    digest = file_digest(file)
    store.put_if_absent(blob_key(digest), b"damaged")

    with pytest.raises(ArtifactDamaged, match="do not match its digest") as caught:
        store.path(blob_key(digest))
    assert caught.value.sha256 == digest
    store.delete(blob_key(digest))
    store.put_file_if_absent(blob_key(digest), file)
    assert store.path(blob_key(digest)).read_bytes() == b"whole"


def test_a_pointer_moved_by_another_is_not_moved(store):
    """A pointer that another process moved after the read is not moved, because the write requires the ETag of the read."""
    store.put_if_absent("channel", b"1")
    _, etag = store.bucket.get(store.prefix + "channel")
    store.compare_and_swap("channel", b"2", expected=b"1")

    assert not store.bucket.put(store.prefix + "channel", b"3", if_match=etag)
    assert store.get("channel") == b"2"


def test_a_store_is_opened_by_its_address_and_the_environment(seaweedfs, tmp_path, monkeypatch):
    """A worker opens its store by the address from the command line and the settings from variables."""
    for name, value in seaweedfs.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLHO_CACHE_DIR", str(tmp_path / "cache"))
    store = open_store(f"s3://{BUCKET}/by-address/deep/")

    assert store.put_if_absent("a", b"1")
    assert client_of(seaweedfs).get_object(Bucket=BUCKET, Key="by-address/deep/a")["Body"].read() == b"1"
    assert open_store(f"s3://{BUCKET}/by-address/deep") is not None


@pytest.mark.parametrize(
    ("variables", "settings", "bucket", "expected"),
    [
        ({}, {}, "no-such-bucket", "no such bucket, or access denied to list. Correct the address"),
        (
            {"AWS_ACCESS_KEY_ID": "nobody"},
            {},
            BUCKET,
            r"does not accept the credentials \(InvalidAccessKeyId",
        ),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, {}, BUCKET, r"credentials \(SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": READ_ONLY_KEY}, {}, BUCKET, r"access denied to write\. .*grant"),
        ({}, {}, "Not_A_Bucket!", "no valid bucket or key"),
        ({"AWS_PROFILE": "none-of-that-name"}, {}, BUCKET, "AWS_PROFILE"),
    ],
    ids=["bucket", "key", "secret", "read only", "bucket name", "profile"],
)
def test_a_start_that_cannot_work_fails_at_once(
    seaweedfs, tmp_path, monkeypatch, variables, settings, bucket, expected
):
    """An invalid configuration of the store fails within seconds with the cause and the remedy, before anything is written."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    opened_bucket = Bucket(bucket, seaweedfs.settings(region=f"us-east-{uuid4().hex}", **settings))
    store = S3Store(opened_bucket, "start/", BlobCache(tmp_path))
    began = time.monotonic()

    with pytest.raises((SpecError, StoreAccessDenied), match=expected):
        probe_store(store)
    assert time.monotonic() - began < SLOWER * 5


def test_missing_credentials_are_reported(seaweedfs, tmp_path, monkeypatch):
    """Without credentials in variables, in a file or by a role, the error says so."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    store = new_store(seaweedfs, tmp_path, region="us-west-1")

    with pytest.raises(StoreAccessDenied, match="no credentials"):
        probe_store(store)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:{port}", "http://no-such-host.invalid:{port}"])
def test_a_wrong_endpoint_is_reported_within_seconds(moto, tmp_path, endpoint):
    """An endpoint that refuses connections or does not exist raises a retryable error that names the variable."""
    store = new_store(moto, tmp_path)
    settings = moto.settings(endpoint=endpoint.format(port=free_port()))
    store.bucket = Bucket(BUCKET, settings)
    began = time.monotonic()

    with pytest.raises(StoreUnavailable, match=r"did not list in time .*MLHO_S3_ENDPOINT") as caught:
        probe_store(store)
    assert caught.value.retryable
    assert time.monotonic() - began < SLOWER * 15


def test_a_silent_server_does_not_block_a_worker_forever(tmp_path):
    """If the server does not respond, the deadline ends the operation."""
    server = seaweedfs_server(tmp_path)
    server.start()
    try:
        store = new_store(server, tmp_path, read_timeout_seconds=1.0, max_attempts=1, deadline_seconds=2.0)
        os.killpg(server.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="ReadTimeoutError"):
            store.get("a")
        assert time.monotonic() - began < SLOWER * 10
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
        server.stop()
