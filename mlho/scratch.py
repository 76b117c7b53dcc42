"""Folders and files of work in progress, which hold patients' data and must not outlive their process.

The owner holds a lock, which the kernel releases when the process ends, even when it is killed. Leftovers of a process of this
machine are removed as soon as its lock is free. Locks of other machines are not visible on every file system, so leftovers of
another machine in a shared folder are removed when they are a day old.
"""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

TEMPORARY_PREFIX: Final = "mlho-"
"""Prefix of the names of scratch folders in the machine's folder of temporary files."""
_OWNER: Final = "owner"  # in a scratch folder, the file that its owner has locked
_NAME: Final = re.compile(r".+\.(?P<host>[0-9a-f]{8})\.[0-9a-f]{16}")
_ABANDONED_SECONDS: Final = 86_400.0
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC


@contextmanager
def scratch_folder(kind: str, within: Path | None = None) -> Iterator[Path]:
    """Create an empty folder that only this user can read, and remove it at the end.

    Parameters
    ----------
    kind : str
        Prefix of its name.
    within : Path, optional
        Default: the folder of temporary files of this machine. ``kind`` then begins with :data:`TEMPORARY_PREFIX`.
    """
    top, handle = _new_folder(kind, Path(tempfile.gettempdir()) if within is None else within)
    try:
        files = top / "files"
        files.mkdir()
        yield files
    finally:
        shutil.rmtree(top, ignore_errors=True)
        os.close(handle)


@contextmanager
def scratch_file(kind: str, within: str) -> Iterator[tuple[str, int]]:
    """Create an empty file; yield its name and an open descriptor. Remove the file at the end if it still has this name."""
    while True:
        name = f"{within}/{_unique(kind)}"
        handle = os.open(name, _NEW, 0o600)
        if _lock_new(handle):
            break
    try:
        yield name, handle
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)
        os.close(handle)


def remove_abandoned(folder: Path, *, prefix: str = "") -> None:
    """Remove from a folder the scratch of processes that have ended. Keep lock files, and names without the prefix."""
    with suppress(OSError):
        names = sorted(name for name in os.listdir(folder) if name.startswith(prefix))
        for name in names:
            if prefix and _NAME.fullmatch(name) is None:
                continue  # in a shared folder, remove only files that are certainly ours
            if not name.endswith(".lock"):
                _remove_if_abandoned(folder / name)


def _new_folder(kind: str, within: Path) -> tuple[Path, int]:
    while True:
        top = within / _unique(kind)
        top.mkdir(mode=0o700)
        try:
            handle = os.open(top / _OWNER, _NEW, 0o600)
        except BaseException:
            shutil.rmtree(top, ignore_errors=True)
            raise
        if _lock_new(handle):
            return top, handle


def _lock_new(handle: int) -> bool:
    """Lock a new file. Return false, with the file closed, if another process removed it as abandoned before it was locked."""
    fcntl.flock(handle, fcntl.LOCK_EX)
    if os.fstat(handle).st_nlink:
        return True
    os.close(handle)
    return False


def _remove_if_abandoned(path: Path) -> None:
    try:
        handle = _claim(path)
    except OSError:  # its owner is alive, or has just removed it
        return
    try:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
    finally:
        if handle is not None:
            os.close(handle)


def _claim(path: Path) -> int | None:
    """Return a locked descriptor of abandoned scratch, or ``None`` if its age decides. Raise ``OSError`` if it may be in use."""
    named = _NAME.fullmatch(path.name)
    target = path / _OWNER if path.is_dir() else path
    try:
        handle = os.open(target, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW) if named else None
    except (
        FileNotFoundError,
        PermissionError,
    ):  # its owner was killed before locking it, or is another user
        handle = None
    try:
        if handle is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = named is not None and named["host"] == _host()
        if (handle is None or not is_ours) and time.time() - _newest(path) < _ABANDONED_SECONDS:
            raise BlockingIOError
    except OSError:
        if handle is not None:
            os.close(handle)
        raise
    return handle


def _newest(path: Path) -> float:
    """Return the time of the last change of a file, or of a folder and everything in it."""
    return max(file.stat().st_mtime for file in (path, *path.rglob("*")))


def _unique(kind: str) -> str:
    return f"{kind}.{_host()}.{secrets.token_hex(8)}"


@cache
def _host() -> str:
    return hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]
