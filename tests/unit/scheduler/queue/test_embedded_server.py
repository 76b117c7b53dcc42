"""The handling of local workers that exit."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest
import redis

from mlho.settings import BROKER
from scheduler.queue import embedded_server
from scheduler.queue.embedded_server import EmbeddedServer, WorkerEnds, WorkerProcesses
from scheduler.queue.run import worker_command


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Write a workers' log and return its path."""
    path = tmp_path / "workers.log"
    path.write_text(
        "".join(f"line {number}\n" for number in range(40))
        + '{"error": "the store does not answer.", "error_kind": "StoreUnavailable", "level": "critical"}\n'
    )
    return path


def _raise(error: BaseException) -> None:
    raise error


def test_an_interrupted_start_leaves_no_server_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C while the server starts ends it, and removes its folder with the password."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(embedded_server, "_serves", lambda *_: _raise(KeyboardInterrupt()))
    server = EmbeddedServer()
    with pytest.raises(KeyboardInterrupt), server:
        pass

    assert server._process is not None
    assert server._process.poll() is not None
    assert list(tmp_path.iterdir()) == []


def test_two_commands_that_choose_one_port_have_a_queue_each(monkeypatch: pytest.MonkeyPatch):
    """The second server does not start on the port of the first, and its command does not take the first for its own."""
    with EmbeddedServer() as first:
        ports = iter([first.port, embedded_server.free_port()])
        monkeypatch.setattr(embedded_server, "free_port", lambda: next(ports))
        with EmbeddedServer() as second:
            assert second.port != first.port
            assert redis.Redis.from_url(second.url).ping()


def test_workers_are_ended_if_one_cannot_be_started(log: Path, monkeypatch: pytest.MonkeyPatch):
    """The workers that were started before the failure do not stay behind."""
    first = subprocess.Popen(["sleep", "60"])
    starts = iter([lambda: first, lambda: _raise(BlockingIOError("fork: no more processes"))])
    monkeypatch.setattr(embedded_server, "start_worker", lambda *_: next(starts)())

    def start_two():
        with WorkerProcesses("store", {}, log=log, notify=lambda _: None) as workers:
            workers.start("run")
            workers.start("run")

    with pytest.raises(BlockingIOError):
        start_two()

    assert first.poll() is not None


def test_a_worker_that_refuses_its_configuration_is_quoted(log: Path):
    """If a worker rejects its configuration, the command fails with the end of the worker's log, because every other worker
    would do the same.
    """
    refusal = WorkerEnds(log, lambda _: None).refusal(os.EX_CONFIG, 0.5)

    assert str(refusal).endswith("  error: the store does not answer.")
    assert "line 5\n" not in str(refusal)  # the last words are enough


def test_workers_that_repeatedly_exit_at_their_start_are_reported(log: Path):
    """Workers that repeatedly exit at their start are reported once. Killed workers and those that worked for a while do not count."""
    told: list[str] = []
    ends = WorkerEnds(log, told.append)

    for returncode, seconds in [(1, 0.5), (1, 0.5), (1, 0.5), (-9, 0.5), (1, 0.5), (1, 60), *[(1, 0.5)] * 3]:
        assert ends.refusal(returncode, seconds) is None
    assert told == []
    assert ends.refusal(1, 0.5) is None

    assert len(told) == 1
    assert "right after their start" in told[0]
    assert told[0].endswith("error: the store does not answer.")


def test_the_command_for_workers_can_be_pasted(tmp_path: Path):
    """The printed worker command is quoted for a shell and omits the password, and says where to set it."""
    store = tmp_path / "my store"

    words = worker_command("0123456789abcdef", str(store), "redis://:secret@queue:6379/0")

    first, command = words.split(":\n  ")
    assert BROKER in first
    assert "secret" not in words
    arguments = shlex.split(command)
    assert arguments[arguments.index("--store") + 1] == str(store)
    assert arguments[arguments.index("--broker") + 1] == "redis://queue:6379/0"
