"""Preloading for the fork server of the worker processes: import common modules and initialize numba.

The first numba call sets up the compiler and registers types, which takes 0.3 s per process. It is made here, in one
thread and on a 1 × 1 matrix, so that child processes inherit the result.

The server collects no garbage, which takes a fifth of the imports and finds nothing. Its objects are then frozen: collections in
child processes pass over them and do not copy their pages.

Libraries that others import only because they are installed are hidden from them: a third of the time and a quarter of the memory. A
child that needs pandas or scikit-learn imports it.
"""

# ruff: noqa: E402 - garbage collection ends before the imports

import atexit
import gc
import os
import sys

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


if _IS_SERVER:
    gc.disable()
    sys.meta_path.insert(0, _Hiding)

import numpy as np
import pyarrow as pa

import mlho.encoding.cohort.define
import mlho.encoding.events.blocks
import mlho.encoding.events.partition
import mlho.model.testing.runner
import mlho.scoring.code_drift
import mlho.scoring.parts
import mlho.scoring.skew
import mlho.sources.dbmart
import mlho.sources.i2b2
import mlho.sources.meds
import mlho.sources.omop.views
import mlho.training.results.final
import mlho.training.results.publish
import mlho.training.results.summary  # noqa: F401 - importing is the purpose
from mlho.method.classifiers.xgboost import import_if_installed
from mlho.method.consensus.cholesky import factor
from mlho.spec.training import TrainingSpec

factor(np.eye(1))
TrainingSpec.model_rebuild()  # the validators of specifications, which are built with the first one else
if _IS_SERVER:
    pa.array([None])
    import_if_installed()
    sys.meta_path.remove(_Hiding)


def _exit_immediately(server: int) -> None:
    if os.getpid() == server:
        os._exit(0)


# The command waits for its server to end. The server has no state to save; a regular interpreter exit takes half a second.
if _IS_SERVER:
    gc.freeze()
    gc.enable()
    atexit.register(_exit_immediately, os.getpid())
