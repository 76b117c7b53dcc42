"""Kueue, the real one: a run waits for quota and says so, in Kueue's words; without Kueue these tests are skipped."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from scheduler.demo import make_demo
from tests.cluster.conftest import Kubectl
from tests.cluster.stack import Stack, installed

ONE_WORKER = {"max": 1, "kueueQueue": "batch", "resources": {"cpu": "500m", "memory": "1Gi"}}


def queue_objects(name: str, namespace: str) -> list[dict[str, Any]]:
    """A ClusterQueue with room for one worker, which preempts by priority, and two priorities."""
    api = "kueue.x-k8s.io/v1beta1"
    quotas = [{"name": "cpu", "nominalQuota": "500m"}, {"name": "memory", "nominalQuota": "1Gi"}]
    group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": name, "resources": quotas}]}
    return [
        {"apiVersion": api, "kind": "ResourceFlavor", "metadata": {"name": name}},
        {
            "apiVersion": api,
            "kind": "ClusterQueue",
            "metadata": {"name": name},
            "spec": {
                "namespaceSelector": {},
                "resourceGroups": [group],
                "preemption": {"withinClusterQueue": "LowerPriority"},
            },
        },
        {
            "apiVersion": api,
            "kind": "LocalQueue",
            "metadata": {"name": "batch", "namespace": namespace},
            "spec": {"clusterQueue": name},
        },
        *(
            {
                "apiVersion": api,
                "kind": "WorkloadPriorityClass",
                "metadata": {"name": f"{name}-{word}"},
                "value": value,
            }
            for word, value in (("low", 10), ("high", 1000))
        ),
    ]


@pytest.fixture(scope="module")
def stack(kubeconfig: str, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The chart with ``kueue.enabled``, and a queue with room for one worker."""
    if "workloads.kueue.x-k8s.io" not in Kubectl("default")("get", "crd", "-o", "name"):
        pytest.skip("needs Kueue in the cluster")
    folder = tmp_path_factory.mktemp("cluster") / "cohort"
    make_demo(folder, n_patients=400)
    kubectl = Kubectl(f"mlho-kueue-{secrets.token_hex(3)}")
    kubectl("create", "namespace", kubectl.namespace)
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    objects = json.dumps(
        {"apiVersion": "v1", "kind": "List", "items": queue_objects(kubectl.namespace, kubectl.namespace)}
    )
    kubectl("apply", "-f", "-", given=objects)
    try:
        with installed(kubectl, folder, kueue={"enabled": True}) as made:
            yield made
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false", check=False)
        for kind in ("clusterqueue", "resourceflavor"):
            kubectl("delete", kind, kubectl.namespace, "--wait=false", check=False)
        for word in ("low", "high"):
            kubectl("delete", "workloadpriorityclass", f"{kubectl.namespace}-{word}", check=False)


def quota(stack: Stack, name: str) -> dict[str, Any]:
    """The condition QuotaReserved of a run."""
    conditions = stack.status(name).get("conditions", ())
    return next((own for own in conditions if own["type"] == "QuotaReserved"), {"status": ""})


def test_the_second_run_waits_for_quota_and_says_so(stack: Stack):
    """It runs once the first has ended."""
    stack.submit("one", workers=ONE_WORKER, validation={"iterations": 8, "folds": 3, "seed": 1})
    stack.wait_for("the first works", stack.workers)
    stack.submit("two", workers=ONE_WORKER, validation={"iterations": 8, "folds": 3, "seed": 2})

    waiting = stack.wait_for(
        "it waits", lambda: quota(stack, "two")["status"] == "False" and quota(stack, "two")
    )

    assert "insufficient" in waiting["message"]
    assert stack.status("two")["phase"] == "Waiting"
    stack.wait("one", "Succeeded")
    stack.wait("two", "Succeeded")
    assert quota(stack, "two")["status"] == "True"


def test_a_run_of_higher_priority_preempts_and_the_other_goes_on(stack: Stack):
    """Preempted workers drain; nothing is blamed, and both succeed."""
    names = {word: {**ONE_WORKER, "priorityClass": f"{stack.namespace}-{word}"} for word in ("low", "high")}
    stack.submit("low", workers=names["low"], validation={"iterations": 12, "folds": 3, "seed": 3})
    stack.wait_for(
        "it learns", lambda: stack.status("low").get("stage") == "learn" and stack.workers(), seconds=90
    )
    stack.submit("high", workers=names["high"], validation={"iterations": 4, "folds": 3, "seed": 4})

    stack.wait("high", "Succeeded")
    status = stack.wait("low", "Succeeded")

    assert status["tasks"]["quarantined"] == 0
    assert status["workers"]["generation"] >= 1
