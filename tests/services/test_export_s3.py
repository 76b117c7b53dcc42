"""``mlho export`` from object storage gives the same files as from a folder, and verifies them."""

import hashlib
from pathlib import Path
from uuid import uuid4

import pytest

from mlho.store.keys import blob_key
from tests.builders import make_tables, write_spec, write_tables
from tests.services.s3_servers import BUCKET, S3Server, client_of
from tests.services.test_runs_s3 import Command

pytestmark = pytest.mark.usefixtures("credentials")


@pytest.fixture
def command(tmp_path: Path, seaweedfs: S3Server) -> Command:
    return Command(tmp_path, seaweedfs)


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_an_export_is_the_same_from_a_folder_and_from_object_storage(command, seaweedfs, tmp_path):
    """Report, bundle and result (except its timing) are the same from a folder and from object storage, and so is the
    command's output except for the paths.
    """
    prefix = uuid4().hex[:8]
    write_tables(tmp_path / "data", make_tables())
    write_spec(tmp_path, uri="data")
    command("run", "spec.yaml", "--store", "folder", "--workers", "2")
    command("run", "spec.yaml", "--store", f"s3://{BUCKET}/{prefix}", "--workers", "2")

    here = command("export", "small", "--store", "folder", "--to", "here")
    there = command("export", "small", "--store", f"s3://{BUCKET}/{prefix}", "--to", "there")

    local, remote = files_in(tmp_path / "here"), files_in(tmp_path / "there")
    assert local.keys() == remote.keys() >= {"report.html", "result.json", "bundle/bundle.json"}
    assert {name for name in local if local[name] != remote[name]} <= {"report.html", "result.json"}  # timing
    printed = [line for line in there.splitlines() if line.startswith(("run", "result", "bundle", "report"))]
    assert len(printed) == 4
    assert [line.replace("there/", "here/") for line in printed] == here.splitlines()[:4]

    damage(seaweedfs, prefix, remote["report.html"])
    output = command("export", "small", "--store", f"s3://{BUCKET}/{prefix}", "--to", "after", expect=1)
    assert "its bytes are not those that were committed" in output
    assert not (tmp_path / "after").exists()


def damage(server: S3Server, prefix: str, report: bytes) -> None:
    """Change the published report in the bucket; its blob is not changed."""
    client = client_of(server)
    blob = f"{prefix}/{blob_key(hashlib.sha256(report).hexdigest())}"
    assert client.head_object(Bucket=BUCKET, Key=blob)["ContentLength"] == len(report)
    (key,) = [
        obj["Key"]
        for obj in client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/runs/")["Contents"]
        if obj["Key"].endswith("report.html")
    ]
    client.put_object(Bucket=BUCKET, Key=key, Body=report + b" ")
