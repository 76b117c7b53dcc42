"""Write-once artifact storage behind one small interface."""

import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from mlho.errors import SpecError
from mlho.scratch import TEMPORARY_PREFIX, remove_abandoned
from mlho.store.base import Store
from mlho.store.local import LocalStore
from mlho.store.s3_settings import SCHEME, S3Settings, split_address


def open_store(address: str, env: Mapping[str, str] | None = None) -> Store:
    """Open the store at an address. The first call of a process also removes the scratch of processes that have ended.

    Raise SpecError if the address has a different form, a setting is invalid, or the folder cannot be created. The connection to
    object storage is tested by the first request, or beforehand by :func:`~mlho.store.probe.probe_store`.

    Parameters
    ----------
    address : str
        A folder, as a path or a ``file://`` address; or ``s3://bucket/prefix``.
    env : mapping of str to str, optional
        Variables with the object storage settings (:class:`~mlho.store.s3_settings.S3Settings`, and ``MLHO_CACHE_DIR`` and
        ``MLHO_CACHE_BYTES``); default: the environment of this process.
    """
    store = _opened(address, env)
    _remove_scratch_once(os.getpid(), store.scratch())
    return store


@cache
def _remove_scratch_once(_process: int, scratch: Path | None) -> None:
    """Remove this scratch only when a process first opens a store, because workers open the store for each task."""
    remove_scratch(scratch)


def remove_scratch(scratch: Path | None) -> None:
    """Remove the scratch of processes that have ended, both in this folder of a store and on this machine."""
    remove_abandoned(Path(tempfile.gettempdir()), prefix=TEMPORARY_PREFIX)
    if scratch is not None:
        remove_abandoned(scratch)


def _opened(address: str, env: Mapping[str, str] | None) -> Store:
    scheme, separator, rest = address.partition("://")
    if not separator:
        return LocalStore(Path(address).expanduser())
    if scheme == "file":
        return LocalStore(Path(rest))
    if address.startswith(SCHEME):
        return _open_s3(os.getpid(), address, *_s3_variables(os.environ if env is None else env))
    raise SpecError(
        f"store {address!r}: artifacts are kept in a folder (./mlho-store) or in object storage (s3://bucket/prefix)."
    )


def _s3_variables(env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    names = ("HOME", "XDG_CACHE_HOME")
    return tuple(
        sorted((name, value) for name, value in env.items() if name in names or name.startswith("MLHO_"))
    )


@cache
def _open_s3(_process: int, address: str, *variables: tuple[str, str]) -> Store:
    """Return one store per address and process, so that connections and the state of the cache are reused."""
    from mlho.store.cache import BlobCache
    from mlho.store.s3 import Bucket
    from mlho.store.s3_store import S3Store

    env = dict(variables)
    bucket, prefix = split_address(address)
    settings = S3Settings.from_environment(env)
    return S3Store(Bucket(bucket, settings, where=address), prefix, BlobCache.from_environment(env))
