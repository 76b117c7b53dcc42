"""The store: bytes by key, written once. Every implementation passes the same contract suite."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mlho.errors import SpecError


class Store(ABC):
    """Bytes by key. A key is written once; only pointers move, by compare-and-swap."""

    @property
    def has_one_winner(self) -> bool:
        """Whether of writes under one key exactly one wins, whoever writes. If not, only one process may commit."""
        return True

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Bytes under a key; ``ArtifactNotFound`` where there are none."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write bytes unless the key exists; tell whether this call wrote them. Readers see all of it or nothing."""

    @abstractmethod
    def put_file_if_absent(self, key: str, path: Path) -> bool:
        """Like :meth:`put_if_absent`, from a file, which may be moved away."""

    @abstractmethod
    def copy_if_absent(self, source: str, target: str) -> bool:
        """Give bytes a second key unless that exists; tell whether this call did."""

    @abstractmethod
    def compare_and_swap(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        """Replace bytes if they are still as expected (``None``: absent); tell whether they were. For pointers."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether anything is under a key."""

    @abstractmethod
    def keys(self, prefix: str) -> Iterator[str]:
        """Keys that begin with a prefix, sorted."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove a key if it is there: for damaged artifacts and clean-up, never for results."""

    @abstractmethod
    def path(self, key: str) -> Path:
        """A local file with these bytes, to be mapped and not changed; ``ArtifactNotFound`` where there are none."""

    def each[T, R](self, do: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """What ``do``, which asks this store for something, returns for each item; several at once where answers take their time."""
        return [do(item) for item in items]

    @property
    def may_be_away(self) -> bool:
        """Whether it is behind a network, so that it is worth asking now and then if it serves."""
        return False

    def ping(self, key: str) -> None:
        """Return if the store answers a request for this key, whatever the answer; ``StoreOutage`` within seconds if it does not."""
        self.exists(key)

    def scratch(self) -> Path | None:
        """Folder for work in progress from which a finished file is stored at least cost; ``None`` if any will do."""
        return None


def checked_key(key: str) -> str:
    """Return a key if it is a relative path of plain parts; refuse what could leave the store."""
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or "\\" in key or "\0" in key:
        raise SpecError(f"store key {key[:80]!r}: must be a relative path of plain names.")
    return key


def file_digest(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
