"""Preloading for the fork server of worker processes, first part: the modules that read and encode tables, and the initialisation of numba.

The first numba call sets up the compiler and registers types, which takes 0.1 s per process. It is made here, in one
thread and on a 1 × 1 matrix, so that child processes inherit the result.
"""

from mlho.steps.preload.server import imports_of_server

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
    import mlho.sources.omop.views
    import mlho.steps.inspection  # noqa: F401 - importing is the purpose
    from mlho.method.consensus.cholesky import factor
    from mlho.steps.preload.loops import load_loops

    factor(np.eye(1))
    load_loops(
        "mlho.encoding.events.blocks",
        "mlho.encoding.events.patients",
        "mlho.encoding.events.rows",
        "mlho.encoding.events.segments",
        "mlho.encoding.tally.counting",
        "mlho.encoding.tally.sketch",
    )
    pa.array([None])
