"""A client with write access to Redis but without the signing key causes no execution, deletion, quarantine or final
state. This is the short form of ``make hostile``.
"""

import base64
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from mlho.protocol.documents import Start, State, attempt_key, noted_attempts
from mlho.protocol.events import Event, EventKind, ReportedFailure, read_event
from mlho.protocol.failures import Failure, FailureClass
from scheduler.queue.errors import LEASE_EXPIRED
from scheduler.queue.executions import quarantine_task, quarantined_tasks
from tests.limits import SLOWER
from tests.services.eavesdropper import Eavesdropper
from tests.services.hostile_proof import attack
from tests.services.measured import missed
from tests.services.queue_home import KEY, RUN, Home, result, wait_until
from tests.services.queue_steps import ENDLESS_SECONDS, noted_starts, task

GO_ON_SECONDS = SLOWER * 15.0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path) as home:
        yield home


def test_hostile_items_cause_no_harm(home: Home) -> None:
    """A sample of all kinds of hostile items causes no harm while two workers run tasks, and the run continues."""
    assert missed(attack(home, 300, random.Random(1)), slower=SLOWER) == []


def _nonces(client: Any, home: Home) -> list[str]:
    """Return the nonces of the messages in the queue, the oldest first."""
    items = cast(list[str], client.lrange(home.names.queue, 0, -1))
    bodies = [json.loads(base64.b64decode(json.loads(item)["body"])) for item in reversed(items)]
    return [body[1]["nonce"] for body in bodies]


@pytest.mark.parametrize("failure_class", FailureClass)
def test_replayed_event_is_dropped(home: Home, failure_class: FailureClass) -> None:
    """A replayed genuine event is dropped, because the scheduler accepts one event for each message."""
    work = task("test_noted", "one", home.starts)
    with home.executor() as executor, home.redis() as client:
        future = executor.submit(work)
        (nonce,) = _nonces(client, home)
        told = Event(execution=home.execution.id, task=work.key, nonce=nonce, event=EventKind.RELEASED)
        client.rpush(home.names.events, told.signed(KEY))
        wait_until(lambda: len(_nonces(client, home)) == 2, what="that the task is sent again")
        failure = ReportedFailure.of(Failure(failure_class, "X", "m", "ab" * 32))
        replayed = Event(execution=home.execution.id, task=work.key, nonce=nonce, event=EventKind.FAILED, attempt=3, failure=failure)  # fmt: skip
        client.rpush(home.names.events, *[replayed.signed(KEY)] * 20)
        wait_until(lambda: executor.counters.dropped == 20, what="that all are dropped")
        assert executor.counters.retried == 0
        assert not future.done()


def test_events_of_an_earlier_execution_are_dropped(home: Home) -> None:
    """Genuine events of an earlier execution are dropped, so that the failure of a task there does not apply to its present attempt."""
    work = task("test_crash_once", "one", home.starts, seconds=ENDLESS_SECONDS)
    worker = home.start_worker()
    with home.executor() as executor, Eavesdropper(home.server.port, home.names) as eavesdropper:
        executor.submit(work)
        wait_until(lambda: noted_starts(home.starts) == ["one", "one"], what="the second start")
    (failed,) = [event for event in eavesdropper.events if '"failed"' in event]
    assert read_event(failed, key=KEY, execution=home.execution.id).why.failure_class is FailureClass.POISON
    home.end(State.FAILED)
    home.begin_again()
    assert worker.poll() is not None
    with home.executor() as executor, home.redis() as client:
        future = executor.submit(work)
        client.rpush(home.names.events, *[failed] * 20)
        wait_until(lambda: executor.counters.dropped == 20, what="that all are dropped")
        assert executor.counters.retried == 0
        assert not future.done()
    assert quarantined_tasks(home.store, RUN) == []


@pytest.mark.parametrize("flag", ["cancelled", "done"])
def test_a_forged_flag_ends_nothing(home: Home, flag: str) -> None:
    """A forged flag is removed, the worker keeps running, and the run continues."""
    worker = home.start_worker()
    with home.executor() as executor, home.redis() as client:
        home.wait_for_slots(1)
        for _ in range(40):
            client.set(getattr(home.names, flag), 1)
            time.sleep(0.1)
        result(executor.submit(task("test_noted", "next", home.starts)), seconds=GO_ON_SECONDS)
        assert executor.counters.is_tampered
        assert worker.poll() is None


