"""If object storage denies access or does not answer during a run, the run shows this within 15 s, waits, and gives the same result."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from mlho.protocol.names import Names
from mlho.protocol.redis_client import connect
from mlho.store import open_store
from tests.builders import make_tables, run_inline, write_spec, write_tables
from tests.limits import GUARD_SECONDS, SLOWER
from tests.services.queue_commands import Commands, ending
from tests.services.queue_home import kill_group, wait_until
from tests.services.redis_servers import Server
from tests.services.s3_proxy import DENY, EXPIRE, HANG, Proxy
from tests.services.s3_servers import BUCKET, S3Server, client_of

pytestmark = pytest.mark.usefixtures("credentials")
CHANGES = {"validation.iterations": 2}
N_COMMITS = 4  # before the outage, of more than a dozen
SHOWN_SECONDS = SLOWER * 15
POD_SECONDS = 30
WAYS = {"local": (), "queue": ("--broker", "embedded")}


class Command:
    """The command in a separate process, with a store behind the proxy."""

    def __init__(self, spec: Path, folder: Path, server: S3Server, proxy: Proxy, *more: str) -> None:
        self.prefix = f"{folder.name}-{uuid4().hex[:6]}"
        self.server, self.proxy, self.folder = server, proxy, folder
        self.arguments = [
            "run",
            str(spec),
            "--store",
            f"s3://{BUCKET}/{self.prefix}",
            "--workers",
            "1",
            *more,
        ]
        self.said = folder / "said.txt"
        self.environment = {
            **os.environ,
            **server.variables(),
            "MLHO_S3_ENDPOINT": proxy.endpoint,
            "MLHO_CACHE_DIR": str(folder / "cache"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **variables: str) -> None:
        """Start the command with these additional variables."""
        with self.said.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scheduler", *self.arguments],
                cwd=self.folder,
                env={**self.environment, **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def fail_after_some_commits(self, fault: str) -> None:
        """Apply a fault to every request after the first commits."""
        self.proxy.all_after(N_COMMITS, "PUT", fault, where=f"{self.prefix}/commits/")

    def n_commits(self) -> int:
        listed = client_of(self.server).list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/commits/")
        return int(listed["KeyCount"])

    def wait_for_words(self, words: str, *, seconds: float) -> float:
        return wait_until(
            lambda: words in self.said.read_text(), seconds=seconds, what=f"{words!r} in {self.said}"
        )

    def ended(self, *, seconds: float = 240) -> int:
        """Wait for the command's end, and return its exit code."""
        assert self.process is not None
        return self.process.wait(seconds)

    def processes(self) -> list[int]:
        """Return the processes that the command has started and that are alive."""
        mark, found = f"MLHO_CACHE_DIR={self.folder}".encode(), []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if mark in environment.read_bytes():
                    found.append(int(environment.parent.name))
        return found

    def digest(self) -> str:
        """Wait for the command's success, and return the digest that it prints."""
        assert self.ended() == 0, self.said.read_text()
        (line,) = [line for line in self.said.read_text().splitlines() if line.startswith("result ")]
        return line.split()[1]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a specification beside its tables."""
    folder = write_tables(tmp_path_factory.mktemp("cohort"), make_tables())
    return write_spec(folder, CHANGES, uri=str(folder))


@pytest.fixture(scope="module")
def digest(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the digest of the run without an outage."""
    return run_inline(spec.parent, tmp_path_factory.mktemp("alone"), CHANGES).digest


@pytest.fixture(params=WAYS)
def command(
    request: pytest.FixtureRequest, spec: Path, tmp_path: Path, seaweedfs: S3Server, proxy: Proxy
) -> Iterator[Command]:
    """Return the command, which is not yet started."""
    command = Command(spec, tmp_path, seaweedfs, proxy, *WAYS[request.param])
    yield command
    proxy.all(None)
    if command.process is not None:
        kill_group(command.process)


# Another test denies access to a run on a queue.
@pytest.mark.parametrize(
    ("command", "fault", "words"),
    [
        ("local", DENY, "Store refuses access since"),
        ("queue", EXPIRE, "Store refuses access since"),
        ("queue", HANG, "Store unavailable since"),
    ],
    ids=["denied", "expired on a queue", "silent on a queue"],
    indirect=["command"],
)
def test_a_run_shows_an_outage_of_its_store_and_continues_afterwards(command, digest, proxy, fault, words):
    """The cause of an outage is shown within 15 s and its end is reported. The result is that of a run without an outage."""
    command.fail_after_some_commits(fault)
    command.start()
    wait_until(lambda: command.n_commits() == N_COMMITS, seconds=120, what="the commits before the outage")

    command.wait_for_words(words, seconds=SHOWN_SECONDS)
    assert command.n_commits() == N_COMMITS
    proxy.all(None)
    command.wait_for_words("The store is available again", seconds=GUARD_SECONDS)

    assert command.digest() == digest
    assert command.said.read_text().count("since") == 1


