"""Preloading for the fork server of ``mlho run``: the modules that read tables at once, and the others on request.

The first tasks do not wait for the imports of those that learn. The templates of the report are compiled with the rest, while
other processes look at the tables; otherwise its task would do it, when nothing else is left to do.
"""

import signal
from contextlib import suppress
from importlib import import_module

import mlho.steps.preload.tables  # noqa: F401 - importing is the purpose
from mlho.fork_server import REST_SIGNAL
from mlho.steps.preload.server import imports_of_server


def _import_rest(*_: object) -> None:
    with suppress(ImportError), imports_of_server():  # a step raises it, as it would without preloading
        import_module("mlho.steps.preload.whole")
        import_module("mlho.report.page.html").prepare_report()


# The handler runs in the main thread, between two forks. The command blocked the signal, so that it is not lost before this line.
signal.signal(REST_SIGNAL, _import_rest)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [REST_SIGNAL])
