"""The imports of a fork server: cheap, and with an end that the command does not have to wait for."""

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType, TracebackType

from mlho.fork_server import is_server

_HIDDEN = ("cffi", "coverage", "pandas", "scipy.linalg", "sklearn")


class _Hiding:
    """Makes the import of a hidden library fail. Libraries that look for it handle the failure.

    numba looks for coverage, for cffi, whose functions our loops do not call, and for BLAS, which they do not use. pyarrow
    looks for pandas with its first array from Python values, and caches the result. xgboost has classes for scikit-learn.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name in _HIDDEN:
            raise ModuleNotFoundError(name=name)


def _no_entry_points(**_: object) -> metadata.EntryPoints:
    """Return no entry points, because numba would search the metadata of all installed packages for extensions."""
    return metadata.EntryPoints()


@contextmanager
def imports_of_server() -> Iterator[None]:
    """Make the imports of a block cheap in a fork server; elsewhere do nothing.

    Libraries that others import only because they are installed are hidden: a third of the time and a quarter of the memory. A
    child that needs pandas or scikit-learn imports it. No garbage is collected, which takes a fifth of the imports and finds nothing. The
    objects are then frozen: collections in child processes pass over them and do not copy their pages.
    """
    if not is_server():
        yield
        return
    gc.disable()
    sys.meta_path.insert(0, _Hiding)
    entry_points, metadata.entry_points = metadata.entry_points, _no_entry_points
    try:
        yield
    finally:
        metadata.entry_points = entry_points
        sys.meta_path.remove(_Hiding)
        gc.freeze()
        gc.enable()


@contextmanager
def parts_hidden(library: ModuleType, *names: str) -> Iterator[None]:
    """In a fork server, set attributes of a library to None that it would import on access."""
    hidden = [name for name in names if name not in vars(library)] if is_server() else []
    for name in hidden:
        setattr(library, name, None)
    try:
        yield
    finally:
        for name in hidden:
            delattr(library, name)


def _exit_immediately(server: int) -> None:
    if os.getpid() == server:
        os._exit(0)


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the error of a server or of a process that cannot start, unless the command has ended.

    Its semaphores, which have no file name, then no longer exist. If Ctrl-C came while it asked for a process, the request is cut off.
    """
    is_of_ended = kind is EOFError or (kind is FileNotFoundError and getattr(error, "filename", None) is None)
    if not is_of_ended:
        sys.__excepthook__(kind, error, trace)


# The command waits for its server to end. The server has no state to save; a regular interpreter exit takes half a second.
if is_server():
    atexit.register(_exit_immediately, os.getpid())
    sys.excepthook = _print_error
    # Arrow's own allocator, its default on Linux, holds 20 to 40 MB more in each process that reads tables, and takes more time to obtain them.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