def test_a_run_gives_up_after_its_patience_and_can_be_continued(command, digest, proxy):
    """After its patience a run exits with code 1 and the cause. The same command then continues it to the same result."""
    command.fail_after_some_commits(DENY)
    command.start(MLHO_STORE_PATIENCE="4", MLHO_S3_DEADLINE="2")
    assert command.ended() == 1
    log = command.said.read_text()
    proxy.all(None)

    assert "the store has not served for 4 s (MLHO_STORE_PATIENCE)" in log
    assert "access denied" in log
    assert "Traceback" not in log
    assert command.n_commits() == N_COMMITS
    command.start()
    assert command.digest() == digest
    assert f" {command.n_commits() - N_COMMITS} of them new" in command.said.read_text()


@pytest.mark.parametrize("command", ["local"], indirect=True)
def test_a_run_that_waits_is_stopped_by_ctrl_c(command):
    """Ctrl-C ends a run that waits for the store within seconds, with exit code 130."""
    command.fail_after_some_commits(DENY)
    command.start()
    command.wait_for_words("Store refuses access", seconds=120 + SHOWN_SECONDS)
    os.killpg(command.process.pid, signal.SIGINT)

    assert command.ended(seconds=GUARD_SECONDS) == 130


def test_sigterm_during_requests_without_an_answer_ends_a_run_within_a_pods_grace_period(command, proxy):
    """A pod is killed 30 s after SIGTERM. A run ends before, although requests to a silent store would wait for minutes, and leaves no process."""
    command.fail_after_some_commits(HANG)
    command.start()
    wait_until(lambda: proxy.done, seconds=120, what="a request without an answer")
    began = time.monotonic()
    command.process.terminate()

    assert command.ended(seconds=GUARD_SECONDS) == 130
    assert time.monotonic() - began < POD_SECONDS
    assert "run the same command to continue" in " ".join(command.said.read_text().split())
    wait_until(lambda: not command.processes(), seconds=GUARD_SECONDS, what="the end of all processes")


def test_sigterm_during_requests_without_an_answer_ends_a_worker_and_returns_its_task(
    spec, seaweedfs, proxy, tmp_path, monkeypatch
):
    """A worker whose threads wait for a silent store exits with code 0 before it is killed, and its task costs no attempt."""
    address = f"s3://{BUCKET}/{uuid4().hex[:8]}"
    direct = {**seaweedfs.variables(), "MLHO_CACHE_DIR": str(tmp_path / "cache")}
    for name, value in direct.items():
        monkeypatch.setenv(name, value)
    proxy.fate = lambda method, path: HANG if "/quarantine/" in path else None
    with Server(tmp_path / "redis") as broker, ExitStack() as stack:
        scheduler = stack.enter_context(ending(Commands(spec, tmp_path, address, broker.url, direct)))
        behind = {**direct, "MLHO_S3_ENDPOINT": proxy.endpoint}
        workers = stack.enter_context(ending(Commands(spec, tmp_path, address, broker.url, behind)))
        scheduler.run("--broker", broker.url)
        run = scheduler.run_id(open_store(address))
        worker = workers.worker(run)
        wait_until(lambda: proxy.done, seconds=120, what="a request without an answer")
        names, began = Names(f"{run}-1"), time.monotonic()
        worker.terminate()

        assert worker.wait(GUARD_SECONDS) == 0
        assert time.monotonic() - began < POD_SECONDS
        assert "worker_not_drained" in workers.log()
        with connect(broker.url) as client:
            assert client.hgetall(names.owners) == {}
            assert set(client.hgetall(names.attempts).values()) <= {"0"}


def test_one_ctrl_c_ends_a_list_of_runs_while_the_store_is_silent(seaweedfs, proxy, tmp_path):
    """The threads of parallel requests would keep the command until their deadline, or the next Ctrl-C."""
    prefix = f"listed-{uuid4().hex[:6]}"
    for run in ("0" * 16, "1" * 16):
        client_of(seaweedfs).put_object(Bucket=BUCKET, Key=f"{prefix}/runs/{run}/spec.yaml", Body=b"{}")
    proxy.fate = lambda method, path: HANG if "spec.yaml" in path else None
    environment = {**os.environ, **seaweedfs.variables(), "MLHO_S3_ENDPOINT": proxy.endpoint}
    process = subprocess.Popen(
        [sys.executable, "-m", "scheduler", "list", "--store", f"s3://{BUCKET}/{prefix}"],
        env={**environment, "MLHO_CACHE_DIR": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: len(proxy.done) == 2, seconds=GUARD_SECONDS, what="two requests without an answer")
        process.send_signal(signal.SIGINT)

        assert process.wait(SHOWN_SECONDS) == 130
        assert b"Stopped." in process.stderr.read()
    finally:
        process.kill()
        process.communicate()
