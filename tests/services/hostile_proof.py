"""An attack by a hostile client on a running execution: it may cause no harm, and the run must continue soon after it."""

import hashlib
import random
import time
from contextlib import suppress
from typing import Final, cast

import redis

from mlho.protocol.documents import State, cancel_key, read_execution, write_task
from mlho.protocol.events import read_event
from mlho.protocol.messages import MessageRefused
from mlho.store.keys import blob_key
from scheduler.queue.executions import quarantined_tasks
from tests.limits import GUARD_SECONDS
from tests.services.eavesdropper import Eavesdropper
from tests.services.hostile import Target, attacks
from tests.services.measured import Measured
from tests.services.queue_home import KEY, RUN, Home, result
from tests.services.queue_steps import noted_starts, task

GO_ON_SECONDS: Final = 15.0
_ITEMS_A_ROUND: Final = 100
_PAUSE_SECONDS: Final = 0.02
_N_WORKERS: Final = 2
_MESSAGES_KEPT: Final = 20  # the first ones, before this client's own messages
_BYSTANDER: Final = b"a blob of another run"


def attack(home: Home, n_items: int, dice: random.Random) -> list[Measured]:
    """Attack a run with this many hostile items, in rounds, and check after each that the run continues.

    In each round, two tasks are in progress and others wait, one of which crashes at its first start. All must be done in
    the end, and a task that is sent after the round within 15 s. Genuine events and messages are captured throughout and
    in an earlier execution, and replayed.
    """
    heard, earlier_messages = _earlier_execution(home)
    digest = hashlib.sha256(_BYSTANDER).hexdigest()
    home.store.put_if_absent(blob_key(digest), _BYSTANDER)
    never = task("test_noted", "never", home.starts)
    write_task(home.store, never, never.key)
    waits: list[float] = []
    n_lost_commits = 0
    with (
        home.executor() as executor,
        home.redis() as client,
        Eavesdropper(home.server.port, home.names) as eavesdropper,
    ):
        first = executor.submit(task("test_noted", "first", home.starts))
        (genuine,) = cast(list[str], client.lrange(home.names.queue, 0, -1))
        workers = [home.start_worker() for _ in range(_N_WORKERS)]
        result(first)
        for turn, start in enumerate(range(0, n_items, _ITEMS_A_ROUND)):
            tasks = [
                task("test_sleep", f"t{turn}-{number}", home.starts, seconds=0.5 + number)
                for number in range(4)
            ]
            tasks.append(task("test_crash_once", f"c{turn}", home.starts, seconds=2))
            futures = executor.submit_all(tasks)
            before = set(home.store.keys("commits/"))
            heard_now = [event for event in eavesdropper.events if _is_genuine(event, home.execution.id)]
            target = Target(
                home.names,
                never.key,
                [work.key for work in tasks],
                genuine,
                digest,
                heard=[*heard, *heard_now],
                asked=[*earlier_messages, *eavesdropper.messages[:_MESSAGES_KEPT]],
            )
            for _, act in attacks(target, min(_ITEMS_A_ROUND, n_items - start), dice):
                with suppress(redis.ResponseError):  # an earlier item has changed the type of this key
                    act(client)
                time.sleep(_PAUSE_SECONDS)
            ended_at = time.monotonic()
            result(
                executor.submit(task("test_noted", f"after-{turn}", home.starts)), seconds=2 * GUARD_SECONDS
            )
            waits.append(time.monotonic() - ended_at)
            for future in futures:
                result(future)
            n_lost_commits += len(before - set(home.store.keys("commits/")))
        n_dropped = executor.counters.dropped
    execution = read_execution(home.store, RUN)
    assert execution is not None
    return [
        Measured("the run goes on after a round of an attack", waits, GO_ON_SECONDS),
        Measured(
            "… starts of a task that nobody asked for",
            [noted_starts(home.starts).count("never")],
            0,
            unit="starts",
        ),
        Measured(
            "… starts of tasks that were done before",
            [noted_starts(home.starts).count(name) - 1 for name in ("earlier", "first")],
            0,
            unit="starts",
        ),
        Measured("… genuine events that were replayed", [len(target.heard)], 10**9, 3, unit="events"),
        Measured("… tasks quarantined", [len(quarantined_tasks(home.store, RUN))], 0, unit="tasks"),
        Measured("… commits deleted", [n_lost_commits], 0, unit="records"),
        Measured(
            "… blobs of others deleted", [int(not home.store.exists(blob_key(digest)))], 0, unit="blobs"
        ),
        Measured(
            "… final states",
            [int(execution.state is not State.OPEN) + int(home.store.exists(cancel_key(execution)))],
            0,
            unit="states",
        ),
        Measured(
            "… workers that ended", [sum(worker.poll() is not None for worker in workers)], 0, unit="workers"
        ),
        Measured("… hostile items that were noticed", [n_dropped], 10**9, 1, unit="items"),
    ]


def _earlier_execution(home: Home) -> tuple[list[str], list[str]]:
    """Carry out an execution of the run before the attacked one. Return its genuine events and messages."""
    home.start_worker()
    with home.executor() as executor, Eavesdropper(home.server.port, home.names) as eavesdropper:
        tasks = [
            task("test_noted", "earlier", home.starts),
            task("test_crash_once", "earlier-crash", home.starts),
        ]
        for future in executor.submit_all(tasks):
            result(future)
    assert all(_is_genuine(event, home.execution.id) for event in eavesdropper.events)
    assert len(eavesdropper.events) >= 3
    home.end(State.FAILED)
    home.begin_again()
    return eavesdropper.events, eavesdropper.messages


def _is_genuine(event: str, execution: str) -> bool:
    try:
        read_event(event, key=KEY, execution=execution)
    except MessageRefused:
        return False
    return True
