"""Classification of input file names: read, left out, or refused. Pure functions.

Folders and buckets follow the same rules. When a whole folder is read, only hidden files and the markers of programs that
write tables are skipped silently. Any other file is read, left out with a warning, or refused.
"""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final

from mlho.errors import DataError
from mlho.printable import has_control, shown

_PARQUET: Final = (".parquet", ".pq", ".parq")
_DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
_COMPRESSIONS: Final = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}  # of text files; Arrow cannot read .xz
FORMATS: Final = "Parquet (.parquet, .pq, .parq), CSV or TSV (.csv, .tsv, and with .gz, .bz2 or .zst)"
GLOB_MARKS: Final = "*?["
_LONGEST: Final = 1024  # maximum characters of a pattern, as for keys of object storage

# Marker files of Spark, Hive, Databricks and Arrow. They contain no rows.
_MARKS: Final = ("_success", "_metadata", "_common_metadata")
_MARK_PREFIXES: Final = ("_committed_", "_started_")
# Documents and other non-tables. A file of any other unreadable kind may contain rows and is refused.
_NO_TABLES: Final = frozenset(
    (".md", ".rst", ".pdf", ".html", ".htm", ".doc", ".docx", ".yaml", ".yml", ".log", ".crc", ".md5", ".sha1",
     ".sha256", ".png", ".jpg", ".jpeg", ".svg", ".sql", ".py", ".r", ".sh")
)  # fmt: skip
_NO_TABLE_STEMS: Final = ("readme", "license", "licence", "changelog", "notes")
_DELTA, _HUDI, _ICEBERG = "_delta_log", ".hoodie", "metadata"


@dataclass(frozen=True)
class Format:
    """The format of a file."""

    delimiter: str | None
    """Field separator of text; ``None`` for Parquet."""
    compression: str | None = None
    """Name of the compression in Arrow."""


@dataclass(frozen=True)
class Selection:
    """Keys of one table, sorted: those to read, and those left out with a warning."""

    found: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def format_of(key: str) -> Format | None:
    """Return the format given by a suffix, case-insensitive; ``None`` for an unsupported one.

    Examples
    --------
    >>> format_of("part-0.CSV.gz")
    Format(delimiter=',', compression='gzip')
    """
    path = PurePosixPath(key.lower())
    if path.suffix in _PARQUET:
        return Format(None)
    compression = _COMPRESSIONS.get(path.suffix)
    delimiter = _DELIMITERS.get(PurePosixPath(path.stem).suffix if compression else path.suffix)
    return Format(delimiter, compression) if delimiter else None


def select_keys(
    keys: Iterable[str], pattern: str, *, place: str = "", wanted: Callable[[str], bool] | None = None
) -> Selection:
    """Select the keys that match a pattern.

    Raise DataError if no key matches, a file may contain rows but is unreadable, or the files belong to a Delta, Iceberg or Hudi
    table.

    Parameters
    ----------
    keys : iterable of str
        All keys of a location, relative to its root.
    pattern : str
        A file, a folder (read recursively), or a glob pattern such as ``events/*/part-*.parquet``, in which ``**`` matches any
        number of folders.
    wanted : callable, optional
        Returns whether a file of a folder may belong to the table; other files are skipped.

    Returns
    -------
    Selection
        At least one key is found. A file named explicitly is read regardless of its name.
    """
    parts = split_pattern(pattern)
    name, there = "/".join(parts), sorted(keys)
    lakes = {root for root in map(_lake_root, there) if root is not None}
    if name in there:
        _refuse_lake(name, lakes)
        return Selection((_checked(name),))
    below, base = [key for key in there if not name or key.startswith(f"{name}/")], len(parts)
    if not below and has_glob(pattern):
        below, base = [key for key in there if _is_matched(key.split("/"), parts)], 0
    seen = [key for key in below if not _is_aside(key.split("/")[base:])]
    seen = [key for key in seen if wanted is None or wanted(key)]
    for key in seen:
        _refuse_lake(key, lakes)
    left_out = [key for key in seen if _is_left_out(key.split("/")[base:])]
    is_out = frozenset(left_out)
    found = tuple(_checked(key) for key in seen if key not in is_out)
    if not found:
        raise nothing_there(pattern, is_folder=bool(below), place=place)
    return Selection(found, tuple(left_out))


def split_pattern(pattern: str) -> tuple[str, ...]:
    """Split a pattern into names, merging repeated ``**``. Refuse a pattern that leaves the root."""
    if pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
        raise DataError(
            shown(pattern),
            "the path leaves data.uri",
            expected="a path relative to data.uri, without '..' or '~'",
            got="a path that is absolute or leads out of the folder",
            remedy="Set data.uri to a folder that holds all tables.",
        )
    if len(pattern) > _LONGEST or has_control(pattern):
        raise DataError(
            shown(pattern),
            "the path is not a valid file name",
            expected=f"at most {_LONGEST:,} characters, none of them a control character",
            got=f"{len(pattern):,} characters" + (", control characters" if has_control(pattern) else ""),
            remedy="Correct data.tables in the specification.",
        )
    parts = PurePosixPath(pattern).parts
    return tuple(part for n, part in enumerate(parts) if part != "**" or parts[n - 1 : n] != ("**",))


