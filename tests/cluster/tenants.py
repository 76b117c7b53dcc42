"""Two tenants: a release in a separate namespace for each, and a shared object storage with a prefix for each."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cluster.conftest import Kubectl, new_namespace
from tests.cluster.stack import BUCKET, Stack, installed
from tests.cluster.storage import (
    ACCESS,
    BARE,
    SECRET,
    USER,
    apply,
    image,
    start_storage,
    storage_here,
    upload,
)

NAMES: Final = ("first", "second")
PORT: Final = 8080
# Prints the response of each target, a host and a port. An unknown DNS name is distinguished from a blocked connection.
KNOCK: Final = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def knock(target):
    try:
        socket.create_connection(tuple(target), 10).close()
        return "open"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return type(error).__name__

targets = json.loads(TARGETS)
with ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps(dict(zip(targets, pool.map(knock, targets.values())))))
"""


@dataclass(frozen=True)
class Tenants:
    """Both installations, and the storage."""

    storage: Kubectl
    first: Stack
    second: Stack


@contextmanager
def two_tenants(cohort: Path) -> Iterator[Tenants]:
    """Install two releases that share only the cluster and the object storage."""
    with ExitStack() as stack:
        storage = stack.enter_context(new_namespace("storage"))
        start_storage(storage, identities=[_everybody(), *map(_identity, NAMES)])
        with storage_here(storage) as s3:
            for name in NAMES:
                upload(s3, cohort, BUCKET, f"{name}/cohort/")
        stacks = [stack.enter_context(_tenant(name, storage, cohort)) for name in NAMES]
        yield Tenants(storage, *stacks)


@contextmanager
def _tenant(name: str, storage: Kubectl, cohort: Path) -> Iterator[Stack]:
    with new_namespace(name) as kubectl:
        # A new namespace rejects pods until a controller has created this account.
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
        apply(kubectl, [_credentials(name), _neighbour()])
        store = {
            "uri": f"s3://{BUCKET}/{name}/store",
            "endpoint": f"http://seaweedfs.{storage.namespace}.svc:8333",
            "addressing": "path",
            "existingSecret": "mlho-s3",
        }
        reachable = {
            "s3": {"podLabels": {"app": "seaweedfs"}, "namespace": storage.namespace},
            # Metrics of the first may be read from this namespace, those of the second from a namespace without pods.
            "metrics": {"namespace": storage.namespace if name == NAMES[0] else "monitoring"},
        }
        with installed(
            kubectl,
            cohort,
            with_storage=False,
            store=store,
            networkPolicy=reachable,
            scheduler={"replicas": 1, "resources": {"requests": {"cpu": "50m"}}},
        ) as release:
            kubectl("wait", "--for=condition=Ready", "pod/neighbour", "--timeout=5m", seconds=330)
            yield release


def _secret_of(name: str) -> str:
    return f"{name}-and-nobody-else"


def _identity(name: str) -> dict[str, Any]:
    """Return an identity with all rights below its prefix and none elsewhere."""
    return {
        "name": name,
        "credentials": [{"accessKey": name, "secretKey": _secret_of(name)}],
        "actions": [f"{verb}:{BUCKET}/{name}/*" for verb in ("Read", "Write", "List", "Tagging")],
    }


def _everybody() -> dict[str, Any]:
    """Return the trial's identity with all rights, with which tests fill both prefixes."""
    return {
        "name": ACCESS,
        "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }


def _credentials(name: str) -> dict[str, Any]:
    keys = {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": _secret_of(name)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mlho-s3"}, "stringData": keys}


def _neighbour() -> dict[str, Any]:
    """Create a listening pod that is not part of a release, so that no policy of the chart applies to it."""
    container = {
        "name": "listen",
        "image": image("services"),
        "command": ["python", "-m", "http.server", str(PORT), "--directory=/tmp"],
        "securityContext": BARE,
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    spec = {"automountServiceAccountToken": False, "securityContext": USER, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "neighbour"}, "spec": spec}


def address(stack: Stack, pod: str) -> str:
    """Return the address of a pod."""
    return str(stack.get("pod", pod)["status"]["podIP"])


def knock(
    kubectl: Kubectl,
    pod: str,
    targets: Mapping[str, tuple[str, int]],
    *,
    python: str = "/opt/mlho/bin/python",
) -> dict[str, str]:
    """Connect from a pod to each target, and return ``open``, ``no answer`` or the error by target."""
    program = f"TARGETS = {json.dumps(dict(targets))!r}\n{KNOCK}"
    found: dict[str, str] = json.loads(kubectl("exec", pod, "--", python, "-c", program))
    return found


def secret_value(stack: Stack, secret: str, entry: str) -> str:
    """Return an entry of a Secret."""
    return base64.b64decode(stack.get("secret", secret)["data"][entry]).decode()
