"""Defaults of every test: one thread, no settings of the shell, and reproducible Hypothesis examples in CI."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore

OF_TESTS = (
    "MLHO_REFERENCE",
    "MLHO_TEST_",
)  # these locate programs and data of tests; all other variables configure the programs

# No import above reads these variables, and processes started by tests inherit them: parallel tests share the cores.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

# Removed here and not in a fixture, so that fixtures of modules and sessions do not see them either.
OF_PROGRAMS = ("MLHO_", "OTEL_")
for name in [name for name in os.environ if name.startswith(OF_PROGRAMS) and not name.startswith(OF_TESTS)]:
    del os.environ[name]

# A shell that starts the tests in the background ignores SIGINT, and processes inherit that. With a handler here, the
# processes that tests start get the default action, and Ctrl-C can be tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from tests.builders import CommandOutput, InlinePool, call_command  # noqa: E402 - it imports numpy, which reads the above

# Deadlines would depend on other load, and the first example compiles numba functions.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect the tests without garbage collections, which would take a sixth of the CPU time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Keep the collected tests and modules, which live to the end, out of garbage collections, and make these rarer: a twelfth of the CPU time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture
def local_store(tmp_path: Path) -> LocalStore:
    """Return an empty store in a temporary folder."""
    return LocalStore(tmp_path / "store")


@pytest.fixture
def memory_store() -> MemoryStore:
    """Return an empty store in memory."""
    return MemoryStore()


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> type[InlinePool]:
    """Replace the command's processes: tasks, calls and the tests of a bundle run in this process, whose environment a test may change."""

    def start_here(*arguments: str) -> int:
        from mlho.model.testing.process import main

        return main(*arguments)

    monkeypatch.setattr("scheduler.cli.run.LocalPool", InlinePool)
    monkeypatch.setattr("scheduler.engine.process_pool.has_begun", lambda: False)
    monkeypatch.setattr("scheduler.registry.bundle_tests._start", start_here)
    monkeypatch.setattr(InlinePool, "before", None)
    return InlinePool


@pytest.fixture
def command(
    inline: type[InlinePool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., CommandOutput]:
    """Return a function that calls the command in this process with a store of this test."""

    def call(*arguments: object, store: Path | None = None) -> CommandOutput:
        return call_command(arguments, store or tmp_path / "store", capsys)

    return call
