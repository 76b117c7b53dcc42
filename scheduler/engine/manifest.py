"""The manifest: every input of a run, pinned by size and content before anything is read.

Files are hashed with two threads (hashing releases the interpreter's lock); what is read later is compared with it.
Objects of a bucket are listed, and their ETags taken: of the first one alone a byte is read here.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlho.errors import SpecError
from mlho.printable import shown
from mlho.sources.files import DataRoot, find_inputs
from mlho.sources.files import InputFile as FoundFile
from mlho.spec.scoring import ScoringRunSpec, ScoringTables
from mlho.spec.training import RunSpec, Tables
from mlho.steps.base import InputFile
from mlho.store.base import file_digest
from mlho.store.inputs import open_data
from scheduler.engine.plan import Manifest

_HASHING_THREADS = 2


def data_root(spec: RunSpec | ScoringRunSpec, spec_path: Path) -> Path | str:
    """Address of the tables: a folder, of which a relative one counts from the specification file, or ``s3://…``.

    Raises
    ------
    SpecError
        ``data.uri`` is of another kind.
    """
    uri = spec.spec.data.uri.removeprefix("file://")
    if "://" in uri:
        open_data(uri)  # refuses what it does not know
        return uri
    return local_folder(uri, spec_path)


def local_folder(uri: str, spec_path: Path) -> Path:
    """A folder of this machine, of which a relative one counts from the specification file.

    Raises
    ------
    SpecError
        It begins with the home of a user whom this machine does not know.
    """
    try:
        return (spec_path.parent / Path(uri).expanduser()).absolute()
    except RuntimeError:
        raise SpecError(f"{shown(uri)}: no such user here. Write the path without '~'.") from None


def make_manifest(tables: Tables | ScoringTables, data: DataRoot | str) -> Manifest:
    """Pin the inputs of every table.

    Parameters
    ----------
    tables : Tables
        File, folder or pattern of each table.
    data : Path, str or RemoteRoot
        Where they are, as :func:`data_root` says.

    Raises
    ------
    DataError
        A table has no file.
    """
    root = open_data(data) if isinstance(data, Path | str) else data
    patterns = {name: pattern for name, pattern in tables.model_dump().items() if pattern is not None}
    found = {name: find_inputs(root, pattern) for name, pattern in patterns.items()}
    _try_to_read([file for own in found.values() for file in own.files])
    left_out = {name: tuple(map(shown, own.left_out)) for name, own in found.items() if own.left_out}
    with ThreadPoolExecutor(_HASHING_THREADS) as threads:
        pinned = {name: tuple(threads.map(_pinned, own.files)) for name, own in found.items()}
    return Manifest(pinned, left_out)


def _try_to_read(files: Sequence[FoundFile]) -> None:
    """Read a byte from a bucket, so that a missing right is an error now and not one that a run waits for."""
    objects = (own.path for own in files if not isinstance(own.path, Path))
    first = next(objects, None)
    if first is not None:
        with first.open() as file:
            file.read(1)


def _pinned(file: FoundFile) -> InputFile:
    version = file_digest(file.path) if isinstance(file.path, Path) else file.path.version
    return InputFile(key=file.key, size=file.size, version=version)
