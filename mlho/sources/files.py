"""The input files of a table, given as a file, a folder or a pattern; in a fixed order, from local disks or remote storage."""

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from mlho.errors import DataError, StoreUnavailable
from mlho.printable import shown
from mlho.sources.names import (
    Format,
    fixed_part,
    format_of,
    has_glob,
    is_iceberg_file,
    is_lake_folder,
    is_worth_a_look,
    lake_marks,
    nothing_there,
    select_keys,
    split_pattern,
)

_NOTHING_THERE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL))
_NOT_ALLOWED: Final = frozenset((errno.EACCES, errno.EPERM))


class RemoteFile(ABC):
    """A remote input at one version of its content."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Identifier of this version of the content, such as an ETag."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """Open it for reading and seeking. Reads raise ``InputChanged`` if the version has changed."""


class RemoteRoot(ABC):
    """A remote location of tables, such as a prefix of a bucket."""

    @abstractmethod
    def find(self, pattern: str, *, wanted: "Wanted" = None) -> "FoundFiles":
        """Do the same as :func:`find_inputs`."""

    @abstractmethod
    def find_file(self, key: str) -> "SourceFile | None":
        """Do the same as :func:`find_file`."""


# Folder or remote location given by ``data.uri``.
type DataRoot = Path | RemoteRoot
type Wanted = Callable[[str], bool] | None


@dataclass(frozen=True)
class SourceFile:
    """One input object."""

    key: str
    """POSIX path relative to the data root, used in manifests, ledgers and messages."""
    path: Path | RemoteFile
    """Local path, or reader of the remote object."""
    size: int
    """Size in bytes."""

    @property
    def format(self) -> Format:
        """File format, derived from the suffix."""
        file_format = format_of(self.key)
        assert file_format is not None, "an input has a known format"
        return file_format

    @property
    def is_parquet(self) -> bool:
        """Whether the file is Parquet; otherwise it is text."""
        return self.format.delimiter is None


@dataclass(frozen=True)
class FoundFiles:
    """Inputs matched by a pattern, and names of other files that are left out with a warning."""

    files: list[SourceFile]
    left_out: tuple[str, ...] = ()


def find_inputs(root: DataRoot, pattern: str, *, wanted: Wanted = None) -> FoundFiles:
    """Return the files of a table, sorted by key, and the files left out.

    Raise DataError if no file matches, a format is unknown, the pattern leaves the root, or a file would be read twice, and
    StoreUnavailable if a folder is temporarily unreadable.

    Parameters
    ----------
    pattern : str
        Relative to the root: a file, a folder (read recursively, including linked folders), or a glob pattern such as
        ``events/*/part-*.parquet``. :mod:`mlho.sources.names` defines which names are read.
    wanted : callable, optional
        Returns whether a file of a folder, given by its key, may belong to the table; other files are skipped.
    """
    if isinstance(root, RemoteRoot):
        return root.find(pattern, wanted=wanted)
    start = root.joinpath(*fixed_part(pattern))
    there = {*_marks_above(root, pattern), *_keys_there(root, start, pattern)}
    # A file has a key, and a missing file is an error: without keys, the pattern is an empty folder.
    if not there and not has_glob(pattern):
        raise nothing_there(pattern, is_folder=True, place=str(root / pattern))
    selection = select_keys(there, pattern, place=str(root / pattern), wanted=wanted)
    return FoundFiles(_opened(root, selection.found), selection.left_out)


def list_inputs(root: DataRoot, pattern: str) -> list[SourceFile]:
    """Return the files of a table, sorted by key; see :func:`find_inputs`."""
    return find_inputs(root, pattern).files


def find_file(root: DataRoot, key: str) -> SourceFile | None:
    """Return one file, of any format, or ``None`` if there is none."""
    if isinstance(root, RemoteRoot):
        return root.find_file(key)
    path = root / key
    return SourceFile(key, path, path.stat().st_size) if path.is_file() else None


def _marks_above(root: Path, pattern: str) -> Iterator[str]:
    """Yield keys that indicate a Delta, Hudi or Iceberg table in the folder that is read or in a parent folder."""
    parts = fixed_part(pattern)
    for n in range(len(parts) + 1):
        for prefix in lake_marks("/".join(parts[:n])):
            folder = root / prefix
            try:
                names = os.listdir(folder) if folder.is_dir() else []
            except OSError:
                continue
            for name in names:
                if is_lake_folder(folder.name) or is_iceberg_file(name):
                    yield prefix + name
                    break


def _keys_there(root: Path, start: Path, pattern: str) -> Iterator[str]:
    """Yield the keys of all files that a pattern may match, and keys that indicate Delta, Hudi and Iceberg tables."""
    try:
        is_folder = stat.S_ISDIR(start.stat().st_mode)
    except OSError as error:
        raise _cannot_look(pattern, error, place=str(root / pattern)) from None
    if is_folder:
        yield from _walk(root, start, split_pattern(pattern))
    else:
        yield start.relative_to(root).as_posix()


def _walk(root: Path, start: Path, pattern: Sequence[str]) -> Iterator[str]:
    """Yield the keys below a folder. Symbolic links to folders are followed; a cycle is an error."""
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(start, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        key = folder.relative_to(root).as_posix()
        try:
            status = folder.stat()
            with os.scandir(folder) as entries:
                listed = [(entry.name, entry.is_dir()) for entry in entries]
        except OSError as error:
            raise _cannot_look(key, error) from None
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise _leads_back(key)
        for name, is_folder in listed:
            path = folder / name
            if not is_folder:
                yield path.relative_to(root).as_posix()
            elif is_lake_folder(name):
                yield path.relative_to(root).as_posix() + "/log"
            elif is_worth_a_look(path.relative_to(root).parts, pattern):
                waiting.append((path, above | {here}))


def _leads_back(key: str) -> DataError:
    return DataError(
        shown(key),
        "a link leads back to a folder above it",
        expected="folders that end",
        got="a cycle, in which every file would count again",
        remedy="Remove the link, or select the files by a pattern.",
    )


def _opened(root: Path, keys: Sequence[str]) -> list[SourceFile]:
    """Return the inputs with these keys; the same file under two keys is an error."""
    files: list[SourceFile] = []
    key_of: dict[tuple[int, int], str] = {}
    for key in keys:
        try:
            status = (root / key).stat()
        except OSError as error:
            raise _no_file(key, error.strerror or "nothing") from None
        if not stat.S_ISREG(status.st_mode):
            raise _no_file(key, "a pipe, a device or a socket")
        first = key_of.setdefault((status.st_dev, status.st_ino), key)
        if first != key and status.st_ino:
            raise DataError(
                key,
                "the table contains the file under two names",
                expected="each file once",
                got=f"the file of {first} again, through a link",
                remedy="Remove the link, or select the files by a pattern.",
            )
        files.append(SourceFile(key, root / key, status.st_size))
    return files


def _no_file(key: str, got: str) -> DataError:
    return DataError(
        key,
        "the file cannot be read",
        expected="a file",
        got=f"{got}",
        remedy="Correct the link or the permissions, or remove it.",
    )


def _cannot_look(where: str, error: OSError, *, place: str = "") -> DataError | StoreUnavailable:
    if error.errno in _NOTHING_THERE:
        return nothing_there(where, is_folder=False, place=place)
    if error.errno in _NOT_ALLOWED or error.errno == errno.ELOOP:
        return DataError(
            shown(where),
            "the folder cannot be read",
            expected="a folder that this user may list",
            got=error.strerror or "an error",
            remedy="Correct the link or the permissions, or select the files by a pattern.",
        )
    return StoreUnavailable(f"{shown(where)}: cannot be read now ({error.strerror}). Try again.")
