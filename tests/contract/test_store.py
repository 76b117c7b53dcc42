"""One suite for every store: bytes by key, written once."""

import datetime as dt
import errno
import fcntl
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlho.errors import ArtifactNotFound, SpecError, StoreUnavailable
from mlho.store import open_store
from mlho.store.base import Store, file_digest
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore

KEY = "runs/ab/result.json"


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path / "store")


def test_a_store_returns_the_bytes_that_were_put(store):
    """A store returns the bytes that were put, including empty and binary ones."""
    for number, data in enumerate((b"", b"\0\xff\r\n", b"x" * 100_000)):
        assert store.put_if_absent(f"a/{number}", data)
        assert store.get(f"a/{number}") == data


def test_a_key_is_written_once(store):
    """A second write to a key returns false and changes nothing."""
    assert store.put_if_absent(KEY, b"first")

    assert not store.put_if_absent(KEY, b"second")
    assert store.get(KEY) == b"first"


def test_a_key_is_written_once_by_racing_writers(store):
    """Of many racing writers exactly one gets true, and all readers see its bytes."""
    with ThreadPoolExecutor(8) as threads:
        written = list(threads.map(lambda n: store.put_if_absent(KEY, str(n).encode()), range(64)))

    assert written.count(True) == 1
    assert store.get(KEY) == str(written.index(True)).encode()


@pytest.mark.parametrize("method", ["get", "path"])
def test_an_absent_key_is_not_found(store, method):
    """Reading an absent key raises a ``LookupError`` that names the key."""
    with pytest.raises(ArtifactNotFound, match="runs/none"):
        getattr(store, method)("runs/none")


@pytest.mark.parametrize("method", ["get", "path"])
def test_a_prefix_of_keys_is_not_a_key(store, method):
    """A prefix of other keys is not a key."""
    store.put_if_absent(KEY, b"1")

    assert not store.exists("runs/ab")
    with pytest.raises(ArtifactNotFound):
        getattr(store, method)("runs/ab")


def test_a_key_below_a_key_is_not_found(store):
    """A key below an existing object is absent, and no other error is raised."""
    store.put_if_absent("a", b"1")

    assert not store.exists("a/b")
    with pytest.raises(ArtifactNotFound):
        store.get("a/b")


