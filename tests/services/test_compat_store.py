"""Compat mode on the real ``rclone serve s3``, which ignores the conditions of writes, gives the same bytes even if processes are killed."""

import inspect
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from mlho.store import open_store
from mlho.store.base import Store
from mlho.store.cache import BlobCache
from mlho.store.local import LocalStore
from mlho.store.probe import probe_store
from mlho.store.s3 import Bucket
from mlho.store.s3_settings import COMPAT, CONDITIONAL, STRICT
from mlho.store.s3_store import S3Store
from tests.contract import test_store as suite
from tests.limits import GUARD_SECONDS
from tests.services.queue_commands import Commands, ending, published, run_alone, write_small_run
from tests.services.queue_home import kill_group, wait_until
from tests.services.redis_servers import Server
from tests.services.s3_proxy import Proxy, proxy_of
from tests.services.s3_servers import BUCKET, S3Server

pytestmark = pytest.mark.usefixtures("credentials")

# The contract of every store except for races, which such a server cannot decide.
globals().update(
    {
        name: test
        for name, test in vars(suite).items()
        if name.startswith("test_") and "racing" not in name and "store" in inspect.signature(test).parameters
    }
)


@pytest.fixture
def store(rclone: S3Server, tmp_path: Path) -> S3Store:
    prefix = f"{uuid4().hex[:8]}/"
    settings = rclone.settings(conditional=COMPAT)
    return S3Store(
        Bucket(BUCKET, settings, where=f"s3://{BUCKET}/{prefix}"), prefix, BlobCache(tmp_path / "cache")
    )


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_run(tmp_path_factory.mktemp("cohort"), by_patient=True)


