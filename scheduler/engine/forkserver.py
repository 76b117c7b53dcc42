"""The fork server for worker processes. It can start its imports before the command has finished its own."""

import os
from multiprocessing import forkserver
from typing import Final

ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


_begun: list[bool] = []


def has_begun() -> bool:
    """Return whether this program has started the server."""
    return bool(_begun)


def begin_server(preload: str = "mlho.steps.preload.whole") -> None:
    """Start the server if it is not running. It imports the modules of the steps in the background, by a module that imports them."""
    _begun[:] = [True]
    os.environ.update(ONE_THREAD)
    forkserver.set_forkserver_preload([preload])
    forkserver.ensure_running()
