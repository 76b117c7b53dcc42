"""Whole runs of the command on object storage give the same bytes as on folders, and can be read by the same commands."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from mlho.store import open_store
from tests.builders import make_tables, write_spec, write_tables
from tests.services.s3_servers import BUCKET, READ_ONLY_KEY, S3Server, client_of

pytestmark = pytest.mark.usefixtures("credentials")


class Command:
    """The ``mlho`` command in a separate process, with a folder and an environment."""

    def __init__(self, folder: Path, server: S3Server) -> None:
        self.folder = folder
        self.environment = {**os.environ, **server.variables(), "MLHO_CACHE_DIR": str(folder / "cache")}

    def __call__(self, *arguments: str, expect: int = 0, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "scheduler", *arguments],
            cwd=self.folder,
            env={**self.environment, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def command(tmp_path: Path, seaweedfs: S3Server) -> Command:
    return Command(tmp_path, seaweedfs)


@dataclass(frozen=True)
class Trained:
    """A run on object storage."""

    folder: Path
    """The folder of the specification and its tables."""
    store: str
    output: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, seaweedfs: S3Server) -> Trained:
    """Carry out a run on tables in a folder with its store in a bucket."""
    folder, store = tmp_path_factory.mktemp("trained"), f"s3://{BUCKET}/{uuid4().hex[:8]}"
    write_tables(folder / "data", make_tables(), partitions=3)
    write_spec(folder, uri="data")
    output = Command(folder, seaweedfs)("run", "spec.yaml", "--store", store, "--workers", "2")
    return Trained(folder, store, output)


def files_of(store, name: str) -> dict[str, bytes]:
    """Return files of a store's only run by name."""
    keys = [key for key in store.keys("runs/") if f"/{name}" in key]
    return {key.split("/", 2)[2]: store.get(key) for key in keys}


def digest_in(output: str) -> str:
    """Return the result's digest from the command's output."""
    (line,) = [line for line in output.splitlines() if line.startswith("result ")]
    return line.split()[1]


def upload(server: S3Server, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            client_of(server).upload_file(
                str(path), BUCKET, f"{prefix}/{path.relative_to(folder).as_posix()}"
            )


def test_a_run_on_object_storage_gives_the_same_bytes(trained, seaweedfs, tmp_path, monkeypatch):
    """Three arrangements give one result and one bundle: all in folders, the store in a bucket, and both tables and store in a bucket."""
    name = uuid4().hex[:8]
    upload(seaweedfs, trained.folder / "data", f"{name}/data")
    write_spec(tmp_path, uri=f"s3://{BUCKET}/{name}/data/")
    here, two = str(tmp_path / "folder"), f"s3://{BUCKET}/{name}/two"
    command = Command(trained.folder, seaweedfs)
    first = command("run", "spec.yaml", "--store", here, "--workers", "2")
    third = command("run", str(tmp_path / "spec.yaml"), "--store", two, "--workers", "2")
    for variable, value in command.environment.items():
        monkeypatch.setenv(variable, value)
    bundles = [files_of(open_store(address), "bundle/") for address in (here, trained.store, two)]

    assert digest_in(trained.output) == digest_in(third) == digest_in(first)
    assert bundles[0] == bundles[1] == bundles[2]
    assert f"{trained.store}/runs/" in trained.output


def test_a_run_on_object_storage_can_be_shown_and_resumed(trained, seaweedfs):
    """``show`` and ``report`` read from the bucket, and running the same command again finds all tasks done."""
    command = Command(trained.folder, seaweedfs)
    again = command("run", "spec.yaml", "--store", trained.store, "--workers", "2")
    listed = command("show", "--store", trained.store)
    report = Path(command("report", "small", "--store", trained.store).strip())

    assert " 0 of them new" in again
    assert "finished" in listed
    assert report.name == "report.html"
    assert report.read_text().lstrip().startswith("<!")


def test_a_store_that_cannot_be_used_is_refused_before_anything_runs(command, tmp_path, rclone, seaweedfs):
    """A server that overwrites, a missing bucket and a read-only key give exit code 2 and the remedy, and nothing is written."""
    write_tables(tmp_path / "data", make_tables())
    write_spec(tmp_path, uri="data")
    store = f"s3://{BUCKET}/{uuid4().hex[:8]}"

    output = command("run", "spec.yaml", "--store", store, expect=2, MLHO_S3_ENDPOINT=rclone.endpoint)
    assert "overwrites existing objects" in output
    output = command("run", "spec.yaml", "--store", "s3://nonesuch/a", expect=2)
    assert "no such bucket" in output
    output = command("run", "spec.yaml", "--store", store, expect=2, AWS_ACCESS_KEY_ID=READ_ONLY_KEY)
    assert "access denied to write" in output
    listed = client_of(seaweedfs).list_objects_v2(Bucket=BUCKET, Prefix=store.removeprefix(f"s3://{BUCKET}/"))
    assert listed["KeyCount"] == 0
