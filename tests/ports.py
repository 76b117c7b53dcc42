"""Ports of the loopback interface for the servers of tests."""

import itertools
import os
import socket
from typing import Final

from scheduler.queue.embedded_server import LOOPBACK

# Below the ports that Linux gives to connections: these would take the port of a server that is down for a moment.
_FIRST: Final = 10_000
_N_PORTS: Final = 20_000
_APART: Final = 12_361  # 0.618 of them: neighbouring numbers of processes begin far from each other
_numbers = itertools.count()


def free_port() -> int:
    """Return a port that is free, and that no other process of the tests returns before the caller's server has begun."""
    while True:
        port = _FIRST + (os.getpid() * _APART + next(_numbers)) % _N_PORTS
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        return port
