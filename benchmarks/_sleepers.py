"""Tasks that only sleep; run as a program, a worker that runs them in threads, so that a machine can hold a thousand slots.

All else is a real worker: messages, claims, leases, heartbeats, commit records. Only the child processes are left out.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, cast, override

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import worker.service
from mlho.protocol.documents import read_task
from mlho.steps import STEPS
from mlho.steps.base import Step, Task, Work, execute
from mlho.store import open_store
from worker.child_processes import Answer, Busy, Ending

KIND = "bench_sleep"


def sleep_task(name: str, seconds: float) -> Task:
    """A task that takes so long."""
    return Task(kind=KIND, params={"name": name, "seconds": seconds})


class Sleep(Step):
    """Sleeps, and stores a few bytes."""

    kind: ClassVar[str] = KIND

    @override
    def run(self, work: Work) -> dict[str, Any]:
        time.sleep(work.params["seconds"])
        (work.out / "out.json").write_text(json.dumps(work.params))
        return {}


cast(dict[str, Step], STEPS)[KIND] = Sleep()


class Threads:
    """In place of a worker's child processes: the thread that asks carries the task out."""

    def __init__(self, n_slots: int, store_address: str, data: str) -> None:
        self.n_slots = n_slots
        self._store, self._data = open_store(store_address), data

    def warm_up(self) -> None:
        """Nothing needs to start."""

    def run(self, _owner: str, task_key: str) -> Answer:
        task = read_task(self._store, task_key)
        return Answer(is_new=execute(task, self._store, self._data, scratch=self._store.scratch()).is_new)

    def busy(self) -> list[Busy]:
        return []

    def end(self, owner: str, ending: Ending) -> None:
        """A thread cannot be killed."""

    def warn(self, owner: str) -> None:
        """There is no soft limit."""

    def close(self) -> None:
        """Nothing is left."""


if __name__ == "__main__":
    from worker.__main__ import main

    worker.service.Children = Threads
    sys.exit(main())
