"""Modules that worker processes inherit from the fork server."""

import subprocess
import sys

import pytest

_SERVER = "import mlho.steps.preload.whole  # multiprocessing.forkserver"  # by this name it knows that it is a server
_FIT = """
import numpy as np
import xgboost
rows = np.random.default_rng(1).random((200, 3))
binned = xgboost.DMatrix(rows, rows[:, 0] > 0.5, nthread=1)
trees = xgboost.train({"objective": "binary:logistic", "nthread": 1}, binned, num_boost_round=3)
import sklearn.base
print(trees.save_raw("ubj"), hasattr(sklearn.base, "BaseEstimator"))
"""
_CONVERT = """
import pandas as pd
from mlho.model.frames import arrow_column
from mlho.tables import ColumnKind
columns = {
    ColumnKind.PATIENT: pd.Series(["a", None, "b"]),
    ColumnKind.CODE: pd.Series(["a", "b", "a"], dtype="category"),
    ColumnKind.TIME: pd.Series(pd.to_datetime(["2020-01-01", None, "2020-01-03"])),
    ColumnKind.NUMBER: pd.Series([1.5, float("nan"), 2]),
}
for kind, own in columns.items():
    found = arrow_column(pd.DataFrame({"x": own}), "x", where="x", kind=kind)
    print(found.type, found.to_pylist())
"""


def test_the_server_imports_no_library_only_because_it_is_installed():
    """Each of them would cost time and memory before the first task; a child can still import it."""
    names = ["coverage", "pandas", "scipy.linalg", "sklearn"]
    program = f"""
import importlib, sys
print([name for name in {names} if name in sys.modules])
print([importlib.import_module(name).__name__ for name in {names}])
"""

    assert _run(_SERVER, program) == ["[]", str(names)]


@pytest.mark.parametrize("program", [_FIT, _CONVERT], ids=["xgboost and scikit-learn", "pandas and Arrow"])
def test_a_child_computes_the_same_without_the_hidden_libraries(program):
    """xgboost fits the same trees, and Arrow reads the same columns, although they did not find a library when they looked."""
    assert _run(_SERVER, program) == _run(program)


def test_the_server_of_a_run_imports_the_second_part_after_its_first_child():
    """The command waits only for what the first child needs. The server imports the rest while that child works."""
    program = """
import mlho.steps.preload.in_parts, os, signal, sys  # multiprocessing.forkserver
print("mlho.training.results.final" in sys.modules)
if (child := os.fork()) == 0:
    os._exit("mlho.training.results.final" in sys.modules)
print(os.waitpid(child, 0)[1])
while signal.getitimer(signal.ITIMER_REAL)[0]:
    pass
print("mlho.training.results.final" in sys.modules)
"""

    assert _run(program) == ["False", "0", "True"]


def _run(*programs: str) -> list[str]:
    """Return the lines that programs print in one process."""
    command = "\n".join(
        ["import os  # multiprocessing.forkserver" if programs[0] == _SERVER else "", *programs]
    )
    command += "\nimport sys; sys.stdout.flush()"
    found = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, timeout=120
    )
    return found.stdout.splitlines()
