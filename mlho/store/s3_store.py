"""A store in object storage: a conditional PUT makes a second write fail."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final, override

from mlho.store.base import RECENT_SECONDS, Store, StoredObject, absent, checked_key
from mlho.store.cache import BlobCache
from mlho.store.keys import blob_key
from mlho.store.s3 import Bucket

# Below this size, a HEAD request costs as much as the write that it might save.
_SMALL_BYTES: Final = 64 << 10


class S3Store(Store):
    """Objects under a prefix of a bucket.

    Parameters
    ----------
    prefix : str
        Empty, or ends with ``/``.
    cache : BlobCache
        Local copies of blobs that are needed as files.

    Every method raises the errors of :class:`~mlho.store.s3.Bucket`.
    """

    def __init__(self, bucket: Bucket, prefix: str, cache: BlobCache) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.cache = cache

    @property
    @override
    def has_one_winner(self) -> bool:
        return self.bucket.asks_conditions

    @override
    def get(self, key: str) -> bytes:
        found = self.bucket.get(self._own(key))
        if found is None:
            raise absent(key)
        return found[0]

    @override
    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.bucket.put(self._own(key), bytes(data))

    @override
    def put_file_if_absent(self, key: str, path: Path) -> bool:
        whole_key = self._own(key)
        is_there = path.stat().st_size > _SMALL_BYTES and self.bucket.head(whole_key) is not None
        is_new = not is_there and self.bucket.put_file(whole_key, path)
        digest = _digest_in(key)
        if digest is not None:
            self.cache.admit(digest, path)
        return is_new

    @override
    def copy_if_absent(self, source: str, target: str) -> bool:
        # Copy through this machine: servers other than AWS ignore the condition of a copy.
        return self.bucket.put_file(self._own(target), self.path(source))

    @override
    def compare_and_swap(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        whole_key = self._own(key)
        if expected is None:
            return self.bucket.put(whole_key, bytes(data))
        found = self.bucket.get(whole_key)
        if found is None or found[0] != expected:
            return False
        return self.bucket.put(whole_key, bytes(data), if_match=found[1])

    @override
    def exists(self, key: str) -> bool:
        return self.bucket.head(self._own(key)) is not None

    @override
    def objects(self, prefix: str) -> Iterator[StoredObject]:
        start = len(self.prefix)
        found = self.bucket.listed(self.prefix + prefix)
        objects = (StoredObject(item.key[start:], item.size, item.modified) for item in found)
        return iter(sorted(objects, key=lambda item: item.key))

    @override
    def delete(self, key: str) -> None:
        self.bucket.delete(self._own(key))
        digest = _digest_in(key)
        if digest is not None:
            self.cache.discard(digest)

    @override
    def refresh(self, key: str) -> bool:
        return self.bucket.refresh(self._own(key), after_seconds=RECENT_SECONDS)

    @override
    def each[T, R](self, do: Callable[[T], R], items: Sequence[T]) -> list[R]:
        if len(items) < 2:
            return super().each(do, items)
        n_threads = min(len(items), self.bucket.settings.max_connections)
        threads = ThreadPoolExecutor(n_threads, thread_name_prefix="store")
        is_waited_for = True
        try:
            return list(threads.map(do, items))
        except KeyboardInterrupt:
            is_waited_for = False  # threads would wait for minutes for a server that does not answer
            raise
        finally:
            threads.shutdown(wait=is_waited_for, cancel_futures=True)

    @override
    def path(self, key: str) -> Path:
        digest = _digest_in(checked_key(key))
        if digest is None:
            return self.cache.keep(key.rpartition("/")[2], self.get(key))

        def fetch(file: BinaryIO) -> None:
            if self.bucket.download(self._own(key), file) is None:
                raise absent(key)

        return self.cache.path(digest, fetch)

    @property
    @override
    def may_be_unavailable(self) -> bool:
        return True

    @override
    def ping(self, key: str) -> None:
        # Send a GET, because the response to a HEAD does not give the reason for a refusal.
        self.bucket.impatient().get(self._own(key))

    @override
    def scratch(self) -> Path:
        return self.cache.scratch()

    @override
    def make_room(self) -> bool:
        return self.cache.make_room()

    def _own(self, key: str) -> str:
        return self.prefix + checked_key(key)


def _digest_in(key: str) -> str | None:
    """Return the digest at the end of a blob's key; ``None`` for other keys."""
    digest = key.rpartition("/")[2]
    is_blob = key == blob_key(digest) and len(digest) == 64 and digest.isalnum()
    return digest if is_blob else None
