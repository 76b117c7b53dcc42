"""Restarts of schedulers and outages of the storage: the user's desired state is kept, and a run that cannot be checked says so."""

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from tests.cluster.conftest import long_form
from tests.cluster.faults import kill_leader
from tests.cluster.stack import ONE_WORKER, Stack
from tests.limits import SLOWER

BACK_SECONDS: Final = 240  # limit for started schedulers, also on a busy machine


@contextmanager
def gone(stack: Stack, deployment: str, component: str) -> Iterator[None]:
    """Scale a Deployment to zero for the duration of the block."""
    replicas = stack.get("deployment", deployment)["spec"]["replicas"]
    stack.kubectl("scale", f"deployment/{deployment}", "--replicas=0")
    stack.wait_for("its pods are gone", lambda: not stack.items("pods", component))
    try:
        yield
    finally:
        stack.kubectl("scale", f"deployment/{deployment}", f"--replicas={replicas}")


def no_scheduler(stack: Stack) -> AbstractContextManager[None]:
    """Stop all schedulers for the duration of the block."""
    return gone(stack, "mlho-scheduler", "app.kubernetes.io/component=scheduler")


def test_a_users_desired_state_survives_a_change_of_leader(stack: Stack):
    """A run that is suspended or cancelled while no scheduler runs is so soon after one starts, and under the next leader."""
    stack.submit("wished", validation={"iterations": 60, "folds": 5, "seed": 81}, workers=ONE_WORKER)
    stack.wait_until_it_learns("wished")

    with no_scheduler(stack):
        assert stack.mlho("suspend", "trainingrun/wished").returncode == 0
        assert stack.workers("wished")  # no scheduler has stopped them
    stack.wait_for("no worker", lambda: not stack.workers("wished"), seconds=BACK_SECONDS)
    # The workers are deleted before the status is written.
    stack.wait_for("it is suspended", lambda: stack.status("wished")["phase"] == "Suspended")
    former = stack.leader()
    kill_leader(stack, "wished")
    stack.wait_for("another leads", lambda: stack.leader() != former, seconds=BACK_SECONDS)
    time.sleep(5)
    assert not stack.workers("wished")
    assert stack.status("wished")["phase"] == "Suspended"

    with no_scheduler(stack):
        assert stack.mlho("cancel", "trainingrun/wished").returncode == 0
    stack.wait("wished", "Cancelled", seconds=BACK_SECONDS)
    stack.wait_for("no key", lambda: not stack.redis_keys())


def restarts(stack: Stack, pod: str) -> int:
    """Return how often a pod's container was restarted."""
    (status,) = stack.get("pod", pod)["status"]["containerStatuses"]
    return int(status["restartCount"])


def test_a_scheduler_that_loses_the_lease_ends(stack: Stack):
    """If another process takes the Lease, the former leader exits, its container restarts, and one of the two schedulers leads again."""
    leader = stack.leader()
    before = restarts(stack, leader)
    intruder = {"spec": {"holderIdentity": "an-intruder"}}

    stack.kubectl("patch", "lease", "mlho-scheduler", "--type=merge", f"--patch={json.dumps(intruder)}")

    stack.wait_for("it has ended", lambda: restarts(stack, leader) > before, seconds=BACK_SECONDS)
    stack.wait_for(
        "its log has the reason",  # the kubelet may list the former container a moment later
        lambda: "leadership_lost" in stack.kubectl("logs", leader, "--previous", check=False),
    )
    replicas = {pod["metadata"]["name"] for pod in stack.pods("scheduler")}
    stack.wait_for("one of them leads", lambda: stack.leader() in replicas, seconds=BACK_SECONDS)


@long_form
def test_a_run_with_an_unavailable_store_shows_it_and_starts_later(stack: Stack):
    """A run whose store does not respond has ``Accepted=False`` within half a minute, and starts when the store responds,
    without being applied again.
    """
    with gone(stack, "seaweedfs", "app=seaweedfs"):
        stack.submit("early", validation={"iterations": 2, "folds": 3, "seed": 82}, workers=ONE_WORKER)
        refused = stack.wait_for(
            "it is refused",
            lambda: (condition := stack.condition("early", "Accepted"))["status"] == "False" and condition,
            seconds=SLOWER * 30,
        )

    assert refused["reason"] == "StoreUnavailable"
    stack.wait("early", "Succeeded")
