"""The fork server for worker processes. It can start its imports before the command has finished its own.

A command forks it from itself, so that both share the modules imported so far and no further interpreter starts.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import pairwise
from multiprocessing import forkserver, util
from typing import Any, Final

from mlho.fork_server import ONE_THREAD, REST_SIGNAL, become_server, blocked

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


def begin_server(preload: str = WHOLE, *, is_forked: bool = False) -> None:
    """Start the server if it is not running. It imports the module ``preload``, and with it those of the steps, in the background.

    With ``is_forked`` the server is a fork of this process, which must have no threads, instead of a new interpreter.
    """
    if not _begun:
        _begun.append(preload)
        os.environ.update(ONE_THREAD)
        forkserver.set_forkserver_preload([preload])
    # Ctrl-C also reaches the server and its children. The command ends them, and their imports must not print a traceback.
    # The other signal waits until the server has its handler.
    signals = [signal.SIGINT, *([REST_SIGNAL] if is_in_parts() else [])]
    with blocked(*signals), _forking() if is_forked else nullcontext():
        forkserver.ensure_running()


@contextmanager
def _forking() -> Iterator[None]:
    """Make ``multiprocessing`` fork its server from this process instead of starting an interpreter."""
    in_new_interpreter = util.spawnv_passfds
    util.spawnv_passfds = _fork_server  # type: ignore[assignment] # its types allow more
    try:
        yield
    finally:
        util.spawnv_passfds = in_new_interpreter


def _fork_server(path: str, args: Sequence[str], passfds: Sequence[int]) -> int:
    """Fork the server with these descriptors alone. Return its process id."""
    server = os.fork()
    if server:
        return server
    try:
        _serve(passfds)
    except SystemExit:  # the command has ended
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(1)


def _serve(descriptors: Sequence[int]) -> None:
    """Serve until the command ends. Descriptors other than these are closed, as for a new program."""
    become_server()
    kept = sorted({0, 1, 2, *descriptors})
    for before, after in pairwise([*kept, os.sysconf("SC_OPEN_MAX")]):
        os.closerange(before + 1, after)
    listener, alive, *key = descriptors
    named: dict[str, Any] = {"authkey_r": key[0]} if key else {}  # from Python 3.14 on
    forkserver.main(listener, alive, _begun, **named)


def ask_for_rest() -> None:
    """Have a server that imports in parts import the rest before it forks again."""
    if is_in_parts() and not _asked:
        _asked.append(True)
        server = getattr(forkserver, "_forkserver")._forkserver_pid  # noqa: B009 - not part of its types
        with suppress(ProcessLookupError):  # the next fork reports it
            os.kill(server, REST_SIGNAL)
