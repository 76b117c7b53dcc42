"""Runs with the real Kueue: a run waits for quota and its status has Kueue's message. Without Kueue, these tests are skipped."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import has_kueue, long_form
from tests.cluster.here import Here
from tests.cluster.stack import ONE_WORKER, Stack
from tests.cluster.storage import apply

API = "kueue.x-k8s.io/v1beta1"
WORKLOADS = "workloads.kueue.x-k8s.io"
N_WAITING = 40  # more than a scheduler's slots


def queue_objects(name: str) -> list[dict[str, Any]]:
    """Return a ClusterQueue with room for one worker, which preempts by priority, and its LocalQueue ``batch``."""
    quotas = [{"name": "cpu", "nominalQuota": "500m"}, {"name": "memory", "nominalQuota": "1Gi"}]
    group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": name, "resources": quotas}]}
    spec = {
        "namespaceSelector": {},
        "resourceGroups": [group],
        "preemption": {"withinClusterQueue": "LowerPriority"},
    }
    return [
        {"apiVersion": API, "kind": "ResourceFlavor", "metadata": {"name": name}},
        {"apiVersion": API, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": spec},
        {
            "apiVersion": API,
            "kind": "LocalQueue",
            "metadata": {"name": "batch"},
            "spec": {"clusterQueue": name},
        },
    ]


def priority_objects(name: str) -> list[dict[str, Any]]:
    """Return two priority classes."""
    return [
        {"apiVersion": API, "kind": "WorkloadPriorityClass", "metadata": {"name": class_name}, "value": value}
        for class_name, value in ((f"{name}-low", 10), (f"{name}-high", 1000))
    ]


@pytest.fixture(scope="module")
def queue(stack: Stack) -> Iterator[Stack]:
    """Yield the installation with a LocalQueue that has room for one worker."""
    if not has_kueue():
        pytest.skip("needs Kueue in the cluster")
    objects = [*queue_objects(stack.namespace), *priority_objects(stack.namespace)]
    apply(stack.kubectl, objects)
    yield stack
    for obj in reversed(objects):
        stack.kubectl("delete", obj["kind"], obj["metadata"]["name"], "--wait=false", check=False)


def queued(**more: Any) -> dict[str, Any]:
    """Return the workers of a run on that queue."""
    return {**ONE_WORKER, "kueueQueue": "batch", **more}


def test_the_second_run_waits_for_quota_with_a_reason(queue: Stack):
    """A second run waits with Kueue's message, and starts when the first one has ended."""
    queue.submit("one", workers=queued(), validation={"iterations": 60, "folds": 3, "seed": 1})
    queue.wait_for("the first works", lambda: queue.workers("one"))
    queue.submit("two", workers=queued(), validation={"iterations": 3, "folds": 3, "seed": 2})

    waiting = queue.wait_for(
        "it waits",
        # Kueue gives the reason some time after it has created the Workload.
        lambda: (
            "insufficient" in (condition := queue.condition("two", "QuotaReserved")).get("message", "")
            and condition
        ),
    )

    assert waiting["status"] == "False"
    assert queue.status("two")["phase"] == "Waiting"
    queue.wait("one", "Succeeded")
    queue.wait("two", "Succeeded")
    assert queue.condition("two", "QuotaReserved")["status"] == "True"


def test_a_run_of_higher_priority_preempts_and_the_other_has_the_same_result(queue: Stack, here: Here):
    """Preempted workers drain, no task fails, and the digest is that of this machine, where nothing is preempted."""
    words = {word: queued(priorityClass=f"{queue.namespace}-{word}") for word in ("low", "high")}
    low = queue.submit("low", workers=words["low"], validation={"iterations": 80, "folds": 3, "seed": 3})
    wanted = here.begin(low["spec"])
    queue.wait_until_it_learns("low")
    queue.submit("high", workers=words["high"], validation={"iterations": 3, "folds": 3, "seed": 4})

    queue.wait_for("it is preempted", lambda: preempted(queue, "low"))
    assert queue.status("low")["phase"] not in ("Succeeded", "Failed")
    done = queue.commits()
    queue.wait("high", "Succeeded")
    status = queue.wait("low", "Succeeded")

    assert done.items() <= queue.commits().items()
    assert status["tasks"]["quarantined"] == 0
    assert status["outputs"]["resultDigest"] == wanted.result().digest


@long_form
def test_a_run_of_higher_priority_preempts_though_many_wait_for_quota(queue: Stack):
    """A run of higher priority preempts even if more runs wait than there are slots, because its Workload is still created.
    Kueue cannot preempt without it.
    """
    words = {word: queued(priorityClass=f"{queue.namespace}-{word}") for word in ("low", "high")}
    for number in range(N_WAITING):
        queue.submit(
            f"wait-{number}",
            workers=words["low"],
            validation={"iterations": 150, "folds": 3, "seed": 500 + number},
        )
    queue.wait_for(
        "all have a Workload",
        lambda: (
            sum("-wait-" in workload["metadata"]["name"] for workload in queue.items(WORKLOADS)) == N_WAITING
        ),
        seconds=240,
    )
    queue.submit("urgent", workers=words["high"], validation={"iterations": 3, "folds": 3, "seed": 499})

    queue.wait("urgent", "Succeeded")

    for number in range(N_WAITING):
        queue.kubectl("delete", "trun", f"wait-{number}", "--wait=false")


def preempted(stack: Stack, name: str) -> bool:
    """Return whether Kueue has preempted a run."""
    conditions = [
        condition
        for workload in stack.items(WORKLOADS)
        if f"-{name}-" in workload["metadata"]["name"]
        for condition in workload.get("status", {}).get("conditions", ())
    ]
    return any(condition["type"] == "Preempted" and condition["status"] == "True" for condition in conditions)
