"""Modules that worker processes inherit from the fork server."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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


_NAMES = ["cffi", "coverage", "numpy.f2py", "numpy.testing", "pandas", "scipy.linalg", "sklearn"]
_IMPORTED = f"""
import importlib, sys
print([name for name in {_NAMES} if name in sys.modules])
print([importlib.import_module(name).__name__ for name in {_NAMES}])
"""
_ALLOCATOR = "import pyarrow\nprint(pyarrow.default_memory_pool().backend_name == 'system')"
_FORKS = """
import json, os, sys
for program in json.loads(sys.argv[1]):
    sys.stdout.flush()
    if not (child := os.fork()):
        exec(program, {})
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, program
    print("end of a child")
"""


@pytest.fixture(scope="module")
def printed() -> dict[str, list[str]]:
    """Return the lines that each program prints in a child of one server."""
    programs = [_IMPORTED, _ALLOCATOR, _FIT, _CONVERT]
    lines = iter(_run(_SERVER, _FORKS, arguments=[json.dumps(programs)]))
    return {program: list(iter(lines.__next__, "end of a child")) for program in programs}


def test_the_server_imports_no_library_only_because_it_is_installed(printed):
    """Each of them would cost time and memory before the first task; a child can still import it."""
    assert printed[_IMPORTED] == ["[]", str(_NAMES)]


def test_arrow_takes_its_memory_from_the_system_in_the_server_alone(printed):
    """Arrow's own allocator would hold more memory in each process that reads tables. Elsewhere it belongs to the user's program."""
    assert printed[_ALLOCATOR] == ["True"]
    assert _run(_ALLOCATOR) == ["False"]


@pytest.mark.parametrize("program", [_FIT, _CONVERT], ids=["xgboost and scikit-learn", "pandas and Arrow"])
def test_a_child_computes_the_same_without_the_hidden_libraries(program, printed):
    """xgboost fits the same trees, and Arrow reads the same columns, although they did not find a library when they looked."""
    assert printed[program] == _run(program)


def test_the_server_of_a_run_imports_the_rest_when_the_command_asks_for_it():
    """The first children wait only for what reads tables. Later ones find the validators built. A signal that arrives during the imports is not lost."""
    program = """
import os, signal, sys  # multiprocessing.forkserver
from mlho.fork_server import REST_SIGNAL
signal.pthread_sigmask(signal.SIG_BLOCK, [REST_SIGNAL])
if sys.argv[1] == "early":
    os.kill(os.getpid(), REST_SIGNAL)
import mlho.steps.preload.in_parts
print("mlho.training.results.final" in sys.modules)
if sys.argv[1] == "late":
    os.kill(os.getpid(), REST_SIGNAL)
    print("mlho.training.results.final" in sys.modules)
    from mlho.report.result import Result
    print(Result.__pydantic_complete__)
"""

    assert _run(program, arguments=["late"]) == ["False", "True", "True"]
    assert _run(program, arguments=["early"]) == ["True"]


_CHILD = """
import sys
before = set(sys.modules)
import importlib, inspect, re
from mlho.steps import STEPS
kinds = [kind for kind, step in STEPS.items() if step.encodes]
for kind in kinds:
    source = inspect.getsource(inspect.getmodule(type(STEPS[kind])))
    for name in re.findall(r"^ +from (mlho[.\\w]+) import", source, re.MULTILINE):
        importlib.import_module(name)
rooms = {".".join(name.split(".")[:2]) for name in set(sys.modules) - before}
print(len(kinds) > 8, sorted(room for room in rooms if room not in ("mlho.encoding", "importlib", "inspect", "re")))
"""


def test_a_step_that_encodes_needs_only_the_first_part():
    """Otherwise each of its workers would import the missing libraries by itself."""
    found = _run("import mlho.steps.preload.tables  # multiprocessing.forkserver", _CHILD)

    assert found == ["True []"]


_LOADED = """
from mlho.method.consensus.cholesky import dot
from mlho.steps.preload.loops import load_loops
load_loops("mlho.method.consensus.cholesky")
print(len(dot.signatures), sum(dot.stats.cache_misses.values()))
"""


def test_loops_are_loaded_as_they_were_compiled_before_and_never_compiled(tmp_path):
    """A server loads them once for its children. Without a cache, or with a damaged one, it leaves them to the process that calls them."""
    call = "import numpy as np; from mlho.method.consensus.cholesky import dot; dot(np.ones(2), np.ones(2))"

    assert _run(_LOADED, cache=tmp_path) == ["0 0"]
    _run(call, cache=tmp_path)
    assert _run(_LOADED, cache=tmp_path) == ["1 0"]
    for path in tmp_path.rglob("*.nb[ci]"):
        path.write_bytes(path.read_bytes()[:20])
    assert _run(_LOADED, cache=tmp_path) == ["0 0"]


def test_a_process_that_starts_after_its_command_has_ended_prints_no_error():
    """After Ctrl-C during the start of a process, its semaphores are gone: an error without a file name. Other errors are printed."""
    program = """
import errno, mlho.steps.preload.server, sys  # multiprocessing.forkserver
sys.stderr = sys.stdout
sys.excepthook(FileNotFoundError, FileNotFoundError(errno.ENOENT, "gone"), None)
sys.excepthook(FileNotFoundError, FileNotFoundError(errno.ENOENT, "lost", "name"), None)
sys.excepthook(ValueError, ValueError("wrong"), None)
"""

    assert _run(program) == ["FileNotFoundError: [Errno 2] lost: 'name'", "ValueError: wrong"]


def _run(*programs: str, arguments: Sequence[str] = (), cache: Path | None = None) -> list[str]:
    """Return the lines that programs print in one process."""
    environment = os.environ if cache is None else {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = "\n".join(
        ["import os  # multiprocessing.forkserver" if programs[0] == _SERVER else "", *programs]
    )
    command += "\nimport sys; sys.stdout.flush()"
    found = subprocess.run(
        [sys.executable, "-c", command, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=environment,
    )
    return found.stdout.splitlines()
