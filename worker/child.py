"""Main function of a child process: runs one task after another, with requests and answers in JSON over a pipe.

Native code may hold the interpreter's lock for minutes here without losing a lease, because the parent sends
the heartbeats.
"""

import json
import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, Final

from mlho.processes import end_with_parent
from mlho.protocol.documents import read_task
from mlho.protocol.failures import Failure, FailureClass, TimeExceeded
from mlho.settings import SOFT_LIMIT
from mlho.steps.base import execute
from mlho.store import open_store
from mlho.store.base import Store

REQUEST_BYTES: Final = 256
SOFT_LIMIT_SIGNAL: Final = signal.SIGUSR1


def serve(connection: Connection, store_address: str, data: str) -> None:
    """Answer requests until the parent closes the pipe."""
    _end_with_worker()
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the parent decides when a child exits
        signal.signal(ignored, signal.SIG_IGN)
    alarm = _Alarm()
    signal.signal(SOFT_LIMIT_SIGNAL, alarm.ring)
    store: Store | None = None
    while True:
        try:
            request = connection.recv_bytes(REQUEST_BYTES)
        except (EOFError, OSError):
            os._exit(0)  # nothing to clean up; exit handlers of some libraries are slow
        answer: dict[str, Any]
        try:
            store = store or open_store(store_address)
            alarm.is_set = True
            answer = _carry_out(request.decode(), store, data)
            alarm.is_set = False
        except BaseException as error:
            alarm.is_set = False
            answer = _failed(error)
        connection.send_bytes(json.dumps(answer).encode())


def _end_with_worker() -> None:
    """Make this process exit with the worker, even in native code that holds the interpreter's lock.

    A child's parent is the fork server. It exits with the worker, unless a process holds its pipe open, which
    children do by inheritance: close the pipe here. When the fork server exits, the kernel kills its children. A
    thread does the same where the kernel does not.
    """
    server = getattr(forkserver, "_forkserver", None)
    descriptor = getattr(server, "_forkserver_alive_fd", None)
    if isinstance(descriptor, int):
        with suppress(OSError):
            os.close(descriptor)
    end_with_parent()()
    worker = multiprocessing.parent_process()
    if worker is not None:
        threading.Thread(target=_wait_for_end, args=(worker.sentinel,), daemon=True).start()


def _wait_for_end(sentinel: int) -> None:
    wait([sentinel])
    os._exit(0)


class _Alarm:
    """Turns the signal of the soft limit into an exception, but only while a task runs."""

    def __init__(self) -> None:
        self.is_set = False

    def ring(self, _signal: int, _frame: FrameType | None) -> None:
        if self.is_set:
            self.is_set = False
            raise TimeExceeded(soft_limit_words())


def soft_limit_words() -> str:
    """Return the message for a task that has exceeded its soft limit."""
    return f"the task exceeded its soft time limit. {raise_limit_words('--soft-limit', SOFT_LIMIT)}"


def raise_limit_words(flag: str, variable: str) -> str:
    """Return the remedy for a task that needs more time."""
    return f"Raise the worker's {flag} or {variable} (in a cluster: worker.extraEnv of the chart), or divide the work into smaller tasks."


def _carry_out(task_key: str, store: Store, data: str) -> dict[str, Any]:
    task = read_task(store, task_key)
    outcome = execute(task, store, data, scratch=store.scratch())
    return {"ok": True, "new": outcome.is_new}


def _failed(error: BaseException) -> dict[str, Any]:
    if isinstance(error, MemoryError):
        message = "the task could not allocate memory. Give the worker more, or fewer slots."
        failure = Failure(FailureClass.MEMORY, "MemoryError", message)
    else:
        failure = Failure.of(error, step="a task")
    return {"ok": False, "failure": failure.plain()}
