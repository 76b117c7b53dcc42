"""If Redis rejects writes during a run, the run is degraded, and it continues when Redis accepts writes again."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
import redis

from mlho.store.local import LocalStore
from tests.disks import small_disk
from tests.limits import SLOWER
from tests.services.queue_commands import Commands, ending, write_small_run
from tests.services.queue_home import ROOT, Home, result, wait_until
from tests.services.queue_steps import noted_starts, task
from tests.services.redis_refusals import REFUSING, Refusing
from tests.services.redis_servers import Server

SECONDS: Final = SLOWER * 15.0
_REFUSING_SECONDS: Final = 11.0  # longer than two leases


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home") as home:
        yield home


@pytest.mark.parametrize("how", REFUSING)
def test_rejected_writes_degrade_a_run_until_redis_accepts_them(home: Home, how: str) -> None:
    """If Redis rejects writes for longer than two leases, no lease is expired and no task starts twice. Tasks that were
    submitted in the meantime run afterwards.
    """
    run_through(home, REFUSING[how])


def test_a_full_disk_of_redis_degrades_a_run_until_there_is_space(tmp_path: Path) -> None:
    """A Redis whose disk is full rejects writes that it cannot save. The run is degraded, and it continues when there is space."""
    with small_disk(tmp_path / "disk", size="200k") as disk:
        ballast = disk / "ballast"

        def fill_disk(client: "redis.Redis") -> None:
            with suppress(OSError):
                ballast.write_bytes(bytes(1_000_000))
            client.bgsave()
            wait_until(lambda: "MISCONF" in refusal_to_write(client), what="Redis rejects writes")

        def make_room(client: "redis.Redis") -> None:
            ballast.unlink()
            client.bgsave()

        server = Server(disk, options=("--save", "3600 1", "--rdbcompression", "no"))
        with Home(tmp_path / "home", server=server) as home:
            run_through(home, Refusing(fill_disk, make_room, "it cannot write its file to disk"))


def test_scheduler_and_worker_report_an_outage_of_redis_and_its_end(tmp_path: Path) -> None:
    """In a pipe, where no progress bar shows the state, the command prints when Redis fails, with the remedy, and when it is back.
    The worker logs the same once, and not the attempts of its library to connect.
    """
    spec = write_small_run(tmp_path / "cohort")
    store = tmp_path / "store"
    server = Server(tmp_path / "redis")
    with server, ending(Commands(spec, tmp_path, str(store), server.url)) as commands:
        commands.run("--broker", server.url)
        wait_until(lambda: list(store.glob("runs/*/execution")) != [], what="that an execution begins")
        run = commands.run_id(LocalStore(store))
        commands.worker(run, program=[str(ROOT / "tests" / "services" / "endless_iterations.py")])
        wait_until(lambda: "first_task_taken" in commands.log(), what="that a task runs")

        def printed(name: str) -> str:
            return (tmp_path / f"{name}.log").read_text(errors="replace")

        server.kill()
        wait_until(lambda: "Queue unavailable since" in printed("scheduler"), what="a line of the command")
        wait_until(lambda: '"queue_unavailable"' in printed("worker-1"), what="an event of the worker")
        time.sleep(_REFUSING_SECONDS)
        server.start()
        wait_until(
            lambda: "The queue is available again" in printed("scheduler"), what="the end of the outage"
        )
        wait_until(lambda: '"queue_recovered"' in printed("worker-1"), what="the end in the worker's log")

    events = [json.loads(line) for line in printed("scheduler").splitlines() if '"note_given"' in line]
    cause = "broker: does not answer. Check its address, and that it runs.\nWorkers"
    assert sum(cause in event["note"] for event in events) == 1
    assert printed("worker-1").count('"queue_unavailable"') == 1
    assert "%s" not in printed("worker-1")


def refusal_to_write(client: "redis.Redis") -> str:
    """Return the error with which Redis rejects a write, or an empty text if it accepts it."""
    try:
        client.set("more", b"")
    except redis.exceptions.ResponseError as error:
        return str(error)
    return ""


def run_through(home: Home, refusing: Refusing) -> None:
    """Let Redis reject writes while one task runs and others are submitted, and then accept them again."""
    worker = home.start_worker(slots=2)
    with home.executor() as executor, home.redis() as client:
        home.wait_for_slots(2)
        may_end = home.folder / "may_end"
        running = executor.submit(task("test_wait_for_file", "slow", home.starts, file=str(may_end)))
        wait_until(lambda: client.zcard(home.names.leases) == 1, what="a task under way")
        refusing.begins(client)
        wait_until(
            lambda: executor.counters.is_degraded, seconds=SECONDS, what="the run says that it is degraded"
        )
        may_end.touch()  # so that it ends while Redis rejects writes
        futures = executor.submit_all([task("test_noted", f"t{number}", home.starts) for number in range(20)])
        time.sleep(_REFUSING_SECONDS)
        assert executor.counters.is_degraded
        assert not any(future.done() for future in [running, *futures])
        refusing.passes(client)
        passed_at = time.monotonic()
        for future in [running, *futures]:
            assert result(future, seconds=2 * SECONDS).is_new
        assert time.monotonic() - passed_at < SECONDS
        assert not executor.counters.is_degraded
        assert refusing.words in executor.counters.outage
        assert executor.counters.retried == 0
        assert worker.poll() is None
    assert sorted(noted_starts(home.starts)) == sorted(["slow", *(f"t{number}" for number in range(20))])
