"""Faults of workers: processes die, hang, use too much memory or are told to stop. Every task finishes, and starts are counted exactly."""

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlho.errors import MlhoError
from mlho.protocol.failures import Quarantined
from scheduler.queue.errors import RemoteFailure, RemoteInputFailure
from tests.limits import GUARD_SECONDS, SLOWER
from tests.services.measured import missed
from tests.services.processes import is_running
from tests.services.queue_home import Home, result, wait_until
from tests.services.queue_steps import ENDLESS_SECONDS, noted_starts, noted_times, task
from tests.services.trials import drain_workers, hold_the_lock, kill_own_workers, kill_workers


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path) as home:
        yield home


def test_tasks_run_once_and_finish(home: Home) -> None:
    """Each of 40 tasks on two workers with two slots starts once and is committed."""
    home.start_worker(slots=2)
    home.start_worker(slots=2)
    with home.executor() as executor:
        home.wait_for_slots(4)
        futures = [executor.submit(task("test_noted", f"t{i}", home.starts)) for i in range(40)]
        outcomes = [result(future) for future in futures]
    assert all(outcome.is_new for outcome in outcomes)
    assert sorted(noted_starts(home.starts)) == sorted(f"t{i}" for i in range(40))


def test_crashed_child_is_replaced_within_two_seconds(home: Home) -> None:
    """After a child is killed, its attempt counts, and the task starts again within 2 s."""
    home.start_worker()
    with home.executor() as executor:
        home.wait_for_slots(1)
        result(executor.submit(task("test_crash_once", "once", home.starts)))
        assert executor.counters.retried == 1
    first, second = noted_times(home.starts, "once")
    assert second - first < SLOWER * 2


def test_poison_is_quarantined_after_three_starts_and_neighbours_go_on(home: Home) -> None:
    home.start_worker(slots=2)
    with home.executor() as executor:
        home.wait_for_slots(2)
        poison = executor.submit(task("test_crash", "poison", home.starts))
        others = [executor.submit(task("test_noted", f"t{i}", home.starts)) for i in range(20)]
        for future in others:
            result(future)
        with pytest.raises(
            Quarantined,
            match=r"3 times .*SIGKILL",
        ):
            result(poison)
    assert noted_starts(home.starts).count("poison") == 3


@pytest.mark.parametrize("empties", [False, True])
def test_task_that_kills_its_whole_worker_starts_three_times(home: Home, empties: bool) -> None:
    """A task that kills its whole worker starts three times, because an attempt is counted before it starts. If Redis loses
    its data in between, there is at most one more start.
    """
    assert missed(kill_own_workers(home, range(1), empties=empties)) == []


def test_killed_worker_s_task_runs_elsewhere_within_eight_seconds(home: Home) -> None:
    """If main process and children of two busy workers are killed, other workers start their tasks within 8 s."""
    assert missed(kill_workers(home, range(1), random.Random(1), side_by_side=2), slower=SLOWER) == []


def test_children_of_a_killed_worker_end_with_it(home: Home) -> None:
    """If only the main process of a worker is killed, its children exit too."""
    worker = home.start_worker()
    with home.executor() as executor:
        home.wait_for_slots(1)
        executor.submit(task("test_sleep", "long", home.starts, seconds=ENDLESS_SECONDS))
        wait_until(lambda: noted_starts(home.starts) == ["long"], what="start")
        child = int(home.starts.read_text().split()[2])
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        wait_until(lambda: not is_running(child), what="end of the child")


def test_native_code_that_holds_the_lock_loses_no_lease(home: Home) -> None:
    """Native code that holds the interpreter lock for two lease times, asleep or computing, loses no lease and starts once."""
    assert missed(hold_the_lock(home, 11)) == []


def test_sigterm_frees_the_lease_uncounted(home: Home) -> None:
    """A busy worker exits with code 0 within its grace period after SIGTERM, and its lease is released without counting the
    attempt, three times.
    """
    assert missed(drain_workers(home, range(3), random.Random(1)), slower=SLOWER) == []


def test_task_that_hangs_is_stopped_softly(home: Home) -> None:
    home.start_worker("--soft-limit", "1", "--hard-limit", "30")
    with home.executor() as executor:
        home.wait_for_slots(1)
        with pytest.raises(Quarantined, match=r"soft time limit.*MLHO_SOFT_LIMIT"):
            result(executor.submit(task("test_sleep", "hang", home.starts, seconds=ENDLESS_SECONDS)))
        assert executor.counters.retried == 2  # more, if a lease had to expire
    assert noted_starts(home.starts).count("hang") == 3


