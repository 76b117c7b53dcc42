"""The input files of a table: a file, a folder or a pattern, always in one order; on this machine's disks or elsewhere."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from mlho.errors import DataError

SUFFIXES: Final = (".parquet", ".pq", ".csv", ".csv.gz")
_FORMATS: Final = "Parquet (.parquet, .pq) or CSV (.csv, .csv.gz)"
_GLOB_MARKS: Final = "*?["


class RemoteFile(ABC):
    """An input that is not on this machine's disks, at one version of its content."""

    @property
    @abstractmethod
    def version(self) -> str:
        """What tells this content from any other of the same name, such as an ETag."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """Open it for reading and seeking; reads raise ``InputChanged`` once it has another version."""


class RemoteRoot(ABC):
    """A place of tables that is no folder of this machine, such as a prefix of a bucket."""

    @abstractmethod
    def find(self, pattern: str) -> "list[InputFile]":
        """Do what :func:`list_inputs` does."""


type DataRoot = Path | RemoteRoot


@dataclass(frozen=True)
class InputFile:
    """One input object.

    Attributes
    ----------
    key : str
        POSIX path relative to the data's root: its name in manifests, ledgers and messages.
    path : Path or RemoteFile
        Where it is on this machine, or how it is read from elsewhere.
    size : int
        Bytes.
    """

    key: str
    path: Path | RemoteFile
    size: int

    @property
    def is_parquet(self) -> bool:
        """Whether it is read as Parquet; else as CSV."""
        return self.key.endswith((".parquet", ".pq"))


def list_inputs(root: DataRoot, pattern: str) -> list[InputFile]:
    """Files that a table consists of, sorted by key.

    Parameters
    ----------
    root : Path or RemoteRoot
        The folder, or the place elsewhere, that ``data.uri`` names.
    pattern : str
        Relative to it: a file, a folder (read recursively), or a glob pattern such as ``events/*/part-*.parquet``.
        Files and folders whose name begins with ``.`` or ``_`` are left out, as are other formats found in a folder.

    Raises
    ------
    DataError
        Nothing is there, the format is not known, or the pattern leaves the root.
    """
    check_pattern(pattern)
    if isinstance(root, RemoteRoot):
        return root.find(pattern)
    keys = {path.relative_to(root).as_posix(): path for path in _candidates(root, pattern)}
    found = [InputFile(key, path, path.stat().st_size) for key, path in sorted(keys.items())]
    if not found:
        raise nothing_there(pattern, is_folder=(root / pattern).is_dir())
    return found


def select_keys(keys: Iterable[str], pattern: str) -> list[str]:
    """Of all keys of a place elsewhere those that a pattern names, by the rules of :func:`list_inputs`; sorted.

    Parameters
    ----------
    keys : iterable of str
        Relative to the place's root.
    pattern : str

    Returns
    -------
    list of str, never empty

    Raises
    ------
    DataError
        None is there, or the format of the only one is not known.
    """
    check_pattern(pattern)
    wanted = PurePosixPath(pattern).parts
    name = "/".join(wanted)
    there = sorted(keys)
    if name in there:
        _check_format(name)
        return [name]
    below = [key for key in there if not name or key.startswith(f"{name}/")]
    found = [key for key in below if _is_input_name(PurePosixPath(key).parts[len(wanted) :])]
    if not below and any(mark in pattern for mark in _GLOB_MARKS):
        found = [key for key in there if _is_matched(PurePosixPath(key).parts, wanted)]
    if not found:
        raise nothing_there(pattern, is_folder=bool(below))
    return found


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that leaves the root."""
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise DataError(
            pattern,
            "the path leaves data.uri",
            expected="a path relative to data.uri, without '..'",
            got="one that is absolute or climbs",
            remedy="Set data.uri to a folder that holds all tables.",
        )


def _is_matched(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a pattern matches an input's key or a folder above it."""
    if not _is_input_name(parts):
        return False
    return any(_glob_matches(parts[:n], pattern) for n in range(1, len(parts) + 1))


def _glob_matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether names match a pattern name by name; ``**`` stands for any number of them."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_glob_matches(parts[n:], pattern[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _glob_matches(parts[1:], pattern[1:])


def _candidates(root: Path, pattern: str) -> list[Path]:
    """Files that a pattern names; the named file itself is never hidden by its name."""
    target = root / pattern
    if target.is_file():
        _check_format(pattern)
        return [target]
    if target.is_dir():
        return [path for path in target.rglob("*") if _is_input(path, target)]
    if any(mark in pattern for mark in _GLOB_MARKS):
        matches = sorted(root.glob(pattern))
        files = [path for path in matches if _is_input(path, root)]
        inside = [path for folder in matches if folder.is_dir() for path in folder.rglob("*")]
        return [*files, *(path for path in inside if _is_input(path, root))]
    return []


def _is_input(path: Path, base: Path) -> bool:
    return _is_input_name(path.relative_to(base).parts) and path.is_file()


def _is_input_name(parts: Sequence[str]) -> bool:
    """Whether a path, seen from the folder or pattern that was asked for, is an input: not hidden, of a known format."""
    return not any(part.startswith((".", "_")) for part in parts) and parts[-1].endswith(SUFFIXES)


def _check_format(key: str) -> None:
    if not key.endswith(SUFFIXES):
        raise DataError(
            key,
            "the format is not known",
            expected=_FORMATS,
            got=f"a file with the suffix {PurePosixPath(key).suffix!r}",
            remedy="Write the table in one of these formats, and name the file so.",
        )


def nothing_there(pattern: str, *, is_folder: bool) -> DataError:
    """The error for a pattern that names no input."""
    return DataError(
        pattern,
        "the table has no file" if is_folder else "no such file or folder",
        expected=f"{_FORMATS} under data.uri",
        got="a folder without such files" if is_folder else "nothing of that name",
        remedy="Correct data.uri or data.tables in the specification.",
    )
