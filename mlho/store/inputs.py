"""Tables in object storage: listed without being read, and read by range requests, so that nothing is copied to disk.

A listing records the ETag of each object, and every read is conditional on it. The server refuses to read an object that was
replaced in the meantime, so two versions are never mixed.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast, override

from mlho.errors import InputChanged, SpecError
from mlho.sources.files import DataRoot, FoundFiles, RemoteFile, RemoteRoot, SourceFile, Wanted
from mlho.sources.names import fixed_part, lake_marks, listing_prefix, select_keys
from mlho.store.s3_settings import SCHEME, S3Settings, split_address

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from mlho.store.s3 import Bucket

_FIRST_WINDOW_BYTES: Final = 1 << 20  # a column chunk of a small row group, or a footer
_LARGEST_WINDOW_BYTES: Final = 8 << 20  # at 100 MB/s, latency is then a small part of a request's time
_MAX_WINDOWS: Final = 8  # more than the columns of any of our tables
_BUFFER_BYTES: Final = 1 << 16
_MARKS_PAGE: Final = 100  # number of keys in a folder ``metadata`` that are searched for files of Iceberg


def open_data(address: str | Path, env: Mapping[str, str] | None = None) -> DataRoot:
    """Return the root of the tables: a path for a folder, a :class:`S3Root` for ``s3://bucket/prefix``.

    Raise SpecError if the address has a different form, or a setting is invalid.

    Parameters
    ----------
    address : str or Path
        An absolute path, a ``file://`` address, or ``s3://bucket/prefix``.
    env : mapping of str to str, optional
        Variables with the object storage settings; default: the environment of this process.
    """
    text = str(address)
    if isinstance(address, Path) or "://" not in text:
        return Path(address)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    if not text.startswith(SCHEME):
        raise SpecError(
            f"data.uri {text!r}: tables are read from a folder or from object storage (s3://bucket/prefix)."
        )
    from mlho.store.s3 import Bucket

    bucket, prefix = split_address(text)
    settings = S3Settings.from_environment(os.environ if env is None else env)
    return S3Root(Bucket(bucket, settings, where=text), prefix)


@dataclass(frozen=True)
class S3Root(RemoteRoot):
    """Tables under a prefix of a bucket, in their current state."""

    bucket: "Bucket"
    prefix: str

    @override
    def find(self, pattern: str, *, wanted: Wanted = None) -> FoundFiles:
        start = len(self.prefix)
        found = {item.key[start:]: item for item in self.bucket.listed(self.prefix + listing_prefix(pattern))}
        selection = select_keys({*found, *self._marks_above(pattern)}, pattern, wanted=wanted)
        files = [
            self.file(key, size=found[key].size, version=found[key].etag.strip('"'))
            for key in selection.found
        ]
        return FoundFiles(files, selection.left_out)

    @override
    def find_file(self, key: str) -> SourceFile | None:
        listed = (item for item in self.bucket.listed(self.prefix + key) if item.key == self.prefix + key)
        item = next(listed, None)
        return None if item is None else self.file(key, size=item.size, version=item.etag.strip('"'))

    def _marks_above(self, pattern: str) -> Iterator[str]:
        """Yield keys that indicate a Delta, Hudi or Iceberg table in a folder above the listed folders, which are checked elsewhere."""
        parts = fixed_part(pattern)
        for n in range(len(parts)):
            for prefix in lake_marks("/".join(parts[:n])):
                page = self.bucket.listed(self.prefix + prefix, page=_MARKS_PAGE)
                yield from (item.key[len(self.prefix) :] for item in islice(page, _MARKS_PAGE))

    def file(self, key: str, *, size: int, version: str) -> SourceFile:
        """Return the input with this key at one version, which need not be the current one."""
        return SourceFile(key, S3File(self.bucket, self.prefix + key, key, size, version), size)


@dataclass(frozen=True)
class PinnedRoot(RemoteRoot):
    """Tables as pinned by a manifest; nothing is listed again."""

    files: Sequence[SourceFile]

    @override
    def find(self, pattern: str, *, wanted: Wanted = None) -> FoundFiles:
        by_key = {file.key: file for file in self.files}
        return FoundFiles([by_key[key] for key in select_keys(by_key, pattern, wanted=wanted).found])

    @override
    def find_file(self, key: str) -> SourceFile | None:
        return next((file for file in self.files if file.key == key), None)


@dataclass(frozen=True)
class S3File(RemoteFile):
    """An object at a given ETag."""

    bucket: "Bucket"
    object_key: str
    name: str
    size: int
    etag: str

    @property
    @override
    def version(self) -> str:
        return self.etag

    @override
    def open(self) -> BinaryIO:
        # Serve small reads, such as the header of a CSV file, from one buffer.
        return cast("BinaryIO", BufferedReader(_RangeReader(self), _BUFFER_BYTES))

    def read_range(self, start: int, size: int) -> bytes:
        """Return a range of this version. Raise InputChanged if the object was replaced or deleted."""
        data = self.bucket.get_range(self.object_key, start, size, etag=f'"{self.etag}"')
        if data is None or len(data) != size:
            raise InputChanged(
                self.name,
                "the object changed after the run began",
                expected=f"{self.size} bytes with the ETag of the manifest",
                got="another object, or none",
                remedy="Submit the run again when the data are complete: changed data are a new run.",
            )
        return data


@dataclass
class _Window:
    """Buffered bytes, and the number of bytes to fetch if reading continues at their end."""

    start: int
    data: bytes
    next_bytes: int

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class _RangeReader(RawIOBase):
    """A file read by range requests, with a growing window for each position at which reading continues.

    The columns of a Parquet file are read concurrently, each sequentially, so several windows are kept. A window starts
    small, because the next bytes may not be needed, and doubles while reading continues.
    """

    def __init__(self, file: S3File) -> None:
        self._file = file
        self._at = 0
        self._windows: OrderedDict[int, _Window] = OrderedDict()

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._at

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    @override
    def readinto(self, buffer: "WriteableBuffer") -> int:
        target = memoryview(buffer).cast("B")
        if not len(target) or self._at >= self._file.size:
            return 0
        window = self._window_at(self._at, len(target))
        data = window.data[self._at - window.start :][: len(target)]
        target[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _window_at(self, at: int, wanted: int) -> _Window:
        for start, window in self._windows.items():
            if window.start <= at < window.end:
                self._windows.move_to_end(start)
                return window
        before = next((start for start, window in self._windows.items() if window.end == at), None)
        size = self._windows.pop(before).next_bytes if before is not None else _FIRST_WINDOW_BYTES
        size = min(max(size, min(wanted, _LARGEST_WINDOW_BYTES)), self._file.size - at)
        window = _Window(at, self._file.read_range(at, size), min(2 * size, _LARGEST_WINDOW_BYTES))
        self._windows[at] = window
        if len(self._windows) > _MAX_WINDOWS:
            self._windows.popitem(last=False)
        return window
