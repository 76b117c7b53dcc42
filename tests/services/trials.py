"""Trials on a real queue with real workers. Each function runs some and returns its figures.

The tests run a few, and ``make proofs`` runs many. Random choices depend on a seed.
"""

import os
import random
import signal
import time
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Final

import redis

from mlho.protocol.failures import Quarantined
from mlho.protocol.scripts import HEARTBEAT_SECONDS
from mlho.steps.records import Outcome
from scheduler.queue.executor import QueueExecutor
from tests.limits import GUARD_SECONDS
from tests.services.measured import Measured
from tests.services.queue_home import Home, result, wait_until
from tests.services.queue_steps import ENDLESS_SECONDS, noted_pid, noted_starts, noted_times, task

RECOVERY_SECONDS: Final = 8.0
"""From the death of a worker to the start of its task elsewhere."""
RESUME_SECONDS: Final = 6.0
"""From the return of Redis to the next start."""
_KEPT_SECONDS: Final = 5.0
_BRIEF_SECONDS: Final = 1.8  # ends while Redis is down
_ON_DISK_SECONDS: Final = 1.2  # with everysec, writes older than a second are on the disk


def kill_workers(
    home: Home, rounds: Iterable[int], dice: random.Random, *, side_by_side: int = 1
) -> list[Measured]:
    """Kill the process groups of busy workers at any moment between two heartbeats, and measure when their tasks start elsewhere."""
    waits: list[float] = []
    n_starts: list[float] = []
    with home.executor() as executor:
        for turn in rounds:
            home.keep_workers(2 * side_by_side)
            names = [f"victim-{turn}-{number}" for number in range(side_by_side)]
            futures = [
                _submit(executor, home, "test_sleep_at_first", name, seconds=ENDLESS_SECONDS)
                for name in names
            ]
            _wait_for_starts(home, names)
            killed_at = _kill_workers_of(home, names, dice)
            for future in futures:
                result(future)
            for name in names:
                times = noted_times(home.starts, name)
                waits.append(times[1] - killed_at[name])
                n_starts.append(len(times))
    return [
        Measured(
            "killed worker's task starts elsewhere",
            waits,
            RECOVERY_SECONDS,
            share=0.99 if len(waits) > 1 else 1,
        ),
        Measured("… starts of it", n_starts, 2, 2, unit="starts"),
    ]


def hold_the_lock(home: Home, seconds: int, *, burners: int = 1) -> list[Measured]:
    """Run native code that holds the interpreter lock, asleep and computing, and count expired leases."""
    with home.executor() as executor:
        home.keep_workers(2, slots=1 + burners)
        names = ["asleep-0", "asleep-1", *(f"burns-{number}" for number in range(2 * burners))]
        futures = [
            _submit(
                executor,
                home,
                "test_burn" if name.startswith("burns") else "test_hold_lock",
                name,
                seconds=seconds,
            )
            for name in names
        ]
        for future in futures:
            result(future, seconds=seconds + 300)  # other tests may use most of the machine
        counters = executor.counters
    starts = noted_starts(home.starts)
    return [
        Measured(
            f"starts of tasks that hold the lock for {seconds} s",
            [starts.count(name) for name in names],
            1,
            1,
            unit="starts",
        ),
        Measured("… leases taken for expired", [counters.retried + counters.lost], 0, unit="leases"),
    ]


def kill_own_workers(home: Home, turns: Iterable[int], *, empties: bool) -> list[Measured]:
    """Run a task that kills its worker among 99 others. Optionally Redis loses its data after the task's second start."""
    n_starts: list[float] = []
    n_others: list[float] = []
    with home.executor() as executor, home.redis() as client:
        for turn in turns:
            name, others = f"poison-{turn}", [f"t{turn}-{number}" for number in range(99)]
            poison = _submit(executor, home, "test_kill_group", name)
            neighbours = [_submit(executor, home, "test_noted", other) for other in others]
            _go_on_until_done(home, [poison, *neighbours], name, client if empties else None)
            starts = noted_starts(home.starts)
            n_starts.append(starts.count(name) if isinstance(poison.exception(0), Quarantined) else 0)
            n_others += [
                starts.count(other) if future.exception(0) is None else 0
                for other, future in zip(others, neighbours, strict=True)
            ]
    emptied = ", Redis emptied meanwhile" if empties else ""
    return [
        Measured(
            f"starts of a task that kills its worker{emptied}",
            n_starts,
            4 if empties else 3,
            3,
            unit="starts",
        ),
        Measured("… starts of its 99 neighbours, all committed", n_others, 1, 1, unit="starts"),
    ]


