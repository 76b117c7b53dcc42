"""The input files of a table: a file, a folder or a pattern, always in one order."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlho.errors import DataError

SUFFIXES: Final = (".parquet", ".pq", ".csv", ".csv.gz")
_FORMATS: Final = "Parquet (.parquet, .pq) or CSV (.csv, .csv.gz)"
_GLOB_MARKS: Final = "*?["


@dataclass(frozen=True)
class InputFile:
    """One input object.

    Attributes
    ----------
    key : str
        POSIX path relative to the data's root: its name in manifests, ledgers and messages.
    path : Path
        Where it is on this machine.
    size : int
        Bytes.
    """

    key: str
    path: Path
    size: int

    @property
    def is_parquet(self) -> bool:
        """Whether it is read as Parquet; else as CSV."""
        return self.key.endswith((".parquet", ".pq"))


def list_inputs(root: Path, pattern: str) -> list[InputFile]:
    """Files that a table consists of, sorted by key.

    Parameters
    ----------
    root : Path
        The folder that ``data.uri`` names.
    pattern : str
        Relative to it: a file, a folder (read recursively), or a glob pattern such as ``events/*/part-*.parquet``.
        Files and folders whose name begins with ``.`` or ``_`` are left out, as are other formats found in a folder.

    Raises
    ------
    DataError
        Nothing is there, the format is not known, or the pattern leaves the root.
    """
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise DataError(
            pattern,
            "the path leaves data.uri",
            expected="a path relative to data.uri, without '..'",
            got="one that is absolute or climbs",
            remedy="Set data.uri to a folder that holds all tables.",
        )
    paths = _candidates(root, pattern)
    keys = {path.relative_to(root).as_posix(): path for path in paths}
    found = [InputFile(key, path, path.stat().st_size) for key, path in sorted(keys.items())]
    if not found:
        raise _nothing_there(root, pattern)
    return found


def _candidates(root: Path, pattern: str) -> list[Path]:
    """Files that a pattern names; the named file itself is never hidden by its name."""
    target = root / pattern
    if target.is_file():
        if not target.name.endswith(SUFFIXES):
            raise DataError(
                pattern,
                "the format is not known",
                expected=_FORMATS,
                got=f"a file with the suffix {target.suffix!r}",
                remedy="Write the table in one of these formats, and name the file so.",
            )
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
    hidden = any(part.startswith((".", "_")) for part in path.relative_to(base).parts)
    return not hidden and path.name.endswith(SUFFIXES) and path.is_file()


def _nothing_there(root: Path, pattern: str) -> DataError:
    is_folder = (root / pattern).is_dir()
    return DataError(
        pattern,
        "the table has no file" if is_folder else "no such file or folder",
        expected=f"{_FORMATS} under data.uri",
        got="a folder without such files" if is_folder else "nothing of that name",
        remedy="Correct data.uri or data.tables in the specification.",
    )
