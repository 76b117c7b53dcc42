"""A child that is killed at the end of a task takes no further task, and a child inherits what its store imports."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from worker import child_processes
from worker.child_processes import PRELOAD, Children, Ending, preload_of

ANSWER = b'{"ok": true, "new": true}'


class Process:
    """A process that looks alive until it is reaped."""

    sentinel = 0
    pid = 1
    n_started = 0

    def __init__(self) -> None:
        Process.n_started += 1

    def is_alive(self) -> bool:
        return True

    def kill(self) -> None:
        """Send a signal, which takes effect later."""

    def join(self, _seconds: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Pipe:
    """A pipe whose answer arrives together with a decision to kill the child."""

    def __init__(self, children: list[Children]) -> None:
        self._children = children

    def send_bytes(self, _request: bytes) -> None:
        """Do nothing."""

    def recv_bytes(self) -> bytes:
        self._children[0].end("w:1", Ending.TIME)
        return ANSWER

    def close(self) -> None:
        """Do nothing."""


def test_child_killed_after_its_answer_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal may arrive while the next task runs, which would count as a crash of that task."""
    made: list[Children] = []
    monkeypatch.setattr(child_processes, "_start_child", lambda _: (Process(), Pipe(made)))
    monkeypatch.setattr(child_processes, "wait", lambda objects: objects)
    Process.n_started = 0
    children: Any = Children(1, "", "")
    made.append(children)

    assert children.run("w:1", "a" * 64).is_new
    assert children.run("w:2", "b" * 64).is_new
    assert Process.n_started == 2


_CLIENT = """
import sys
from importlib import import_module

for name in sys.argv[1:]:
    import_module(name)
before = set(sys.modules)
from mlho.store.s3 import _client
from mlho.store.s3_settings import S3Settings

_client(0, S3Settings(endpoint="http://127.0.0.1:1"))
print(sorted(name for name in set(sys.modules) - before if name.startswith(("boto", "s3transfer"))))
"""


def test_children_inherit_the_libraries_of_object_storage_only_if_it_is_their_store():
    """The client of a child imports nothing more of boto3, which takes 0.14 s, and a worker with a folder does not import it."""
    assert preload_of("/store") == list(PRELOAD)
    further = [name for name in preload_of("s3://bucket/store") if name not in PRELOAD]
    done = subprocess.run(
        [sys.executable, "-c", _CLIENT, *further], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


_INTERRUPTED = """
import os, signal, sys, threading
from worker.child_processes import Children
if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: None)  # the worker itself goes on
    threading.Timer(0.1, os.killpg, (0, signal.SIGINT)).start()
    children = Children(1, sys.argv[1], sys.argv[1])
    children.warm_up()
    children.close()
    print("started")
"""


def test_ctrl_c_during_the_imports_of_the_server_does_not_reach_it(tmp_path: Path) -> None:
    """Ctrl-C reaches all processes of a terminal. The worker decides when its server and children end."""
    program = tmp_path / "program.py"
    program.write_text(_INTERRUPTED, encoding="utf-8")
    root = str(Path(__file__).resolve().parents[3])

    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "store")],
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": root},
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")
