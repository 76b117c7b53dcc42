"""The node's cache of blobs: fetched once, verified, bounded, and safe for concurrent processes."""

import errno
import hashlib
import multiprocessing
import os
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mlho.errors import ArtifactDamaged, SpecError, StoreUnavailable
from mlho.store import cache as cache_module
from mlho.store.base import file_digest, is_intact, reporting_full_disk
from mlho.store.cache import BlobCache
from tests.disks import small_disk
from tests.limits import GUARD_SECONDS


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def writes(data: bytes, calls: list[int] | None = None):
    """Return a fetch function that writes these bytes and records its calls."""

    def fetch(file):
        if calls is not None:
            calls.append(1)
        file.write(data)

    return fetch


def never(_file):
    raise AssertionError("this blob should be here already")


def size_of(cache: BlobCache) -> int:
    """Return the total size of all copies, in bytes."""
    return sum(path.stat().st_size for path in (cache.folder / "blobs").rglob("*") if path.is_file())


def age(path: Path, seconds: float) -> None:
    """Set the last use of a copy to this many seconds ago."""
    stat = path.stat()
    os.utime(path, ns=(time.time_ns() - int(seconds * 1e9), stat.st_mtime_ns))


def test_a_blob_is_fetched_once(tmp_path):
    """A second access, even by another process, uses the copy and does not change its modification time."""
    cache, calls = BlobCache(tmp_path), []
    first = cache.path(digest_of(b"abc"), writes(b"abc", calls))
    changed = first.stat().st_mtime_ns

    assert first.read_bytes() == b"abc"
    assert BlobCache(tmp_path).path(digest_of(b"abc"), never) == first
    assert first.stat().st_mtime_ns == changed
    assert calls == [1]


def test_wrong_bytes_are_refused_and_not_kept(tmp_path):
    """A fetched blob with the wrong digest is rejected and not kept."""
    cache = BlobCache(tmp_path)

    with pytest.raises(ArtifactDamaged):
        cache.path(digest_of(b"abc"), writes(b"abd"))
    assert size_of(cache) == 0
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_damaged_copy_is_fetched_again(tmp_path):
    """A damaged copy, for example after a power failure, is fetched again: each process verifies a copy once."""
    cache = BlobCache(tmp_path)
    path = cache.path(digest_of(b"abc"), writes(b"abc"))
    path.chmod(0o644)
    path.write_bytes(b"a")

    assert cache.path(digest_of(b"abc"), writes(b"abc")).read_bytes() == b"abc"


def test_a_copy_that_another_process_has_just_replaced_stays(tmp_path, monkeypatch):
    """A process that finds a damaged copy removes nothing: another may have replaced it, and its reader may be about to map it."""
    cache, other = BlobCache(tmp_path), BlobCache(tmp_path)
    path = cache.path(digest_of(b"abc"), writes(b"abc"))
    path.chmod(0o644)
    path.write_bytes(b"a")

    def replaced_meanwhile(found: Path) -> str:
        digest = digest_of(found.read_bytes())
        monkeypatch.undo()
        other.path(digest_of(b"abc"), writes(b"abc"))
        return digest

    monkeypatch.setattr("mlho.store.base.file_digest", replaced_meanwhile)

    assert cache.path(digest_of(b"abc"), never).read_bytes() == b"abc"


def test_the_least_recently_used_go_first(tmp_path):
    """If the cache exceeds its bound, the least recently used copies are deleted until it has 7/8 of it."""
    cache = BlobCache(tmp_path, max_bytes=8_000, grace_seconds=0)
    data = [os.urandom(1_000) for _ in range(9)]
    paths = []
    for number, blob in enumerate(data[:8]):
        paths.append(cache.path(digest_of(blob), writes(blob)))
        age(paths[-1], 1_000 - number)
    cache.path(digest_of(data[0]), never)  # used again
    cache.path(digest_of(data[8]), writes(data[8]))

    assert size_of(cache) == 7_000
    assert [path.exists() for path in paths] == [True, False, False, True, True, True, True, True]


def test_a_copy_in_use_stays_above_the_bound(tmp_path):
    """A copy that was just used is kept even above the bound, because a reader may be about to map it."""
    cache = BlobCache(tmp_path, max_bytes=1_000, grace_seconds=60)
    for _ in range(5):
        blob = os.urandom(1_000)
        cache.path(digest_of(blob), writes(blob))

    assert size_of(cache) == 5_000


