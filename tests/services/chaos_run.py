"""A run for chaos: a plan in two layers, its scheduler, and a worker that notes each of its commits.

Run as a program it is one of the two: ``chaos_run.py worker …`` with a worker's options, ``chaos_run.py scheduler --tasks N``.
``training-worker`` is the same worker for real training runs. Its child processes import the main program again, and therefore have the step and the note too.
"""

import argparse
import hashlib
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast, override

from mlho.errors import MlhoError
from mlho.log import configure
from mlho.protocol.documents import Execution
from mlho.settings import Settings
from mlho.spec.training import digest_of
from mlho.steps import STEPS
from mlho.steps.base import Step, Work
from mlho.steps.commit_log import CommitLog
from mlho.steps.records import Commit, Outcome
from mlho.store import open_store
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.engine.plan import STAGES, Manifest, Plan, PlannedTask
from scheduler.engine.progress import Stages

if TYPE_CHECKING:  # each child process of a worker imports this file
    from scheduler.queue.executor import QueueExecutor

WORKER: Final = "worker"
TRAINING_WORKER: Final = "training-worker"
NOTES: Final = "CHAOS_NOTES"
"""File of a line for each start and each commit; without it nothing is noted, and steps do not sleep."""
START: Final = "start"
COMMIT: Final = "commit"
_LAST: Final = "last"
_SIZE: Final = 2_000  # 32-byte digests: 64 kB, so that a kill can occur during the write
_TENTH: Final = 0.1


def note(*words: str) -> None:
    """Append a line to the notes with one write, so that lines of several processes do not mix."""
    path = os.environ.get(NOTES)
    if path is not None:
        handle = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(handle, (" ".join(words) + "\n").encode())
        os.close(handle)


def fingerprint(record: bytes) -> str:
    """Return the digest of a stored commit record."""
    return hashlib.sha256(record).hexdigest()


class Mix(Step):
    """Hashes its name and its inputs; takes up to a tenth of a second, depending on its name."""

    kind: ClassVar[str] = "chaos_mix"

    @override
    def run(self, work: Work) -> dict[str, Any]:
        note(START, work.task.key)
        digest = hashlib.sha256(work.params["name"].encode())
        for artifact in work.inputs.get("parts", ()):
            digest.update(artifact.read("mix.bin"))
        if NOTES in os.environ:
            time.sleep(digest.digest()[0] / 255 * _TENTH)
        blocks = (hashlib.sha256(digest.digest() + number.to_bytes(4)).digest() for number in range(_SIZE))
        (work.out / "mix.bin").write_bytes(b"".join(blocks))
        return {}


def _once_and_note(log: CommitLog, task_key: str, make: Callable[[], Commit]) -> Outcome:
    outcome = _once(log, task_key, make)
    if outcome.is_new and not outcome.is_proposed:
        note(COMMIT, outcome.commit.task, fingerprint(outcome.commit.to_bytes()))
    return outcome


_once = CommitLog.once
CommitLog.once = _once_and_note  # type: ignore[method-assign]
cast(dict[str, Step], STEPS)[Mix.kind] = Mix()


@dataclass(frozen=True)
class ChaosRun:
    """A run of many small tasks: two thirds have no inputs, the others read three of those, and the last one reads forty of the others."""

    n_tasks: int
    store: Store
    data: Path | str = "."
    manifest: Manifest = field(default_factory=lambda: Manifest({}))

    @property
    def run_id(self) -> str:
        """Return an id that depends only on the number of tasks."""
        return digest_of({"chaos": self.n_tasks})[:16]

    def describe(self) -> None:
        """Do nothing."""

    def first_plan(self) -> Plan:
        """Return the first task of the first layer."""
        return dict(list(self._plan().items())[:1])

    def whole_plan(self, commits: Mapping[str, Commit]) -> Plan:
        """Return both layers and the last task."""
        return self._plan()

    def publish(self, commits: Mapping[str, Commit]) -> Commit:
        """Write a result."""
        self.store.put_if_absent(run_key(self.run_id, "result.json"), commits[_LAST].digest.encode())
        return commits[_LAST]

    def _plan(self) -> Plan:
        dice = random.Random(self.n_tasks)
        first = [f"first-{number}" for number in range(self.n_tasks * 2 // 3)]
        second = [f"second-{number}" for number in range(self.n_tasks - len(first) - 1)]
        tasks = [self._task(name, STAGES[0], ()) for name in first]
        tasks += [self._task(name, STAGES[1], tuple(dice.sample(first, 3))) for name in second]
        tasks.append(self._task(_LAST, STAGES[2], tuple(dice.sample(second, min(40, len(second))))))
        return {task.name: task for task in tasks}

    @staticmethod
    def _task(name: str, stage: str, parts: tuple[str, ...]) -> PlannedTask:
        return PlannedTask(
            name, Mix.kind, stage, params={"name": name}, needs={"parts": parts} if parts else {}
        )


class _NullObserver:
    def started(self, execution: Execution, executor: "QueueExecutor") -> None:
        """Do nothing."""

    def update(self, stages: Stages, running: int) -> None:
        """Do nothing."""


def drive(arguments: list[str]) -> int:
    """Carry out a :class:`ChaosRun` as its scheduler, with the store, broker and key of the environment."""
    from scheduler.queue.run import QueueConfig, carry_out_on_queue

    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, required=True)
    options = parser.parse_args(arguments)
    configure("json", verbose=False)
    settings = Settings.from_environment()
    assert settings.broker is not None
    assert settings.store is not None
    run = ChaosRun(options.tasks, open_store(settings.store))
    try:
        carry_out_on_queue(
            run,
            QueueConfig(settings.broker, settings.store, 0),
            settings,
            [_NullObserver()],
            notify=lambda words: None,
        )
    except MlhoError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "scheduler":
        sys.exit(drive(rest))
    import worker.child_processes
    from worker.command import main

    if (
        role == WORKER
    ):  # the small tasks train nothing, so that its fork server need not import the libraries of real steps
        worker.child_processes.PRELOAD = ("worker.child",)  # type: ignore[misc] - it is Final
    sys.exit(main(rest))
