"""The Secrets of storage, Redis and signing key are replaced during a run. The run continues without a manual restart."""

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import new_namespace
from tests.cluster.here import Here
from tests.cluster.stack import Stack, installed
from tests.cluster.storage import ACCESS

ROTATED_SECONDS = 480  # in production the kubelet alone may take a minute


@pytest.fixture
def alone(kubeconfig: str, crds: None, cohort: Path) -> Iterator[Stack]:
    """Yield a separate installation, whose Secrets may be replaced."""
    with new_namespace("rotation") as kubectl, installed(kubectl, cohort) as release:
        yield release


def replace_secret(stack: Stack, name: str, **entries: str) -> None:
    """Replace entries of a Secret."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in entries.items()}
    stack.kubectl("patch", "secret", name, "--type=merge", "-p", json.dumps({"data": encoded}))


def rotate(stack: Stack) -> None:
    """Replace all credentials. The storage, which is not part of the chart, is restarted by its administrator."""
    password, storage_key = "p" * 32, "another-and-nothing-else"
    url = base64.b64decode(stack.get("secret", "mlho-redis")["data"]["url"]).decode()
    users = base64.b64decode(stack.get("secret", "mlho-redis")["data"]["users.acl"]).decode()
    old = base64.b64decode(stack.get("secret", "mlho-redis")["data"]["password"]).decode()
    hashed = [hashlib.sha256(secret.encode()).hexdigest() for secret in (old, password)]
    replace_secret(
        stack,
        "mlho-redis",
        password=password,
        url=url.replace(old, password),
        **{"users.acl": users.replace(hashed[0], hashed[1])},
    )
    replace_secret(stack, "mlho-signing", key="s" * 48)
    identity = {
        "name": ACCESS,
        "credentials": [{"accessKey": ACCESS, "secretKey": storage_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    replace_secret(
        stack,
        "mlho-s3",
        AWS_SECRET_ACCESS_KEY=storage_key,
        **{"s3.json": json.dumps({"identities": [identity]})},
    )
    stack.kubectl("delete", "pod", "-l", "app=seaweedfs", "--grace-period=0", "--force")


def test_a_run_survives_the_rotation_of_all_secrets(alone: Stack, here: Here):
    """After all Secrets were replaced, schedulers and workers are replaced by themselves, no task fails, and the digest is the same."""
    obj = alone.submit("rotated", validation={"iterations": 60, "folds": 3, "seed": 300})
    wanted = here.begin(obj["spec"])
    alone.wait_until_it_learns("rotated")
    former, before = set(alone.workers("rotated")), alone.done("rotated")

    rotate(alone)
    alone.wait_for("others work", lambda: set(alone.workers("rotated")) - former, seconds=ROTATED_SECONDS)
    # Two waits: the last worker may end before the status counts its tasks.
    alone.wait_for("they work on", lambda: alone.done("rotated") > before + 2, seconds=ROTATED_SECONDS)
    status = alone.wait("rotated", "Succeeded")

    assert status["tasks"]["quarantined"] == 0
    assert status["outputs"]["resultDigest"] == wanted.result().digest
