"""The manifest: every input of a run, pinned by size and content before any of it is parsed.

Local files are hashed with two threads (hashing releases the interpreter's lock), and later reads are
verified against the manifest. Objects of a bucket are listed and pinned by ETag; only one byte of the first
object is read here.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlho.errors import DataError, SpecError, plural
from mlho.printable import shown
from mlho.sources.files import DataRoot, FoundFiles, SourceFile, find_file
from mlho.sources.omop.folder import find_tables
from mlho.spec.scoring import ScoringRunSpec, ScoringTables
from mlho.spec.training import RunSpec, Tables
from mlho.steps.base import InputFile
from mlho.store.base import file_digest
from mlho.store.inputs import open_data
from scheduler.engine.plan import Manifest

_HASHING_THREADS = 2
DATASET = "metadata/dataset.json"  # of MEDS; its source imports libraries that a scheduler does not have


def data_root(spec: RunSpec | ScoringRunSpec, spec_path: Path) -> Path | str:
    """Return the address of the tables: a folder (relative paths start at the specification file) or ``s3://…``.

    Raise SpecError if ``data.uri`` has a different scheme.
    """
    uri = spec.spec.data.uri.removeprefix("file://")
    if "://" in uri:
        open_data(uri)  # raises for an unknown scheme
        return uri
    return local_folder(uri, spec_path)


def local_folder(uri: str, spec_path: Path) -> Path:
    """Return a local folder. A relative path starts at the specification file.

    Raise SpecError if the path begins with the home directory of a user that does not exist on this machine.
    """
    try:
        return (spec_path.parent / Path(uri).expanduser()).absolute()
    except RuntimeError:
        raise SpecError(f"{shown(uri)}: no such user here. Write the path without '~'.") from None


def make_manifest(
    tables: Tables | ScoringTables,
    data: DataRoot | str,
    *,
    source: str = "native",
    further: Mapping[str, str] = MappingProxyType({}),
) -> Manifest:
    """Pin the inputs of every table.

    Raise DataError if a table has no file.

    Parameters
    ----------
    tables : Tables
        File, folder or pattern of each table.
    data : Path, str or RemoteRoot
        Location of the tables, as returned by :func:`data_root`.
    source : str
        Layout of the tables. That of ``meds`` includes the description of the data set, if it has one.
    further : mapping of name to path
        Inputs that are named outside ``data.tables``.
    """
    root = open_data(data) if isinstance(data, Path | str) else data
    files_by_table = _found(root, {**tables.model_dump(), **further}, source)
    dataset = find_file(root, DATASET) if source == "meds" else None
    if dataset is not None:
        files_by_table["dataset"] = FoundFiles([dataset])
    return _pin(files_by_table)


def training_manifest(spec: RunSpec, data: Path | str) -> Manifest:
    """Pin the inputs of a run that trains or recalibrates; see :func:`make_manifest`."""
    section = spec.spec
    return make_manifest(
        section.data.tables, data, source=section.data.source, further=section.further_tables
    )


def with_further(
    manifest: Manifest, data: Path | str, *, before: Mapping[str, str], further: Mapping[str, str]
) -> Manifest:
    """Return the manifest with other inputs from outside ``data.tables`` in place of those ``before``. The other files keep their pins."""
    if further == before:
        return manifest
    pinned = _pin(_found(open_data(data), further, "native"))
    tables = {name: files for name, files in manifest.tables.items() if name not in before}
    left_out = {name: names for name, names in manifest.left_out.items() if name not in before}
    return Manifest({**tables, **pinned.tables}, {**left_out, **pinned.left_out})


def _found(root: DataRoot, patterns: Mapping[str, str | None], source: str) -> dict[str, FoundFiles]:
    files_by_table = {}
    for name, files in find_tables(root, patterns, source).items():
        if isinstance(files, DataError):
            raise files
        files_by_table[name] = files
    return files_by_table


def _pin(files_by_table: Mapping[str, FoundFiles]) -> Manifest:
    _try_to_read([file for files in files_by_table.values() for file in files.files])
    left_out = {
        name: tuple(map(shown, files.left_out)) for name, files in files_by_table.items() if files.left_out
    }
    with ThreadPoolExecutor(_HASHING_THREADS) as threads:
        pinned = {name: tuple(threads.map(_pinned, files.files)) for name, files in files_by_table.items()}
    return Manifest(pinned, left_out)


def _try_to_read(files: Sequence[SourceFile]) -> None:
    """Read one byte from a bucket, so that missing read permission fails now instead of stalling the run."""
    first = next((file.path for file in files if not isinstance(file.path, Path)), None)
    if first is not None:
        with first.open() as file:
            file.read(1)


def _pinned(file: SourceFile) -> InputFile:
    version = file_digest(file.path) if isinstance(file.path, Path) else file.path.version
    return InputFile(key=file.key, size=file.size, version=version)


def left_out_sentences(left_out: Mapping[str, Any]) -> list[str]:
    """Name the files in the tables' folders that are not read, from
    :func:`scheduler.engine.plan.left_out_facts`.
    """
    sentences = []
    for table, facts in left_out.items():
        more = facts["files"] - len(facts["first"])
        names = ", ".join(facts["first"]) + (f", and {more:,} more" if more else "")
        sentences.append(f"Not read in the folder of {table}: {plural(facts['files'], 'file')} ({names}).")
    return sentences
