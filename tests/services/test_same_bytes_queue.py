"""However many workers, wherever the store is, however the events are cut: the bytes of the embedded pool.

With ``LONG_TESTS`` set all combinations are run (``make chaos``), else a few that differ in everything.
"""

import itertools
import os
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from mlho.store import open_store
from mlho.store.local import LocalStore
from tests.builders import make_tables, write_spec, write_tables
from tests.services.queue_commands import Commands, ending, published
from tests.services.redis_servers import Server
from tests.services.s3_servers import BUCKET, S3Server

CHANGES: Final = {
    "candidates": [{"classifier": "glmboost", "grid": {"nSteps": [20, 40]}}, {"classifier": "elasticnet"}]
}
PARTITIONS: Final = (1, 7, 64)
# Workers, store, partitions, and whether the first worker has one CPU alone.
CORNERS: Final = [(1, "s3", 7, True), (2, "local", 64, False), (4, "local", 1, True)]
ALL: Final = list(itertools.product((1, 2, 4), ("local", "s3"), PARTITIONS, (False, True)))
_SECONDS: Final = 240


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same cohort, its events in so many files: number of files to specification."""
    tables, made = make_tables(200, seed=5), {}
    for partitions in PARTITIONS:
        folder = tmp_path_factory.mktemp(f"cohort-{partitions}")
        write_tables(folder, tables, partitions=partitions)
        made[partitions] = write_spec(folder, CHANGES)
    return made


@pytest.fixture(scope="module")
def embedded(specs: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the embedded pool publishes, with two processes and seven partitions."""
    folder = tmp_path_factory.mktemp("embedded")
    with ending(Commands(specs[7], folder, str(folder / "store"), "")) as commands:
        assert commands.run("--workers", "2").wait(_SECONDS) == 0, commands.log()
    return published(LocalStore(folder / "store"))


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("n_workers", "where", "partitions", "is_pinned"), ALL if os.environ.get("LONG_TESTS") else CORNERS
)
def test_queue_gives_the_bytes_of_the_embedded_pool(
    n_workers: int,
    where: str,
    partitions: int,
    is_pinned: bool,
    specs: dict[int, Path],
    embedded: dict[str, bytes],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Bundle and digest of the result are the same, also with a worker of another number of CPUs."""
    address, environment = str(tmp_path / "store"), {}
    if where == "s3":
        seaweedfs: S3Server = request.getfixturevalue("seaweedfs")
        address = f"s3://{BUCKET}/{uuid4().hex[:8]}"
        environment = {**seaweedfs.variables(), "MLHO_CACHE_DIR": str(tmp_path / "cache")}
    store = open_store(address, environment)
    cpus = sorted(os.sched_getaffinity(0))

    with Server(tmp_path / "server") as server:
        commands = Commands(specs[partitions], tmp_path, address, server.url, environment)
        with ending(commands):
            scheduler = commands.run("--broker", server.url)
            run = commands.run_id(store)
            workers = [
                commands.worker(run, cpus=cpus[:1] if is_pinned and not number else ())
                for number in range(n_workers)
            ]
            assert scheduler.wait(_SECONDS) == 0, commands.log()
            assert [worker.wait(20) for worker in workers] == [0] * n_workers

    assert len(embedded) > 5
    assert published(store) == embedded