def has_glob(text: str) -> bool:
    """Return whether a pattern contains wildcards."""
    return any(mark in text for mark in GLOB_MARKS)


def fixed_part(pattern: str) -> tuple[str, ...]:
    """Return the leading names without wildcards: a common folder, or the file or folder itself."""
    parts = split_pattern(pattern)
    first = next((n for n, part in enumerate(parts) if has_glob(part)), len(parts))
    return parts[:first]


def listing_prefix(pattern: str) -> str:
    """Return the common prefix of all keys that a pattern can match."""
    fixed = fixed_part(pattern)
    return "/".join(fixed) + ("/" if fixed and has_glob(pattern) else "")


def is_worth_a_look(folder: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a folder may contain matches of a pattern, or the metadata of an Iceberg table."""
    if folder[-1].startswith(".") and folder[-1] not in pattern:
        return False
    return folder[-1] == _ICEBERG or _may_lead(folder, pattern)


def _may_lead(folder: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a folder may contain a match, or lies below a matching folder."""
    for name, wanted in zip(folder, pattern, strict=False):
        if wanted == "**":
            return True
        if name != wanted and not fnmatchcase(name, wanted):
            return False
    return True


def nothing_there(pattern: str, *, is_folder: bool, place: str = "") -> DataError:
    """Return the error for a pattern without a match, at a resolved path if that is known."""
    where = f": {shown(place)}" if place else ""
    return DataError(
        shown(pattern),
        "the table has no file" if is_folder else "no such file or folder",
        expected=f"{FORMATS} under data.uri",
        got=f"a folder without such files{where}" if is_folder else f"nothing of that name{where}",
        remedy="Correct data.uri or data.tables in the specification.",
    )


def is_lake_folder(name: str) -> bool:
    """Return whether a folder name is the log of a Delta or Hudi table."""
    return name in (_DELTA, _HUDI)


def lake_marks(folder: str) -> tuple[str, ...]:
    """Return key prefixes that identify a folder as the root of a Delta, Hudi or Iceberg table."""
    above = f"{folder}/" if folder else ""
    return tuple(f"{above}{name}/" for name in (_DELTA, _HUDI, _ICEBERG))


def is_iceberg_file(name: str) -> bool:
    """Return whether a file in a folder ``metadata`` belongs to an Iceberg table."""
    return name.endswith(".metadata.json") or name == "version-hint.text"


def _lake_root(key: str) -> str | None:
    """Return the folder of the table whose log or metadata contains this key; empty for the root."""
    parts = key.split("/")
    for n, part in enumerate(parts[:-1]):
        if is_lake_folder(part) or (part == _ICEBERG and n == len(parts) - 2 and is_iceberg_file(parts[-1])):
            return "/".join(parts[:n])
    return None


def _refuse_lake(key: str, roots: AbstractSet[str]) -> None:
    """Refuse the files of a table that keeps a list of its valid files, because stale files would be read as well."""
    root = next((folder for folder in roots if not folder or key.startswith(f"{folder}/")), None)
    if root is not None:
        raise DataError(
            shown(root or "."),
            "the folder is a Delta, Iceberg or Hudi table",
            expected="a folder in which every file counts",
            got="one with a list of its valid files, which is not read here, so removed rows would count again",
            remedy="Export the table's current rows to Parquet files, and name their folder.",
        )


def _checked(key: str) -> str:
    """Return a key to read, or raise an error if its file is unreadable."""
    if has_control(key):
        raise DataError(
            shown(key),
            "the name of a file cannot be used",
            expected="names that are UTF-8, without control characters",
            got="a name with other bytes or characters",
            remedy="Rename the file.",
        )
    if format_of(key) is None:
        suffix = PurePosixPath(key).suffix
        raise DataError(
            key,
            "the format is not known",
            expected=FORMATS,
            got=f"a file with the suffix {suffix!r}" if suffix else "a file without a suffix",
            remedy="Write the table in one of these formats, and give the file its suffix; or select the files of the table "
            "by a pattern, such as events/*.parquet.",
        )
    return key


def _is_aside(parts: Sequence[str]) -> bool:
    """Return whether a name, relative to the requested folder or pattern, is hidden or a marker of a writer."""
    name = parts[-1].lower()
    is_mark = name in _MARKS or name.startswith(_MARK_PREFIXES)
    return is_mark or any(part.startswith(".") for part in parts)


def _is_left_out(parts: Sequence[str]) -> bool:
    """Return whether a name denotes work in progress or a document, which is not a table."""
    return any(part.startswith("_") for part in parts) or is_document(parts[-1])


def is_document(name: str) -> bool:
    """Return whether the name of a file denotes a document, which is not a table."""
    path = PurePosixPath(name.lower())
    return format_of(name) is None and (path.suffix in _NO_TABLES or path.stem in _NO_TABLE_STEMS)


def _is_matched(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a pattern matches a key or one of its parent folders."""
    return any(_glob_matches(parts[:n], pattern) for n in range(1, len(parts) + 1))


def _glob_matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether names match a pattern one by one; ``**`` matches any number of names."""
    reached = {0}
    for wanted in pattern:
        if wanted == "**":
            reached = set(range(min(reached, default=len(parts) + 1), len(parts) + 1))
        else:
            reached = {n + 1 for n in reached if n < len(parts) and fnmatchcase(parts[n], wanted)}
    return len(parts) in reached
