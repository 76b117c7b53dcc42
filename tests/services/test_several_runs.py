"""Several concurrent runs share the workers of a machine: each gets a share, fails independently, and all stop and continue together."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from mlho.processes import LEAVE_SIGNAL
from mlho.report.digest import result_digest
from mlho.settings import BROKER, SIGNING_KEY
from mlho.steps.learn.run_iteration import RunIteration
from mlho.store.keys import uses_prefix
from tests.builders import make_tables, write_spec, write_tables
from tests.limits import GUARD_SECONDS
from tests.services.processes import descendants, is_running
from tests.services.queue_home import KEY, ROOT, Home, kill_group, wait_until
from tests.services.queue_steps import noted_starts, task
from tests.services.redis_servers import Server

SHORT = {"validation.iterations": 2, "candidates": [{"classifier": "glmboost", "grid": {"nSteps": [20]}}]}
LONG = {**SHORT, "validation.iterations": 120, "validation.seed": 11}
_LOOK_SECONDS = 2.0  # in which a worker that did not finish its task would end


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_tables(folder, make_tables(300, seed=3), partitions=3)
    return folder


@pytest.fixture(scope="module")
def short(cohort: Path) -> Path:
    return _spec(cohort, "short", SHORT)


@pytest.fixture(scope="module")
def long(cohort: Path) -> Path:
    return _spec(cohort, "long", LONG)


@pytest.fixture
def running() -> Iterator[list["subprocess.Popen[str]"]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        kill_group(process)


def test_a_short_run_does_not_wait_for_a_long_one(
    short: Path, long: Path, tmp_path: Path, running: list[Any]
) -> None:
    """A short run that is named after a long one with ten times the work finishes long before it.

    In the order of arrival it would finish last. Each run's result is the same as alone, and progress has the format of the manual.
    """
    store = tmp_path / "store"
    command = _start(running, [long, short], store, "--broker", "embedded", "--workers", "2")
    output, told = command.communicate(timeout=240)
    assert command.returncode == 0, told

    lines = _progress(told)
    last = {line["name"]: line for line in lines}
    assert {name: line["state"] for name, line in last.items()} == {"long": "finished", "short": "finished"}
    assert all(line["done"] == line["total"] for line in last.values())
    assert last["long"]["total"] > 10 * (last["short"]["total"] - 12)
    # By the order of commits, not by seconds: the two runs share the processes, so that other load delays both alike.
    iterations = _iteration_commits(store)
    assert len(iterations["long"]) == LONG["validation.iterations"]
    n_before = sum(written < iterations["short"][-1] for written in iterations["long"])
    assert n_before < 0.8 * len(iterations["long"])
    assert _published_at(store, "short") < iterations["long"][-1]

    alone = tmp_path / "alone"
    process = _start(running, [short], alone)
    process.communicate(timeout=4 * GUARD_SECONDS)
    assert _digests(alone)["short"] == _digests(store)["short"]
    assert re.findall(r"^(\w+)$", output, re.MULTILINE) == ["long", "short"]


def test_one_run_fails_and_the_others_continue(
    short: Path, cohort: Path, tmp_path: Path, running: list[Any]
) -> None:
    """A run in which no feature passes the screen fails with its exit code and error, and the other run is published."""
    bad = _spec(cohort, "bad", {**SHORT, "selection.minPrevalence": 0.999})
    store = tmp_path / "store"
    command = _start(running, [bad, short], store, "--broker", "embedded", "--workers", "2")
    output, told = command.communicate(timeout=4 * GUARD_SECONDS)

    assert command.returncode == 3
    assert re.search(r"^bad \([0-9a-f]{16}\): failed: .*minPrevalence", told, re.MULTILINE)
    assert {name: line["state"] for name, line in _last(told).items()} == {
        "bad": "failed",
        "short": "finished",
    }
    assert re.findall(r"^(\w+)$", output, re.MULTILINE) == ["short"]
    assert list(_digests(store)) == ["short"]


def test_ctrl_c_stops_all_runs_and_the_same_command_continues_them(
    short: Path, long: Path, cohort: Path, tmp_path: Path, running: list[Any]
) -> None:
    """Ctrl-C gives exit code 130 and leaves no process. The same command repeats no committed task."""
    store = tmp_path / "store"
    other = _spec(cohort, "other", {**LONG, "validation.iterations": 6, "validation.seed": 12})
    specs = [other, short]
    command = _start(running, specs, store, "--broker", "embedded", "--workers", "2")
    wait_until(lambda: len(list(store.glob("commits/*/*"))) > 12, what="a dozen commits")
    family = descendants(command.pid)
    command.send_signal(signal.SIGINT)
    _, told = command.communicate(timeout=GUARD_SECONDS)
    assert command.returncode == 130
    assert "run the same command to continue" in told
    assert all(line["state"] in ("stopped", "finished") for line in _last(told).values())
    wait_until(lambda: not any(map(is_running, family)), what="end of all that was started")

    before = {path: path.stat().st_ino for path in store.glob("commits/*/*")}
    again = _start(running, specs, store, "--broker", "embedded", "--workers", "2")
    _, told = again.communicate(timeout=4 * GUARD_SECONDS)
    assert again.returncode == 0, told
    after = {path: path.stat().st_ino for path in store.glob("commits/*/*")}
    assert before.items() <= after.items()
    assert sorted(_digests(store)) == ["other", "short"]


def test_the_same_specification_twice_is_one_run(
    short: Path, tmp_path: Path, running: list[Any], cohort: Path
) -> None:
    """Two specifications that differ only in name are the same run, and the command says so."""
    renamed = _spec(cohort, "renamed", SHORT)
    store = tmp_path / "store"
    command = _start(running, [short, renamed, short], store, "--broker", "embedded", "--workers", "1")
    output, told = command.communicate(timeout=4 * GUARD_SECONDS)
    assert command.returncode == 0, told
    assert told.count("specifies the same run as") == 2
    assert re.findall(r"^(\w+)$", output, re.MULTILINE) == ["short"]


def test_several_runs_with_separately_started_workers(
    short: Path, cohort: Path, tmp_path: Path, running: list[Any]
) -> None:
    """The command prints how to start a worker for each run. Workers started in this way serve the runs and exit with code
    0, and no key is left in Redis.
    """
    store = tmp_path / "store"
    other = _spec(cohort, "other", {**SHORT, "validation.seed": 12})
    with Server(tmp_path / "server") as server:
        secrets = {SIGNING_KEY: KEY.decode(), BROKER: server.url}
        command = _start(running, [short, other], store, "--broker", server.url, **secrets)
        assert command.stderr is not None
        lines = iter(command.stderr.readline, "")  # warnings come first
        commands = list(islice((line for line in lines if " -m worker " in line), 2))
        workers = [
            _spawn(running, shlex.split(line)[1:], output=subprocess.DEVNULL, **secrets) for line in commands
        ]
        _, told = command.communicate(timeout=4 * GUARD_SECONDS)
        assert command.returncode == 0, told
        assert [worker.wait(GUARD_SECONDS) for worker in workers] == [0, 0]
        assert _keys(server) == []
    assert sorted(_digests(store)) == ["other", "short"]


def test_a_worker_that_is_asked_to_leave_finishes_its_task_and_takes_no_other(tmp_path: Path) -> None:
    """A worker that is asked to exit finishes its task with one start and exits with code 0. The next task waits for another worker."""
    with Home(tmp_path) as home, home.executor() as executor:
        worker = home.start_worker()
        may_end = home.folder / "may_end"
        first = executor.submit(task("test_wait_for_file", "first", home.starts, file=str(may_end)))
        second = executor.submit(task("test_noted", "second", home.starts))
        wait_until(lambda: noted_starts(home.starts) == ["first"], what="start of the first task")
        worker.send_signal(LEAVE_SIGNAL)
        time.sleep(_LOOK_SECONDS)
        assert worker.poll() is None
        may_end.touch()
        assert worker.wait(GUARD_SECONDS) == 0
        assert first.result(GUARD_SECONDS).is_new
        assert noted_starts(home.starts) == ["first"]
        home.start_worker()
        second.result(GUARD_SECONDS)
    assert noted_starts(home.starts) == ["first", "second"]


def test_several_runs_need_a_queue(short: Path, long: Path, tmp_path: Path, running: list[Any]) -> None:
    command = _start(running, [short, long], tmp_path / "store")
    _, told = command.communicate(timeout=GUARD_SECONDS)
    assert command.returncode == 2
    assert "--broker embedded" in told


def _spec(folder: Path, name: str, changes: Mapping[str, Any]) -> Path:
    return write_spec(folder, changes, name=name).rename(folder / f"{name}.yaml")


def _start(
    running: list[Any], specs: list[Path], store: Path, *options: str, **environment: str
) -> "subprocess.Popen[str]":
    arguments = ["-m", "scheduler", "run", *map(str, specs), "--store", str(store), "--progress", "json"]
    return _spawn(running, [*arguments, *options], **environment)


def _spawn(
    running: list[Any], arguments: list[str], *, output: int = subprocess.PIPE, **environment: str
) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=output,
        stderr=output,
        text=True,
        start_new_session=True,
    )
    running.append(process)
    return process


def _progress(told: str) -> list[dict[str, Any]]:
    """Return the progress lines; other output is not JSON."""
    return [json.loads(line) for line in told.splitlines() if line.startswith('{"event": "progress"')]


def _last(told: str) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in _progress(told)}


def _digests(store: Path) -> dict[str, str]:
    """Return the digest of each published result by the name of its run."""
    return {
        yaml.safe_load((path.parent / "spec.yaml").read_text())["metadata"]["name"]: result_digest(
            json.loads(path.read_text())
        )
        for path in store.glob("runs/*/result.json")
    }


def _iteration_commits(store: Path) -> dict[str, list[int]]:
    """Return when the iterations of each run were committed, by the name of the run, in order."""
    commits = {path.name: path for path in store.glob("commits/*/*")}
    found = {}
    for run, name in _names(store).items():
        lists = (path.read_text().split() for path in (store / uses_prefix(run)).iterdir())
        of_run = [commits[task] for task in {task for tasks in lists for task in tasks}]
        found[name] = sorted(
            path.stat().st_mtime_ns
            for path in of_run
            if json.loads(path.read_text())["kind"] == RunIteration.kind
        )
    return found


def _published_at(store: Path, name: str) -> int:
    (run,) = [run for run, found in _names(store).items() if found == name]
    return (store / "runs" / run / "result.json").stat().st_mtime_ns


def _names(store: Path) -> dict[str, str]:
    """Return the names of the runs by id."""
    return {
        path.parent.name: yaml.safe_load(path.read_text())["metadata"]["name"]
        for path in store.glob("runs/*/spec.yaml")
    }


def _keys(server: Server) -> list[str]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return list(client.scan_iter("*"))
