"""A run on a queue gives the same bytes as in one process, and the command stops the processes that it started."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlho.settings import BROKER, SIGNING_KEY
from mlho.store.local import LocalStore
from scheduler.engine.plan import STAGES
from scheduler.queue.run import status_of
from tests.limits import GUARD_SECONDS
from tests.services.processes import descendants, is_running
from tests.services.queue_commands import Commands, ending, run_alone, write_small_run
from tests.services.queue_home import KEY, ROOT, kill_group, wait_until
from tests.services.redis_servers import Server


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_run(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def alone(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files that one process without a queue publishes, by name."""
    return _published(run_alone(spec, tmp_path_factory.mktemp("alone")).root)


@pytest.fixture
def running() -> Iterator[list["subprocess.Popen[Any]"]]:
    processes: list[subprocess.Popen[Any]] = []
    yield processes
    for process in processes:
        kill_group(process)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_embedded_queue_gives_the_same_bytes(
    spec: Path, alone: dict[str, bytes], tmp_path: Path, n_workers: int
) -> None:
    process = _command(spec, tmp_path / "store", "--workers", str(n_workers), "--broker", "embedded")
    assert process.wait(4 * GUARD_SECONDS) == 0
    assert _published(tmp_path / "store") == alone


def test_ctrl_c_stops_the_servers_and_workers_of_the_command(spec: Path, tmp_path: Path) -> None:
    """After SIGINT the command exits with code 130 and leaves neither server nor worker. The same command then finishes the run."""
    store = tmp_path / "store"
    process = _command(spec, store, "--workers", "2", "--broker", "embedded")
    wait_until(lambda: len(list(store.glob("commits/*/*"))) > 2, what="a few commits")
    family = descendants(process.pid)
    assert len(family) >= 3  # the server and two workers
    process.send_signal(signal.SIGINT)
    assert process.wait(GUARD_SECONDS) == 130
    wait_until(lambda: not any(map(is_running, family)), what="end of all that was started")
    assert _command(spec, store, "--workers", "2").wait(4 * GUARD_SECONDS) == 0


def test_command_that_is_killed_leaves_nothing_behind(spec: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    process = _command(spec, store, "--workers", "2", "--broker", "embedded")
    wait_until(lambda: len(list(store.glob("commits/*/*"))) > 1, what="a few commits")
    family = descendants(process.pid)
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(is_running, family)), what="end of all that was started")


@pytest.mark.parametrize("seed", [1])
def test_repeatedly_killed_schedulers_change_no_byte(
    spec: Path, alone: dict[str, bytes], tmp_path: Path, running: list[Any], seed: int
) -> None:
    """With schedulers killed at random moments and running workers, the bytes are the same, and no commit record is written twice."""
    rng = random.Random(seed)
    store = tmp_path / "store"
    with Server(tmp_path / "server") as server:
        secrets = {BROKER: server.url, SIGNING_KEY: KEY.decode()}
        seen: dict[str, int] = {}
        for turn in range(12):
            scheduler = _command(spec, store, "--broker", server.url, **secrets)
            running.append(scheduler)
            if not turn:
                wait_until(lambda: list(store.glob("runs/*/execution")) != [], what="an execution")
                running += [_worker(store, tmp_path, **secrets) for _ in range(2)]
            try:
                code = scheduler.wait(rng.uniform(0.8, 2.2) if turn < 11 else 4 * GUARD_SECONDS)
            except subprocess.TimeoutExpired:
                scheduler.kill()
                scheduler.wait()
                commits = {str(path): path.stat().st_ino for path in store.glob("commits/*/*")}
                assert seen.items() <= commits.items()
                seen = commits
                continue
            assert code == 0
            break
        for worker in running[1:3]:
            assert worker.wait(GUARD_SECONDS) == 0
    assert _published(store) == alone


