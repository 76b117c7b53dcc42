"""Preloading for the fork server of the worker processes: import common modules and initialize numba.

The first numba call sets up the compiler and registers types, which takes 0.3 s per process. It is made here, in one
thread and on a 1 × 1 matrix, so that child processes inherit the result.
"""

import atexit
import os
import sys

import numpy as np

import mlho.encoding.cohort.define
import mlho.encoding.events.blocks
import mlho.encoding.events.partition
import mlho.sources.dbmart
import mlho.sources.i2b2
import mlho.sources.meds
import mlho.sources.omop.views
import mlho.training.results.final
import mlho.training.results.publish
import mlho.training.results.summary  # noqa: F401 - importing is the purpose
from mlho.method.consensus.cholesky import factor

factor(np.eye(1))


def _exit_immediately(server: int) -> None:
    if os.getpid() == server:
        os._exit(0)


# The command waits for its server to end. The server has no state to save; a regular interpreter exit takes half a second.
if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    atexit.register(_exit_immediately, os.getpid())
