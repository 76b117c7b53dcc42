"""A refusal by a namespace's quota is shown in the run's status with the API server's message, and the run continues
when it is permitted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.stack import ONE_WORKER, Stack
from tests.cluster.storage import apply
from tests.limits import SLOWER

REFUSED_SECONDS = 30
SMALL = {"iterations": 2, "folds": 3}


@contextmanager
def quota(stack: Stack, hard: dict[str, str]) -> Iterator[None]:
    """Apply a ResourceQuota to the namespace, and delete it at the end."""
    obj = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": hard}}
    apply(stack.kubectl, [obj])
    stack.wait_for(
        "the quota counts", lambda: stack.get("resourcequota", "few").get("status", {}).get("hard")
    )
    try:
        yield
    finally:
        stack.kubectl("delete", "resourcequota", "few")


def degraded_events(stack: Stack, name: str) -> list[dict[str, Any]]:
    """Return the Events that say that a run is degraded."""
    return [
        event
        for event in stack.items("events")
        if event["involvedObject"]["name"] == name and event["reason"] == "Degraded"
    ]


@pytest.mark.parametrize(
    ("name", "hard", "words", "workers"),
    [
        ("no-job", {"count/jobs.batch": "0"}, "exceeded quota: few", ONE_WORKER),
        ("no-pod", {"limits.cpu": "4"}, "must specify limits.cpu", ONE_WORKER),
    ],
)
def test_a_refusal_by_a_quota_is_reported_once(
    stack: Stack, name: str, hard: dict[str, str], words: str, workers: dict[str, Any]
):
    """The refusal is a condition and one Event. After the quota is deleted, the run succeeds without further action."""
    with quota(stack, hard):
        stack.submit(name, validation={**SMALL, "seed": len(name) + len(words)}, workers=workers)
        found = stack.wait_for(
            "it says so",
            lambda: (condition := stack.condition(name, "Degraded"))["status"] == "True" and condition,
            seconds=SLOWER * REFUSED_SECONDS,
        )
        # The Event is created after the status is written, and the run starts when the quota is deleted.
        told = stack.wait_for("an Event says so", lambda: degraded_events(stack, name))
        phase = stack.status(name)["phase"]

    assert (found["reason"], words in found["message"]) == ("WorkersRefused", True)
    assert phase == "Waiting"
    assert [words in event["message"] for event in told] == [True]
    stack.wait(name, "Succeeded")
    assert stack.condition(name, "Degraded")["status"] == "False"


def test_a_run_with_limits_of_its_own_runs_under_a_quota_that_asks_for_them(stack: Stack):
    """A run that sets limits of CPU and disk runs under a quota that requires them. Its tolerations and affinity are used, too."""
    workers = {
        **ONE_WORKER,
        "resources": {
            "cpu": "500m",
            "memory": "1Gi",
            "ephemeralStorage": "100Mi",
            "limits": {"cpu": "2", "ephemeralStorage": "2Gi"},
        },
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"nobody": "has"}}}
        ]}},
    }  # fmt: skip
    with quota(stack, {"limits.cpu": "4", "limits.ephemeral-storage": "8Gi"}):
        stack.submit("limited", validation={**SMALL, "seed": 77}, workers=workers)
        stack.wait("limited", "Succeeded")