def test_a_mapped_copy_survives_its_eviction(tmp_path):
    """Deleting a copy does not affect processes that have it mapped."""
    cache = BlobCache(tmp_path, max_bytes=1_000, grace_seconds=0)
    data = os.urandom(1_000)
    mapped = np.memmap(cache.path(digest_of(data), writes(data)), np.uint8, mode="r")
    for _ in range(3):
        blob = os.urandom(1_000)
        age(cache.path(digest_of(blob), writes(blob)), 1)

    assert not (tmp_path / "blobs" / digest_of(data)[:2] / digest_of(data)).exists()
    assert mapped.tobytes() == data


def test_an_admitted_file_is_not_fetched(tmp_path):
    """A file that this node stored is copied into the cache, is not fetched, and outlives the step's folder."""
    cache = BlobCache(tmp_path / "cache")
    source = tmp_path / "file"
    source.write_bytes(b"abc")
    cache.admit(digest_of(b"abc"), source)
    cache.admit(digest_of(b"abc"), source)
    source.unlink()

    assert cache.path(digest_of(b"abc"), never).read_bytes() == b"abc"


def test_a_kept_file_has_its_name(tmp_path):
    """A kept file has its original name, which a browser needs. Equal bytes are kept once."""
    cache = BlobCache(tmp_path)
    path = cache.keep("report.html", b"<html>")

    assert path.name == "report.html"
    assert path.read_bytes() == b"<html>"
    assert cache.keep("report.html", b"<html>") == path
    assert cache.keep("report.html", b"<html>2") != path


def _fetch_all(folder: Path, log: Path, data: list[bytes]) -> None:
    cache = BlobCache(folder, max_bytes=40_000, grace_seconds=5)
    for blob in data:

        def fetch(file, blob=blob):
            with log.open("a") as lines:
                lines.write(digest_of(blob) + "\n")
            time.sleep(0.01)
            file.write(blob)

        assert cache.path(digest_of(blob), fetch).read_bytes() == blob


def test_many_processes_fetch_each_blob_once(tmp_path):
    """Six processes that request the same twenty blobs at the same time cause twenty fetches."""
    data = [os.urandom(1_000) for _ in range(20)]
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fetch_all, args=(tmp_path / "cache", log, data)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(GUARD_SECONDS)

    assert [process.exitcode for process in processes] == [0] * 6
    assert sorted(log.read_text().split()) == sorted(digest_of(blob) for blob in data)


def test_abandoned_work_is_cleared(tmp_path):
    """The temporary file of a killed process is deleted after a day."""
    cache = BlobCache(tmp_path)
    left, recent = tmp_path / "tmp" / "left", tmp_path / "tmp" / "recent"
    for path in (left, recent):
        path.write_bytes(b"x")
    os.utime(left, (time.time() - 100_000, time.time() - 100_000))
    cache.path(digest_of(b"abc"), writes(b"abc"))

    assert not left.exists()
    assert recent.exists()


def test_a_cache_is_for_its_owner_only(tmp_path):
    """Only the owner can read the cache folder, because blobs contain patients' data."""
    BlobCache(tmp_path / "cache")

    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("env", "folder", "max_bytes"),
    [
        ({"MLHO_CACHE_DIR": "{tmp}/a", "MLHO_CACHE_BYTES": "500M"}, "a", 500 << 20),
        ({"XDG_CACHE_HOME": "{tmp}/b", "MLHO_CACHE_BYTES": "2Gi"}, "b/mlho", 2 << 30),
        ({"HOME": "{tmp}/c", "MLHO_CACHE_BYTES": "1000"}, "c/.cache/mlho", 1000),
        ({"HOME": "{tmp}/c"}, "c/.cache/mlho", 8 << 30),
    ],
)
def test_the_environment_says_where_and_how_large(tmp_path, env, folder, max_bytes):
    cache = BlobCache.from_environment({name: value.format(tmp=tmp_path) for name, value in env.items()})

    assert (cache.folder, cache.max_bytes) == (tmp_path / folder, max_bytes)


@pytest.mark.parametrize("size", ["much", "0", "-1G", "1.5G"])
def test_a_size_that_is_none_is_refused(tmp_path, size):
    with pytest.raises(SpecError, match="MLHO_CACHE_BYTES"):
        BlobCache.from_environment({"MLHO_CACHE_DIR": str(tmp_path), "MLHO_CACHE_BYTES": size})


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")

    with pytest.raises(SpecError, match="MLHO_CACHE_DIR"):
        BlobCache(tmp_path / "file" / "cache")


