"""A local cache of blobs on a node: bounded in size, shared by all processes, memory-mapped by readers.

Only blobs are cached, because they never change. A copy gets its final name when it is complete. One process downloads
it while the others wait. Removing a copy does not affect processes that have it mapped.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Self

from mlho.errors import ArtifactDamaged, SpecError
from mlho.log import log
from mlho.scratch import remove_abandoned, scratch_folder
from mlho.store.base import file_digest, is_intact, mark_intact, reporting_full_disk

_FOLDERS: Final = ("blobs", "files", "locks", "tmp")
_MAX_BYTES: Final = 8 << 30
# A copy used this recently may be about to be mapped. It is kept, even if the bound is exceeded in the meantime.
_GRACE_SECONDS: Final = 120.0
_SCANS_IN_BOUND: Final = 64  # a process scans the folder after adding this fraction (1/64) of the bound
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class BlobCache:
    """Local copies of blobs in a folder.

    Raise SpecError if the folder cannot be created or written.

    Parameters
    ----------
    folder : Path
        On a local disk. Created if missing; readable by its owner only, because blobs hold patients' data.
    max_bytes : int
        Upper bound of the total size. If it is exceeded, the least recently used copies are removed, down to 7/8 of it.
        Copies used within ``grace_seconds`` are kept: a working set larger than the bound is kept while it is in use.
    grace_seconds : float
        Two minutes by default.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int = _MAX_BYTES, grace_seconds: float = _GRACE_SECONDS
    ) -> None:
        self.folder = folder.absolute()
        self.max_bytes = max_bytes
        self._grace_seconds = grace_seconds
        self._has_warned = False
        self._added: int | None = None  # bytes added since the last scan; None before the first one
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in _FOLDERS:
                (self.folder / name).mkdir(exist_ok=True)
        except OSError as error:
            raise SpecError(
                f"cache {self.folder}: cannot be made ({error.strerror}). Set MLHO_CACHE_DIR to a folder that this user "
                "may write."
            ) from error
        if not all(os.access(self.folder / name, os.W_OK) for name in _FOLDERS):
            raise SpecError(
                f"cache {self.folder}: not writable. Set MLHO_CACHE_DIR to a folder that this user can write to."
            )

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Self:
        """Return the cache configured by ``MLHO_CACHE_DIR`` (``~/.cache/mlho``) and ``MLHO_CACHE_BYTES`` (8G).

        Raise SpecError if the size is invalid, or the folder cannot be created.
        """
        base = env.get("XDG_CACHE_HOME") or (f"{env['HOME']}/.cache" if env.get("HOME") else None)
        default = f"{base}/mlho" if base else f"{tempfile.gettempdir()}/mlho-cache-{os.getuid()}"
        folder = Path(env.get("MLHO_CACHE_DIR") or default)
        return cls(folder, max_bytes=_n_bytes(env.get("MLHO_CACHE_BYTES") or str(_MAX_BYTES)))

    def path(self, digest: str, fetch: Callable[[BinaryIO], None]) -> Path:
        """Return a verified local copy of a blob; download it if it is not cached.

        Raise ArtifactDamaged if the downloaded bytes have a different digest, and StoreUnavailable if the disk is full of copies
        that are in use, or of files of other programs.

        Parameters
        ----------
        digest : str
            SHA-256 of its bytes.
        fetch : callable
            Writes the bytes to a file opened for writing.
        """
        target = self._blob(digest)
        if not self._is_cached(target, digest):
            with self._reporting_full_disk():
                with self._locked(digest):  # processes that waited for the lock find the copy
                    if not self._is_cached(target, digest):
                        self._with_room(lambda: self._fetch(target, digest, fetch))
                self._make_room(target.stat().st_size, target)
        _mark_used(target)
        return target

    def admit(self, digest: str, source: Path) -> None:
        """Add a file that was just stored as this blob, so that this node need not download it. The file may be removed afterwards."""
        target = self._blob(digest)
        if target.exists():
            return

        def copy() -> int:
            with self._temporary() as temporary:
                try:
                    os.link(source, temporary)
                except OSError:  # on another disk
                    shutil.copyfile(source, temporary)
                return self._name(temporary, target)

        with self._reporting_full_disk():
            self._make_room(self._with_room(copy), target)

    def keep(self, name: str, data: bytes) -> Path:
        """Return a file with these bytes and this name, for programs that need one. It may be evicted."""
        target = self.folder / "files" / hashlib.sha256(data).hexdigest()[:32] / name

        def write() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._temporary() as temporary:
                temporary.write_bytes(data)
                temporary.replace(target)

        if not target.exists() or target.read_bytes() != data:  # a power cut may have truncated it
            with self._reporting_full_disk():
                self._with_room(write)
                self._make_room(len(data), target)
        _mark_used(target)
        return target

    def discard(self, digest: str) -> None:
        """Remove the copy of a blob if it exists."""
        self._blob(digest).unlink(missing_ok=True)

    def scratch(self) -> Path:
        """Return a folder on the same disk for work in progress, so that a finished file is linked, not copied."""
        return self.folder / "tmp"

    def _blob(self, digest: str) -> Path:
        return self.folder / "blobs" / digest[:2] / digest

    def _is_cached(self, target: Path, digest: str) -> bool:
        """Return whether a complete copy exists. Each process verifies its digest once.

        A damaged copy is replaced under the lock, not here, because another process may have just replaced it.
        """
        try:
            return is_intact(target, digest)
        except FileNotFoundError:
            return False

    def _fetch(self, target: Path, digest: str, fetch: Callable[[BinaryIO], None]) -> None:
        with self._temporary() as temporary:
            with temporary.open("wb") as file:
                fetch(file)
            if file_digest(temporary) != digest:
                raise ArtifactDamaged(
                    f"blob {digest[:12]}…: its bytes in the store do not match its digest. Run the same command again: its "
                    "task makes it again.",
                    sha256=digest,
                )
            self._name(temporary, target)

    def _name(self, temporary: Path, target: Path) -> int:
        """Rename a complete copy to its final name and return its size."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.chmod(0o444)
        temporary.replace(target)
        mark_intact(target, target.name)
        return target.stat().st_size

    def _make_room(self, added: int, newest: Path) -> None:
        """Evict the least recently used copies if the bound is exceeded and no other process is evicting."""
        if self._added is not None:
            self._added += added
            if self._added * _SCANS_IN_BOUND < self.max_bytes:
                return
        with (self.folder / "evict.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._added = 0
            self._evict(newest)

    def _evict(self, newest: Path) -> None:
        copies = list(self._copies())
        total = sum(stat.st_size for _, stat in copies)
        if total > self.max_bytes:
            copies = [entry for entry in copies if entry[0] != newest]  # its reader has not opened it yet
            self._remove(copies, total - self.max_bytes * 7 // 8)
        remove_abandoned(self.scratch())

    def _remove(self, copies: Sequence[tuple[Path, os.stat_result]], n_bytes: int) -> int:
        """Remove the least recently used copies, up to this total size, but none that may be in use. Return their total size."""
        now, removed = time.time(), 0
        for path, stat in sorted(copies, key=lambda entry: entry[1].st_atime_ns):
            if removed >= n_bytes or now - stat.st_atime < self._grace_seconds:
                break
            path.unlink(missing_ok=True)
            removed += stat.st_size
        return removed

    def _with_room[T](self, write: Callable[[], T]) -> T:
        """Return the result of a write. While the disk is full and copies can be removed, remove some and write again."""
        while True:
            try:
                return write()
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self.make_room():
                    raise

    def make_room(self) -> bool:
        """Remove half of the copies, the least recently used first, because the disk is full. Return whether this may have freed space."""
        with (self.folder / "evict.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(lock, fcntl.LOCK_EX)  # wait until another process has removed copies
                return True
            copies = list(self._copies())
            removed = self._remove(copies, sum(stat.st_size for _, stat in copies) // 2)
        if removed and not self._has_warned:
            self._has_warned = True
            log.warning(
                "cache_reduced",
                n_bytes=removed,
                error=f"cache {self.folder}: its disk is full. Enlarge it, or set MLHO_CACHE_BYTES to a lower value. Copies that are removed are "
                "downloaded again when they are needed.",
            )
        return removed > 0

    def _copies(self) -> Iterator[tuple[Path, os.stat_result]]:
        yield from _files(self.folder / "blobs")
        yield from _files(self.folder / "files")

    def _reporting_full_disk(self) -> AbstractContextManager[None]:
        return reporting_full_disk(f"cache {self.folder}", ", or set MLHO_CACHE_DIR and MLHO_CACHE_BYTES")

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        with scratch_folder("blob", self.scratch()) as folder:
            yield folder / "blob"

    @contextmanager
    def _locked(self, digest: str) -> Iterator[None]:
        """Hold the lock of all blobs whose digests begin with the same two digits. The kernel releases it if the process is killed."""
        with (self.folder / "locks" / digest[:2]).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files under a folder while other processes may be removing them."""
    for path in folder.rglob("*"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            yield path, stat


def _mark_used(path: Path) -> None:
    """Set the access time, which decides eviction, and keep the modification time, which readers compare."""
    try:
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
    except FileNotFoundError:  # just evicted; its reader gets the error
        return


def _n_bytes(text: str) -> int:
    """Parse ``500M``, ``8G``, ``8Gi`` or a plain number of bytes (powers of 1024)."""
    plain = text.strip().upper().removesuffix("B").removesuffix("I")
    unit = plain[-1:] if plain[-1:] in ("K", "M", "G", "T") else ""
    number = plain.removesuffix(unit)
    if not number.isdigit() or not int(number):
        raise SpecError(f"MLHO_CACHE_BYTES {text!r}: give a size such as 500M or 8G.")
    return int(number) * _UNITS[unit]
