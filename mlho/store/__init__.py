"""Bytes in, bytes out: write-once artifacts behind one small interface."""

from pathlib import Path

from mlho.errors import SpecError
from mlho.store.base import Store
from mlho.store.local import LocalStore


def open_store(address: str) -> Store:
    """Open the store at an address: a folder, as a path or a ``file://`` address."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return LocalStore(Path(address).expanduser())
    if scheme == "file":
        return LocalStore(Path(rest))
    raise SpecError(
        f"store {address!r}: this version keeps artifacts in a folder. Give a path, such as ./mlho-store."
    )
