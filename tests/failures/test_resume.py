"""Runs that were stopped (killed, interrupted, or by the loss of a worker): the same command resumes them, and the result does not change.

The command runs as for a user: in its own process group, with a real pool of workers.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlho.store import open_store
from mlho.store.memory import MemoryStore
from scheduler.runs.record import RunState
from scheduler.runs.stored import stored_runs
from tests.builders import CommandOutput, make_tables, run_inline, write_spec, write_tables

COMMAND = [sys.executable, "-m", "scheduler"]
CHANGES = {"validation.iterations": 3}
_LONGEST_SECONDS = 240
TABLES = make_tables(200, seed=5)


class Command:
    """A running ``mlho run``, with its log as events."""

    def __init__(self, spec: Path, store: Path) -> None:
        arguments = ["run", str(spec), "--store", str(store), "--workers", "2", "--log", "json"]
        self.store = store
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        # A run that hangs fails its test instead of blocking the suite.
        self._watch = threading.Timer(_LONGEST_SECONDS, self.send, (signal.SIGKILL,))
        self._watch.daemon = True
        self._watch.start()

    def until(self, event: str, task: str = "") -> None:
        """Read the log up to this event."""
        for line in self._lines():
            if line.startswith("{"):
                entry = json.loads(line)
                if entry["event"] == event and entry.get("task", "").startswith(task):
                    return
        raise AssertionError(f"{event} never came: {self.said}")

    def send(self, number: int) -> None:
        """Send a signal to the whole process group, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self) -> int:
        """Wait for the end of the process and return its exit code. Its pipe closes when its last worker has ended."""
        list(self._lines())
        self.process.stderr.close()
        assert self._watch.is_alive(), "the run hung and was ended"
        self._watch.cancel()
        return self.process.wait(timeout=_LONGEST_SECONDS)

    def events(self) -> list[dict[str, Any]]:
        """Return the log events so far."""
        return [json.loads(line) for line in self.said if line.startswith("{")]

    def words(self) -> str:
        """Return the output that is not part of the log."""
        return "\n".join(line for line in self.said if not line.startswith("{"))

    def members(self) -> list[int]:
        """Return the live processes of its group."""
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                fields = (
                    (folder / "stat").read_text().rpartition(")")[2].split() if folder.name.isdigit() else []
                )
                if fields and int(fields[2]) == self.process.pid and fields[0] != "Z":
                    found.append(int(folder.name))
        return found

    def _lines(self) -> Any:
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            yield self.said[-1]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return write_spec(write_tables(tmp_path / "data", TABLES), CHANGES)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a run that was not interrupted."""
    return run_inline(write_tables(tmp_path_factory.mktemp("data"), TABLES), MemoryStore(), CHANGES)


def digest_of_run(store: Path) -> str:
    """Return the digest of the only finished run's result."""
    assert len(list(store.glob("runs/*/result.json"))) == 1
    (commit,) = [
        document
        for file in (store / "commits").rglob("*")
        if file.is_file()
        if (document := json.loads(file.read_text()))["kind"] == "write_report"
    ]
    return str(commit["facts"]["result_digest"])


def bundle_of_run(store: Path) -> dict[str, bytes]:
    (folder,) = store.glob("runs/*/bundle")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def n_commits(store: Path) -> int:
    return sum(path.is_file() for path in (store / "commits").rglob("*"))


