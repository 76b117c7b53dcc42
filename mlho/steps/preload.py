"""What the server of worker processes does before it forks: import what most steps need, and wake numba up.

numba's first call sets up its compiler and registers its types: 0.3 s of every process that makes one. Made here, in one
thread and on a matrix of one cell, its children inherit it.
"""

import atexit
import os
import sys

import numpy as np

import mlho.encoding.cohort.define
import mlho.encoding.events.blocks
import mlho.encoding.events.partition
import mlho.sources.dbmart
import mlho.training.results.final
import mlho.training.results.publish
import mlho.training.results.summary  # noqa: F401 - importing is the purpose
from mlho.method.consensus.cholesky import factor

factor(np.eye(1))


def _leave_at_once(server: int) -> None:
    if os.getpid() == server:
        os._exit(0)


# The command waits for its server to end. That has nothing to put away, and takes half a second to take libraries apart.
if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    atexit.register(_leave_at_once, os.getpid())
