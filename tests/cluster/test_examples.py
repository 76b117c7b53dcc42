"""The examples on a real API server: each is accepted, and the admission policy rejects with a helpful message."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import Kubectl
from tests.limits import GUARD_SECONDS

EXAMPLES = Path(__file__).parents[2] / "k8s" / "examples"
TABLES = {"events": "events/", "labels": "labels.parquet", "demographics": "demographics.parquet"}


@pytest.mark.parametrize("name", ["run", "large-retraining-kueue", "nightly-scoring", "plain-job", "channel"])
def test_an_example_is_accepted_under_restricted_pod_security(crds: None, kubectl: Kubectl, name: str):
    """An example is accepted under restricted Pod Security without a warning."""
    output = kubectl("apply", "--dry-run=server", "-f", str(EXAMPLES / f"{name}.yaml"), check=False)

    assert "created (server dry run)" in output
    assert "Warning" not in output
    assert "error" not in output.lower()


@pytest.mark.parametrize("folder", ["base", "overlays/external-redis", "overlays/external-s3"])
def test_plain_manifests_are_accepted_under_restricted_pod_security(kubectl: Kubectl, folder: str):
    """The plain manifests are accepted under restricted Pod Security without Helm. The test replaces their namespace."""
    manifests = kubectl("kustomize", str(EXAMPLES.parent / folder)).replace(
        "namespace: mlho\n", f"namespace: {kubectl.namespace}\n"
    )

    output = kubectl("apply", "--dry-run=server", "-f", "-", given=manifests, check=False)

    assert "deployment.apps/mlho-scheduler created (server dry run)" in output
    assert [line for line in output.splitlines() if not line.endswith(" created (server dry run)")] == []


@pytest.fixture
def limits(crds: None, kubectl: Kubectl) -> Iterator[None]:
    """Apply the admission policy to the test's namespace."""
    path = str(EXAMPLES / "admission-policy.yaml")
    kubectl("label", "namespace", kubectl.namespace, "mlho.io/limits=true")
    limits = ["mlho.io/allowed-buckets=ehr, mlho", "mlho.io/max-workers=16"]
    kubectl("annotate", "namespace", kubectl.namespace, *limits)
    kubectl("apply", "-f", path)
    yield
    kubectl("delete", "-f", path, "--wait=false", check=False)


def eventually(words: str, answer: Callable[[], str]) -> str:
    """Return the first answer with these words: the API server reads policies and namespaces from a cache."""
    until = time.monotonic() + GUARD_SECONDS
    while words not in (output := answer()) and time.monotonic() < until:
        time.sleep(0.5)
    return output


def test_an_administrator_limits_buckets_and_workers(limits: None, kubectl: Kubectl):
    """A refusal by the admission policy states the allowed and the requested value. It applies to the bucket of a bundle, too."""

    def answer(example: str, **changes: Any) -> str:
        run = yaml.safe_load((EXAMPLES / f"{example}.yaml").read_text(encoding="utf-8"))
        run["spec"] |= changes
        return kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(run), check=False)

    def from_bucket(bucket: str) -> str:
        return answer("run", data={"uri": f"s3://{bucket}/cohort/", "tables": TABLES})

    foreign = "runs in this namespace may read ehr, mlho; this one asks for secret"
    below = "may read only addresses below s3://ehr/ward/"
    none = "runs in this namespace may read none; this one asks for ehr"

    assert foreign in eventually(foreign, lambda: from_bucket("secret"))
    assert "created (server dry run)" in from_bucket("ehr")
    assert "may have 16 workers; this one asks for 17" in answer("run", workers={"max": 17})
    assert "created (server dry run)" in answer("run", workers={"max": 16})
    assert "created (server dry run)" in answer("run", workers={})
    assert "this one asks for secret" in answer("nightly-scoring", bundle={"uri": "s3://secret/bundle"})
    assert "created (server dry run)" in answer("nightly-scoring")
    assert "created (server dry run)" in answer("run", workers={"min": 1})
    annotations = ["mlho.io/allowed-prefixes=s3://ehr/ward/", "mlho.io/max-idle-workers=0"]
    kubectl("annotate", "namespace", kubectl.namespace, *annotations)
    assert below in eventually(below, lambda: from_bucket("ehr"))
    ward = {"uri": "s3://ehr/ward/cohort/", "tables": TABLES}
    idle = answer("run", data=ward, workers={"min": 1})
    assert "may keep 0 idle workers (workers.min); this one asks for 1" in idle
    assert "created (server dry run)" in answer("run", data=ward)
    kubectl("annotate", "namespace", kubectl.namespace, "mlho.io/allowed-prefixes-")
    kubectl("annotate", "namespace", kubectl.namespace, "mlho.io/allowed-buckets-")
    assert none in eventually(none, lambda: from_bucket("ehr"))
