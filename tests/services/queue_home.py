"""A queue with real workers for tests: server, store in a folder, worker processes, and the scheduler's executor."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self, cast

import redis

from mlho.protocol.documents import Execution, State
from mlho.protocol.names import Names
from mlho.settings import BROKER, SIGNING_KEY
from mlho.steps.proposals import SOLE_LEADER, Leader
from mlho.steps.records import Outcome
from mlho.store.local import LocalStore
from scheduler.queue.dispatch import Sender
from scheduler.queue.executions import begin_execution, end_execution
from scheduler.queue.executor import QueueExecutor
from scheduler.queue.leases import Leases
from tests.limits import GUARD_SECONDS
from tests.services.redis_servers import Server

ROOT = Path(__file__).resolve().parents[2]
STEPS = ROOT / "tests" / "services" / "queue_steps.py"
RUN = "0123456789abcdef"
KEY = b"a key that only the tests use"


class Home:
    """The server, store, worker processes and executor of a run on a queue, on this machine."""

    def __init__(self, folder: Path, *, server: Server | None = None) -> None:
        self.folder = folder
        self.server = server or Server(folder / "server")
        self.store = LocalStore(folder / "store")
        self.starts = folder / "starts.txt"
        self.log = folder / "workers.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.execution, self.is_new = begin_execution(self.store, RUN, folder)

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for process in self.processes:
            kill_group(process)
        self.server.kill()

    @property
    def names(self) -> Names:
        return Names(self.execution.id)

    @contextmanager
    def redis(self) -> "Iterator[redis.Redis]":
        client = redis.Redis.from_url(self.server.url, decode_responses=True)
        try:
            yield client
        finally:
            client.close()

    def start_worker(
        self,
        *options: str,
        slots: int = 1,
        broker: str | None = None,
        program: Path = STEPS,
        verbose: bool = True,
        key: bytes = KEY,
    ) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            BROKER: broker or self.server.url,
            SIGNING_KEY: key.decode(),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, str(program), "--run", RUN, *(["--verbose"] if verbose else [])]
        command += ["--store", str(self.store.root), "--slots", str(slots), *options]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True, cwd=self.folder
            )
        self.processes.append(process)
        self.workers.append(process)
        return process

    def keep_workers(self, n: int, *, slots: int = 1) -> None:
        """Start the missing ones of this many workers, and wait until all have registered."""
        alive = [worker for worker in self.workers if worker.poll() is None]
        alive += [self.start_worker(slots=slots) for _ in range(n - len(alive))]
        wanted = {worker.pid for worker in alive}
        with self.redis() as client:
            wait_until(
                lambda: wanted <= _present(client, self.names),
                what=f"workers {sorted(wanted)}, of which these ended: {[w.pid for w in alive if w.poll() is not None]}; log: {self.log}",
            )

    def worker_of(self, child: int) -> subprocess.Popen[bytes]:
        """Return the worker of a process that runs a task."""
        group = os.getpgid(child)
        return next(worker for worker in self.workers if worker.pid == group)

    @contextmanager
    def executor(self, *, leader: Leader = SOLE_LEADER) -> Iterator[QueueExecutor]:
        leases = Leases(self.server.url, self.names, key=KEY)
        sender = Sender(self.server.url, self.names, key=KEY)
        try:
            with QueueExecutor(
                self.store, self.execution, leases, sender, leader=leader, is_new=self.is_new
            ) as executor:
                yield executor
        finally:
            sender.close()
            leases.close()

    def begin_again(self) -> None:
        """Open the next execution of the run, after :meth:`end`. It needs new workers."""
        for worker in self.workers:
            kill_group(worker)
        self.workers.clear()
        self.execution, self.is_new = begin_execution(self.store, RUN, self.folder)

    def end(self, state: State = State.FINISHED) -> Execution:
        end_execution(self.store, self.execution, state)
        return self.execution

    def wait_for_slots(self, slots: int, *, seconds: float = GUARD_SECONDS) -> None:
        leases = Leases(self.server.url, self.names)
        try:
            wait_until(lambda: leases.look().slots >= slots, seconds=seconds, what=f"{slots} slots")
        finally:
            leases.close()


def _present(client: "redis.Redis", names: Names) -> set[int]:
    """Return the process ids of the registered workers, whose names are ``host-pid-moment/slots``."""
    return {int(name.rsplit("-", 2)[1]) for name in cast(list[str], client.zrange(names.workers, 0, -1))}


def wait_until(claim: Callable[[], bool], *, seconds: float = GUARD_SECONDS, what: str) -> float:
    """Wait until the condition holds, and return the waiting time."""
    began = time.monotonic()
    while not claim():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - began


def result(future: "Future[Outcome]", *, seconds: float = GUARD_SECONDS) -> Outcome:
    return future.result(seconds)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
