"""Chaos, from a seed: processes and servers are killed, Redis is emptied, object storage fails, messages come twice.

``python tests/services/chaos.py --seed 1 --tasks 2000`` does it and says what came of it. When a fault strikes is a share of the
work done, drawn from the seed: so every fault strikes however fast the machine is, and no run waits for the next fault.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from socketserver import BaseServer, StreamRequestHandler
from typing import Any, Final, cast
from unittest import mock

import redis

from mlho.log import configure
from mlho.protocol.documents import read_execution
from mlho.protocol.failures import QueueError
from mlho.protocol.names import Names
from mlho.settings import BROKER, SIGNING_KEY, STORE
from mlho.store import open_store
from mlho.store.base import Store
from mlho.store.local import LocalStore
from scheduler.executions import release_quarantine
from tests.services.chaos_run import COMMIT, NOTES, START, fingerprint
from tests.services.chaos_subjects import (
    CHILD,
    DUPLICATE,
    FLUSH,
    PROGRAM,
    REDIS,
    SCHEDULER,
    STORE_LOST,
    STORE_REFUSED,
    WORKER,
    Subject,
    Verdict,
    chaos_subject,
    manifest_of,
    short_of,
    training_subject,
)
from tests.services.queue_home import KEY, ROOT, kill_group
from tests.services.redis_servers import Server, durable
from tests.services.s3_proxy import LOSE, REFUSE, proxy_of
from tests.services.s3_servers import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, client_of, seaweedfs_server

SHORT: Final = {CHILD: 12, WORKER: 4, SCHEDULER: 2, REDIS: 2, FLUSH: 1}
LONG: Final = {CHILD: 70, WORKER: 40, SCHEDULER: 10, REDIS: 10, FLUSH: 2}
TRAINING: Final = {CHILD: 4, WORKER: 2, SCHEDULER: 2, REDIS: 1, FLUSH: 1}
_TICK_SECONDS: Final = 0.05
_SHARE_DUPLICATED: Final = 0.05
_N_WORKERS: Final = 2
_SLOTS: Final = 2


class Chaos:
    """One run under chaos; :meth:`carry_out` does it.

    Parameters
    ----------
    subject : Subject
    folder : Path
        For logs and notes.
    server : Server
        A Redis that runs.
    address : str
        Of the store, for the run's processes.
    environment : mapping
        Of the run's processes.
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
        faults = [(self._dice.uniform(0.02, 0.9), fault) for fault, n in plan.items() for _ in range(n)]
        self._due = sorted(faults, reverse=True)
        self._strike: Mapping[str, Callable[[], bool]] = {
            CHILD: self._kill_child,
            WORKER: self._kill_worker,
            SCHEDULER: self._kill_scheduler,
            REDIS: self._kill_redis,
            FLUSH: self._empty_redis,
        }
        self._workers: list[subprocess.Popen[bytes]] = []
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._redis_back_at: float | None = None
        self._had_outage = False
        self._messages: set[str] = set()
        self._verdict = Verdict(tasks=len(subject.expected))
        self._happened: Counter[str] = Counter()

    def carry_out(self, *, seconds: float) -> Verdict:
        """Run it to its end under all faults; fail when that takes too long."""
        began = time.monotonic()
        try:
            while not self._is_finished():
                if time.monotonic() - began > seconds:
                    raise AssertionError(
                        f"not done within {seconds} s: {dict(self._happened)}; log: {self._log}"
                    )
                self._revive()
                self._strike_if_due()
                self._duplicate_messages()
                time.sleep(_TICK_SECONDS)
        finally:
            for process in [*self._workers, *filter(None, [self._scheduler])]:
                kill_group(process)
        self._verdict.seconds = round(time.monotonic() - began, 1)
        return self._judge()

    # Bringing back.

    def _is_finished(self) -> bool:
        if self._scheduler is None or self._scheduler.poll() is None:
            return False
        code, self._scheduler = self._scheduler.returncode, None
        if code == 0:
            return True
        if code == QueueError.exit_code and self._had_outage:
            self._verdict.schedulers_refused += (
                1  # it started while Redis went away; people would start it again
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
        if self._scheduler is None and self._redis_back_at is None:  # it refuses to start without a queue
            self._had_outage = False
            self._scheduler = self._start([*self._subject.scheduler, *self._broker()])
        self._workers = [worker for worker in self._workers if worker.poll() is None]
        while len(self._workers) < _N_WORKERS:
            options = ["--run", self._subject.run, "--slots", str(_SLOTS)]
            self._workers.append(self._start([str(PROGRAM), "worker", *options]))

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

    # Striking.

    def _strike_if_due(self) -> None:
        done = len(self._noted(COMMIT)) / len(self._subject.expected)
        if self._due and self._due[-1][0] <= done:
            fault = self._due[-1][1]
            if self._strike[fault]():
                self._due.pop()
                self._happened[fault] += 1

    def _kill_child(self) -> bool:
        children = [pid for worker in self._workers for pid in _grandchildren(worker.pid)]
        return bool(children) and _kill(self._dice.choice(children))

    def _kill_worker(self) -> bool:
        """Kill a worker alone, whose children must then end by themselves, or with all that is its own."""
        worker = self._dice.choice(self._workers)
        if not _grandchildren(worker.pid):
            return False  # still starting
        if self._dice.random() < 0.5:
            kill_group(worker)
            return True
        return _kill(worker.pid)

    def _kill_scheduler(self) -> bool:
        execution = read_execution(self._store, self._subject.run)
        if self._scheduler is None or self._scheduler.poll() is not None or execution is None:
            return False
        kill_group(self._scheduler)
        return True

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
        """Put a share of the messages that are seen in the queue there once more."""
        execution = read_execution(self._store, self._subject.run)
        if execution is None:
            return
        queue = Names(execution.id).queue
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
        """Ask Redis; while it is down there is another answer."""
        client = redis.Redis.from_url(self._server.url, decode_responses=True, socket_timeout=5)
        try:
            return ask(client)
        except redis.RedisError:
            return otherwise
        finally:
            client.close()

    # Judging.

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
        """Tasks with more than one note of a new record, and tasks whose record now is not the noted one."""
        noted = [(task, record) for task, record in self._noted(COMMIT)]
        again = {task for task, n in Counter(task for task, _ in noted).items() if n > 1}
        now = {
            key.rsplit("/", 1)[1]: fingerprint(self._store.get(key)) for key in self._store.keys("commits/")
        }
        return len(again | {task for task, record in noted if now.get(task) != record})


def on_local(
    subject: Subject, folder: Path, *, plan: Mapping[str, int], seed: int, seconds: float
) -> Verdict:
    """Chaos with a store in a folder."""
    address = folder / "store"
    with _redis(folder) as server:
        chaos = Chaos(
            subject,
            folder,
            server=server,
            address=str(address),
            environment={},
            store=LocalStore(address),
            plan=plan,
            seed=seed,
        )
        return chaos.carry_out(seconds=seconds)


def on_s3(
    subject: Subject,
    folder: Path,
    weed: S3Server,
    address: str,
    *,
    plan: Mapping[str, int],
    seed: int,
    seconds: float,
) -> Verdict:
    """Chaos with a store in SeaweedFS, behind a proxy that refuses 5 % of the requests and loses 2 % of the replies of PUTs.

    What judges reads without the proxy.
    """
    with ExitStack() as stack:
        server = stack.enter_context(_redis(folder))
        stack.enter_context(_fast_and_silent_proxy())
        proxy = stack.enter_context(proxy_of(weed.port))
        proxy.at_random(seed=seed)
        own = {**weed.variables(), "AWS_EC2_METADATA_DISABLED": "true"}
        environment = {**own, "MLHO_S3_ENDPOINT": proxy.endpoint, "MLHO_CACHE_DIR": str(folder / "cache")}
        store = open_store(address, {**own, "MLHO_CACHE_DIR": str(folder / "judge")})
        chaos = Chaos(
            subject,
            folder,
            server=server,
            address=address,
            environment=environment,
            store=store,
            plan=plan,
            seed=seed,
        )
        verdict = chaos.carry_out(seconds=seconds)
        done = Counter(fault for _, fault in proxy.done)
        verdict.faults |= {STORE_REFUSED: done[REFUSE], STORE_LOST: done[LOSE]}
        return verdict


@contextmanager
def _fast_and_silent_proxy() -> Iterator[None]:
    """Send a reply's two parts at once, which saves 40 ms each; say nothing of clients that are gone, which are killed here."""
    with (
        mock.patch.object(StreamRequestHandler, "disable_nagle_algorithm", True),
        mock.patch.object(BaseServer, "handle_error", autospec=True),
    ):
        yield


def _redis(folder: Path) -> Server:
    """Debian's with an append-only file where it is installed, else one that forgets all when it is killed."""
    return durable(folder / "redis") or Server(folder / "redis")


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _grandchildren(pid: int) -> list[int]:
    """Processes that run tasks: a worker's only child with children is its fork server."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    return sorted(own for own, parent in parents.items() if parents.get(parent) == pid)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do it on object storage, with small tasks and with a training run, for each seed; 1 if anything came out otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--tasks", type=int, default=2_000)
    parser.add_argument(
        "--store", choices=("local", "s3"), default="s3", help="s3: SeaweedFS behind a proxy that fails"
    )
    parser.add_argument("--seconds", type=float, default=3_600, help="at most, for each seed")
    options = parser.parse_args(arguments)
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    configure("json", verbose=False)
    is_good = True
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        weed = stack.enter_context(_object_storage(folder)) if options.store == "s3" else None
        for seed in options.seed:
            for kind, plan in (("tasks", LONG if options.tasks >= 1_000 else SHORT), ("training", TRAINING)):
                own = folder / f"{kind}-{seed}"
                own.mkdir()
                address = f"s3://{BUCKET}/{own.name}" if weed else str(own / "store")
                subject = (
                    chaos_subject(own, options.tasks) if kind == "tasks" else training_subject(own, address)
                )
                limits: dict[str, Any] = {"plan": plan, "seed": seed, "seconds": options.seconds}
                verdict = (
                    on_s3(subject, own, weed, address, **limits) if weed else on_local(subject, own, **limits)
                )
                is_good &= _say(verdict, kind, plan, seed=seed, on_store=weed is not None)
    return 0 if is_good else 1


@contextmanager
def _object_storage(folder: Path) -> Iterator[S3Server]:
    weed = seaweedfs_server(folder)
    weed.start()
    try:
        client_of(weed).create_bucket(Bucket=BUCKET)
        yield weed
    finally:
        weed.kill()


def _say(verdict: Verdict, kind: str, plan: Mapping[str, int], *, seed: int, on_store: bool) -> bool:
    """Write a line of what came of it; tell whether that is as it must be."""
    missing = short_of(verdict, plan, on_store=on_store and kind == "tasks")
    if kind == "training":
        missing.pop(DUPLICATE, None)  # with sixteen messages that is a matter of luck
    found = {"seed": seed, "what": kind, "exact": verdict.is_exact, **asdict(verdict), "missing": missing}
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    return verdict.is_exact and not missing


if __name__ == "__main__":
    sys.exit(main())