def test_a_truncated_copy_of_a_kept_file_is_replaced(tmp_path):
    """A power cut may leave a name without the bytes."""
    cache = BlobCache(tmp_path)
    cache.keep("report.html", b"abc").write_bytes(b"")

    assert cache.keep("report.html", b"abc").read_bytes() == b"abc"


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    """It exists and cannot be written; the first blob would end in an error that names no remedy."""
    BlobCache(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)

    with pytest.raises(SpecError, match=r"not writable\. Set MLHO_CACHE_DIR"):
        BlobCache(tmp_path)


@pytest.mark.parametrize("options", ["size=64k", "nr_inodes=14"], ids=["bytes", "inodes"])
def test_a_full_disk_of_the_cache_is_named(options, tmp_path):
    """Whether bytes or names are used up, each call names the cache and the remedy."""
    data = b"x" * 100_000
    (tmp_path / "source").write_bytes(data)
    with small_disk(tmp_path / "disk", options) as disk:
        cache = BlobCache(disk / "cache")
        calls = [
            lambda: cache.path(digest_of(data), writes(data)),
            lambda: cache.keep("name", data),
            lambda: cache.admit(digest_of(data), tmp_path / "source"),
        ]
        if "inodes" in options:
            for number in range(14):
                with suppress(OSError):
                    (disk / str(number)).touch()
        for call in calls:
            with pytest.raises(StoreUnavailable, match=r"No space left on device.*MLHO_CACHE_BYTES"):
                call()


def test_a_disk_that_does_not_respond_is_not_called_full():
    """After an input/output error, free space does not help."""
    with (
        pytest.raises(StoreUnavailable, match=r"^store: Input/output error\. Check the disk\.$"),
        reporting_full_disk("store", ""),
    ):
        raise OSError(errno.EIO, "Input/output error")


def test_a_full_disk_evicts_copies_that_are_not_in_use(tmp_path, monkeypatch):
    """Other programs may fill the disk before the bound of the cache is reached. The least recently used copies make room, and one warning says so."""
    warnings = []
    log = SimpleNamespace(warning=lambda event, **_: warnings.append(event))
    monkeypatch.setattr("mlho.store.cache.log", log)
    with small_disk(tmp_path / "disk", size="1m") as disk:
        cache = BlobCache(disk / "cache")
        blobs = [bytes([number]) * 100_000 for number in range(9)]
        old = [cache.path(digest_of(data), writes(data)) for data in blobs[:7]]
        for number, path in enumerate(old):
            age(path, 1_000 - number)
        recent = cache.path(digest_of(blobs[7]), writes(blobs[7]))

        large = b"y" * 400_000
        assert cache.path(digest_of(large), writes(large)).read_bytes() == large
        assert [path.exists() for path in old] == [False] * 4 + [True] * 3
        assert cache.keep("report.html", large).read_bytes() == large
        assert recent.exists()
        assert warnings == ["cache_reduced"]


def test_a_full_disk_keeps_copies_that_are_in_use(tmp_path):
    """Copies that were used a moment ago may be about to be mapped: the error names the remedy instead."""
    with small_disk(tmp_path / "disk", size="1m") as disk:
        cache = BlobCache(disk / "cache")
        data = b"x" * 600_000
        path = cache.path(digest_of(data), writes(data))

        with pytest.raises(StoreUnavailable, match=r"No space left on device.*MLHO_CACHE_BYTES"):
            cache.path(digest_of(data + b"y"), writes(data + b"y"))
        assert path.exists()


def test_a_fetched_blob_is_hashed_once(tmp_path, monkeypatch):
    """The cache and the reader of an artifact share what they know: hashing is most of the time of a warm start."""
    cache, data = BlobCache(tmp_path), b"hashed once"
    hashed = []
    monkeypatch.setattr(cache_module, "file_digest", lambda path: hashed.append(path) or file_digest(path))
    monkeypatch.setattr("mlho.store.base.file_digest", cache_module.file_digest)
    path = cache.path(digest_of(data), writes(data))

    assert is_intact(path, digest_of(data))
    assert len(hashed) == 1
    path.chmod(0o600)
    path.write_bytes(b"changed now")
    assert not is_intact(path, digest_of(data))
