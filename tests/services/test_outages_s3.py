"""If object storage denies access or does not answer during a run, the run shows this within 15 s, waits, and gives the same result."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.builders import make_tables, run_inline, write_spec, write_tables
from tests.limits import GUARD_SECONDS, SLOWER
from tests.services.queue_home import kill_group, wait_until
from tests.services.s3_proxy import DENY, HANG, Proxy, proxy_of
from tests.services.s3_servers import BUCKET, S3Server, client_of

pytestmark = pytest.mark.usefixtures("credentials")
CHANGES = {"validation.iterations": 8}
SHOWN_SECONDS = SLOWER * 15
WAYS = {"local": (), "queue": ("--broker", "embedded")}


@pytest.fixture
def proxy(seaweedfs: S3Server) -> Iterator[Proxy]:
    with proxy_of(seaweedfs.port) as proxy:
        yield proxy


class Started:
    """The command in a separate process, with a store behind the proxy."""

    def __init__(self, folder: Path, server: S3Server, proxy: Proxy, *more: str, **variables: str) -> None:
        self.prefix = f"{folder.name}-{uuid4().hex[:6]}"
        self.server, self.proxy, self.folder = server, proxy, folder
        self.arguments = [
            "run",
            str(folder / "spec.yaml"),
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
            **variables,
        }
        self.process = self.start()

    def start(self, **variables: str) -> "subprocess.Popen[bytes]":
        program = "import sys; from scheduler.cli.parser import main; sys.exit(main())"
        with self.said.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, *self.arguments],
                cwd=self.folder,
                env={**self.environment, **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def n_commits(self) -> int:
        listed = client_of(self.server).list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/commits/")
        return int(listed["KeyCount"])

    def wait_for_words(self, words: str, *, seconds: float) -> float:
        return wait_until(
            lambda: words in self.said.read_text(), seconds=seconds, what=f"{words!r} in {self.said}"
        )

    def digest(self) -> str:
        assert self.process.wait(240) == 0, self.said.read_text()
        (line,) = [line for line in self.said.read_text().splitlines() if line.startswith("result ")]
        return line.split()[1]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_spec(tmp_path, CHANGES, uri="data")
    return write_tables(tmp_path / "data", make_tables())


@pytest.fixture
def started(tmp_path, seaweedfs, proxy, data, request) -> Iterator[Started]:
    started = Started(tmp_path, seaweedfs, proxy, *WAYS[request.param])
    yield started
    proxy.all(None)
    kill_group(started.process)


@pytest.mark.parametrize("started", WAYS, indirect=True)
@pytest.mark.parametrize(
    ("fault", "words"),
    [(DENY, "Store refuses access since"), (HANG, "Store unavailable since")],
    ids=["denied", "silent"],
)
def test_a_run_shows_an_outage_of_its_store_and_continues_afterwards(started, data, proxy, fault, words):
    """The cause of an outage is shown within 15 s and its end is reported. The result is that of a run without an outage."""
    wait_until(lambda: started.n_commits() > 3, seconds=120, what="some commits")
    proxy.all(fault)

    took = started.wait_for_words(words, seconds=SHOWN_SECONDS)
    n_commits = started.n_commits()
    proxy.all(None)
    started.wait_for_words("The store is available again", seconds=GUARD_SECONDS)
    digest = started.digest()

    assert took < SHOWN_SECONDS
    assert n_commits < 14
    assert started.said.read_text().count("since") == 1
    assert digest == run_inline(data, started.folder / "alone", CHANGES).digest


@pytest.mark.parametrize("started", WAYS, indirect=True)
def test_a_run_gives_up_after_its_patience_and_can_be_continued(started, data, proxy):
    """After its patience a run exits with code 1 and the cause. The same command then continues it to the same result."""
    kill_group(started.process)
    started.start(MLHO_STORE_PATIENCE="4", MLHO_S3_DEADLINE="2")
    wait_until(lambda: started.n_commits() > 3, seconds=120, what="some commits")
    proxy.all(DENY)
    assert started.process.wait(120) == 1
    log = started.said.read_text()
    proxy.all(None)

    assert "the store has not served for 4 s (MLHO_STORE_PATIENCE)" in log
    assert "access denied" in log
    assert "Traceback" not in log
    n_commits = started.n_commits()
    started.start()
    assert started.digest() == run_inline(data, started.folder / "alone", CHANGES).digest
    assert f" {started.n_commits() - n_commits} of them new" in started.said.read_text()


@pytest.mark.parametrize("started", ["local"], indirect=True)
def test_a_run_that_waits_is_stopped_by_ctrl_c(started, proxy):
    """Ctrl-C ends a run that waits for the store within seconds, with exit code 130."""
    wait_until(lambda: started.n_commits() > 3, seconds=120, what="some commits")
    proxy.all(DENY)
    started.wait_for_words("Store refuses access", seconds=SHOWN_SECONDS)
    os.killpg(started.process.pid, signal.SIGINT)

    assert started.process.wait(GUARD_SECONDS) == 130
