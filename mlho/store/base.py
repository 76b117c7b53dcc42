"""The store interface: bytes by key, written once. Every implementation passes the same contract suite."""

import datetime as dt
import errno
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlho.errors import ArtifactNotFound, SpecError, StoreUnavailable


@dataclass(frozen=True)
class StoredObject:
    """Facts about an object, as the store lists them."""

    key: str
    size: int
    """In bytes."""
    modified: dt.datetime
    """Time of the last write by the clock of the store, in UTC."""


#: Age from which :meth:`Store.refresh` renews an object; far below the grace of retention.
RECENT_SECONDS: Final = 3600.0


class Store(ABC):
    """Bytes by key. A key is written once; only pointers change, by compare-and-swap."""

    @property
    def has_one_winner(self) -> bool:
        """Whether exactly one of several concurrent writes to one key succeeds. If not, only one process may commit."""
        return True

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return the bytes under a key. Raise ``ArtifactNotFound`` if the key does not exist."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write bytes unless the key exists. Return whether this call wrote them. Writes are atomic for readers."""

    @abstractmethod
    def put_file_if_absent(self, key: str, path: Path) -> bool:
        """Do the same as :meth:`put_if_absent` with the content of a file, which may be moved."""

    @abstractmethod
    def copy_if_absent(self, source: str, target: str) -> bool:
        """Copy an object to a second key unless that key exists. Return whether this call copied it."""

    @abstractmethod
    def compare_and_swap(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        """Replace a pointer if its bytes equal ``expected`` (``None``: absent). Return whether it was replaced."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Return whether a key exists."""

    @abstractmethod
    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys have this prefix, sorted by key."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys with this prefix, sorted."""
        return (item.key for item in self.objects(prefix))

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove a key if it exists. For damaged artifacts and clean-up, never for results."""

    @abstractmethod
    def refresh(self, key: str) -> bool:
        """Set the time of an object's last write to now, unless it is recent. Return whether the object exists.

        Retention keeps objects written in the last 24 hours.
        """

    @abstractmethod
    def path(self, key: str) -> Path:
        """Return a read-only local file with these bytes. Raise ``ArtifactNotFound`` if the key does not exist."""

    def each[T, R](self, do: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Apply ``do``, which sends requests to this store, to each item. Call it concurrently if requests have latency."""
        return [do(item) for item in items]

    @property
    def may_be_unavailable(self) -> bool:
        """Whether the store is behind a network, so that its availability should be checked from time to time."""
        return False

    def ping(self, key: str) -> None:
        """Return if the store answers a request for this key, even with an error. Otherwise raise ``StoreOutage`` within seconds."""
        self.exists(key)

    def scratch(self) -> Path | None:
        """Return the folder from which a finished file is stored at least cost; ``None`` if any folder will do."""
        return None

    def make_room(self) -> bool:
        """Remove local copies from a disk that is full. Return whether a write may succeed now."""
        return False


def get_if_present(store: Store, key: str) -> bytes | None:
    """Return the bytes under a key, or ``None`` if the key does not exist."""
    try:
        return store.get(key)
    except ArtifactNotFound:
        return None


def absent(key: str) -> ArtifactNotFound:
    """Return the error for a key that does not exist."""
    return ArtifactNotFound(f"{key}: the store has no object with this key.")


def checked_key(key: str) -> str:
    """Return a key if it is a relative path of plain names. Refuse keys that could point outside the store."""
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or "\\" in key or "\0" in key:
        raise SpecError(f"store key {key[:80]!r}: must be a relative path of plain names.")
    return key


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hexadecimal) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_Seen = tuple[str, str, int, int]
_intact: set[_Seen] = set()  # files that this process has compared: path, digest, size, modification time


def is_intact(path: Path, sha256: str) -> bool:
    """Return whether a file has this digest. A file is hashed once per process, and again when it has changed."""
    if _seen(path, sha256) in _intact:
        return True
    if file_digest(path) != sha256:
        return False
    mark_intact(path, sha256)
    return True


def mark_intact(path: Path, sha256: str) -> None:
    """Record that a file has this digest."""
    _intact.add(_seen(path, sha256))


def _seen(path: Path, sha256: str) -> _Seen:
    stat = path.stat()
    return str(path), sha256, stat.st_size, stat.st_mtime_ns


@contextmanager
def reporting_full_disk(where: str, remedy: str) -> Iterator[None]:
    """Report a disk that is full or does not respond as ``StoreUnavailable``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            advice = "Check the disk" if error.errno == errno.EIO else "Free some space"
            raise StoreUnavailable(f"{where}: {error.strerror}. {advice}{remedy}.") from error
        raise
