"""Compile the functions that most tests need, once, before tests run side by side.

    python -m tests.compile

numba keeps compiled functions beside their modules. In a fresh clone that cache is empty, and each of the parallel test processes would
compile the same functions. A function that is missing here is compiled by the first test that calls it.
"""

import logging
import os
import tempfile
from pathlib import Path

import structlog

# One thread, as in the tests. The imports below read these variables.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

from tests.builders import make_tables, run_inline, write_tables  # noqa: E402
from tests.laws import test_time_to_event as times  # noqa: E402
from tests.unit.scoring.conftest import CHANGES, score_inline, train  # noqa: E402

CANDIDATES = [
    {"classifier": "glmboost", "grid": {"nSteps": [20]}},
    {"classifier": "elasticnet", "grid": {"c": [0.1]}},
    {"classifier": "xgboost", "grid": {"maxDepth": [3], "nRounds": [10]}},
]


def main() -> None:
    """Train small models with and without a time to the event, score with one, and keep no file but the compiled code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_inline(write_tables(folder / "small", make_tables(200)), folder / "store")
        trained = train(folder / "wide", {**CHANGES, "candidates": CANDIDATES}, make_tables(200, seed=4))
        score_inline(trained.folder, trained.store)
        run_inline(write_tables(folder / "times", times.TABLES), folder / "store", times.CHANGES)


if __name__ == "__main__":
    main()
