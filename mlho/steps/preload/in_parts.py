"""Preloading for the fork server of ``mlho run``: the modules that read tables at once, and the others on request.

The first tasks do not wait for the imports of those that learn.
"""

import signal
from contextlib import suppress
from importlib import import_module

import mlho.steps.preload.tables  # noqa: F401 - importing is the purpose
from mlho.fork_server import REST_SIGNAL


def _import_rest(*_: object) -> None:
    with suppress(ImportError):  # a step raises it, as it would without preloading
        import_module("mlho.steps.preload.whole")


# The handler runs in the main thread, between two forks. The command blocked the signal, so that it is not lost before this line.
signal.signal(REST_SIGNAL, _import_rest)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [REST_SIGNAL])