def test_task_that_hangs_in_native_code_is_killed(home: Home) -> None:
    home.start_worker("--soft-limit", "1", "--hard-limit", "2")
    with home.executor() as executor:
        home.wait_for_slots(1)
        with pytest.raises(
            Quarantined,
            match=r"hard time limit.*MLHO_HARD_LIMIT",
        ):
            result(executor.submit(task("test_hold_lock", "hang", home.starts, seconds=ENDLESS_SECONDS)))
    assert noted_starts(home.starts).count("hang") == 3


def test_memory_is_guarded_before_the_kernel_acts(home: Home) -> None:
    """A task that uses 1.6 GB under a limit of 600 MB is stopped for that reason, and the worker continues."""
    worker = home.start_worker("--memory", str(600 << 20))
    with home.executor() as executor:
        home.wait_for_slots(1)
        with pytest.raises(Quarantined, match="close to the memory limit"):
            result(executor.submit(task("test_eat", "eater", home.starts)))
        assert executor.counters.memory_exceeded == 600 << 20  # a cluster's next workers are larger
        result(executor.submit(task("test_noted", "after", home.starts)))
    assert worker.poll() is None
    assert noted_starts(home.starts).count("eater") == 3


def test_bad_input_fails_at_once_with_its_own_words(home: Home) -> None:
    home.start_worker()
    with home.executor() as executor:
        home.wait_for_slots(1)
        with pytest.raises(RemoteInputFailure, match=r"events.csv: .*Expected code"):
            result(executor.submit(task("test_bad_input", "bad", home.starts)))
    assert noted_starts(home.starts) == ["bad"]


def test_store_that_does_not_serve_costs_no_attempt(home: Home) -> None:
    """Five failures of the store do not use up a task's three starts, and the task finishes."""
    home.start_worker()
    with home.executor() as executor:
        home.wait_for_slots(1)
        result(executor.submit(task("test_no_store", "patient", home.starts, times=5)))
    assert noted_starts(home.starts).count("patient") == 6


def test_the_log_of_a_failed_attempt_identifies_it(home: Home) -> None:
    """The log of a failed attempt has run, step, iteration, fold and attempt, in the fields that all events use."""
    home.start_worker()
    failing = task("test_bad_input", "bad", home.starts, iteration=3, fold=1)
    with home.executor() as executor, pytest.raises(RemoteInputFailure):
        result(executor.submit(failing))
    wait_until(lambda: "task_failed" in home.log.read_text(), what="the line")

    lines = [json.loads(line) for line in home.log.read_text().splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line["event"] == "task_failed"]
    assert {name: line[name] for name in ("run_id", "step", "iteration", "fold", "attempt", "outcome")} == {
        "run_id": home.execution.run,
        "step": "test_bad_input",
        "iteration": 3,
        "fold": 1,
        "attempt": 1,
        "outcome": "input",
    }
    assert {line["run_id"] for line in lines} == {home.execution.run}


def test_the_output_of_a_worker_is_json(home: Home) -> None:
    """All output of a worker up to SIGTERM is JSON, without Celery's lines about root or the signal."""
    worker = home.start_worker()
    with home.executor():
        home.wait_for_slots(1)
        worker.terminate()
        assert worker.wait(GUARD_SECONDS) == 0

    events = [json.loads(line)["event"] for line in home.log.read_text().splitlines()]
    assert (events[0], events[-1]) == ("worker_started", "worker_ended")


def test_a_worker_that_is_not_verbose_logs_failures_only(home: Home) -> None:
    """A worker without verbose logging logs a failed task and not its own start."""
    home.start_worker(verbose=False)
    with home.executor() as executor, pytest.raises(RemoteInputFailure):
        result(executor.submit(task("test_bad_input", "bad", home.starts)))
    wait_until(lambda: "task_failed" in home.log.read_text(), what="the line")

    assert [json.loads(line)["event"] for line in home.log.read_text().splitlines()] == ["task_failed"]


def test_foreign_error_leaves_the_worker_without_its_message(home: Home) -> None:
    """If a library's error quotes a patient, the value is neither in the scheduler's error nor in the log nor in Redis."""
    home.start_worker()
    secret = "Jane-Canary-1953"
    with home.executor() as executor, home.redis() as client:
        home.wait_for_slots(1)
        with pytest.raises(RemoteFailure) as caught:
            result(executor.submit(task("test_leak", "leak", home.starts, secret=secret)))
        dump = b"".join(client.dump(key) or b"" for key in _raw(home).keys("*"))
    assert isinstance(caught.value, MlhoError)
    assert secret not in str(caught.value)
    assert secret not in home.log.read_text()
    assert secret.encode() not in dump


def _raw(home: Home):  # type: ignore[no-untyped-def]
    import redis

    return redis.Redis.from_url(home.server.url)
