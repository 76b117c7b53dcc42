"""Object storage in the cluster, that of k8s/examples/trial with the tests' images, and access to it from this machine.

Images are named ``localhost/mlho-{scheduler,worker,services}:test``, or by ``MLHO_TEST_IMAGES`` (a prefix) and
``MLHO_TEST_TAG``. ``make image`` and tests/cluster/images build them.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import boto3
import yaml
from botocore.config import Config

from tests.cluster.conftest import REPO, Kubectl
from tests.limits import GUARD_SECONDS

TRIAL: Final = REPO / "k8s" / "examples" / "trial"
PORT: Final = 8333
ACCESS: Final = "trial"
SECRET: Final = "trial-and-nothing-else"
USER: Final = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
BARE: Final = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
PREFIX: Final = os.environ.get("MLHO_TEST_IMAGES", "localhost/mlho-")
TAG: Final = os.environ.get("MLHO_TEST_TAG", "test")


def image(name: str) -> str:
    """Return the full name of an image."""
    return f"{PREFIX}{name}:{TAG}"


def trial_objects(*, with_cohort: bool) -> list[dict[str, Any]]:
    """Return the objects of k8s/examples/trial/storage.yaml with the tests' images."""
    found = list(yaml.safe_load_all((TRIAL / "storage.yaml").read_text(encoding="utf-8")))
    for obj in found:
        if obj["kind"] in ("Deployment", "Job"):
            name = "services" if obj["kind"] == "Deployment" else "worker"
            obj["spec"]["template"]["spec"]["containers"][0]["image"] = image(name)
    return [obj for obj in found if with_cohort or obj["kind"] != "Job"]


def start_storage(
    kubectl: Kubectl, *, identities: Sequence[dict[str, Any]] = (), with_cohort: bool = False
) -> None:
    """Start the storage, and wait until it responds; ``identities`` replace the one with all rights."""
    objects = trial_objects(with_cohort=with_cohort)
    if identities:
        secret = next(obj for obj in objects if obj["kind"] == "Secret")
        secret["stringData"]["s3.json"] = json.dumps({"identities": list(identities)})
    apply(kubectl, objects)
    kubectl("rollout", "status", "deployment/seaweedfs", "--timeout=5m", seconds=330)


def apply(kubectl: Kubectl, objects: Sequence[dict[str, Any]]) -> None:
    """Apply objects."""
    kubectl(
        "apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    )


@contextmanager
def forwarded(kubectl: Kubectl, what: str, port: int) -> Iterator[str]:
    """Forward a port of a pod or Service, named as for kubectl, and yield its local address."""
    until = time.monotonic() + GUARD_SECONDS
    while True:
        with _port_forward(kubectl, what, port) as first_line:
            if first_line:
                yield first_line.split()[2]
                return
        # kubectl has exited, because no pod is running at this moment.
        if time.monotonic() >= until:
            raise AssertionError(f"port-forward {what}: not within {GUARD_SECONDS:.0f} s")
        time.sleep(1)


@contextmanager
def _port_forward(kubectl: Kubectl, what: str, port: int) -> Iterator[str]:
    """Yield the first line of ``kubectl port-forward``, which it prints when it listens; empty if it has exited."""
    with subprocess.Popen(
        ["kubectl", f"--namespace={kubectl.namespace}", "port-forward", what, f":{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline()
        finally:
            process.terminate()


@contextmanager
def storage_here(kubectl: Kubectl) -> Iterator[Any]:
    """Yield a boto3 client of the storage. The connection ends with the storage's pod."""
    with forwarded(kubectl, "service/seaweedfs", PORT) as address:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{address}",
            region_name="us-east-1",
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            # The storage accepts connections before all of its parts are ready.
            config=Config(retries={"mode": "standard", "total_max_attempts": 8}),
        )
        try:
            yield client
        finally:
            client.close()


def upload(s3: Any, folder: Path, bucket: str, prefix: str) -> None:
    """Copy a folder to a bucket."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            s3.upload_file(str(path), bucket, f"{prefix}{path.relative_to(folder).as_posix()}")


def listed(s3: Any, bucket: str, prefix: str) -> list[str]:
    """Return the sorted keys under a prefix."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sorted(found["Key"] for page in pages for found in page.get("Contents", ()))


def download(s3: Any, bucket: str, prefix: str) -> dict[str, bytes]:
    """Return all objects under a prefix by the rest of their keys."""
    return {
        key.removeprefix(prefix): s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        for key in listed(s3, bucket, prefix)
    }
