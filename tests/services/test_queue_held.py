"""A message that a worker has taken is only in that worker, which takes no more messages than it has slots, and it is
sent again if the worker dies.
"""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import cast

import pytest
import redis

from mlho.steps.records import Outcome
from scheduler.queue.executor import QueueExecutor
from tests.limits import SLOWER
from tests.services.queue_home import Home, result, wait_until
from tests.services.queue_steps import ENDLESS_SECONDS, noted_pid, noted_starts, task

LOOK_SECONDS = 2.0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path) as home:
        yield home


def test_a_taken_message_has_no_copy_in_redis(home: Home) -> None:
    """A taken message is not stored in Redis again, unlike Kombu's default, which delivers it again after hours."""
    home.start_worker()
    with home.executor() as executor, home.redis() as client:
        home.wait_for_slots(1)
        looked = home.folder / "looked"
        future = executor.submit(task("test_wait_for_file", "slow", home.starts, file=str(looked)))
        wait_until(lambda: noted_starts(home.starts) == ["slow"], what="a start")
        keys = [key.removeprefix(home.names.prefix) for key in cast(list[str], client.keys("*"))]
        looked.touch()
        result(future)
    assert "leases" in keys
    assert not [key for key in keys if "unacked" in key]


def test_busy_worker_that_is_cut_off_takes_nothing_more_and_does_not_spin(home: Home) -> None:
    """After a reconnection, a busy worker takes no further message, so that an idle worker can take it. Its main thread uses
    no CPU while it waits.
    """
    worker = home.start_worker()
    with home.executor() as executor:
        busy = _one_runs(home, executor)
        following = executor.submit(task("test_noted", "next", home.starts))
        with home.redis() as client:
            client.client_kill_filter(_type="normal", skipme=True)
            time.sleep(LOOK_SECONDS)
            before = _cpu_seconds(worker.pid)
            time.sleep(LOOK_SECONDS)
            assert _cpu_seconds(worker.pid) - before < 0.1 * LOOK_SECONDS
            assert client.llen(home.names.queue) == 1
        home.start_worker()
        result(following)
        assert not busy.done()
        assert executor.counters.lost == 0
    assert noted_pid(home.starts, "next") != noted_pid(home.starts, "busy")


def test_cut_off_worker_goes_on_with_the_queue_once_it_is_free(home: Home) -> None:
    home.start_worker()
    with home.executor() as executor:
        busy = _one_runs(home, executor, seconds=4)
        with home.redis() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        following = [executor.submit(task("test_noted", f"t{i}", home.starts)) for i in range(20)]
        result(busy)
        for future in following:
            result(future)
        assert (executor.counters.lost, executor.counters.retried) == (0, 0)
    assert sorted(noted_starts(home.starts)) == sorted(["busy", *(f"t{i}" for i in range(20))])


def test_a_message_of_a_worker_that_dies_before_its_claim_is_sent_again(home: Home) -> None:
    """If a worker is killed with a message in its socket, which Redis no longer has, the task runs elsewhere within 15 s."""
    worker = home.start_worker()
    with home.executor() as executor, home.redis() as client:
        home.wait_for_slots(1)
        result(executor.submit(task("test_noted", "first", home.starts)))
        wait_until(lambda: _asks_for_a_message(client), what="that it asks for the next message")
        worker.send_signal(signal.SIGSTOP)
        future = executor.submit(task("test_noted", "taken", home.starts))
        wait_until(lambda: client.llen(home.names.queue) == 0, what="the message is taken")
        worker.kill()
        home.start_worker()
        result(future, seconds=SLOWER * 15)
        assert executor.counters.lost == 1
    assert noted_starts(home.starts) == ["first", "taken"]


def _one_runs(home: Home, executor: QueueExecutor, *, seconds: float = ENDLESS_SECONDS) -> "Future[Outcome]":
    home.wait_for_slots(1)
    busy = executor.submit(task("test_sleep", "busy", home.starts, seconds=seconds))
    wait_until(lambda: noted_starts(home.starts) == ["busy"], what="a start")
    return busy


def _asks_for_a_message(client: "redis.Redis") -> bool:
    """Return whether a worker is waiting for a message. The scheduler waits with another command, for events."""
    connections = cast(list[dict[str, str]], client.client_list())
    return any(connection["cmd"] == "brpop" and "b" in connection["flags"] for connection in connections)


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process without that of its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
