"""The files of a bundle: written deterministically, and read only if all listed files are present, intact, and no others.

``bundle.json`` lists every other file with its SHA-256; ``bundle.sha256`` holds that of ``bundle.json``, which is therefore
the digest of the whole bundle.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from mlho.errors import BundleError, plural

DOCUMENT: Final = "bundle.json"
DIGEST: Final = "bundle.sha256"
# One of our folders and a plain name: no "..", no absolute path, no hidden file.
_FILE_NAME: Final = re.compile(r"(?:(?:model|tests)/)?[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MAX_DOCUMENT_BYTES: Final = 64 * 1024**2  # ten thousand features with long descriptions need a tenth of it
_REMEDY = "Fetch the bundle again, or build it again."
_OF_A_RUN = "In commands, run:NAME is the bundle of a run, and channel:NAME the one in use."


class FileFacts(NamedTuple):
    """Digest and size of a file listed in ``bundle.json``."""

    sha256: str
    n_bytes: int


def facts_of(content: bytes) -> FileFacts:
    """Return digest and size."""
    return FileFacts(hashlib.sha256(content).hexdigest(), len(content))


def is_bundle_file(name: str) -> bool:
    """Return whether a bundle may list a file with this name."""
    return _FILE_NAME.fullmatch(name) is not None and name not in (DOCUMENT, DIGEST)


def digest_line(document: bytes) -> bytes:
    """Return the content of ``bundle.sha256``, in the format of ``sha256sum --check``."""
    return f"{facts_of(document).sha256}  {DOCUMENT}\n".encode()


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files atomically: the folder appears only when it is complete.

    Raises
    ------
    BundleError
        The folder exists with other content. An equal bundle is left unchanged.
    """
    if folder.exists():
        if _holds(folder, files):
            return
        raise BundleError(
            f"{folder}: exists and is not this bundle. Expected a new path; bundles are never overwritten."
        )
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        write_files(partial, files)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files below a folder, which may be new."""
    for name, content in sorted(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    return _names_in(folder) == set(files) and all(
        (folder / name).read_bytes() == content for name, content in files.items()
    )


def read_document(folder: Path) -> bytes:
    """Return ``bundle.json`` after verifying its digest.

    Raises
    ------
    BundleError
        The folder is not a bundle, or the digest does not match.
    """
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: no such folder. Expected a bundle: a folder with {DOCUMENT}. {_OF_A_RUN}"
        )
    names = _names_in(folder)
    for name in (DOCUMENT, DIGEST):
        if name not in names:
            remedy = f"{_REMEDY} {_OF_A_RUN}" if name == DOCUMENT else _REMEDY
            raise BundleError(f"{folder}: {name} is missing. Expected a complete bundle. {remedy}")
    size = (folder / DOCUMENT).stat().st_size
    if size > MAX_DOCUMENT_BYTES:
        raise BundleError(
            f"{folder / DOCUMENT}: too large. Expected at most {MAX_DOCUMENT_BYTES} bytes; got {size}. {_REMEDY}"
        )
    content = (folder / DOCUMENT).read_bytes()
    expected, found = digest_line(content), (folder / DIGEST).read_bytes()
    if found != expected:
        raise BundleError(
            f"{folder / DOCUMENT}: damaged. Expected the digest in {DIGEST}, {_shown(found)};"
            f" got {facts_of(content).sha256}. {_REMEDY}"
        )
    return content


def _shown(digest_file: bytes) -> str:
    """Return the digest in a digest file, or report that there is none, without printing foreign content."""
    match = re.fullmatch(rb"([0-9a-f]{64})  bundle\.json\n", digest_file)
    return match[1].decode() if match else "which contains no SHA-256"


def read_files(folder: Path, facts: Mapping[str, FileFacts]) -> dict[str, bytes]:
    """Return the content of every listed file, verified.

    Raises
    ------
    BundleError
        A file is missing, damaged, not a regular file, or not listed.
    """
    found = _names_in(folder) - {DOCUMENT, DIGEST}
    missing, unexpected = sorted(set(facts) - found), sorted(found - set(facts))
    if missing:
        raise BundleError(
            f"{folder}: {plural(len(missing), 'file')} missing, first {missing[0]}. Expected the {plural(len(facts), 'file')} that"
            f" {DOCUMENT} lists. {_REMEDY}"
        )
    if unexpected:
        raise BundleError(
            f"{folder}: {plural(len(unexpected), 'unexpected file')}, first {unexpected[0][:100]!r}. Expected only the files that {DOCUMENT} lists."
            f" Remove them; if you do not know where they come from, fetch the bundle again."
        )
    return {name: _verified(folder / name, entry) for name, entry in sorted(facts.items())}


def _verified(path: Path, facts: FileFacts) -> bytes:
    size = path.stat().st_size
    if size != facts.n_bytes:
        raise BundleError(f"{path}: damaged. Expected {plural(facts.n_bytes, 'byte')}; got {size}. {_REMEDY}")
    content = path.read_bytes()
    found = facts_of(content).sha256
    if found != facts.sha256:
        raise BundleError(f"{path}: damaged. Expected SHA-256 {facts.sha256}; got {found}. {_REMEDY}")
    return content


def _names_in(folder: Path) -> set[str]:
    """Return the relative paths of all files. Refuse links and devices, since a link may lead out of the folder."""
    names = set()
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BundleError(
                f"{path}: a link or a special file. Expected plain files only. Copy the bundle with its content."
            )
        if path.is_file():
            names.add(path.relative_to(folder).as_posix())
    return names
