"""The command on a queue with separately started workers: processes, a store, and the published files."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mlho.settings import BROKER, SIGNING_KEY
from mlho.spec.training import load_spec
from mlho.steps.records import parse_record
from mlho.store.base import Store
from mlho.store.local import LocalStore
from scheduler.engine.manifest import make_manifest
from scheduler.engine.training_run import TrainingRun
from tests.builders import make_tables, run_inline, write_spec, write_tables
from tests.services.queue_home import KEY, ROOT, kill_group

# Some seconds of work, with two kinds of models.
SMALL: Final = {
    "validation.iterations": 3,
    "candidates": [{"classifier": "glmboost", "grid": {"nSteps": [20, 40]}}, {"classifier": "elasticnet"}],
}


def write_small_run(folder: Path, *, by_patient: bool = False) -> Path:
    """Write a cohort of 300 patients and the specification of a small run, and return the specification's path."""
    write_tables(folder, make_tables(300, seed=3), partitions=3, by_patient=by_patient)
    return write_spec(folder, SMALL)


def run_alone(spec: Path, folder: Path) -> LocalStore:
    """Carry out the run of :func:`write_small_run` in this process without a queue, and return its store."""
    store = LocalStore(folder)
    run_inline(spec.parent, store, SMALL)
    return store


@dataclass
class Commands:
    """Processes of one run, with their output in files of the folder.

    Parameters
    ----------
    spec : Path
        The specification, in the folder of its tables.
    folder : Path
        Folder for logs.
    address : str
        Address of the store.
    broker : str
        Address of Redis.
    environment : mapping
        Environment of all processes, in addition to the secrets.
    """

    spec: Path
    folder: Path
    address: str
    broker: str
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def run(self, *options: str, program: Sequence[str] = ("-m", "scheduler")) -> "subprocess.Popen[bytes]":
        """Start the scheduler."""
        arguments = ("run", str(self.spec), "--store", self.address, "--log", "json", *options)
        return self._start("scheduler", [*program, *arguments])

    def command(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start any command of the scheduler."""
        return self._start("scheduler", ["-m", "scheduler", *arguments])

    def worker(
        self, run: str, *options: str, cpus: Sequence[int] = (), program: Sequence[str] = ("-m", "worker")
    ) -> "subprocess.Popen[bytes]":
        """Start a worker, on these CPUs only if any are given."""
        command = [*program, "--run", run, "--store", self.address, "--verbose", *options]
        process = self._start(f"worker-{len(self.processes)}", command)
        if cpus:
            os.sched_setaffinity(
                process.pid, cpus
            )  # before it starts threads or children, which inherit the affinity
        return process

    def run_id(self, store: Store) -> str:
        """Return the id of the run."""
        spec = load_spec(self.spec)
        data = self.spec.parent
        return TrainingRun(spec, make_manifest(spec.spec.data.tables, data), data, store).run_id

    def log(self) -> str:
        """Return the output of all processes."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def _start(self, name: str, arguments: list[str]) -> "subprocess.Popen[bytes]":
        secrets = {BROKER: self.broker, SIGNING_KEY: KEY.decode()}
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment, **secrets},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process


@contextmanager
def ending(commands: Commands) -> Iterator[Commands]:
    """End all started processes at the end of the block, even after an error."""
    try:
        yield commands
    finally:
        for process in commands.processes:
            kill_group(process)


def published(store: Store) -> dict[str, bytes]:
    """Return the files of the only run's bundle by name, and the digest of its result."""
    bundle = [key for key in store.keys("runs/") if "/bundle/" in key]
    found = (parse_record(store.get(key), key.rsplit("/", 1)[1]) for key in store.keys("commits/"))
    commits = [commit for commit in found if commit is not None]
    (report,) = [commit for commit in commits if commit.kind == "write_report"]
    files = {key.partition("/bundle/")[2]: store.get(key) for key in bundle}
    return {**files, "result_digest": str(report.facts["result_digest"]).encode()}