@pytest.fixture(scope="module")
def alone_store(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """Return the store of a run in a folder, without a queue."""
    return run_alone(spec, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def alone(alone_store: LocalStore) -> dict[str, bytes]:
    """Return the published files of that run."""
    return published(alone_store)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "redis") as server:
        yield server


def variables(server: S3Server, folder: Path, *, mode: str, endpoint: str | None = None) -> dict[str, str]:
    settings = {CONDITIONAL: mode, "MLHO_CACHE_DIR": str(folder / "cache")}
    return {**server.variables(), **settings, **({"MLHO_S3_ENDPOINT": endpoint} if endpoint else {})}


def opened(address: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Store:
    """Open the store as the command does."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return open_store(address)


def written(proxy: Proxy) -> list[str]:
    """Return a list to which the proxy adds the key of each write."""
    keys: list[str] = []

    def note(method: str, path: str) -> None:
        if method in ("PUT", "POST"):
            keys.append(path.partition("?")[0])

    proxy.fate = note
    return keys


def kinds(keys: list[str], prefix: str) -> set[str]:
    return {key.removeprefix(f"/{BUCKET}/{prefix}/").split("/")[0] for key in keys}


def write_score_spec(folder: Path, run: str) -> Path:
    """Write a specification that scores the patients of the training."""
    tables = {"events": "events", "cohort": "labels.parquet", "demographics": "demographics.parquet"}
    document = {
        "apiVersion": "mlho.io/v1alpha1",
        "kind": "ScoringRun",
        "metadata": {"name": "nightly"},
        "spec": {
            "bundle": {"uri": f"run:{run}"},
            "data": {"tables": tables, "partitionedBy": "patient"},
            "index": {"column": "index_date"},
        },
    }
    path = folder / "score.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def n_of(store: Store, prefix: str) -> int:
    return sum(1 for _ in store.keys(prefix))


def test_the_probe_asks_for_no_promise_in_compat_mode(store):
    """In compat mode, the probe requires no conditional writes. It writes one object, finds it, and deletes it."""
    probe_store(store)

    assert list(store.keys("")) == []


def test_strict_mode_refuses_the_server_and_names_the_remedy(spec, rclone, tmp_path):
    """In strict mode, the server is refused with exit code 2 and the remedy before anything is written."""
    environment = variables(rclone, tmp_path, mode=STRICT)
    with ending(Commands(spec, tmp_path, f"s3://{BUCKET}/{uuid4().hex[:8]}", "", environment)) as commands:
        assert commands.run().wait(GUARD_SECONDS) == 2
        assert f"set {CONDITIONAL}={COMPAT} for the command and its workers" in commands.log()


def trained(commands: Commands) -> Commands:
    """Carry out the run without a queue."""
    with ending(commands):
        assert commands.run("--workers", "2").wait(4 * GUARD_SECONDS) == 0, commands.log()
    return commands


@pytest.fixture(scope="module")
def in_compat(spec: Path, rclone: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """Return the commands of a run that was carried out without a queue in compat mode."""
    folder = tmp_path_factory.mktemp("compat")
    environment = variables(rclone, folder, mode=COMPAT)
    return trained(Commands(spec, folder, f"s3://{BUCKET}/{uuid4().hex[:8]}", "", environment))


def test_a_run_without_a_queue_gives_the_same_bytes(in_compat, alone, monkeypatch):
    """Without a queue, the command commits the proposals of its processes, gives the same bytes, and logs compat mode once."""
    store = opened(in_compat.address, in_compat.environment, monkeypatch)

    assert in_compat.log().count("compat_mode") == 1
    assert published(store) == alone
    assert n_of(store, "proposals/") == 0


def test_killed_workers_and_a_killed_scheduler_change_no_byte(
    spec, alone, rclone, broker, tmp_path, monkeypatch
):
    """With one of two workers and the scheduler killed, the bytes are the same. Nothing is committed without a scheduler,
    and no worker writes a commit record.
    """
    prefix = uuid4().hex[:8]
    environment = variables(rclone, tmp_path, mode=COMPAT)
    store = opened(f"s3://{BUCKET}/{prefix}", environment, monkeypatch)
    with ExitStack() as stack:
        proxy = stack.enter_context(proxy_of(rclone.port))
        by_workers = written(proxy)
        commands = Commands(spec, tmp_path, f"s3://{BUCKET}/{prefix}", broker.url, environment)
        stack.enter_context(ending(commands))
        through = variables(rclone, tmp_path, mode=COMPAT, endpoint=proxy.endpoint)
        workers = Commands(spec, tmp_path, commands.address, broker.url, through)
        stack.enter_context(ending(workers))
        run = commands.run_id(store)
        scheduler = commands.run("--broker", broker.url)
        first, second = workers.worker(run), workers.worker(run)
        wait_until(lambda: n_of(store, "commits/") >= 2, what="two commits")
        kill_group(first)
        # Eleven tasks prepare the data. The three iterations are on the queue together, so that the worker has more to do.
        wait_until(lambda: n_of(store, "commits/") >= 12, what="an iteration by the other worker")
        scheduler.send_signal(signal.SIGKILL)
        scheduler.wait()
        committed = n_of(store, "commits/")
        wait_until(lambda: n_of(store, "proposals/") >= 1, what="a proposal that waits")
        assert n_of(store, "commits/") == committed
        assert commands.run("--broker", broker.url).wait(180) == 0, commands.log()
        assert second.wait(GUARD_SECONDS) == 0

    assert published(store) == alone
    assert n_of(store, "proposals/") == 0
    assert kinds(by_workers, prefix) <= {"blobs", "proposals", "attempts", "probe"}
    assert "proposals" in kinds(by_workers, prefix)


def scores_in(store: Store) -> dict[str, bytes]:
    """Return the scores of a store by key."""
    return {key: store.get(key) for key in store.keys("runs/") if "/scores/" in key}


def test_scores_are_the_same_bytes(spec, in_compat, alone_store, command, monkeypatch):
    """Scores have the same bytes for a store in a folder and for a bucket in compat mode with workers on a queue."""
    store = opened(in_compat.address, in_compat.environment, monkeypatch)
    path = write_score_spec(spec.parent, in_compat.run_id(store))
    options = ["--store", in_compat.address, "--broker", "embedded", "--workers", "2"]
    with ending(in_compat) as commands:
        assert commands.command("score", str(path), *options).wait(4 * GUARD_SECONDS) == 0, commands.log()
    assert n_of(store, "proposals/") == 0
    assert command("score", path, store=alone_store.root).code == 0

    assert len(scores_in(store)) == 5  # three parts, the counts, the manifest
    assert scores_in(store) == scores_in(alone_store)


@pytest.mark.parametrize(("scheduler", "worker"), [(COMPAT, STRICT), (STRICT, COMPAT)])
def test_a_worker_in_another_mode_than_its_scheduler_refuses_to_start(
    spec, seaweedfs, broker, tmp_path, monkeypatch, scheduler, worker
):
    """A worker in another mode than its scheduler exits with code 78 and the remedy. The server supports both modes, so that
    the mode is the only problem.
    """
    address = f"s3://{BUCKET}/{uuid4().hex[:8]}"
    environment = variables(seaweedfs, tmp_path, mode=scheduler)
    store = opened(address, environment, monkeypatch)
    with ExitStack() as stack:
        commands = stack.enter_context(ending(Commands(spec, tmp_path, address, broker.url, environment)))
        other = variables(seaweedfs, tmp_path, mode=worker)
        workers = stack.enter_context(ending(Commands(spec, tmp_path, address, broker.url, other)))
        run = commands.run_id(store)
        commands.run("--broker", broker.url)
        assert workers.worker(run).wait(GUARD_SECONDS) == 78
        assert f"Set {CONDITIONAL}={scheduler} for the worker too" in commands.log()
