"""An eavesdropper on Redis that copies the messages between a run's workers and its scheduler, byte for byte."""

import re
import socket
import threading
from typing import Final, Self

from mlho.protocol.names import Names
from scheduler.queue.embedded_server import LOOPBACK

_ARGUMENT: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"')


class Eavesdropper:
    """Copies of the genuine messages and events of an execution, from Redis' own log of commands (``MONITOR``)."""

    def __init__(self, port: int, names: Names) -> None:
        self.messages: list[str] = []
        self.events: list[str] = []
        self._names = names
        self._connection = socket.create_connection((LOOPBACK, port))
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._connection.sendall(b"MONITOR\r\n")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # The direction to Redis stays open: otherwise a command logged at this moment would be answered by a reset.
        self._connection.shutdown(socket.SHUT_RD)
        self._thread.join()
        self._connection.close()

    def _listen(self) -> None:
        with self._connection.makefile("rb") as lines:
            for line in lines:
                command, key, *items = [_plain(argument) for argument in _ARGUMENT.findall(line)] + ["", ""]
                texts = [text for text in items if text]
                if command.upper() == "RPUSH" and key == self._names.events:
                    self.events += texts
                elif command.upper() == "LPUSH" and key == self._names.queue:
                    self.messages += texts


def _plain(argument: bytes) -> str:
    """Remove the escapes of an argument in the command log."""
    return argument.decode("unicode_escape").encode("latin-1").decode(errors="replace")