def snapshot(store: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of each file except the records and the list of runs, which hold the latest start."""
    files = [
        path
        for path in store.rglob("*")
        if path.is_file() and path.name not in ("record.json", "pointers.lock", "index.html")
    ]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def run_again(spec: Path, store: Path) -> list[dict[str, Any]]:
    """Run the same command again as a user does, and return its log."""
    again = Command(spec, store)

    assert again.end() == 0, again.words()
    return again.events()


@pytest.fixture
def run_again_here(command: Callable[..., CommandOutput]) -> Callable[[Path, Path], list[dict[str, Any]]]:
    """Return ``run_again`` without new processes, for tests in which no process of the first command is left."""

    def run(spec: Path, store: Path) -> list[dict[str, Any]]:
        response = command("run", spec, "--log", "json", store=store)

        assert response.code == 0, response.error
        return [json.loads(line) for line in response.err.splitlines()]

    return run


def assert_ends_as_if_never_stopped(
    spec: Path, store: Path, expected: Any, again: Callable[[Path, Path], list[dict[str, Any]]] = run_again
) -> None:
    """Run again to the end: only the missing tasks run, and every byte is as expected."""
    before = n_commits(store)
    last = again(spec, store)[-1]

    assert (last["event"], last["n_tasks"]) == ("run_finished", expected.finished.n_tasks)
    assert last["n_new"] == expected.finished.n_tasks - before
    assert digest_of_run(store) == expected.digest
    assert bundle_of_run(store) == expected.bundle()


@pytest.mark.parametrize("task", ["", "dictionary", "iteration/", "model"], ids=lambda t: t or "start")
def test_a_killed_run_goes_on_where_it_was(task, spec, tmp_path, expected, run_again_here):
    """After SIGKILL of the whole group at any point, no partial result is published, every blob matches its digest, and the same command finishes the run."""
    store = tmp_path / "store"
    run = Command(spec, store)
    run.until("task_finished" if task else "run_started", task)
    run.send(signal.SIGKILL)

    assert run.end() == -signal.SIGKILL
    assert list(store.glob("runs/*/result.json")) == []
    assert n_commits(store) >= (1 if task else 0)
    for blob in (store / "blobs").rglob("*"):
        if blob.is_file():
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    assert_ends_as_if_never_stopped(spec, store, expected, run_again_here)


def test_the_command_killed_alone_leaves_no_worker(spec, tmp_path, expected):
    """Workers end after their command was killed."""
    store = tmp_path / "store"
    run = Command(spec, store)
    run.until("task_finished", "dictionary")
    run.process.send_signal(signal.SIGKILL)

    assert run.end() == -signal.SIGKILL  # the pipe has closed: no worker holds it
    assert_ends_as_if_never_stopped(spec, store, expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_command_says_how_to_go_on(number, spec, tmp_path, expected, run_again_here):
    """After a signal of a terminal or a supervisor the exit code is 130, a message says how to continue, no traceback appears, and no worker is left. The same command resumes the run."""
    store = tmp_path / "store"
    run = Command(spec, store)
    run.until("task_finished", "dictionary")
    run.send(number)

    assert run.end() == 130, run.words()
    text = "\n".join(run.said)
    assert "Committed results are kept: run the same command to continue." in text
    assert "Traceback" not in text
    assert "leaked" not in text
    assert run.members() == []
    assert [run.state for run in stored_runs(open_store(str(store)))] == [RunState.STOPPED]
    assert list(store.glob("runs/*/result.json")) == []
    assert_ends_as_if_never_stopped(spec, store, expected, run_again_here)


def test_a_killed_worker_ends_the_run_with_a_reason_and_it_can_be_resumed(
    spec, tmp_path, expected, run_again_here
):
    """If the system kills a worker, the run ends with the most likely reason and a remedy, and can be resumed."""
    store = tmp_path / "store"
    run = Command(spec, store)
    run.until("task_finished", "cohort")
    workers = [pid for pid in run.members() if is_worker(pid, run.process.pid)]
    for pid in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    assert run.end() == 1, run.words()
    text = "\n".join(run.said)
    assert "a worker process was killed before it finished" in text
    assert "fewer --workers" in text
    assert "Traceback" not in text
    assert run.members() == []
    assert_ends_as_if_never_stopped(spec, store, expected, run_again_here)


def is_worker(pid: int, command: int) -> bool:
    """Return whether a process is a worker: it was forked by the fork server, a child of the command."""
    return pid != command and parent_of(pid) != command and parent_of(parent_of(pid)) == command


def parent_of(pid: int) -> int:
    """Return the parent of a process, or 0 if it has ended."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def test_a_finished_run_does_nothing_again(spec, tmp_path, expected):
    """A second run of the same command runs no task and writes no byte: no file of the store is new, longer or younger."""
    store = tmp_path / "store"
    assert Command(spec, store).end() == 0
    before = snapshot(store)
    again = Command(spec, store)

    assert again.end() == 0
    assert again.events()[-1]["n_new"] == 0
    assert snapshot(store) == before
