"""Scratch of processes that have ended is removed, and that of live processes is kept."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlho import scratch
from mlho.scratch import remove_abandoned, scratch_file, scratch_folder
from mlho.store import open_store

DAY = 86_400
_HOLD = """
import sys
from pathlib import Path
from mlho.scratch import scratch_file, scratch_folder
where = Path(sys.argv[1])
with scratch_folder("mlho-step", where) as folder, scratch_file("mlho-object", str(where)):
    (folder / "rows").write_text("rows of patients")
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _owner(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that holds a scratch folder with a file, and a scratch file. Kill it at the end."""
    command = [sys.executable, "-c", _HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


def _kinds(folder: Path) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in folder.iterdir())


def test_scratch_lives_as_long_as_its_process(tmp_path):
    """Scratch of a live process is kept, and scratch of a killed process is removed."""
    with _owner(tmp_path):
        remove_abandoned(tmp_path)
        assert _kinds(tmp_path) == ["mlho-object", "mlho-step"]
    assert _kinds(tmp_path) == ["mlho-object", "mlho-step"]

    remove_abandoned(tmp_path)

    assert _kinds(tmp_path) == []


def test_scratch_of_this_process_is_kept(tmp_path):
    """A process does not remove its own scratch, and removes it at the end."""
    with scratch_folder("step", tmp_path) as folder, scratch_file("object", str(tmp_path)):
        remove_abandoned(tmp_path)
        assert folder.is_dir()
        assert _kinds(tmp_path) == ["object", "step"]

    assert _kinds(tmp_path) == []


def test_opening_a_store_removes_scratch_in_it_and_on_the_machine(tmp_path, monkeypatch):
    """Opening a store removes abandoned scratch in the store and in the folder of temporary files."""
    machine, store = tmp_path / "machine", tmp_path / "store"
    monkeypatch.setattr(tempfile, "tempdir", str(machine))
    for folder in (machine, store / ".tmp"):
        folder.mkdir(parents=True)
        with _owner(folder):
            pass

    open_store(str(store))

    assert _kinds(machine) == []
    assert _kinds(store / ".tmp") == []


def test_only_our_names_are_removed_from_a_shared_folder(tmp_path):
    """In the folder of temporary files, old files of other programs and lock files are kept."""
    for name in ("mlho-other", "other.00000000.0000000000000000", "mlho-a.lock"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))

    remove_abandoned(tmp_path, prefix="mlho-")

    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("age", "is_kept"), [(0, True), (2 * DAY, False)])
def test_scratch_of_another_machine_is_removed_after_a_day(age, is_kept, tmp_path, monkeypatch):
    """A free lock does not show that a process of another machine has ended: its scratch is removed when it is a day old."""
    with _owner(tmp_path):
        pass
    monkeypatch.setattr(scratch, "_host", lambda: "another1")
    for path in tmp_path.rglob("*"):
        os.utime(path, (time.time() - age,) * 2)

    remove_abandoned(tmp_path)

    assert bool(_kinds(tmp_path)) is is_kept


@pytest.mark.parametrize(("age", "is_kept"), [(0, True), (2 * DAY, False)])
def test_scratch_of_earlier_releases_is_removed_after_a_day(age, is_kept, tmp_path):
    """Scratch without an owner is removed when nothing in it has changed for a day; the lock of a store is kept."""
    (tmp_path / "run_iteration-0abcdefg").mkdir()
    (tmp_path / "pointers.lock").touch()
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - age,) * 2)

    remove_abandoned(tmp_path)

    assert _kinds(tmp_path) == ["pointers"] + ["run_iteration-0abcdefg"] * is_kept
