"""Faults of the queue: Redis is killed, loses its data or is away for long; schedulers are killed, duplicated or
stopped; a run is cancelled.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlho.protocol.documents import State, read_execution
from mlho.steps.proposals import Leader
from scheduler.queue.executions import RunCancelled, begin_execution, cancel_execution
from scheduler.queue.leadership import AnotherScheduler, LeadershipLost, StoreLease
from scheduler.queue.run import cancel_run
from tests.limits import GUARD_SECONDS, SLOWER
from tests.services.measured import missed
from tests.services.processes import is_running
from tests.services.queue_home import ROOT, RUN, Home, result, wait_until
from tests.services.queue_steps import ENDLESS_SECONDS, noted_starts, noted_times, task
from tests.services.redis_servers import durable
from tests.services.trials import restart_redis


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path) as home:
        yield home


@pytest.fixture
def durable_home(tmp_path: Path) -> Iterator[Home]:
    server = durable(tmp_path / "server")
    if server is None:
        pytest.skip("redis-server is not installed")
    with Home(tmp_path, server=server) as home:
        yield home


def test_redis_killed_mid_task_and_started_again(durable_home: Home) -> None:
    """If Redis is killed and restarted, three times, no task that runs or waits is started twice, and the next one starts
    within 6 s of the restart.
    """
    assert missed(restart_redis(durable_home, range(3), random.Random(1)), slower=SLOWER) == []


def test_emptied_redis_is_filled_again_within_fifteen_seconds(home: Home) -> None:
    """After FLUSHALL with one running and several waiting tasks, all tasks finish, and none that was finished runs again."""
    home.start_worker()
    with home.executor() as executor, home.redis() as client:
        home.wait_for_slots(1)
        futures = [executor.submit(task("test_sleep", f"t{i}", home.starts, seconds=1)) for i in range(4)]
        wait_until(lambda: noted_starts(home.starts) != [], what="start")
        client.flushall()
        emptied_at = time.monotonic()
        for future in futures:
            result(future)
    assert time.monotonic() - emptied_at < SLOWER * 15 + 4
    assert sorted(noted_starts(home.starts)) == ["t0", "t1", "t2", "t3"]


def test_worker_outlives_a_redis_that_is_away_for_long(home: Home) -> None:
    """If Redis is away for longer than two leases and the longest reconnection pause, the worker keeps running, reports its
    finished task, and soon takes the next one.
    """
    worker = home.start_worker()
    with home.executor() as executor:
        home.wait_for_slots(1)
        future = executor.submit(task("test_sleep", "kept", home.starts, seconds=2))
        wait_until(lambda: noted_starts(home.starts) == ["kept"], what="start")
        home.server.kill()
        time.sleep(12)
        home.server.start()  # nothing was saved: it is empty
        back_at = time.time()
        assert result(future).commit.kind == "test_sleep"
        result(executor.submit(task("test_noted", "next", home.starts)))
        assert noted_times(home.starts, "next")[0] - back_at < SLOWER * 8
    assert worker.poll() is None
    assert noted_starts(home.starts) == ["kept", "next"]


def test_cancelled_run_stops_within_five_seconds_and_leaves_no_key(home: Home) -> None:
    """Cancelling kills running tasks, prevents waiting ones from starting, even on a new worker, and leaves no key in Redis."""
    worker = home.start_worker(slots=2)
    with home.executor() as executor:
        home.wait_for_slots(2)
        futures = [
            executor.submit(task("test_sleep", f"t{i}", home.starts, seconds=ENDLESS_SECONDS))
            for i in range(6)
        ]
        wait_until(lambda: len(noted_starts(home.starts)) == 2, what="two starts")
        children = [int(line.split()[2]) for line in home.starts.read_text().splitlines()]
        cancelled_at = time.monotonic()
        cancel_execution(home.store, home.execution)
        with pytest.raises(RunCancelled):
            result(futures[0])
        wait_until(lambda: not any(map(is_running, children)), what="end of the children")
        assert time.monotonic() - cancelled_at < SLOWER * 5
    assert worker.wait(GUARD_SECONDS) == 0
    fresh = home.start_worker()
    assert fresh.wait(GUARD_SECONDS) == 0
    cancel_run(home.store, RUN, home.server.url)
    assert len(noted_starts(home.starts)) == 2
    with home.redis() as client:
        assert client.keys("*") == []


def test_cancel_by_the_store_alone_reaches_workers(home: Home) -> None:
    """Workers read the durable cancel flag from the store, so that a run can be cancelled without a scheduler and without access to Redis."""
    worker = home.start_worker()
    with home.executor() as executor:
        home.wait_for_slots(1)
        executor.submit(task("test_sleep", "long", home.starts, seconds=ENDLESS_SECONDS))
        wait_until(lambda: noted_starts(home.starts) == ["long"], what="start")
    cancel_execution(home.store, home.execution)
    assert worker.wait(GUARD_SECONDS) == 0


def test_workers_end_when_the_run_is_finished(home: Home) -> None:
    worker = home.start_worker()
    with home.executor() as executor:
        home.wait_for_slots(1)
        result(executor.submit(task("test_noted", "only", home.starts)))
    home.end()
    assert worker.wait(GUARD_SECONDS) == 0


def test_the_next_scheduler_continues_the_same_execution(home: Home) -> None:
    """The next scheduler continues the same execution: it collects the commits of running tasks, and no finished task runs again."""
    home.start_worker()
    with home.executor() as executor:
        home.wait_for_slots(1)
        tasks = [task("test_sleep", f"t{i}", home.starts, seconds=0.5) for i in range(6)]
        futures = [executor.submit(work) for work in tasks]
        result(futures[1])
    again, is_new = begin_execution(home.store, RUN, home.folder)
    assert (again, is_new) == (home.execution, False)
    with home.executor() as executor:
        for future in [executor.submit(work) for work in tasks]:
            result(future)
    assert sorted(noted_starts(home.starts)) == [f"t{i}" for i in range(6)]


LEASE_SECONDS = 4.0
_DRIVE = """
import sys, time
from pathlib import Path
from scheduler.queue.leadership import StoreLease
from mlho.store.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
with StoreLease(store, sys.argv[2], lease_seconds=float(sys.argv[3])) as leader:
    print("leads", flush=True)
    for line in sys.stdin:
        try:
            leader.check()
        except Exception as error:
            print(type(error).__name__, flush=True)
            sys.exit(3)
        store.put_if_absent(f"runs/{sys.argv[2]}/written/{line.strip()}", b"x")
        print("wrote", flush=True)