def test_status_shows_the_progress_of_a_run(spec: Path, tmp_path: Path, running: list[Any]) -> None:
    """The status has stage, share and counts under the names of a resource's status, and none of them before a scheduler has started."""
    with Server(tmp_path / "server") as server:
        commands = Commands(spec, tmp_path, str(tmp_path / "store"), server.url)
        store = LocalStore(tmp_path / "store")
        run = commands.run_id(store)
        assert status_of(store, run, server.url)["state"] == "not on a queue"
        running += [commands.run("--broker", server.url), commands.worker(run)]
        seen = [status_of(store, run, server.url)]
        wait_until(
            lambda: seen.append(status_of(store, run, server.url)) or "stage" in seen[-1],
            what="a word of the scheduler",
        )
        assert running[0].wait(4 * GUARD_SECONDS) == 0
    status, tasks = seen[-1], seen[-1]["tasks"]
    assert status["stage"] in STAGES
    assert tasks["done"] < tasks["total"]
    assert status["progress"] == f"{100 * tasks['done'] // tasks['total']}%"


def test_a_run_with_quarantined_tasks_continues_after_retry(
    spec: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    """A run with quarantined tasks names them and the cause, also when it is started again. After a retry with a suitable
    worker, it has the same bytes.
    """
    with (
        Server(tmp_path / "server") as server,
        ending(Commands(spec, tmp_path, str(tmp_path / "store"), server.url)) as commands,
    ):
        store = LocalStore(tmp_path / "store")
        run = commands.run_id(store)
        held_up = commands.run("--broker", server.url)
        endless = [str(ROOT / "tests" / "services" / "endless_iterations.py")]
        commands.worker(run, "--slots", "3", "--soft-limit", "3", program=endless)
        assert held_up.wait(4 * GUARD_SECONDS) == 1
        assert "3 quarantined tasks" in commands.log()
        assert (
            "failed 3 times and is quarantined. Last: the task exceeded its soft time limit" in commands.log()
        )
        assert len(status_of(store, run, None)["quarantined"]) == 3
        assert commands.run("--broker", server.url).wait(GUARD_SECONDS) == 1
        assert (
            "quarantined by an earlier execution, after 3 starts. Last: the task exceeded" in commands.log()
        )

        assert commands.command("retry", run, "--store", str(tmp_path / "store")).wait(GUARD_SECONDS) == 0
        last = commands.run("--broker", server.url)
        wait_until(lambda: status_of(store, run, None)["state"] == "open", what="another try")
        commands.worker(run)
        assert last.wait(4 * GUARD_SECONDS) == 0
    assert _published(tmp_path / "store") == alone


def test_worker_without_a_signing_key_says_how_to_make_one(tmp_path: Path) -> None:
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "worker",
            "--run",
            "0" * 16,
            "--store",
            str(tmp_path),
            "--broker",
            "redis://127.0.0.1:1/0",
        ],
        env={name: value for name, value in os.environ.items() if name != SIGNING_KEY}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 78
    assert "secrets.token_hex(32)" in process.stderr


def _command(spec: Path, store: Path, *options: str, **environment: str) -> "subprocess.Popen[bytes]":
    store.mkdir(parents=True, exist_ok=True)
    with (store.parent / f"{store.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "scheduler", "run", str(spec), "--store", str(store), *options],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _worker(store: Path, folder: Path, **environment: str) -> "subprocess.Popen[bytes]":
    (pointer,) = store.glob("runs/*/execution")
    run = json.loads(pointer.read_text())["run"]
    with (folder / "workers.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "worker", "--run", run, "--store", str(store)],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _published(store: Path) -> dict[str, bytes]:
    """Return the bundle's files and the digest of the result, by name."""
    (result,) = store.glob("runs/*/result.json")
    files = {
        path.name: path.read_bytes() for path in sorted(result.parent.rglob("bundle/**/*")) if path.is_file()
    }
    (commit,) = [
        json.loads(path.read_text())
        for path in store.glob("commits/*/*")
        if json.loads(path.read_text())["kind"] == "write_report"
    ]
    return {**files, "result_digest": commit["facts"]["result_digest"].encode()}
