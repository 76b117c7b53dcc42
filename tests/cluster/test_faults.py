"""Faults on a real cluster: whatever is killed while a run is carried out, the run ends with the same digest."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scheduler.demo import make_demo
from tests.cluster.conftest import Kubectl
from tests.cluster.stack import Stack, digest_here, installed

SCHEDULER = "app.kubernetes.io/component=scheduler"
REDIS = "app.kubernetes.io/component=redis"


@pytest.fixture(scope="module")
def stack(kubeconfig: str, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The chart, installed in a namespace under restricted Pod Security."""
    folder = tmp_path_factory.mktemp("cluster") / "cohort"
    make_demo(folder, n_patients=400)
    kubectl = Kubectl(f"mlho-faults-{secrets.token_hex(3)}")
    kubectl("create", "namespace", kubectl.namespace)
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    try:
        with installed(kubectl, folder) as made:
            yield made
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false", check=False)


def evict(stack: Stack, pod: str) -> None:
    """Ask for a pod's eviction, as a node that is drained does."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": stack.namespace},
    }
    path = f"/api/v1/namespaces/{stack.namespace}/pods/{pod}/eviction"
    stack.kubectl("create", "--raw", path, "-f", "-", given=json.dumps(body))


def delete_worker(stack: Stack) -> None:
    """Delete a worker pod, without grace."""
    stack.kubectl("delete", "pod", stack.workers()[0], "--grace-period=0", "--force")


def evict_worker(stack: Stack) -> None:
    """Evict a worker pod."""
    evict(stack, stack.workers()[0])


def delete_leader(stack: Stack) -> None:
    """Delete the scheduler that leads."""
    lease = json.loads(stack.kubectl("get", "lease", "mlho-scheduler", "-o", "json"))
    stack.kubectl("delete", "pod", lease["spec"]["holderIdentity"], "--wait=false")


def kill_leader(stack: Stack) -> None:
    """Delete the scheduler that leads, without a moment to release its Lease."""
    lease = json.loads(stack.kubectl("get", "lease", "mlho-scheduler", "-o", "json"))
    stack.kubectl("delete", "pod", lease["spec"]["holderIdentity"], "--grace-period=0", "--force")


def delete_redis(stack: Stack) -> None:
    """Delete Redis, which forgets everything."""
    stack.kubectl("delete", "pod", "-l", REDIS, "--wait=false")


FAULTS = [delete_worker, evict_worker, delete_leader, kill_leader, delete_redis]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda own: own.__name__)
def test_a_run_goes_on_after(stack: Stack, fault: Callable[[Stack], None], tmp_path: Path):
    """The fault comes in the midst of the iterations; the digest is that of this machine, and no task is blamed."""
    name = fault.__name__.replace("_", "-")
    validation = {"iterations": 8, "folds": 3, "seed": 100 + FAULTS.index(fault)}
    stack.submit(name, validation=validation)
    under_way = lambda: stack.status(name).get("stage") == "learn" and stack.workers()  # noqa: E731 - said once
    stack.wait_for("it is under way", under_way, seconds=90)

    fault(stack)
    status = stack.wait(name, "Succeeded", seconds=180)

    assert status["tasks"]["quarantined"] == 0
    assert status["outputs"]["resultDigest"] == digest_here(stack.folder, tmp_path, validation=validation)


def test_workers_that_run_out_of_memory_get_more(stack: Stack, tmp_path: Path):
    """The next generation has twice as much; the run goes on, and no task is blamed for good."""
    validation = {"iterations": 12, "folds": 3, "seed": 99}
    workers = {"max": 1, "resources": {"cpu": "500m", "memory": "768Mi"}}
    stack.submit("memory", validation=validation, workers=workers)
    stack.wait_for("it is under way", lambda: stack.status("memory").get("stage") == "learn", seconds=90)

    hog = "held = [bytes([1]) * 2**24 for _ in range(80)]"
    stack.kubectl("exec", stack.workers()[0], "--", "/opt/mlho/bin/python", "-c", hog, check=False)
    status = stack.wait("memory", "Succeeded", seconds=180)

    assert (status["workers"]["memory"], status["workers"]["generation"]) == ("1536Mi", 2)
    assert status["outputs"]["resultDigest"] == digest_here(stack.folder, tmp_path, validation=validation)
    events = json.loads(stack.kubectl("get", "events", "-o", "json"))["items"]
    assert "MemoryRaised" in {own["reason"] for own in events if own["involvedObject"]["name"] == "memory"}
