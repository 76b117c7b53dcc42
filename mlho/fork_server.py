"""Facts about the fork server of worker processes, for the command and for the server itself. It imports no other module of the project."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

REST_SIGNAL: Final = signal.SIGUSR1
"""Signal that tells the fork server of ``mlho run`` to import the modules that only learning needs."""

ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
"""Environment variables of a server, whose children compute with one thread each: runs are parallelised by tasks."""

_is_server = any("multiprocessing.forkserver" in word for word in sys.orig_argv)


def is_server() -> bool:
    """Return whether this process is a fork server or a child of one."""
    return _is_server


def become_server() -> None:
    """Turn this process, a copy of a command, into a fork server."""
    global _is_server
    _is_server = True


@contextmanager
def blocked(*signals: signal.Signals) -> Iterator[None]:
    """Block signals in this thread, and in a server that is started meanwhile and its children."""
    from multiprocessing import resource_tracker  # not needed by most importers of this module

    resource_tracker.ensure_running()  # its start would unblock some of them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