def test_lease_until_the_end_of_time_is_shortened(home: Home) -> None:
    """An endless lease of a waiting task by an unknown owner is shortened, so that the task runs."""
    work = task("test_noted", "one", home.starts)
    with home.executor() as executor, home.redis() as client:
        client.zadd(home.names.leases, {work.key: 10**15})
        client.hset(home.names.owners, work.key, "nobody")
        future = executor.submit(work)
        home.start_worker()
        home.wait_for_slots(1)
        result(future, seconds=GO_ON_SECONDS)


def test_counts_of_starts_in_redis_quarantine_nothing(home: Home) -> None:
    """A forged count of starts in Redis does not quarantine a task that crashes once: it is done at its second start."""
    work = task("test_crash_once", "one", home.starts)
    with home.executor() as executor, home.redis() as client:
        client.hset(home.names.attempts, work.key, 7)
        client.hset(f"{home.names.prefix}quarantine", work.key, 7)
        future = executor.submit(work)
        home.start_worker()
        result(future)
    assert noted_starts(home.starts) == ["one", "one"]
    assert quarantined_tasks(home.store, RUN) == []


def test_leases_that_are_ended_again_and_again_quarantine_nothing(home: Home) -> None:
    """If the lease of a task is ended again and again, no start counts, because none of them failed, and the task is not quarantined."""
    work = task("test_sleep", "one", home.starts, seconds=4)
    for _ in range(3):
        home.start_worker()
    with home.executor() as executor, home.redis() as client:
        home.wait_for_slots(3)
        future = executor.submit(work)
        until = time.monotonic() + 15
        while time.monotonic() < until and not future.done():
            client.zadd(home.names.leases, {work.key: 1}, xx=True)
            time.sleep(0.1)
        result(future, seconds=GO_ON_SECONDS)
    assert quarantined_tasks(home.store, RUN) == []


def test_start_that_is_under_way_is_not_counted(home: Home) -> None:
    """With two start records, one of which is renewed between two checks, the task is sent again and finishes, because a
    running start does not count.
    """
    work = task("test_noted", "one", home.starts)
    keys = [attempt_key(home.execution.id, work.key, f"{number:032x}") for number in (1, 2)]
    for key in keys:
        home.store.put_if_absent(key, Start(attempt=2).to_bytes())
    with home.executor() as executor, home.redis() as client:
        client.hset(home.names.attempts, work.key, 2)
        future = executor.submit(work)
        home.start_worker()
        for number in range(200):
            old = noted_attempts(home.store, home.execution.id, work.key)
            if len(old) < 2 or future.done():
                break
            record = old[f"{1:032x}"]
            renewed = record.model_copy(update={"renewals": number + 1})
            home.store.compare_and_swap(keys[0], renewed.to_bytes(), expected=record.to_bytes())
            time.sleep(0.05)
        assert quarantined_tasks(home.store, RUN) == []
        home.store.delete(keys[0])  # as when its worker lost the lease
        result(future)


def test_old_message_of_a_quarantined_task_starts_nothing(home: Home) -> None:
    """An old message of a quarantined task starts nothing, even if Redis has lost its nonce and its count of starts."""
    with home.executor() as executor, home.redis() as client:
        executor.submit(task("test_noted", "poison", home.starts))
        (old,) = cast(list[str], client.lrange(home.names.queue, 0, -1))
        client.delete(home.names.queue)
        quarantine_task(
            home.store,
            RUN,
            task("test_noted", "poison", home.starts).key,
            LEASE_EXPIRED,
            step="x",
            attempts=3,
        )
        home.start_worker()
        home.wait_for_slots(1)
        client.lpush(home.names.queue, *[old] * 5)
        result(executor.submit(task("test_noted", "next", home.starts)))
        wait_until(lambda: not client.llen(home.names.queue), what="that all are refused")
    assert noted_starts(home.starts) == ["next"]
