"""The worker's child processes: one per slot, long-lived, replaced when it dies.

They are forked from a server that has imported the modules of the steps and has run no task. Any thread can
kill a child at any time and give the reason; the thread that waits for its answer receives that reason.
"""

import json
import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, Final

from mlho.fork_server import ONE_THREAD, blocked
from mlho.protocol.failures import Failure
from mlho.store.s3_settings import SCHEME
from worker.child import SOFT_LIMIT_SIGNAL, serve

PRELOAD: Final = ("mlho.steps.preload.whole", "worker.child")
_OF_OBJECT_STORAGE: Final = ("boto3.s3.inject",)  # with all modules that a client imports, 0.14 s of CPU time


class Ending(StrEnum):
    """Reason why this worker killed a child."""

    CANCELLED = "cancelled"
    LEASE_LOST = "lease_lost"
    DRAINED = "drained"
    TIME = "time"
    MEMORY = "memory"


class ChildDied(Exception):  # noqa: N818 - names the event, not an error
    """A child exited without an answer: killed by this worker (then ``ending`` gives the reason), or by itself."""

    def __init__(self, ending: Ending | None, exit_code: int | None) -> None:
        super().__init__(ending or f"exit code {exit_code}")
        self.ending = ending
        self.exit_code = exit_code


@dataclass(frozen=True)
class Answer:
    """Answer of a child: it committed, or it failed."""

    is_new: bool = False
    failure: Failure | None = None


@dataclass(frozen=True)
class Busy:
    """A child that is running a task."""

    owner: str
    pid: int
    seconds: float


class _Slot:
    """The slot of one child. One thread at a time runs tasks in it; any thread may kill the child."""

    def __init__(self, store_address: str, data: str) -> None:
        self._arguments = (store_address, data)
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._owner = ""
        self._started = 0.0
        self._ending: Ending | None = None

    def run(self, owner: str, task_key: str) -> Answer:
        process, connection = self.ensure()
        with self._lock:
            self._owner, self._started, self._ending = owner, time.monotonic(), None
        try:
            connection.send_bytes(task_key.encode())
            if connection not in wait([connection, process.sentinel]) and not connection.poll():
                raise EOFError
            return _read_answer(json.loads(connection.recv_bytes()))
        except (EOFError, OSError):
            raise self._collect_dead() from None
        finally:
            with self._lock:
                self._owner, was_killed = "", self._ending is not None
            if was_killed:  # it died after its answer: it would seem alive for a moment, and the next task would fail with it
                self.close()

    def ensure(self) -> tuple[BaseProcess, Connection]:
        """Return the child, starting it if necessary."""
        if self._process is None or self._connection is None or not self._process.is_alive():
            self.close()
            self._process, self._connection = _start_child(self._arguments)
        return self._process, self._connection

    def end(self, owner: str, ending: Ending) -> bool:
        """Kill the child if it still works for this owner. Return whether it was killed."""
        with self._lock:
            if self._owner != owner or self._process is None:
                return False
            self._ending = self._ending or ending
            self._process.kill()
            return True

    def warn(self, owner: str) -> None:
        """Signal the child that its soft limit has passed."""
        with self._lock:
            if self._owner == owner and self._process is not None and self._process.pid:
                with suppress(ProcessLookupError):
                    os.kill(self._process.pid, SOFT_LIMIT_SIGNAL)

    def busy(self) -> Busy | None:
        with self._lock:
            if not self._owner or self._process is None or self._process.pid is None:
                return None
            return Busy(self._owner, self._process.pid, time.monotonic() - self._started)

    def close(self) -> None:
        """Kill the child and close its pipe."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.join(5)
            self._process.close()
        self._process = self._connection = None

    def _collect_dead(self) -> ChildDied:
        process = self._process
        assert process is not None
        process.kill()  # a child that closed its pipe is unusable
        process.join(5)
        exit_code = process.exitcode
        with self._lock:
            ending, self._owner = self._ending, ""
        self.close()
        return ChildDied(ending, exit_code)


class Children:
    """All child processes of a worker."""

    def __init__(self, n_slots: int, store_address: str, data: str) -> None:
        self.n_slots = n_slots
        # Before any child starts: parallelism is over tasks, and the number of threads cannot change a
        # result.
        os.environ.update(ONE_THREAD)
        _context().set_forkserver_preload(preload_of(store_address))
        self._slots = [_Slot(store_address, data) for _ in range(n_slots)]
        self._free: SimpleQueue[_Slot] = SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)

    def warm_up(self) -> None:
        """Start every child now, so that the first task does not wait."""
        for slot in self._slots:
            slot.ensure()

    def run(self, owner: str, task_key: str) -> Answer:
        """Run a task in a free child. Wait until one is free.

        Raise ChildDied if the child exited without an answer.
        """
        slot = self._free.get()
        try:
            return slot.run(owner, task_key)
        finally:
            self._free.put(slot)

    def end(self, owner: str, ending: Ending) -> None:
        """Kill the child that works for an owner, if any."""
        for slot in self._slots:
            if slot.end(owner, ending):
                return

    def warn(self, owner: str) -> None:
        """Signal the child that works for an owner that its soft limit has passed."""
        for slot in self._slots:
            slot.warn(owner)

    def busy(self) -> list[Busy]:
        """Return the children that are running a task."""
        return [busy for busy in (slot.busy() for slot in self._slots) if busy is not None]

    def close(self) -> None:
        """Kill all children."""
        for slot in self._slots:
            slot.close()


def preload_of(store_address: str) -> list[str]:
    """Return the modules that the fork server imports, so that children on this store inherit them."""
    # First, so that the objects are frozen with those of the steps.
    return [*(_OF_OBJECT_STORAGE if store_address.startswith(SCHEME) else ()), *PRELOAD]


_starting = threading.Lock()


def _context() -> Any:
    return multiprocessing.get_context("forkserver")


def _start_child(arguments: tuple[str, str]) -> tuple[BaseProcess, Connection]:
    # Only one thread at a time may use the fork server. Ctrl-C also reaches the server and its children: the worker ends them.
    with _starting, blocked(signal.SIGINT):
        parent_end, child_end = multiprocessing.Pipe()
        process: BaseProcess = _context().Process(target=serve, args=(child_end, *arguments), daemon=True)
        process.start()
        child_end.close()
        return process, parent_end


def _read_answer(answer: dict[str, Any]) -> Answer:
    if answer["ok"]:
        return Answer(is_new=bool(answer["new"]))
    return Answer(failure=Failure.from_plain(answer["failure"]))


def death_words(exit_code: int | None) -> str:
    """Return a description of how a process ended."""
    if exit_code is None:
        return "ended without an answer"
    if exit_code < 0:
        name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else str(-exit_code)
        return f"was killed by {name}"
    return f"ended with code {exit_code}"
