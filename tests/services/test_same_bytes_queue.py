"""The number of workers, the kind of store and the number of events files do not change the bytes that the embedded pool gives.

With ``LONG_TESTS`` set, all combinations run (``make chaos``), else a few that differ in every respect.
"""

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pyarrow as pa
import pytest

from mlho.pseudonyms import PSEUDONYM_KEY
from mlho.store import open_store
from mlho.store.local import LocalStore
from tests.builders import DAY_US, make_tables, write_spec, write_tables
from tests.limits import GUARD_SECONDS
from tests.services.queue_commands import Commands, ending, published
from tests.services.redis_servers import Server
from tests.services.s3_servers import BUCKET, S3Server

OUTCOMES: Final = {
    "label": {
        "candidates": [
            {"classifier": "glmboost", "grid": {"nSteps": [20, 40]}},
            {"classifier": "elasticnet"},
        ]
    },
    "time to event": {
        "cohort.timeToEvent": {"event": "event_date", "end": "end_date", "horizonDays": [180, 300]},
        "candidates": [
            {"classifier": "cox", "grid": {"c": [0.1]}},
            {"classifier": "xgboostAft", "grid": {"maxDepth": [2], "nRounds": [20]}},
            {"classifier": "discreteTime", "grid": {"c": [0.1]}},
        ],
    },
}
PARTITIONS: Final = (1, 7, 64)
# Workers, store, partitions, whether the first worker is limited to one CPU, and the outcome.
CORNERS: Final = [
    (1, "s3", 7, True, "label"),
    (2, "local", 64, False, "time to event"),
    (4, "local", 1, True, "label"),
]
ALL: Final = list(itertools.product((1, 2, 4), ("local", "s3"), PARTITIONS, (False, True), OUTCOMES))
_SECONDS: Final = 240


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Write the same cohort with each number of events files, and return the folders by that number."""
    tables, folders = make_tables(200, seed=5), {}
    tables = replace(tables, labels=with_dates(tables.labels))
    for partitions in PARTITIONS:
        folders[partitions] = tmp_path_factory.mktemp(f"cohort-{partitions}")
        write_tables(folders[partitions], tables, partitions=partitions)
    return folders


def with_dates(labels: Any) -> Any:
    """Return the labels with the date of an event for each positive sample and with different ends of observation."""
    index = labels.column("index_date").cast(pa.int64()).to_pylist()
    outcomes = labels.column("label").to_pylist()
    days = {
        "event_date": [20 + 13 * (n % 29) if outcome else None for n, outcome in enumerate(outcomes)],
        "end_date": [150 + 37 * (n % 11) for n in range(len(outcomes))],
    }
    for name, day_numbers in days.items():
        times = [
            None if day is None else start + day * DAY_US
            for start, day in zip(index, day_numbers, strict=True)
        ]
        labels = labels.append_column(name, pa.array(times, pa.timestamp("us")))
    return labels


@pytest.fixture(scope="module")
def embedded(
    folders: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, bytes]]:
    """Return a function with the published files of the embedded pool for an outcome, from two processes and seven
    partitions. Each outcome runs once.
    """

    @cache
    def of(outcome: str) -> dict[str, bytes]:
        folder = tmp_path_factory.mktemp("embedded")
        spec = write_spec(folders[7], OUTCOMES[outcome])
        with ending(Commands(spec, folder, str(folder / "store"), "")) as commands:
            assert commands.run("--workers", "2").wait(_SECONDS) == 0, commands.log()
        return published(LocalStore(folder / "store"))

    return of


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("n_workers", "where", "partitions", "is_pinned", "outcome"),
    ALL if os.environ.get("LONG_TESTS") else CORNERS,
)
def test_queue_gives_the_bytes_of_the_embedded_pool(
    n_workers: int,
    where: str,
    partitions: int,
    is_pinned: bool,
    outcome: str,
    folders: dict[int, Path],
    embedded: Callable[[str], dict[str, bytes]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Bundle and result digest are those of the embedded pool, also for a worker with another number of CPUs, and with encrypted ids."""
    address, environment = str(tmp_path / "store"), {PSEUDONYM_KEY: "the key of the ids of this test"}
    if where == "s3":
        seaweedfs: S3Server = request.getfixturevalue("seaweedfs")
        address = f"s3://{BUCKET}/{uuid4().hex[:8]}"
        environment = {**seaweedfs.variables(), "MLHO_CACHE_DIR": str(tmp_path / "cache")}
    expected = embedded(outcome)
    spec = write_spec(folders[partitions], OUTCOMES[outcome])
    store = open_store(address, environment)
    cpus = sorted(os.sched_getaffinity(0))

    with Server(tmp_path / "server") as server:
        commands = Commands(spec, tmp_path, address, server.url, environment)
        with ending(commands):
            scheduler = commands.run("--broker", server.url)
            run = commands.run_id(store)
            workers = [
                commands.worker(run, cpus=cpus[:1] if is_pinned and not number else ())
                for number in range(n_workers)
            ]
            assert scheduler.wait(_SECONDS) == 0, commands.log()
            assert [worker.wait(GUARD_SECONDS) for worker in workers] == [0] * n_workers

    assert len(expected) > 5
    assert published(store) == expected
