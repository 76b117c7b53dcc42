"""The examples, on a real API server: each is taken, and the admission policy says no in words that help."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import Kubectl

EXAMPLES = Path(__file__).parents[2] / "k8s" / "examples"


@pytest.mark.parametrize("name", ["run", "large-retraining-kueue", "nightly-scoring", "plain-job"])
def test_an_example_is_taken_under_restricted_pod_security(crds: None, kubectl: Kubectl, name: str):
    """Without a warning, too."""
    said = kubectl("apply", "--dry-run=server", "-f", str(EXAMPLES / f"{name}.yaml"), check=False)

    assert "created (server dry run)" in said
    assert "Warning" not in said
    assert "error" not in said.lower()


@pytest.fixture
def limits(crds: None, kubectl: Kubectl) -> Iterator[None]:
    """The admission policy, in force in the test's namespace."""
    path = str(EXAMPLES / "admission-policy.yaml")
    kubectl("label", "namespace", kubectl.namespace, "mlho.io/limits=true")
    kubectl("apply", "-f", path)
    yield
    kubectl("delete", "-f", path, "--wait=false", check=False)


def test_an_administrator_limits_buckets_and_workers(limits: None, kubectl: Kubectl):
    """What is refused is refused with what is allowed and what was asked for."""
    run = yaml.safe_load((EXAMPLES / "run.yaml").read_text(encoding="utf-8"))

    def answer(uri: str, workers: int) -> str:
        run["spec"] |= {"workers": {"max": workers}}
        run["spec"]["data"]["uri"] = uri
        return kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(run), check=False)

    until = time.monotonic() + 30  # a new policy is in force after a moment
    while "Forbidden" not in (said := answer("s3://secret/cohort/", 4)) and time.monotonic() < until:
        time.sleep(0.5)

    assert "runs in this namespace may read ehr, mlho; this one asks for secret" in said
    assert "may have 16 workers; this one asks for 17" in answer("s3://ehr/cohort/", 17)
    assert "created (server dry run)" in answer("s3://ehr/cohort/", 16)
