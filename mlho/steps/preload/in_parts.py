"""Preloading for the fork server of ``mlho run``: the second part while the first child looks at the tables.

The first child needs only what reads tables, and the command waits for it. Meanwhile the server is idle, and imports the rest.
"""

import os
import signal
from contextlib import suppress
from importlib import import_module

import mlho.steps.preload.tables  # noqa: F401 - importing is the purpose

_REST = ["mlho.steps.preload.whole"]
_SOON = 0.001  # seconds; the server first tells the command the id of the child


def _import_rest(*_: object) -> None:
    while _REST:
        with suppress(ImportError):  # a step raises it, as it would without preloading
            import_module(_REST.pop())


def _import_rest_soon() -> None:
    if _REST:
        signal.setitimer(signal.ITIMER_REAL, _SOON)


signal.signal(signal.SIGALRM, _import_rest)
os.register_at_fork(after_in_parent=_import_rest_soon)
