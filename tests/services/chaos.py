"""Seeded chaos: processes and servers are killed or stopped, Redis loses its data, object storage fails, messages are duplicated.

A fault occurs at a share of finished work that is drawn from the seed. Every fault therefore occurs at any speed of
the machine, and no run waits for the next fault. ``make chaos`` runs this at length.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import redis

from mlho.errors import ArtifactNotFound, StoreUnavailable
from mlho.protocol.documents import Execution, leader_key, read_execution
from mlho.protocol.failures import QueueError
from mlho.protocol.names import Names
from mlho.settings import BROKER, SIGNING_KEY, STORE
from mlho.store.base import Store
from scheduler.queue.executions import release_quarantine
from tests.services import chaos_run
from tests.services.chaos_run import COMMIT, NOTES, START, fingerprint
from tests.services.chaos_subjects import (
    CHILD,
    DUPLICATE,
    FLUSH,
    PROGRAM,
    PUBLISHING,
    REDIS,
    SCHEDULER,
    STOP,
    WORKER,
    Subject,
    Verdict,
    manifest_of,
)
from tests.services.queue_home import KEY, ROOT, kill_group
from tests.services.redis_servers import Server

SHORT: Final = {CHILD: 12, WORKER: 4, SCHEDULER: 2, REDIS: 2, FLUSH: 1}
LONG: Final = {CHILD: 70, WORKER: 40, SCHEDULER: 10, PUBLISHING: 2, STOP: 2, REDIS: 10, FLUSH: 2}
TRAINING: Final = {CHILD: 4, WORKER: 2, SCHEDULER: 2, REDIS: 1, FLUSH: 1}
SCHEDULERS: Final = {SCHEDULER: 42, PUBLISHING: 8, STOP: 10}
FEW_SCHEDULERS: Final = {SCHEDULER: 5, PUBLISHING: 2, STOP: 1}
_TICK_SECONDS: Final = 0.05
_LOOK_SECONDS: Final = 0.5  # between two reads of the execution, which changes rarely: at each tick they take a sixth of the CPU time
_SCHEDULER_SECONDS: Final = (
    3.0  # longest life of a scheduler that is killed: long enough to start, take over, submit and publish
)
_END_SECONDS: Final = 60.0  # for a resumed scheduler to detect the loss of its leadership and exit
_FLEETING: Final = ":room"  # suffix of Names.room, which expires within seconds
_SHARE_DUPLICATED: Final = 0.05
_N_WORKERS: Final = 2
_SLOTS: Final = 2


@dataclass(frozen=True)
class _Stopped:
    """A stopped scheduler, and the share of finished work after which it is resumed while another leads."""

    process: "subprocess.Popen[bytes]"
    wakes_at: float


class Chaos:
    """One run under chaos, which :meth:`carry_out` executes.

    Parameters
    ----------
    subject : Subject
    folder : Path
        Folder for logs and notes.
    server : Server
        A running Redis.
    address : str
        Address of the store for the run's processes.
    environment : mapping
        Environment of the run's processes.
    plan : mapping of fault to number
    seed : int
    """

    def __init__(
        self,
        subject: Subject,
        folder: Path,
        *,
        server: Server,
        address: str,
        environment: Mapping[str, str],
        store: Store,
        plan: Mapping[str, int],
        seed: int,
    ) -> None:
        self._subject = subject
        self._dice = random.Random(seed)
        self._server = server
        self._store = store
        self._notes = folder / "notes.txt"
        self._log = folder / "processes.log"
        secrets = {BROKER: server.url, SIGNING_KEY: KEY.decode(), STORE: address, NOTES: str(self._notes)}
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment, **secrets}
        timed = {fault: n for fault, n in plan.items() if fault != PUBLISHING}
        faults = [(self._dice.uniform(0.02, 0.9), fault) for fault, n in timed.items() for _ in range(n)]
        self._due = sorted(faults)
        self._n_publishing = plan.get(PUBLISHING, 0)
        self._strike: Mapping[str, Callable[[], bool]] = {
            CHILD: self._kill_child,
            WORKER: self._kill_worker,
            SCHEDULER: self._kill_scheduler,
            REDIS: self._kill_redis,
            FLUSH: self._empty_redis,
            STOP: self._stop_scheduler,
        }
        self._workers: list[subprocess.Popen[bytes]] = []
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._ends_at = 0.0
        self._is_all_done = False
        self._stopped: list[_Stopped] = []
        self._woken: list[subprocess.Popen[bytes]] = []
        self._redis_back_at: float | None = None
        self._had_outage = False
        self._execution: Execution | None = None
        self._looks_at = 0.0
        self._messages: set[str] = set()
        self._verdict = Verdict(tasks=len(subject.expected))
        self._happened: Counter[str] = Counter()

    def carry_out(self, *, seconds: float) -> Verdict:
        """Carry out the run to its end under all faults. Fail if that takes too long."""
        began = time.monotonic()
        try:
            while not self._is_finished():
                if time.monotonic() - began > seconds:
                    raise AssertionError(
                        f"not done within {seconds} s: {dict(self._happened)}; log: {self._log}"
                    )
                self._revive()
                self._strike_if_due()
                self._wake_if_due()
                self._duplicate_messages()
                time.sleep(_TICK_SECONDS)
            self._wake_late()
        finally:
            stopped = [entry.process for entry in self._stopped]
            for process in [*self._workers, *stopped, *self._woken, *filter(None, [self._scheduler])]:
                kill_group(process)
        self._verdict.seconds = round(time.monotonic() - began, 1)
        return self._judge()

    # Restarts.

    def _is_finished(self) -> bool:
        if self._scheduler is None or self._scheduler.poll() is None:
            return False
        code, self._scheduler = self._scheduler.returncode, None
        if code == 0:
            self._is_all_done = True
            return not self._n_publishing and SCHEDULER not in {fault for _, fault in self._due}
        if code == QueueError.exit_code and self._had_outage:
            self._verdict.schedulers_refused += (
                1  # Redis went away during its start; a user would start it again
            )
        elif code != -signal.SIGKILL:
            self._verdict.quarantines_released += self._release_quarantine()
        return False

    def _release_quarantine(self) -> int:
        released = release_quarantine(self._store, self._subject.run)
        if not released:
            tail = self._log.read_text(errors="replace")[-3000:]
            raise AssertionError(f"the scheduler gave up, though nothing is quarantined:\n{tail}")
        return released

    def _revive(self) -> None:
        if self._redis_back_at is not None and time.monotonic() >= self._redis_back_at:
            self._redis_back_at = None
            self._server.start()
        if (
            self._scheduler is None and self._redis_back_at is None
        ):  # a scheduler cannot start without a queue
            self._had_outage = False
            self._ends_at = time.monotonic() + self._dice.uniform(0, _SCHEDULER_SECONDS)
            self._scheduler = self._start([*self._subject.scheduler, *self._broker()])
        self._workers = [worker for worker in self._workers if worker.poll() is None]
        while len(self._workers) < _N_WORKERS:
            options = ["--run", self._subject.run, "--slots", str(_SLOTS)]
            role = chaos_run.TRAINING_WORKER if self._subject.is_training else chaos_run.WORKER
            self._workers.append(self._start([str(PROGRAM), role, *options]))

    def _broker(self) -> list[str]:
        return ["--broker", self._server.url] if self._subject.scheduler[0] == "-m" else []

    def _start(self, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    # Faults.

    def _strike_if_due(self) -> None:
        done = self._share_done()
        if done >= 1 and self._n_publishing and self._kill_scheduler():
            self._n_publishing -= 1
            self._happened[PUBLISHING] += 1
        for strike in [strike for strike in self._due if strike[0] <= done]:
            if self._strike[strike[1]]():
                self._due.remove(strike)
                self._happened[strike[1]] += 1
                return

    def _share_done(self) -> float:
        if self._is_all_done:  # notes do not suffice: a killed worker may have committed without a note
            return 1.0
        return len(self._noted(COMMIT)) / len(self._subject.expected)

    def _kill_child(self) -> bool:
        children = [pid for worker in self._workers for pid in _grandchildren(worker.pid)]
        return bool(children) and _kill(self._dice.choice(children))

    def _kill_worker(self) -> bool:
        """Kill only a worker's main process, so that its children have to exit by themselves, or its whole process group."""
        worker = self._dice.choice(self._workers)
        if not _grandchildren(worker.pid):
            return False  # still starting
        if self._dice.random() < 0.5:
            kill_group(worker)
            return True
        return _kill(worker.pid)

    def _kill_scheduler(self) -> bool:
        """Kill the scheduler at a random moment, for the first time after workers can start."""
        if self._scheduler is None or self._scheduler.poll() is not None or time.monotonic() < self._ends_at:
            return False
        if read_execution(self._store, self._subject.run) is None:
            return False
        kill_group(self._scheduler)
        return True

    def _stop_scheduler(self) -> bool:
        """Stop the leading scheduler. The next one takes over when its lease has expired."""
        if self._scheduler is None or self._scheduler.poll() is not None or not self._leads(self._scheduler):
            return False
        os.killpg(self._scheduler.pid, signal.SIGSTOP)
        try:
            self._store.compare_and_swap("tests/nothing", b"", expected=b"-")
        except StoreUnavailable:  # it holds a folder's lock, so that no other could take over
            os.killpg(self._scheduler.pid, signal.SIGCONT)
            return False
        self._stopped.append(_Stopped(self._scheduler, self._share_done() + self._dice.uniform(0.05, 1)))
        self._scheduler = None
        return True

    def _leads(self, process: "subprocess.Popen[bytes]") -> bool:
        try:
            holder = json.loads(self._store.get(leader_key(self._subject.run)))
        except ArtifactNotFound:
            return False
        return bool(holder.get("pid") == process.pid)

    def _wake_if_due(self) -> None:
        """Resume a stopped scheduler while another one leads."""
        done = self._share_done()
        for entry in self._stopped:
            is_replaced = self._scheduler is not None and self._leads(self._scheduler)
            if entry.wakes_at <= min(done, 0.99) and is_replaced:
                self._stopped.remove(entry)
                self._woken.append(entry.process)
                os.killpg(entry.process.pid, signal.SIGCONT)
                return

    def _wake_late(self) -> None:
        """After the end of the run, resume the schedulers that are still stopped. Nothing in the store or in Redis may change."""
        for worker in self._workers:
            kill_group(worker)
        if self._redis_back_at is not None:
            self._server.start()
        before = self._all_that_stands()
        for entry in self._stopped:
            os.killpg(entry.process.pid, signal.SIGCONT)
            self._woken.append(entry.process)
        self._stopped = []
        for process in self._woken:
            if process.wait(_END_SECONDS) == 0:
                raise AssertionError(
                    f"a scheduler that was stopped thinks that it led to the end; log: {self._log}"
                )
        after = self._all_that_stands()
        changed = sorted(dict(after.items() - before.items()))
        for key in changed:
            sys.stderr.write(f"changed by a scheduler that was woken: {key}\n")
        self._verdict.written_late = len(changed)

    def _all_that_stands(self) -> dict[str, str]:
        """Return a fingerprint of every key in the store and in Redis."""
        in_store = {key: fingerprint(self._store.get(key)) for key in self._store.keys("")}
        with redis.Redis.from_url(self._server.url) as client:
            keys = {key.decode() for key in cast(list[bytes], client.keys("*"))}
            lasting = {key for key in keys if not key.endswith(_FLEETING)}
            in_redis = {f"Redis: {key}": fingerprint(client.dump(key) or b"") for key in lasting}
        return in_store | in_redis

    def _kill_redis(self) -> bool:
        if self._redis_back_at is not None:
            return False
        self._server.kill()
        self._had_outage = True
        self._redis_back_at = time.monotonic() + self._dice.uniform(0.1, 1.5)
        return True

    def _empty_redis(self) -> bool:
        return self._with_redis(lambda client: bool(client.flushall()), otherwise=False)

    def _duplicate_messages(self) -> None:
        """Duplicate a share of the messages in the queue."""
        if time.monotonic() >= self._looks_at:
            self._execution = read_execution(self._store, self._subject.run)
            self._looks_at = time.monotonic() + _LOOK_SECONDS
        if self._execution is None:
            return
        queue = Names(self._execution.id).queue
        self._happened[DUPLICATE] += self._with_redis(
            lambda client: self._duplicate_some(client, queue), otherwise=0
        )

    def _duplicate_some(self, client: "redis.Redis", queue: str) -> int:
        found = cast(list[str], client.lrange(queue, 0, -1))
        new = [message for message in found if message not in self._messages]
        self._messages.update(new)
        again = [message for message in new if self._dice.random() < _SHARE_DUPLICATED]
        for message in again:
            client.lpush(queue, message)
        return len(again)

    def _with_redis[T](self, ask: "Callable[[redis.Redis], T]", *, otherwise: T) -> T:
        """Call Redis, and return `otherwise` while it is down."""
        client = redis.Redis.from_url(self._server.url, decode_responses=True, socket_timeout=5)
        try:
            return ask(client)
        except redis.RedisError:
            return otherwise
        finally:
            client.close()

    # Verdict.

    def _noted(self, what: str) -> list[list[str]]:
        if not self._notes.exists():
            return []
        lines = (line.split() for line in self._notes.read_text().splitlines())
        return [words[1:] for words in lines if words[0] == what]

    def _judge(self) -> Verdict:
        expected, found = self._subject.expected, manifest_of(self._store)
        verdict = self._verdict
        verdict.lost = len(expected.keys() - found.keys())
        verdict.foreign = len(found.keys() - expected.keys())
        verdict.other_bytes = sum(expected[task] != found[task] for task in expected.keys() & found.keys())
        verdict.committed_twice = self._count_written_again()
        starts = Counter(task for task, *_ in self._noted(START))
        verdict.started_again = sum(starts.values()) - len(starts)
        verdict.started_after_commit = self._count_started_after_commit()
        prefix = f"runs/{self._subject.run}/bundle/"
        if self._subject.bundle:
            bundle = {key.removeprefix(prefix): self._store.get(key) for key in self._store.keys(prefix)}
            verdict.is_same_bundle = bundle == self._subject.bundle
        verdict.faults = dict(self._happened)
        return verdict

    def _count_started_after_commit(self) -> int:
        committed: set[str] = set()
        n_starts = 0
        for what, task, *_ in map(
            str.split, self._notes.read_text().splitlines()
        ):  # in the order in which it happened
            committed |= {task} if what == COMMIT else set()
            n_starts += what == START and task in committed
        return n_starts

    def _count_written_again(self) -> int:
        """Count the tasks whose commit record was written more than once, and those whose present record differs from the noted one."""
        noted = [(task, record) for task, record in self._noted(COMMIT)]
        again = {task for task, n in Counter(task for task, _ in noted).items() if n > 1}
        now = {
            key.rsplit("/", 1)[1]: fingerprint(self._store.get(key)) for key in self._store.keys("commits/")
        }
        return len(again | {task for task, record in noted if now.get(task) != record})


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _grandchildren(pid: int) -> list[int]:
    """Return the processes that run tasks. A worker's only child with children is its fork server."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    return sorted(child for child, parent in parents.items() if parents.get(parent) == pid)
