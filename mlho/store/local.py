"""A store in a folder: an object is a file, and a hard link is what refuses a second write.

Nothing is flushed to the disk by force: a killed process loses nothing, and what a power cut damages is found by its
digest and made again.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import override

from mlho.errors import ArtifactNotFound, SpecError, StoreUnavailable
from mlho.store.base import Store, checked_key

_TEMPORARY = ".tmp"


class LocalStore(Store):
    """Objects under one folder, which is made when it is missing.

    Raises
    ------
    SpecError
        The folder cannot be made or written.
    StoreUnavailable
        The disk is full or does not answer.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        try:
            (self.root / _TEMPORARY).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(
                f"store {root}: cannot be made ({error.strerror}). Give a folder that this user may write, with --store."
            ) from error
        if not os.access(self.root / _TEMPORARY, os.W_OK):
            raise SpecError(
                f"store {root}: not writable. Give a folder that this user may write, with --store."
            )

    @override
    def get(self, key: str) -> bytes:
        try:
            return self._file(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ArtifactNotFound(f"{key}: the store holds nothing under this key.") from None

    @override
    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self.exists(key):
            return False
        with self._temporary() as temporary:
            temporary.write_bytes(data)
            return self._link(temporary, key)

    @override
    def put_file_if_absent(self, key: str, path: Path) -> bool:
        if self.exists(key):
            return False
        try:
            return self._link(path, key)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        with self._temporary() as temporary:  # the file is on another disk
            shutil.copyfile(path, temporary)
            return self._link(temporary, key)

    @override
    def copy_if_absent(self, source: str, target: str) -> bool:
        return self._link(self.path(source), target)

    @override
    def compare_and_swap(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        with self._locked():
            current = self.get(key) if self.exists(key) else None
            if current != expected:
                return False
            with self._temporary() as temporary:
                temporary.write_bytes(data)
                target = self._file(key)
                self._make_folder(target)
                temporary.replace(target)
            return True

    @override
    def exists(self, key: str) -> bool:
        return self._file(key).is_file()

    @override
    def keys(self, prefix: str) -> Iterator[str]:
        top = self.root / prefix.rpartition("/")[0]
        files = (path for path in top.rglob("*") if path.is_file()) if top.is_dir() else iter(())
        names = (path.relative_to(self.root).as_posix() for path in files)
        return iter(
            sorted(name for name in names if name.startswith(prefix) and not name.startswith(_TEMPORARY))
        )

    @override
    def delete(self, key: str) -> None:
        self._file(key).unlink(missing_ok=True)

    @override
    def path(self, key: str) -> Path:
        file = self._file(key)
        if not file.is_file():
            raise ArtifactNotFound(f"{key}: the store holds nothing under this key.")
        return file

    def scratch(self) -> Path:
        """Folder on the same disk for work in progress, so that a finished file is linked and not copied."""
        return self.root / _TEMPORARY

    def _file(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _link(self, source: Path, key: str) -> bool:
        target = self._file(key)
        with _full_disk_is_said(self.root):
            self._make_folder(target)
            try:
                os.link(source, target)
            except FileExistsError:
                return False
        return True

    def _make_folder(self, target: Path) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            key = target.relative_to(self.root).as_posix()
            raise SpecError(f"store key {key[:80]!r}: it lies below an object of the store.") from None

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        with _full_disk_is_said(self.root):
            handle, name = tempfile.mkstemp(dir=self.root / _TEMPORARY)
            # mkstemp makes it private; a store is read by others, as its folder allows
            os.fchmod(handle, 0o644)
            os.close(handle)
            try:
                yield Path(name)
            finally:
                Path(name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.root / _TEMPORARY / "pointers.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def _full_disk_is_said(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise StoreUnavailable(
                f"store {root}: {error.strerror}. Free some space and run the same command again."
            ) from error
        raise
