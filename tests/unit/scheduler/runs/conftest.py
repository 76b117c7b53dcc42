"""A store with two runs that share tasks, and a function that makes its objects older."""

import os
import time
from pathlib import Path
from shutil import copytree

import pytest

from mlho.store.local import LocalStore
from tests.builders import make_tables, run_inline, write_tables

HOUR = 3600.0


def turn_back(store: LocalStore, *, hours: float) -> None:
    """Make every object of a store at least this many hours old."""
    for path in store.root.rglob("*"):
        if path.is_file():
            facts = path.stat()
            os.utime(path, (facts.st_atime, min(facts.st_mtime, time.time() - hours * HOUR)))


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str, str]:
    """Return the tables' folder, the store's folder, and the ids of the older and the newer run."""
    folder = tmp_path_factory.mktemp("two-runs")
    data = write_tables(folder / "data", make_tables(200, seed=2))
    older = run_inline(data, folder / "store").finished.run_id
    newer = run_inline(data, folder / "store", {"validation.seed": 8}).finished.run_id
    return data, folder / "store", older, newer


@pytest.fixture
def old_store(two_runs: tuple[Path, Path, str, str], tmp_path: Path) -> LocalStore:
    """Return a copy of the store in which all objects are two days old."""
    store = LocalStore(copytree(two_runs[1], tmp_path / "store"))
    turn_back(store, hours=48)
    return store
