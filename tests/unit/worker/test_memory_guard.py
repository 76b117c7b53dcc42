"""The guard warns, kills a process that exceeds its time, and kills the largest one when memory runs short."""

import os
from dataclasses import dataclass, field

import pytest

from worker import memory_guard
from worker.child_processes import Busy, Ending
from worker.memory_guard import Guard, Limits


@dataclass
class Children:
    """A stand-in for the child processes. It has a list of busy ones and records the guard's actions."""

    found: list[Busy]
    done: list[tuple[str, str]] = field(default_factory=list)

    def busy(self) -> list[Busy]:
        return self.found

    def warn(self, owner: str) -> None:
        self.done.append((owner, "warned"))

    def end(self, owner: str, ending: Ending) -> None:
        self.done.append((owner, ending.value))


def _guard(children: Children, **limits: float) -> Guard:
    chosen = {"soft_seconds": 10, "hard_seconds": 20, "memory_bytes": 1 << 60, **limits}
    return Guard(children, Limits(**chosen))  # type: ignore[arg-type] - stands in for the real ones


def test_task_within_its_limits_is_left_alone() -> None:
    children = Children([Busy("a", os.getpid(), 9.9)])
    _guard(children).look()
    assert children.done == []


def test_soft_limit_warns_once() -> None:
    children = Children([Busy("a", os.getpid(), 11)])
    watcher = _guard(children)
    watcher.look()
    watcher.look()
    assert children.done == [("a", "warned")]


def test_hard_limit_ends() -> None:
    children = Children([Busy("a", os.getpid(), 21)])
    _guard(children).look()
    assert children.done == [("a", "time")]


def test_largest_is_ended_when_memory_runs_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest child is killed above the ceiling: the limit is 100 and the ceiling 90; 30 + 50 of the children and 11 of
    the worker exceed it.
    """
    sizes = {1: 30, 2: 50, os.getpid(): 11}
    monkeypatch.setattr(memory_guard, "own_memory", lambda pid: sizes[pid])
    children = Children([Busy("small", 1, 0), Busy("large", 2, 0)])
    _guard(children, memory_bytes=100).look()
    assert children.done == [("large", "memory")]
