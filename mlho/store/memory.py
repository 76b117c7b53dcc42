"""A store in memory, for tests and notebooks."""

import datetime as dt
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import override

from mlho.store.base import Store, StoredObject, absent, checked_key


class MemoryStore(Store):
    """Bytes in a dictionary. :meth:`path` writes a file that exists as long as the store."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._modified: dict[str, dt.datetime] = {}
        self._lock = Lock()
        self._files = Path(tempfile.mkdtemp(prefix="mlho-memory-"))
        weakref.finalize(self, shutil.rmtree, self._files, ignore_errors=True)

    @override
    def get(self, key: str) -> bytes:
        try:
            return self._objects[checked_key(key)]
        except KeyError:
            raise absent(key) from None

    @override
    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.compare_and_swap(key, data, expected=None)

    @override
    def put_file_if_absent(self, key: str, path: Path) -> bool:
        return self.put_if_absent(key, path.read_bytes())

    @override
    def copy_if_absent(self, source: str, target: str) -> bool:
        return self.put_if_absent(target, self.get(source))

    @override
    def compare_and_swap(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        with self._lock:
            if self._objects.get(checked_key(key)) != expected:
                return False
            self._write(key, data)
            (self._files / key).unlink(missing_ok=True)  # the file with the pointer's old value
            return True

    def _write(self, key: str, data: bytes) -> None:
        self._objects[key] = bytes(data)
        self._modified[key] = dt.datetime.now(dt.UTC)

    @override
    def exists(self, key: str) -> bool:
        return checked_key(key) in self._objects

    @override
    def objects(self, prefix: str) -> Iterator[StoredObject]:
        with self._lock:
            found = [(key, len(data)) for key, data in self._objects.items() if key.startswith(prefix)]
            return iter([StoredObject(key, size, self._modified[key]) for key, size in sorted(found)])

    @override
    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(checked_key(key), None)
            (self._files / key).unlink(missing_ok=True)

    @override
    def refresh(self, key: str) -> bool:
        with self._lock:
            is_there = checked_key(key) in self._objects
            if is_there:
                self._modified[key] = dt.datetime.now(dt.UTC)
            return is_there

    @override
    def path(self, key: str) -> Path:
        target = self._files / checked_key(key)
        with self._lock:
            data = self.get(key)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        return target
