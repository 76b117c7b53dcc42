"""The server from which worker processes are forked; it can begin to import before the command itself does."""

import os
from multiprocessing import forkserver
from typing import Final

ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


def begin_server() -> None:
    """Start the server unless it runs; it imports what steps need while its parent goes on."""
    os.environ.update(ONE_THREAD)
    forkserver.set_forkserver_preload(["mlho.steps.preload"])
    forkserver.ensure_running()
