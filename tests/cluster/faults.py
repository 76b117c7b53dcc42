"""Faults of a run in a real cluster."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.stack import Stack

KUBELET_SECONDS: Final = 90


def _worker(stack: Stack, run: str) -> str:
    return stack.wait_for("a worker runs", lambda: stack.workers(run))[0]


def delete_worker(stack: Stack, run: str) -> None:
    """Delete a worker pod of the run without a grace period."""
    stack.kubectl("delete", "pod", _worker(stack, run), "--grace-period=0", "--force")


def evict_worker(stack: Stack, run: str) -> None:
    """Evict a worker of the run, as when a node is drained."""
    pod = _worker(stack, run)
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": stack.namespace},
    }
    path = f"/api/v1/namespaces/{stack.namespace}/pods/{pod}/eviction"
    stack.kubectl("create", "--raw", path, "-f", "-", given=json.dumps(body))


def delete_leader(stack: Stack, _run: str) -> None:
    """Delete the leading scheduler."""
    stack.kubectl("delete", "pod", stack.leader(), "--wait=false")


def kill_leader(stack: Stack, _run: str) -> None:
    """Delete the leading scheduler without time to release its Lease."""
    stack.kubectl("delete", "pod", stack.leader(), "--grace-period=0", "--force")


def delete_redis(stack: Stack, _run: str) -> None:
    """Delete Redis, which loses its data."""
    stack.kubectl("delete", "pod", "-l", "app.kubernetes.io/component=redis", "--wait=false")


def delete_storage(stack: Stack, _run: str) -> None:
    """Delete the object storage's pod. The next pod has the same volume."""
    stack.kubectl("delete", "pod", "-l", "app=seaweedfs", "--grace-period=0", "--force")


def stop_kubelet(stack: Stack) -> None:
    """Stop the node's kubelet for 90 seconds: the node becomes not ready, and no Service has a ready pod."""
    pid = _kubelet()
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        stack.wait_for("the node is not ready", lambda: not _ready(stack), seconds=2 * KUBELET_SECONDS)
        time.sleep(max(0.0, began + KUBELET_SECONDS - time.monotonic()))
    finally:
        os.kill(pid, signal.SIGCONT)
    stack.wait_for("the node is ready again", lambda: _ready(stack))


def _ready(stack: Stack) -> bool:
    conditions = stack.items("nodes")[0]["status"]["conditions"]
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _kubelet() -> int:
    """Return the kubelet's process id if the kubelet's kubeconfig is beside the test's, as in a local test cluster."""
    config = Path(os.environ["KUBECONFIG"]).parent / "pki" / "kubelet.kubeconfig"
    for folder in Path("/proc").iterdir():
        with suppress(OSError):  # no process, or one that has ended meanwhile
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"kubelet") and f"--kubeconfig={config}".encode() in words:
                return int(folder.name)
    pytest.skip(
        "needs the kubelet's process: only a test cluster on this machine has one that may be stopped"
    )


Fault = Callable[[Stack, str], None]
# In the order of severity.
FAULTS: Final[tuple[Fault, ...]] = (
    evict_worker,
    delete_worker,
    delete_leader,
    delete_redis,
    delete_storage,
    kill_leader,
)
