"""The manifest: every input of a run, pinned by size and content before anything is read.

Files are hashed with two threads (hashing releases the interpreter's lock); what is read later is compared with it.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlho.errors import SpecError
from mlho.sources.files import InputFile as FoundFile
from mlho.sources.files import list_inputs
from mlho.spec import RunSpec, Tables
from mlho.steps.base import InputFile
from mlho.store.base import file_digest
from scheduler.plan import Manifest

_HASHING_THREADS = 2


def data_root(spec: RunSpec, spec_path: Path) -> Path:
    """The folder of the tables; a relative one counts from the specification file."""
    uri = spec.spec.data.uri.removeprefix("file://")
    if "://" in uri:
        raise SpecError(
            f"data.uri {spec.spec.data.uri!r}: this version reads tables from a folder. Give a path."
        )
    return (spec_path.parent / Path(uri).expanduser()).absolute()


def make_manifest(tables: Tables, root: Path) -> Manifest:
    """Pin the inputs of every table.

    Raises
    ------
    DataError
        A table has no file.
    """
    patterns = {name: pattern for name, pattern in tables.model_dump().items() if pattern is not None}
    found = {name: list_inputs(root, pattern) for name, pattern in patterns.items()}
    with ThreadPoolExecutor(_HASHING_THREADS) as threads:
        return Manifest({name: tuple(threads.map(_pinned, files)) for name, files in found.items()})


def _pinned(file: FoundFile) -> InputFile:
    return InputFile(key=file.key, size=file.size, version=file_digest(file.path))
