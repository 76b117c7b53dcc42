"""Preloading for the fork server of worker processes, first part: import what reads tables, and initialize numba.

The first numba call sets up the compiler and registers types, which takes 0.3 s per process. It is made here, in one
thread and on a 1 × 1 matrix, so that child processes inherit the result.
"""

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_IS_SERVER = any("multiprocessing.forkserver" in word for word in sys.orig_argv)
_HIDDEN = ("coverage", "pandas", "scipy.linalg", "sklearn")


class _Hiding:
    """Makes the import of a hidden library fail, for which those that look for it are prepared.

    numba looks for coverage, and for BLAS, which our loops do not use. pyarrow looks for pandas with its first array from Python
    values, and remembers the answer. xgboost has classes for scikit-learn.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name in _HIDDEN:
            raise ModuleNotFoundError(name=name)


@contextmanager
def imports_of_server() -> Iterator[None]:
    """Make the imports of a block cheap in a fork server; elsewhere do nothing.

    Libraries that others import only because they are installed are hidden: a third of the time and a quarter of the memory. A
    child that needs pandas or scikit-learn imports it. No garbage is collected, which takes a fifth of the imports and finds nothing. The
    objects are then frozen: collections in child processes pass over them and do not copy their pages.
    """
    if not _IS_SERVER:
        yield
        return
    gc.disable()
    sys.meta_path.insert(0, _Hiding)
    try:
        yield
    finally:
        sys.meta_path.remove(_Hiding)
        gc.freeze()
        gc.enable()


with imports_of_server():
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    import mlho.encoding.cohort.define
    import mlho.encoding.events.blocks
    import mlho.encoding.events.partition
    import mlho.inspection.training
    import mlho.sources.dbmart
    import mlho.sources.i2b2
    import mlho.sources.meds
    import mlho.sources.omop.views  # noqa: F401 - importing is the purpose
    from mlho.method.consensus.cholesky import factor
    from mlho.spec.training import TrainingSpec

    factor(np.eye(1))
    TrainingSpec.model_rebuild()  # the validators of specifications, which are built with the first one else
    pa.array([None])


def _exit_immediately(server: int) -> None:
    if os.getpid() == server:
        os._exit(0)


# The command waits for its server to end. The server has no state to save; a regular interpreter exit takes half a second.
if _IS_SERVER:
    atexit.register(_exit_immediately, os.getpid())
