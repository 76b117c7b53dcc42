"""Common mistakes with a run on a queue are reported by command and worker within 15 seconds with the remedy, and nothing is lost."""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Final
from uuid import uuid4

import pytest

from mlho.protocol.documents import State
from mlho.spec.training import canonical_json
from mlho.store.local import LocalStore
from scheduler.queue.executions import begin_execution, end_execution
from tests.disks import enlarge, small_disk
from tests.limits import GUARD_SECONDS, SLOWER
from tests.ports import free_port
from tests.services.queue_commands import Commands, ending, published, run_alone, write_small_run
from tests.services.queue_home import RUN, Home, kill_group, result, wait_until
from tests.services.queue_steps import noted_starts, task
from tests.services.redis_refusals import REFUSING, broker_client, fill
from tests.services.redis_servers import Server
from tests.services.s3_servers import BUCKET, READ_ONLY_KEY, S3Server, client_of

pytestmark = pytest.mark.usefixtures("credentials")
SECONDS: Final = SLOWER * 15.0
EX_CONFIG: Final = 78


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_run(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def trained(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """Return a store with the run, carried out without a queue."""
    return run_alone(spec, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def alone(trained: LocalStore) -> dict[str, bytes]:
    """Return the published files of that run."""
    return published(trained)


@pytest.fixture
def start(spec: Path, tmp_path: Path) -> Iterator[Callable[..., Commands]]:
    """Return a function that creates commands with a store, a broker, an environment and a folder for logs. All processes end with the test."""
    with ExitStack() as stack:

        def make(address: str, broker: str, *, logs: str = "", **environment: str) -> Commands:
            folder = tmp_path / logs
            folder.mkdir(exist_ok=True)
            variables = {"MLHO_CACHE_DIR": str(folder / "cache"), **environment}
            return stack.enter_context(ending(Commands(spec, folder, address, broker, variables)))

        yield make


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "redis") as server:
        yield server


def said_within(process: "Popen[bytes]", began: float) -> int:
    """Return the exit code of a process that has to give up in time."""
    code = process.wait(2 * SECONDS)
    took = time.monotonic() - began
    assert took <= SECONDS, f"{took:.1f} s"
    return code


# Object storage. Each case: the changed setting, the store's bucket, the expected messages, and the exit codes of command and worker.
STORE_CASES = {
    "wrong endpoint": ("endpoint", BUCKET, "did not list in time", (1, 1)),
    "wrong credentials": ("secret", BUCKET, "does not accept the credentials", (2, 1)),
    "missing bucket": ("", "no-such-bucket", "no such bucket, or access denied to list", (2, 1)),
    "read-only bucket": ("reader", BUCKET, "access denied to write", (2, 1)),
}


SCORE: Final = """
apiVersion: mlho.io/v1alpha1
kind: ScoringRun
metadata: {name: nightly}
spec:
  bundle: {uri: run:0123456789abcdef}
  data: {tables: {events: events, demographics: demographics.parquet}, partitionedBy: patient}
  index: {date: 2019-05-01}
"""


def begin(commands: Commands, program: str, *, bundle: str = RUN) -> "Popen[bytes]":
    """Start ``mlho run``, ``mlho score`` or a worker."""
    if program == "worker":
        return commands.worker(RUN)
    if program == "run":
        return commands.run("--broker", commands.broker)
    path = commands.spec.parent / "score.yaml"
    path.write_text(SCORE.replace(RUN, bundle))
    return commands.command("score", str(path), "--store", commands.address, "--broker", commands.broker)


PROGRAMS: Final = ("run", "score", "worker")


def answers(
    start: Callable[..., Commands],
    address: str,
    broker: str,
    *,
    programs: Sequence[str] = PROGRAMS,
    bundle: str = RUN,
    **environment: str,
) -> dict[str, tuple[int, str]]:
    """Start these programs side by side and return the exit code and the output of each; all must give up."""
    by_program = {program: start(address, broker, logs=program, **environment) for program in programs}
    began = time.monotonic()
    processes = {program: begin(commands, program, bundle=bundle) for program, commands in by_program.items()}
    codes = {program: said_within(process, began) for program, process in processes.items()}
    return {program: (codes[program], by_program[program].log()) for program in programs}


@pytest.mark.parametrize("case", STORE_CASES)
def test_an_unusable_store_is_reported(start, seaweedfs: S3Server, broker, case) -> None:
    """``mlho run`` and a worker report an unusable store with the remedy and without the secret, and write nothing. So does
    ``mlho score``, which opens it in the same way, for a missing bucket.
    """
    what, bucket, words, (command_code, worker_code) = STORE_CASES[case]
    prefix = uuid4().hex[:8]
    changes = {
        "endpoint": {"MLHO_S3_ENDPOINT": f"http://127.0.0.1:{free_port()}"},
        "secret": {"AWS_SECRET_ACCESS_KEY": "nobody's secret"},
        "reader": {"AWS_ACCESS_KEY_ID": READ_ONLY_KEY},
    }.get(what, {})
    programs = PROGRAMS if case == "missing bucket" else ("run", "worker")
    variables = {**seaweedfs.variables(), **changes}
    results = answers(start, f"s3://{bucket}/{prefix}", broker.url, programs=programs, **variables)

    expected = {"run": command_code, "score": command_code, "worker": worker_code}
    codes = {program: code for program, (code, _) in results.items()}
    assert codes == {program: expected[program] for program in programs}
    for _, log in results.values():
        assert words in log
        assert "nobody's secret" not in log
    assert client_of(seaweedfs).list_objects_v2(Bucket=BUCKET, Prefix=prefix)["KeyCount"] == 0


# Redis.


@pytest.fixture
def refused(start, trained) -> "Callable[..., list[str]]":
    """Start programs that must refuse their Redis with the right exit code and leave no open execution. Return the output of each."""

    def refuse(url: str, *programs: str) -> list[str]:
        (run,) = {key.split("/")[1] for key in trained.keys("runs/")}
        programs = programs or PROGRAMS
        if "worker" in programs:
            begin_execution(trained, RUN, trained.root)
        results = answers(start, str(trained.root), url, programs=programs, bundle=run)
        wanted = {"run": 2, "score": 2, "worker": EX_CONFIG}
        assert {program: code for program, (code, _) in results.items()} == {
            program: wanted[program] for program in programs
        }, results
        if "worker" in programs:
            trained.delete(f"runs/{RUN}/execution")
        assert [key for key in trained.keys("runs/") if key.endswith("/execution")] == []
        return [log for _, log in results.values()]

    return refuse


def test_a_wrong_password_is_reported(refused, tmp_path) -> None:
    """The error for a wrong password names the variable to set and does not show the password."""
    with Server(tmp_path / "locked", options=("--requirepass", "right")) as server:
        logs = refused(server.url.replace("redis://", "redis://:wrong-one@"))
    for log in logs:
        assert "refuses this password or user. Set MLHO_BROKER" in log
        assert "wrong-one" not in log


def test_a_redis_that_evicts_is_refused_with_its_remedy(refused, tmp_path) -> None:
    """Scheduler and worker both refuse a Redis that evicts keys and name the setting to change. The worker checks too,
    because the setting may have changed since the scheduler's start.
    """
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with Server(tmp_path / "evicting", options=options) as server:
        logs = refused(server.url)
    for log in logs:
        assert "its maxmemory-policy is allkeys-lru" in log
        assert "Set maxmemory-policy to noeviction" in log


def test_a_redis_that_hides_its_configuration_is_asked_all_the_same(refused, tmp_path) -> None:
    """If CONFIG is not permitted, the eviction policy is read in another way, and an evicting Redis is still refused."""
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru")
    with Server(tmp_path / "managed", options=options) as server:
        with broker_client(server) as client:
            client.execute_command("ACL", "SETUSER", "default", "-config")
        (log,) = refused(server.url, "run")
    assert "its maxmemory-policy is volatile-lru" in log


@pytest.mark.parametrize("how", REFUSING)
def test_a_redis_that_rejects_writes_at_the_start_is_reported(refused, tmp_path, how) -> None:
    """A Redis that rejects writes at the start is reported with the remedy for its state."""
    with Server(tmp_path / "refusing", options=("--maxmemory-policy", "noeviction")) as server:
        with broker_client(server) as client:
            REFUSING[how].begins(client)
        programs = ("run", "score") if how == "full" else ("run",)
        logs = refused(server.url, *programs)
    for log in logs:
        assert REFUSING[how].words in log


@pytest.mark.parametrize("what", ["no Redis", "a full one"])
def test_a_worker_reports_within_seconds_that_it_waits_for_redis(start, broker, tmp_path, what) -> None:
    """A worker waits a minute for an unavailable Redis, logs the reason within seconds, and serves the run when Redis is available."""
    with broker_client(broker) as client:
        fill(client)
        if what == "no Redis":
            broker.kill()
    store = LocalStore(tmp_path / "store")
    execution, _ = begin_execution(store, RUN, tmp_path)
    commands = start(str(store.root), broker.url)
    worker = commands.worker(RUN)
    wait_until(lambda: "queue_unavailable" in commands.log(), seconds=SECONDS, what="a word")
    assert worker.poll() is None
    if what == "no Redis":
        broker.start()
    with broker_client(broker) as client:
        client.config_set("maxmemory", 0)
    wait_until(lambda: "worker_started" in commands.log(), what="a worker that serves")
    end_execution(store, execution, State.FINISHED)
    assert worker.wait(GUARD_SECONDS) == 0


# Disks.


@pytest.mark.parametrize(
    ("size", "ends"), [("8k", True), ("120k", False)], ids=["the scheduler", "its workers"]
)
def test_a_full_disk_is_reported_and_nothing_is_lost(start, alone, broker, tmp_path, size, ends) -> None:
    """A full disk of the store is reported by the process that meets it. With more space, the same command, or the run
    itself, continues to the same bytes.
    """
    with small_disk(tmp_path / "disk", size=size) as disk:
        store = LocalStore(disk / "store")
        commands = start(str(store.root), broker.url)
        began = time.monotonic()
        scheduler = commands.run("--broker", broker.url, "--workers", "1")
        seconds = wait_until(
            lambda: "No space left on device" in commands.log(),
            seconds=SECONDS + 30,
            what="a full disk that is said",
        )
        if ends:
            assert scheduler.wait(GUARD_SECONDS) == 1, commands.log()
            seconds = time.monotonic() - began
        kept = set(store.keys("commits/"))
        enlarge(disk, size="50m")
        if ends:
            scheduler = commands.run("--broker", broker.url, "--workers", "1")
        assert scheduler.wait(4 * GUARD_SECONDS) == 0, commands.log()

        assert "Free some space and run the same command again" in commands.log()
        assert kept <= set(store.keys("commits/"))
        assert published(store) == alone
    assert seconds <= SECONDS, f"{seconds:.1f} s"


def test_a_run_waits_until_a_workers_full_disk_has_space(
    start, alone, seaweedfs, broker, tmp_path, monkeypatch
) -> None:
    """If a worker's own scratch disk is full, the worker reports it, no start counts, and the run continues when there is space."""
    from mlho.store import open_store

    address = f"s3://{BUCKET}/{uuid4().hex[:8]}"
    for name, value in {**seaweedfs.variables(), "MLHO_CACHE_DIR": str(tmp_path / "mine")}.items():
        monkeypatch.setenv(name, value)
    store = open_store(address)
    commands = start(address, broker.url, **seaweedfs.variables())
    with small_disk(tmp_path / "disk", size="64k") as disk:
        (disk / "ballast").write_bytes(bytes(60_000))
        workers = start(address, broker.url, **{**seaweedfs.variables(), "MLHO_CACHE_DIR": str(disk)})
        scheduler = commands.run("--broker", broker.url)
        workers.worker(commands.run_id(store))
        wait_until(lambda: "attempt_failed" in commands.log(), what="a full disk that is said")
        assert "No space left on device" in commands.log()
        enlarge(disk, size="50m")
        assert scheduler.wait(4 * GUARD_SECONDS) == 0, commands.log()

        assert published(store) == alone
        assert "quarantined" not in commands.log()


# Artifacts and documents.


def test_a_corrupt_artifact_is_found_by_its_digest_and_made_again(start, alone, broker, tmp_path) -> None:
    """After the scheduler is killed and a block is damaged, the same command detects the damage when the block is read, runs
    its task again, and gives the same bytes.
    """
    store = LocalStore(tmp_path / "store")
    commands = start(str(store.root), broker.url)
    run = commands.run_id(store)
    scheduler = commands.run("--broker", broker.url)
    worker = commands.worker(run)
    packed = wait_for_commit(store, "pack_features")
    kill_group(scheduler)
    kill_group(worker)
    blob = store.root / "blobs/sha256" / packed[:2] / packed
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    scheduler = commands.run("--broker", broker.url)
    commands.worker(run)
    assert scheduler.wait(4 * GUARD_SECONDS) == 0, commands.log()

    assert re.search(rf"blob {packed[:12]}\S*: its bytes do not match its digest", commands.log())
    assert published(store) == alone


def wait_for_commit(store: LocalStore, kind: str) -> str:
    """Wait for the commit of a task of this kind, and return the digest of its first file."""
    found: list[str] = []

    def look() -> bool:
        for key in store.keys("commits/"):
            commit = json.loads(store.get(key))
            if commit["kind"] == kind:
                found.append(next(iter(commit["files"].values()))["sha256"])
        return bool(found)

    wait_until(look, what=f"a commit of {kind}")
    return found[0]


@pytest.mark.parametrize("kind", ["run", "score"])
def test_a_specification_of_a_newer_version_is_refused(start, broker, tmp_path, kind) -> None:
    """A specification with a newer apiVersion is rejected, and the error names both versions."""
    commands = start(str(tmp_path / "store"), broker.url)
    newer = tmp_path / "newer.yaml"
    newer.write_text(
        "apiVersion: mlho.io/v9\nkind: "
        + {"run": "TrainingRun", "score": "ScoringRun"}[kind]
        + "\nmetadata: {name: a}\nspec: {quantum: true}\n"
    )
    began = time.monotonic()
    process = commands.command(kind, str(newer), "--store", commands.address, "--broker", broker.url)

    assert said_within(process, began) == 2
    assert "apiVersion is 'mlho.io/v9'; this program reads mlho.io/v1alpha1" in commands.log()


def test_a_worker_reports_a_scheduler_of_a_newer_version(start, broker, tmp_path) -> None:
    """A worker rejects an execution document with an unknown field and says that the scheduler has a newer version."""
    store = LocalStore(tmp_path / "store")
    document = {"run": RUN, "number": 1, "state": "open", "data": str(tmp_path), "invented_later": True}
    store.put_if_absent(f"runs/{RUN}/execution", canonical_json(document))
    commands = start(str(store.root), broker.url)
    began = time.monotonic()

    assert said_within(commands.worker(RUN), began) == EX_CONFIG
    assert "was written by a different version of this program" in commands.log()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home") as home:
        yield home


def test_a_worker_without_its_scheduler_s_key_does_nothing(home: Home) -> None:
    """A worker with another signing key refuses the scheduler's messages and counts them. The scheduler reports this until a
    worker with the right key runs the task.
    """
    with home.executor() as executor, home.redis() as client:
        stranger = home.start_worker(key=b"a key that nobody else has, long enough")
        home.wait_for_slots(1)
        future = executor.submit(task("test_noted", "genuine", home.starts))
        wait_until(
            lambda: int(client.hget(home.names.counters, "refused:forged") or 0) >= 1,
            seconds=SECONDS,
            what="a refusal that is counted",
        )
        wait_until(lambda: executor.counters.forged > 0, seconds=SECONDS, what="a scheduler that knows")
        assert noted_starts(home.starts) == []
        kill_group(stranger)
        home.start_worker()
        assert result(future).is_new
        assert executor.counters.forged == 0
    assert noted_starts(home.starts) == ["genuine"]
