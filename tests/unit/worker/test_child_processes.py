"""A child that is killed at the end of a task takes no further task."""

from typing import Any

import pytest

from worker import child_processes
from worker.child_processes import Children, Ending

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
