"""A store in a folder: an object is a file, and a hard link makes a second write fail.

No data are lost if a process is killed. After a power cut, artifacts may be damaged; their digests show this, and they are
produced again. Objects that cannot be produced again, such as the entries of channels, are flushed to the disk.
"""

import datetime as dt
import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Final, override

from mlho.errors import SpecError, StoreUnavailable
from mlho.scratch import scratch_file
from mlho.store.base import RECENT_SECONDS, Store, StoredObject, absent, checked_key, reporting_full_disk
from mlho.store.keys import CHANNELS, EVALUATIONS, MODELS, REFUSALS, RUNS, SIGNATURES

_TEMPORARY: Final = ".tmp"
_FLUSHED: Final = tuple(f"{top}/" for top in (CHANNELS, EVALUATIONS, MODELS, REFUSALS, RUNS, SIGNATURES))
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
# A file is copied if it is on another disk, has too many links, or belongs to another user.
_COPIED: Final = (errno.EXDEV, errno.EMLINK, *_NO_LINKS)
_LOCK_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.005


class LocalStore(Store):
    """Objects under one folder, which is created if missing. A folder to which this user may not write can still be read.

    Raises
    ------
    SpecError
        The folder cannot be created. From methods that write: it is not writable, or its file system has no hard links.
    StoreUnavailable
        The disk is full or does not answer.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._root = str(self.root)
        try:
            (self.root / _TEMPORARY).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if not self.root.is_dir():
                raise SpecError(
                    f"store {root}: cannot be made ({error.strerror}). Give a folder that this user can write to, with --store."
                ) from error
        self._is_writable = os.access(self.root / _TEMPORARY, os.W_OK)

    def check_writable(self) -> None:
        """Return normally if this user may write to the folder.

        Raise SpecError if it was not writable when it was opened.
        """
        if not self._is_writable:
            raise SpecError(
                f"store {self.root}: not writable. Give a folder that this user can write to, with --store."
            )

    @override
    def get(self, key: str) -> bytes:
        try:
            with open(self._name(key), "rb") as file:
                return file.read()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise absent(key) from None

    @override
    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self.exists(key):
            return False
        with self._temporary(data) as temporary:
            return self._link_new(temporary, key)

    @override
    def put_file_if_absent(self, key: str, path: Path) -> bool:
        return not self.exists(key) and self._link_or_copy(str(path), key)

    @override
    def copy_if_absent(self, source: str, target: str) -> bool:
        return self._link_or_copy(str(self.path(source)), target)

    @override
    def compare_and_swap(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        with self._locked():
            current = self.get(key) if self.exists(key) else None
            if current != expected:
                return False
            with self._temporary(data) as temporary:
                self._make_folder(key)
                with self._flushing(temporary, key):
                    os.replace(temporary, self._name(key))
            return True

    @override
    def exists(self, key: str) -> bool:
        return os.path.isfile(self._name(key))

    @override
    def objects(self, prefix: str) -> Iterator[StoredObject]:
        top = f"{self._root}/{prefix.rpartition('/')[0]}"
        # Names as text, because a store has many small objects, for which a ``Path`` would be slow.
        found = (self._facts(f"{folder}/{name}") for folder, _, names in os.walk(top) for name in names)
        named = [item for item in found if item is not None and item.key.startswith(prefix)]
        return iter(sorted(named, key=lambda item: item.key))

    def _facts(self, name: str) -> StoredObject | None:
        """Return the facts about a file; ``None`` for a temporary file, and a file that was just deleted."""
        key = name.removeprefix(self._root).lstrip("/")
        try:
            facts = os.stat(name)
        except FileNotFoundError:
            return None
        if key.startswith(_TEMPORARY) or not stat.S_ISREG(facts.st_mode):
            return None
        return StoredObject(key, facts.st_size, dt.datetime.fromtimestamp(facts.st_mtime, dt.UTC))

    @override
    def delete(self, key: str) -> None:
        self.check_writable()
        self._file(key).unlink(missing_ok=True)
        folder = os.path.dirname(self._name(key))
        while folder != self._root and _is_empty(folder):
            try:
                with self._locked():  # not between the creation of a folder and of its first file
                    os.rmdir(folder)
            except OSError:  # the folder has a new file, or another process has removed it
                return
            folder = os.path.dirname(folder)

    @override
    def refresh(self, key: str) -> bool:
        name = self._name(key)
        try:
            if time.time() - os.stat(name).st_mtime > RECENT_SECONDS:
                os.utime(name)
        except FileNotFoundError:
            return False
        except PermissionError:
            return True  # another user's file, which this user cannot delete either
        return True

    @override
    def path(self, key: str) -> Path:
        file = self._file(key)
        if not file.is_file():
            raise absent(key)
        return file

    def scratch(self) -> Path:
        """Return a folder on the same disk for work in progress, so that a finished file is linked, not copied."""
        return self.root / _TEMPORARY

    def _file(self, key: str) -> Path:
        return Path(self._name(key))

    def _name(self, key: str) -> str:
        """Return the file name of a key as text. Tasks of a queue write many small objects, for which a ``Path`` would be slow."""
        return f"{self._root}/{checked_key(key)}"

    def _link_or_copy(self, source: str, key: str) -> bool:
        self.check_writable()
        try:
            return self._link(source, key)
        except OSError as error:
            if error.errno not in _COPIED:
                raise
        with self._temporary() as temporary:
            shutil.copyfile(source, temporary)
            return self._link_new(temporary, key)

    def _link_new(self, temporary: str, key: str) -> bool:
        """Link a temporary file, which always works if the file system has hard links."""
        try:
            with self._flushing(temporary, key):
                return self._link(temporary, key)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise SpecError(
                f"store {self.root}: its file system has no hard links ({error.strerror}), without which two processes could overwrite "
                "each other's objects. Expected a local disk or NFS; got, for example, a USB stick, a Windows share or a mounted bucket. "
                "Give a folder on another disk, or s3://bucket/prefix, with --store."
            ) from error

    @contextmanager
    def _flushing(self, temporary: str, key: str) -> Iterator[None]:
        """Flush a new file before the block links it to its name, and the folder afterwards, if the object cannot be produced again."""
        is_flushed = key.startswith(_FLUSHED)
        if is_flushed:
            _flush(temporary)
        yield
        if is_flushed:
            with suppress(FileNotFoundError):  # deleted again in the meantime
                _flush(os.path.dirname(self._name(key)))

    def _link(self, source: str, key: str) -> bool:
        target = self._name(key)
        with self._reporting_full_disk():
            try:
                return _link_if_absent(source, target)
            except (FileNotFoundError, NotADirectoryError):  # its folder does not exist yet
                with self._locked():
                    self._make_folder(key)
                    return _link_if_absent(source, target)

    def _make_folder(self, key: str) -> None:
        try:
            os.makedirs(os.path.dirname(self._name(key)), exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise SpecError(f"store key {key[:80]!r}: it is below an existing object.") from None

    @contextmanager
    def _temporary(self, data: bytes = b"") -> Iterator[str]:
        """Create a file under a unique name, and remove it at the end."""
        self.check_writable()
        with (
            self._reporting_full_disk(),
            scratch_file("object", f"{self._root}/{_TEMPORARY}") as (name, handle),
        ):
            os.fchmod(handle, 0o644)  # despite the umask: the folder's permissions decide who can read it
            with open(handle, "wb", closefd=False) as file:
                file.write(data)
            yield name

    def _reporting_full_disk(self) -> AbstractContextManager[None]:
        return reporting_full_disk(f"store {self.root}", " and run the same command again")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.check_writable()
        with self._reporting_full_disk(), (self.root / _TEMPORARY / "pointers.lock").open("w") as lock:
            _take(lock)
            yield


def _take(lock: IO[str]) -> None:
    """Wait for a lock, which is normally held only briefly. Give up if its holder seems to be suspended."""
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise StoreUnavailable(
                    f"{lock.name}: another process has held this lock for {_LOCK_SECONDS:.0f} s. If a process of mlho is suspended (Ctrl-Z), resume or stop it: "
                    f"fuser -v {lock.name} shows it."
                ) from None
            time.sleep(_POLL_SECONDS)


def _is_empty(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except (FileNotFoundError, NotADirectoryError):
        return False


def _link_if_absent(source: str, target: str) -> bool:
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True


def _flush(path: str) -> None:
    """Write a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot flush a folder
            raise
    finally:
        os.close(handle)