def restart_redis(home: Home, turns: Iterable[int], dice: random.Random) -> list[Measured]:
    """Kill and restart Redis during two tasks, and measure when the next task starts and whether running tasks are kept.

    One task waits in the queue in the meantime, and another is sent while Redis is down.
    """
    waits: list[float] = []
    n_starts: list[float] = []
    worker = home.start_worker(slots=2)
    with home.executor() as executor:
        home.wait_for_slots(2)
        for turn in turns:
            kept = {f"kept-{turn}": _KEPT_SECONDS, f"brief-{turn}": _BRIEF_SECONDS}
            futures = [_submit(executor, home, "test_sleep", name, seconds=kept[name]) for name in kept]
            _wait_for_starts(home, kept)
            after = [f"waiting-{turn}", f"sent-meanwhile-{turn}"]
            futures.append(_submit(executor, home, "test_noted", after[0]))
            time.sleep(_ON_DISK_SECONDS + dice.uniform(0, 0.5))
            home.server.kill()
            futures.append(_submit(executor, home, "test_noted", after[1]))
            time.sleep(dice.uniform(0.5, 3))
            home.server.start()
            back_at = time.time()
            for future in futures:
                result(future)
            free_at = noted_times(home.starts, f"brief-{turn}")[0] + _BRIEF_SECONDS
            waits += [noted_times(home.starts, name)[0] - max(back_at, free_at) for name in after]
            n_starts += [len(noted_times(home.starts, name)) for name in (*kept, *after)]
    return [
        Measured("task starts after Redis is back", waits, RESUME_SECONDS),
        Measured("… starts of tasks under way and waiting", n_starts, 1, 1, unit="starts"),
        Measured("… workers that ended", [0 if worker.poll() is None else 1], 0, unit="workers"),
    ]


def drain_workers(home: Home, turns: Iterable[int], dice: random.Random) -> list[Measured]:
    """Send SIGTERM to the worker of one task repeatedly. If such an attempt counted, the task would be quarantined at its third start."""
    exits: list[float] = []
    leases: list[float] = []
    codes: list[float] = []
    counted: list[float] = []
    work = task("test_sleep", "drained", home.starts, seconds=ENDLESS_SECONDS)
    with home.executor() as executor, home.redis() as client:
        executor.submit(work)
        for turn in turns:
            home.keep_workers(2)
            wait_until(lambda n=turn: len(noted_starts(home.starts)) > n, what="next start")  # type: ignore[misc]
            counted.append(int(str(client.hget(home.names.attempts, work.key))))
            owner = client.hget(home.names.owners, work.key)
            worker = home.worker_of(noted_pid(home.starts, "drained"))
            time.sleep(dice.uniform(0, HEARTBEAT_SECONDS))
            told_at = time.monotonic()
            worker.send_signal(signal.SIGTERM)
            exited_at = freed_at = 0.0
            while not (exited_at and freed_at):
                now = time.monotonic()
                if not exited_at and worker.poll() is not None:
                    exited_at = now
                if not freed_at and client.hget(home.names.owners, work.key) != owner:
                    freed_at = now
                if now - told_at > GUARD_SECONDS:
                    raise AssertionError("a worker that was told to end did not, or kept its lease")
                time.sleep(0.005)
            exits.append(exited_at - told_at)
            leases.append(max(0.0, freed_at - exited_at))
            codes.append(worker.returncode)
    return [
        Measured("lease is free after a drained worker's exit", leases, 1),
        Measured("… its exit after SIGTERM", exits, 5),
        Measured("… exit code", codes, 0, 0, unit="code"),
        Measured("… starts that count, of the one under way", counted, 1, 1, unit="starts"),
    ]


def _submit(executor: QueueExecutor, home: Home, kind: str, name: str, **params: float) -> "Future[Outcome]":
    return executor.submit(task(kind, name, home.starts, **params))


def _wait_for_starts(home: Home, names: Iterable[str]) -> None:
    wait_until(lambda: set(names) <= set(noted_starts(home.starts)), what=f"starts of {[*names]}")


def _kill_workers_of(home: Home, names: list[str], dice: random.Random) -> dict[str, float]:
    """Kill the workers of these tasks within one heartbeat, and return the time of each kill."""
    began, killed_at = time.monotonic(), {}
    groups = {name: os.getpgid(noted_pid(home.starts, name)) for name in names}
    for delay, name in sorted((dice.uniform(0, HEARTBEAT_SECONDS), name) for name in names):
        time.sleep(max(0.0, began + delay - time.monotonic()))
        killed_at[name] = time.time()
        os.killpg(groups[name], signal.SIGKILL)
    return killed_at


def _go_on_until_done(
    home: Home, futures: "list[Future[Outcome]]", poison: str, emptied: "redis.Redis | None"
) -> None:
    """Replace a worker that dies until all tasks have ended. Optionally delete Redis' data once, after the second start of the lethal task."""
    until = time.monotonic() + 4 * GUARD_SECONDS
    while not all(future.done() for future in futures):
        if time.monotonic() > until:
            raise AssertionError(
                f"not within {4 * GUARD_SECONDS:.0f} s: an end of {poison} and its neighbours"
            )
        if not any(worker.poll() is None for worker in home.workers):
            home.start_worker()
        if emptied is not None and noted_starts(home.starts).count(poison) == 2:
            emptied.flushall()
            emptied = None
        time.sleep(0.05)
