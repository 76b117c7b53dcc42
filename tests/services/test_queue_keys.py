"""All keys of a run expire in Redis: without heartbeats, each is gone after half a minute, even if no process is left to delete it."""

import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from mlho.protocol.names import KEEP_SECONDS, LASTING
from mlho.settings import Settings
from mlho.spec.training import load_spec
from mlho.store.local import LocalStore
from scheduler.controller.run_thread import Backend, RunThread, cancel
from scheduler.queue.executions import cancel_execution
from scheduler.queue.leases import Leases
from scheduler.queue.run import cancel_run, status_of
from tests.builders import make_tables, write_spec, write_tables
from tests.limits import GUARD_SECONDS, SLOWER
from tests.services.processes import is_running
from tests.services.queue_commands import Commands, ending
from tests.services.queue_home import KEY, RUN, Home, wait_until
from tests.services.queue_steps import ENDLESS_SECONDS, noted_pid, noted_starts, task
from tests.services.redis_servers import Server


def test_no_key_is_without_an_end(tmp_path: Path) -> None:
    """While tasks run, crash, are refused and finish, each key of the run has a TTL and a known name."""
    seen: set[str] = set()
    with Home(tmp_path) as home, home.executor() as executor:
        futures = [executor.submit(task("test_sleep", f"s{n}", home.starts, seconds=0.2)) for n in range(12)]
        futures.append(executor.submit(task("test_crash_once", "crash", home.starts)))
        seen |= _checked_keys(home)
        home.start_worker(slots=2)
        with home.redis() as client:
            client.lpush(home.names.queue, "no message")
        while not all(future.done() for future in futures):
            seen |= _checked_keys(home)
            time.sleep(0.01)
        assert all(future.exception() is None for future in futures)
    short = {key.removeprefix(home.names.prefix) for key in seen}
    known = {getattr(home.names, name).removeprefix(home.names.prefix) for name in LASTING}
    assert short <= known | {"room"}
    assert {"epoch", "tasks", "leases", "owners", "attempts", "nonces", "workers", "committed"} <= short
    assert "counters" in short  # from the refused item


def test_cancel_by_the_store_alone_ends_all_though_no_scheduler_lives(tmp_path: Path) -> None:
    """After a cancellation in the store alone, without a scheduler, no task runs 5 s later, a new worker starts none, and
    each key that is left expires within 30 s of the last worker's end.
    """
    with Home(tmp_path) as home:
        with home.executor() as executor:  # it exits without cleaning up, as a killed scheduler does
            for n in range(6):
                executor.submit(task("test_sleep", f"s{n}", home.starts, seconds=ENDLESS_SECONDS))
            workers = [home.start_worker(), home.start_worker()]
            wait_until(lambda: len(noted_starts(home.starts)) == 2, what="two tasks that are under way")
        children = [noted_pid(home.starts, name) for name in noted_starts(home.starts)]

        answer = cancel_run(home.store, RUN, None)
        assert "cancelled. Its workers and its scheduler end within seconds." in answer
        assert status_of(home.store, RUN, None)["state"] == "cancelled"
        wait_until(
            lambda: not any(map(is_running, children)),
            seconds=SLOWER * 5,
            what="that nothing executes any more",
        )
        assert [worker.wait(GUARD_SECONDS) for worker in workers] == [0, 0]
        assert home.start_worker().wait(GUARD_SECONDS) == 0
        assert len(noted_starts(home.starts)) == 2
        _checked_keys(home)  # no process is left that could extend their TTL


def test_keys_go_by_themselves_when_all_have_been_killed(tmp_path: Path) -> None:
    """If scheduler and worker are killed at once without a cancellation, all keys expire. The same command then finishes the run."""
    with Server(tmp_path / "server") as server, ending(_commands(tmp_path, server)) as commands:
        store = LocalStore(Path(commands.address))
        run = commands.run_id(store)
        commands.run("--broker", server.url)
        commands.worker(run)
        wait_until(lambda: len(list(store.keys("commits/"))) > 3, what="a few commits")
        for process in commands.processes:
            process.kill()
        for process in commands.processes:
            process.wait()
        with redis.Redis.from_url(server.url) as client:
            lives = [cast(int, client.ttl(key)) for key in _keys(server.url)]
        assert lives
        assert all(0 <= life <= KEEP_SECONDS for life in lives)
        wait_until(lambda: not _keys(server.url), what="that no key is left")

        again = commands.run("--broker", server.url)
        commands.worker(run)
        assert again.wait(4 * GUARD_SECONDS) == 0


def test_a_cancelled_execution_is_not_declared_again(tmp_path: Path) -> None:
    """A scheduler that finds Redis empty checks the store before it declares the execution again, so that a cancelled one stays cancelled."""
    with Home(tmp_path) as home, home.executor() as executor:
        future = executor.submit(task("test_noted", "never", home.starts))
        cancel_execution(home.store, home.execution)
        leases = Leases(home.server.url, home.names)
        leases.remove_keys()
        leases.close()
        assert "cancelled" in str(future.exception(GUARD_SECONDS))
        with home.redis() as client:
            assert not client.exists(home.names.epoch)
            assert not client.exists(home.names.queue)


@pytest.mark.parametrize("moment", ["before its execution", "while it begins", "while it learns"])
def test_a_deleted_run_leaves_no_key_and_no_open_execution(tmp_path: Path, moment: str) -> None:
    """Deleting a run as the operator does, by cancelling its thread and its execution at the same time, leaves no key, and
    the execution is closed.
    """
    with Server(tmp_path / "server") as server, ending(_commands(tmp_path, server)) as commands:
        settings = Settings(broker=server.url, signing_key=KEY)
        home = Backend(commands.address, settings)
        run = home.prepare(load_spec(commands.spec))
        has_cancelled = threading.Event()
        if moment != "before its execution":
            has_cancelled.set()
        driver = RunThread(home, run, lambda: None, note=lambda: _wait(has_cancelled))
        driver.start()
        worker = commands.worker(run.run_id)
        done_before = {"before its execution": 0, "while it begins": 1}.get(moment, 6)
        wait_until(lambda: len(list(home.store().keys("commits/"))) >= done_before, what="commits")

        driver.cancel()
        cancel(home, run.run_id, flagged=lambda: None)
        has_cancelled.set()
        assert driver.join(GUARD_SECONDS)
        assert worker.wait(GUARD_SECONDS) == 0
        wait_until(lambda: not _keys(server.url), what="that no key is left")
        assert status_of(home.store(), run.run_id, None)["state"] == "cancelled"


def _wait(event: threading.Event) -> None:
    assert event.wait(GUARD_SECONDS)


def _commands(folder: Path, server: Server) -> Commands:
    cohort = folder / "cohort"
    cohort.mkdir()
    write_tables(cohort, make_tables(300, seed=3), partitions=3)
    changes: dict[str, Any] = {
        "validation.iterations": 8,
        "candidates": [{"classifier": "glmboost", "grid": {"nSteps": [20]}}],
    }
    spec = write_spec(cohort, changes, uri=str(cohort))
    return Commands(spec, folder, str(folder / "store"), server.url)


def _checked_keys(home: Home) -> set[str]:
    """Return the keys of the run, each of which must have a TTL."""
    with home.redis() as client:
        keys = set(cast(list[str], client.keys(f"{home.names.prefix}*")))
        lives = {key: cast(int, client.ttl(key)) for key in keys}
    assert all(life == -2 or 0 <= life <= KEEP_SECONDS for life in lives.values()), (
        lives
    )  # -2: the key has expired
    return keys


def _keys(url: str) -> list[str]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return list(client.scan_iter("*"))
