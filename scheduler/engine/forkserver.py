"""The fork server for worker processes. It can start its imports before the command has finished its own."""

import os
import signal
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from typing import Final

from mlho.fork_server import REST_SIGNAL

ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
IN_PARTS: Final = "mlho.steps.preload.in_parts"
WHOLE: Final = "mlho.steps.preload.whole"

_begun: list[str] = []
_asked: list[bool] = []


def has_begun() -> bool:
    """Return whether this program has started the server."""
    return bool(_begun)


def is_in_parts() -> bool:
    """Return whether the server imports its modules in parts."""
    return _begun == [IN_PARTS]


def begin_server(preload: str = WHOLE) -> None:
    """Start the server if it is not running. It imports the modules of the steps in the background, by a module that imports them."""
    if not _begun:
        _begun.append(preload)
        os.environ.update(ONE_THREAD)
        forkserver.set_forkserver_preload([preload])
    resource_tracker.ensure_running()  # it would unblock the signals below
    # Ctrl-C also reaches the server and its children. The command ends them, and their imports must not print a traceback.
    # The other signal waits until the server has its handler.
    signals = [signal.SIGINT, *([REST_SIGNAL] if is_in_parts() else [])]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def ask_for_rest() -> None:
    """Have a server that imports in parts import the rest before it forks again."""
    if is_in_parts() and not _asked:
        _asked.append(True)
        server = getattr(forkserver, "_forkserver")._forkserver_pid  # noqa: B009 - not part of its types
        with suppress(ProcessLookupError):  # the next fork reports it
            os.kill(server, REST_SIGNAL)