"""


def _start_leader(home: Home) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", _DRIVE, str(home.store.root), RUN, str(LEASE_SECONDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    home.processes.append(process)  # type: ignore[arg-type] - only killed there
    return process


def test_second_scheduler_is_refused_while_the_first_is_alive(home: Home) -> None:
    first = _start_leader(home)
    assert first.stdout is not None
    assert first.stdout.readline() == "leads\n"
    with (
        pytest.raises(
            AnotherScheduler, match=f"run {RUN}: another scheduler leads it .process {first.pid} on "
        ),
        StoreLease(home.store, RUN, lease_seconds=LEASE_SECONDS),
    ):
        pass


def test_stopped_scheduler_finds_that_it_lost_leadership_and_writes_nothing(home: Home) -> None:
    """A scheduler that is stopped while another takes over, and is then resumed, writes nothing and exits."""
    old = _start_leader(home)
    assert old.stdin is not None
    assert old.stdout is not None
    assert old.stdout.readline() == "leads\n"
    os.kill(old.pid, signal.SIGSTOP)
    stopped_at = time.monotonic()
    with StoreLease(home.store, RUN, lease_seconds=LEASE_SECONDS) as new:
        assert time.monotonic() - stopped_at < SLOWER * 4 * LEASE_SECONDS
        os.kill(old.pid, signal.SIGCONT)
        old.stdin.write("late\n")
        old.stdin.flush()
        assert old.stdout.readline() == "LeadershipLost\n"
        assert old.wait(GUARD_SECONDS) == 3
        new.check()
    assert not home.store.exists(f"runs/{RUN}/written/late")


def test_killed_scheduler_on_this_host_need_not_be_waited_for(home: Home) -> None:
    old = _start_leader(home)
    assert old.stdout is not None
    assert old.stdout.readline() == "leads\n"
    old.kill()
    old.wait()
    began = time.monotonic()
    with StoreLease(home.store, RUN, lease_seconds=GUARD_SECONDS) as new:
        new.check()
    assert time.monotonic() - began < GUARD_SECONDS


class _Lead(Leader):
    """A leadership check that passes until the test withdraws leadership."""

    is_lost = False

    def check(self) -> None:
        if self.is_lost:
            raise LeadershipLost("run: another scheduler took over.")


def test_executor_without_leadership_sends_nothing(home: Home) -> None:
    """An executor without leadership sends no task."""
    leader = _Lead()
    with home.executor(leader=leader) as executor, home.redis() as client:
        leader.is_lost = True
        with pytest.raises(LeadershipLost):
            executor.submit(task("test_noted", "never", home.starts))
        assert client.llen(home.names.queue) == 0


def test_scheduler_without_leadership_leaves_an_emptied_redis_empty(home: Home) -> None:
    """A resumed scheduler without leadership does not declare its execution again after another one has ended it and deleted its keys."""
    leader = _Lead()
    with home.executor(leader=leader) as executor, home.redis() as client:
        future = executor.submit(task("test_noted", "never", home.starts))
        leader.is_lost = True
        client.flushall()
        with pytest.raises(LeadershipLost):
            result(future)
        assert set(client.keys("*")) <= {home.names.prefix + "room"}  # which expires by itself


def test_state_of_a_run_is_in_the_store(home: Home) -> None:
    home.end(State.FAILED)
    found = read_execution(home.store, RUN)
    assert found is not None
    assert found.state is State.FAILED
    again, is_new = begin_execution(home.store, RUN, home.folder)
    assert (again.number, is_new) == (2, True)
