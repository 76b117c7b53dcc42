"""Real S3 servers on free loopback ports, started and stopped by the tests and used over HTTP."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from mlho.store.s3_settings import S3Settings
from tests.limits import GUARD_SECONDS
from tests.ports import free_port

ACCESS_KEY: Final = "mlho-tests"
SECRET_KEY: Final = "only-for-loopback"
READ_ONLY_KEY: Final = "mlho-reader"
BUCKET: Final = "mlho-tests"
_UP_SECONDS: Final = GUARD_SECONDS
_PROGRAMS: Final = Path(sys.executable).parent


@dataclass
class S3Server:
    """A server's process group and its address."""

    command: list[str]
    port: int
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, **changes: Any) -> S3Settings:
        """Return the settings of a client of this server. Its timeouts are short, so that a failure shows soon."""
        plain: dict[str, Any] = {"endpoint": self.endpoint, "region": "us-east-1", "addressing": "path"}
        return S3Settings(**{**plain, **changes})

    def variables(self) -> dict[str, str]:
        """Return the environment of a program that uses this server."""
        return {
            "MLHO_S3_ENDPOINT": self.endpoint,
            "MLHO_S3_REGION": "us-east-1",
            "MLHO_S3_ADDRESSING": "path",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        self._await_port()

    def kill(self) -> None:
        """Kill the whole process group, as a power failure would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self.process = None

    def _await_port(self) -> None:
        assert self.process is not None
        end = time.monotonic() + _UP_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            if _answers(self.port):
                return
            time.sleep(0.05)
        pytest.fail(f"the server did not start: {self.command[0]}\n{self._tail()}")

    def _tail(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-2000:]


def _answers(port: int) -> bool:
    """Return whether an HTTP server responds. An open port alone may belong to a server that is not ready."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def program(name: str) -> str:
    """Return the path of a program of the test environment. If it is missing, fail in CI and skip the test elsewhere."""
    found = shutil.which(name, path=f"{_PROGRAMS}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        message = f"{name} is not installed: pip install the extra 'services'"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def client_of(server: S3Server) -> Any:
    """Return a plain boto3 client, to check the store's content."""
    return _client_at(server.endpoint, os.getpid())


@cache
def _client_at(endpoint: str, _process: int) -> Any:
    """Create a client once, which takes as long as many requests."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3, "mode": "standard"}),
    )


def seaweedfs_server(folder: Path) -> S3Server:
    """Return a SeaweedFS, which has atomic conditional writes and stores everything on disk, with one user with all rights
    and one with read access.
    """
    keys = [(ACCESS_KEY, ["Admin", "Read", "Write", "List", "Tagging"]), (READ_ONLY_KEY, ["Read", "List"])]
    identities = [
        {"name": key, "credentials": [{"accessKey": key, "secretKey": SECRET_KEY}], "actions": actions}
        for key, actions in keys
    ]
    (folder / "data").mkdir(exist_ok=True)
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    port = free_port()
    parts = ("master", "volume", "filer", "admin", "s3")
    ports = [f"-{part}.port.grpc={free_port()}" for part in parts]
    ports += [f"-{part}.port={free_port()}" for part in parts[:-1]]
    command = [
        program("weed"),
        "mini",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.port={port}",
        f"-s3.config={folder / 's3.json'}",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",  # a missing bucket is an error, as on AWS
        "-filer.saveToFilerLimit=1000000",  # small objects beside their names, without a volume: a third less CPU time
        *ports,
    ]
    return S3Server(command, port, folder)


def moto_server(folder: Path) -> S3Server:
    """Return moto, which has the errors of AWS."""
    port = free_port()
    return S3Server([program("moto_server"), "-H", "127.0.0.1", "-p", str(port)], port, folder)


def rclone_server(folder: Path) -> S3Server:
    """Return ``rclone serve s3``, which ignores conditions, so that a store must refuse it."""
    (folder / "data" / BUCKET).mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [
        program("rclone"),
        "serve",
        "s3",
        str(folder / "data"),
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        f"{ACCESS_KEY},{SECRET_KEY}",
    ]
    return S3Server(command, port, folder)


def _running(server: S3Server, *, make_bucket: bool = True) -> Iterator[S3Server]:
    server.start()
    try:
        if make_bucket:
            client_of(server).create_bucket(Bucket=BUCKET)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Yield a SeaweedFS with an empty bucket."""
    yield from _running(seaweedfs_server(tmp_path_factory.mktemp("seaweedfs")))


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Yield a moto server with an empty bucket."""
    yield from _running(moto_server(tmp_path_factory.mktemp("moto")))


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Yield an ``rclone serve s3`` with a bucket."""
    yield from _running(rclone_server(tmp_path_factory.mktemp("rclone")), make_bucket=False)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the credentials of the test servers as environment variables."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