def test_a_file_is_put_once(store, tmp_path):
    """The bytes of a file are stored, and a second file does not replace them."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"first")
    second.write_bytes(b"second")

    assert store.put_file_if_absent(KEY, first)
    assert not store.put_file_if_absent(KEY, second)
    assert store.get(KEY) == b"first"


def test_a_put_file_outlives_its_source(store, tmp_path):
    """A file may be removed after it was put."""
    source = tmp_path / "file"
    source.write_bytes(b"x")
    store.put_file_if_absent(KEY, source)
    source.unlink()

    assert store.get(KEY) == b"x"


def test_bytes_get_a_second_key_once(store):
    """A copy is also written only once, and a missing source is not found."""
    store.put_if_absent("a", b"1")
    store.put_if_absent("b", b"2")

    assert store.copy_if_absent("a", "c")
    assert not store.copy_if_absent("b", "c")
    assert store.get("c") == b"1"
    with pytest.raises(ArtifactNotFound):
        store.copy_if_absent("none", "d")


def test_each_returns_results_in_order(store):
    """``each`` works for no, one or many items, and raises their errors."""
    keys = [f"k{number}" for number in range(40)]
    assert store.each(lambda key: store.put_if_absent(key, key.encode()), keys) == [True] * 40

    assert store.each(store.get, keys) == [key.encode() for key in keys]
    assert store.each(store.get, keys[:1]) == [b"k0"]
    assert store.each(store.get, []) == []
    with pytest.raises(ArtifactNotFound):
        store.each(store.get, [*keys, "none"])


def test_a_pointer_moves_only_from_the_expected_value(store):
    """Compare-and-swap writes only if the current value, or its absence, is the expected one."""
    assert not store.compare_and_swap("channel", b"2", expected=b"1")
    assert store.compare_and_swap("channel", b"1", expected=None)
    assert not store.compare_and_swap("channel", b"2", expected=None)
    assert store.path("channel").read_bytes() == b"1"
    assert store.compare_and_swap("channel", b"2", expected=b"1")
    assert store.get("channel") == b"2"
    assert store.path("channel").read_bytes() == b"2"


def test_racing_pointers_lose_no_step(store):
    """All increments by compare-and-swap from several threads count."""

    def increment(_: int) -> None:
        while True:
            current = store.get("n") if store.exists("n") else None
            if store.compare_and_swap("n", str(int(current or 0) + 1).encode(), expected=current):
                return

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(increment, range(20)))

    assert store.get("n") == b"20"


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["a/b/1", "a/b/2", "a/bc", "d"]),
        ("a/", ["a/b/1", "a/b/2", "a/bc"]),
        ("a/b", ["a/b/1", "a/b/2", "a/bc"]),
        ("a/b/", ["a/b/1", "a/b/2"]),
        ("none/", []),
        ("d", ["d"]),
        ("d/", []),
    ],
)
def test_keys_are_listed_by_prefix_and_sorted(store, prefix, expected):
    """All keys that begin with the prefix are listed, also if it ends within a name, but never work in progress."""
    for key in ("d", "a/bc", "a/b/2", "a/b/1"):
        store.put_if_absent(key, b"1")
    store.compare_and_swap("d", b"2", expected=b"1")

    assert list(store.keys(prefix)) == expected


def test_objects_are_listed_with_size_and_time(store):
    """Each key is listed once, with the size of its object and the time of the last write by the clock of the store."""
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=2)  # some servers list whole seconds
    store.put_if_absent("a/1", b"")
    store.put_if_absent("a/2", b"abc")
    found = list(store.objects("a/"))

    assert [(listed.key, listed.size) for listed in found] == [("a/1", 0), ("a/2", 3)]
    assert all(
        before <= listed.modified <= dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2) for listed in found
    )


def test_an_object_is_refreshed_if_it_exists(store):
    """Refreshing returns whether the object exists, and does not change its bytes."""
    store.put_if_absent(KEY, b"whole")

    assert store.refresh(KEY)
    assert not store.refresh("runs/none")
    assert store.get(KEY) == b"whole"


def test_a_deleted_key_is_gone_and_may_be_written_again(store):
    """Damaged artifacts are deleted, and a new write then succeeds. Deleting a missing key is not an error."""
    store.put_if_absent(KEY, b"damaged")
    assert store.path(KEY).read_bytes() == b"damaged"
    store.delete(KEY)
    store.delete(KEY)

    assert not store.exists(KEY)
    assert list(store.keys("runs/")) == []
    assert store.put_if_absent(KEY, b"whole")
    assert store.path(KEY).read_bytes() == b"whole"


def test_a_path_holds_the_bytes(store):
    """The path of an object leads to a file that can be hashed and mapped."""
    store.put_if_absent(KEY, b"abc")

    assert file_digest(store.path(KEY)) == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "./a", "a\\b", "a\0b"])
@pytest.mark.parametrize(
    "call",
    [
        lambda store, key: store.get(key),
        lambda store, key: store.put_if_absent(key, b"1"),
        lambda store, key: store.exists(key),
        lambda store, key: store.delete(key),
        lambda store, key: store.path(key),
        lambda store, key: store.compare_and_swap(key, b"1", expected=None),
    ],
    ids=["get", "put", "exists", "delete", "path", "swap"],
)
def test_a_key_cannot_leave_the_store(store, key, call):
    """Every call refuses a key that is not a relative path of plain names."""
    with pytest.raises(SpecError, match="store key"):
        call(store, key)


def test_a_local_store_leaves_nothing_in_progress(tmp_path):
    """After successful and refused writes no temporary file is left except the lock of the pointers."""
    store = LocalStore(tmp_path)
    for data in (b"1", b"2"):
        store.put_if_absent(KEY, data)
        store.compare_and_swap("channel", data, expected=None)

    assert [path.name for path in (tmp_path / ".tmp").iterdir()] == ["pointers.lock"]


def test_a_local_store_is_there_for_the_next_process(tmp_path):
    """A store that is opened again, by path or by address, has the same objects."""
    LocalStore(tmp_path / "s").put_if_absent(KEY, b"1")

    assert open_store(str(tmp_path / "s")).get(KEY) == b"1"
    assert open_store((tmp_path / "s").as_uri()).get(KEY) == b"1"


def test_an_address_of_another_kind_is_refused():
    """An address with an unknown scheme is not taken as a folder."""
    with pytest.raises(SpecError, match=r"in a folder .* or in object storage"):
        open_store("gs://bucket/prefix")


def test_a_file_in_the_place_of_a_store_is_refused(tmp_path):
    """If a file exists at the path of a store, the error names the option to change."""
    (tmp_path / "file").write_text("x")

    with pytest.raises(SpecError, match=r"cannot be made .*--store"):
        LocalStore(tmp_path / "file")


def test_the_last_object_of_a_folder_takes_the_folder_with_it(tmp_path):
    """A run that is deleted leaves no empty folders; a folder with another object stays."""
    store = LocalStore(tmp_path)
    for key in ("runs/a/result.json", "runs/a/bundle/tests/card.json", "runs/b/result.json"):
        store.put_if_absent(key, b"1")

    store.delete("runs/a/bundle/tests/card.json")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a", "b"]
    assert [path.name for path in (tmp_path / "runs" / "a").iterdir()] == ["result.json"]
    store.delete("runs/a/result.json")
    store.delete("runs/b/result.json")
    assert [path.name for path in tmp_path.iterdir()] == [".tmp"]


def test_a_folder_that_is_removed_during_a_write_is_made_again(tmp_path):
    """A write is not lost when another thread deletes the last object of its folder at the same moment."""
    store = LocalStore(tmp_path)

    def write_and_delete(number: int) -> bool:
        key = f"runs/a/b/{number}"
        swapped = store.compare_and_swap(f"{key}.swapped", b"1", expected=None)
        is_new = store.put_if_absent(key, b"1")
        store.delete(key)
        store.delete(f"{key}.swapped")
        return is_new and swapped

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(write_and_delete, range(400)))
    assert [path.name for path in tmp_path.iterdir()] == [".tmp"]


def test_an_object_where_a_folder_is_wanted_is_an_error(tmp_path):
    """A key below an object cannot be written in a folder, and the error is not mistaken for an existing key."""
    store = LocalStore(tmp_path)
    store.put_if_absent("a", b"1")

    with pytest.raises(SpecError, match="a/b"):
        store.put_if_absent("a/b", b"2")


def test_a_lock_of_the_pointers_that_is_never_released_is_an_error(tmp_path, monkeypatch):
    """A stopped process that holds the lock of the pointers gives an error instead of blocking all others forever."""
    store = LocalStore(tmp_path)
    store.compare_and_swap("channel", b"1", expected=None)
    monkeypatch.setattr("mlho.store.local._LOCK_SECONDS", 0.2)
    with (tmp_path / ".tmp" / "pointers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match=r"pointers.lock: another process .*Ctrl-Z"):
            store.compare_and_swap("channel", b"2", expected=b"1")

    assert store.compare_and_swap("channel", b"2", expected=b"1")


@pytest.mark.parametrize(
    ("key", "is_flushed"),
    [("channels/production/000001", True), ("runs/ab/execution", True), ("commits/ab/abcd", False)],
)
def test_what_nothing_can_produce_again_survives_a_power_cut(key, is_flushed, tmp_path, monkeypatch):
    """The file is flushed before it has its name, and then its folder. Artifacts are not flushed: their digests show damage."""
    store, flushed = LocalStore(tmp_path), []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    writes = [
        lambda: store.put_if_absent(key, b"1"),
        lambda: store.compare_and_swap(key, b"2", expected=b"1"),
    ]
    for write in writes:
        flushed.clear()
        assert write()

        path = store.path(key)
        assert flushed == ([path.stat().st_ino, path.parent.stat().st_ino] if is_flushed else [])


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_is_refused(number, tmp_path, monkeypatch):
    """Such as that of a USB stick. The first write names the cause and the remedy, and leaves no temporary file."""

    def link(_source: str, _target: str) -> None:
        raise OSError(number, os.strerror(number))

    store = LocalStore(tmp_path / "store")
    (tmp_path / "file").write_bytes(b"1")
    monkeypatch.setattr(os, "link", link)

    for write in (
        lambda: store.put_if_absent(KEY, b"1"),
        lambda: store.put_file_if_absent(KEY, tmp_path / "file"),
    ):
        with pytest.raises(SpecError, match=r"no hard links .*--store"):
            write()
    assert list((tmp_path / "store" / ".tmp").iterdir()) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK], ids=["of-another-user", "too-many-links"])
def test_a_file_that_cannot_be_linked_is_copied(number, tmp_path, monkeypatch):
    """Linux refuses a link to a file of another user, and file systems limit the links of a file."""
    link, store = os.link, LocalStore(tmp_path)
    store.put_if_absent("blobs/a", b"1")

    def link_own(source: str, target: str) -> None:
        if source.endswith("blobs/a"):
            raise OSError(number, os.strerror(number))
        link(source, target)

    monkeypatch.setattr(os, "link", link_own)

    assert store.copy_if_absent("blobs/a", KEY)
    assert not store.copy_if_absent("blobs/a", KEY)
    assert store.get(KEY) == b"1"
