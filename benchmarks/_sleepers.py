"""Tasks that only sleep. Run as a program, it is a worker that runs them in threads, so that one machine can have a thousand slots.

Everything except the child processes is that of a real worker: messages, claims, leases, heartbeats, commit records.
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
    """Return a task that sleeps for this time."""
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
    """A substitute for a worker's child processes, which runs the task in the calling thread."""

    def __init__(self, n_slots: int, store_address: str, data: str) -> None:
        self.n_slots = n_slots
        self._store, self._data = open_store(store_address), data

    def warm_up(self) -> None:
        """Do nothing, because nothing needs to start."""

    def run(self, _owner: str, task_key: str) -> Answer:
        task = read_task(self._store, task_key)
        return Answer(is_new=execute(task, self._store, self._data, scratch=self._store.scratch()).is_new)

    def busy(self) -> list[Busy]:
        return []

    def end(self, owner: str, ending: Ending) -> None:
        """Do nothing, because a thread cannot be killed."""

    def warn(self, owner: str) -> None:
        """Do nothing, because there is no soft limit."""

    def close(self) -> None:
        """Do nothing, because there is nothing to close."""


if __name__ == "__main__":
    from worker.command import main

    worker.service.Children = Threads
    sys.exit(main())
