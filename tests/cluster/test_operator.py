"""The operator on a real cluster: from an applied resource to the same result as on this machine, and what users ask of it."""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.demo import make_demo
from tests.cluster.conftest import Kubectl
from tests.cluster.stack import REPO, Stack, digest_here, installed


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up cohort of 400 patients, and its specification."""
    folder = tmp_path_factory.mktemp("cluster") / "cohort"
    make_demo(folder, n_patients=400)
    return folder


@pytest.fixture(scope="module")
def stack(kubeconfig: str, crds: None, cohort: Path) -> Iterator[Stack]:
    """The chart, installed in a namespace under restricted Pod Security."""
    kubectl = Kubectl(f"mlho-run-{secrets.token_hex(3)}")
    kubectl("create", "namespace", kubectl.namespace)
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    try:
        with installed(kubectl, cohort) as made:
            yield made
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false", check=False)


@pytest.fixture(scope="module")
def digest(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The result's digest of the same specification on this machine."""
    return digest_here(cohort, tmp_path_factory.mktemp("local"))


def mlho(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The ``mlho`` command against the cluster."""
    command = [sys.executable, "-m", "scheduler", *arguments]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300)


def test_a_run_in_the_cluster_has_the_result_that_it_has_on_this_machine(stack: Stack, digest: str):
    """Applied, carried out by worker pods, published, shown: with the same digest."""
    stack.submit("first")

    status = stack.wait("first", "Succeeded")

    assert status["outputs"]["resultDigest"] == digest
    assert status["phase"] == "Succeeded"
    assert status["progress"] == "100%"
    key = status["outputs"]["report"].removeprefix("s3://mlho-store/")
    assert b"<html" in stack.s3.get_object(Bucket="mlho-store", Key=key)["Body"].read(4096)
    events = json.loads(stack.kubectl("get", "events", "-o", "json"))["items"]
    told = {own["reason"] for own in events if own["involvedObject"]["name"] == "first"}
    assert {"Accepted", "Started", "WorkersCreated", "Succeeded"} <= told
    stack.wait_for("the queue's keys are gone", lambda: not stack.redis_keys(), seconds=30)


def test_the_same_run_again_needs_no_worker(stack: Stack, digest: str):
    """Everything is there: zero tasks, no Kubernetes Job."""
    stack.submit("again")

    status = stack.wait("again", "Succeeded")

    assert status["outputs"]["resultDigest"] == digest
    assert status["workers"]["generation"] == 0


def test_a_table_that_is_missing_is_said_with_its_remedy(stack: Stack):
    """``Accepted=False``, not a crash loop; other runs go on."""
    tables = {"events": "events/", "labels": "labels/", "demographics": "demographics/"}
    stack.submit("missing", data={"uri": "s3://mlho-data/nowhere/", "source": "dbmart", "tables": tables})

    def refused() -> str:
        status = stack.status("missing")
        return next((own["message"] for own in status.get("conditions", ()) if own["status"] == "False"), "")

    message = stack.wait_for("it is refused", refused)

    assert "events/" in message
    assert stack.status("missing")["reason"] == "InvalidData"


def test_a_run_can_be_suspended_and_goes_on(stack: Stack):
    """Within five seconds no worker takes tasks; afterwards it ends as if nothing had been."""
    stack.submit("paused", validation={"iterations": 3, "folds": 5, "seed": 11})
    stack.wait_for("workers", stack.workers)

    assert mlho(stack, "suspend", "trainingrun/paused", "-n", stack.namespace).returncode == 0
    began = time.monotonic()
    stack.wait_for("no worker", lambda: not stack.workers(), seconds=15)
    took = time.monotonic() - began
    assert stack.wait_for("phase", lambda: stack.status("paused")["phase"] == "Suspended", seconds=5)
    assert mlho(stack, "resume", "trainingrun/paused", "-n", stack.namespace).returncode == 0
    assert stack.wait("paused", "Succeeded")
    assert took < 5


def test_a_run_can_be_cancelled(stack: Stack):
    """Nothing of it is left: no worker, no key."""
    stack.submit("cancelled", validation={"iterations": 3, "folds": 5, "seed": 12})
    stack.wait_for("workers", stack.workers)

    assert mlho(stack, "cancel", "trainingrun/cancelled", "-n", stack.namespace).returncode == 0

    assert stack.wait("cancelled", "Cancelled", seconds=10)["phase"] == "Cancelled"
    stack.wait_for("no worker", lambda: not stack.workers(), seconds=10)
    stack.wait_for("no key", lambda: not stack.redis_keys(), seconds=60)


def test_what_is_deleted_leaves_nothing_behind(stack: Stack):
    """A resource that is deleted while it runs: workers and keys go; the store keeps what is committed."""
    stack.submit("deleted", validation={"iterations": 3, "folds": 5, "seed": 13})
    stack.wait_for("workers", stack.workers)

    stack.kubectl("delete", "trun", "deleted", "--wait=false")

    stack.wait_for("no worker", lambda: not stack.workers(), seconds=60)
    stack.wait_for("no key", lambda: not stack.redis_keys(), seconds=60)


def test_patients_are_scored_with_the_bundle_of_a_run(stack: Stack):
    """A ScoringRun in the same queue and store: one manifest commits the scores."""
    run_id = stack.status("first")["runId"]
    spec = {
        "bundle": {"uri": f"run:{run_id}"},
        "data": {
            "uri": "s3://mlho-data/cohort/",
            "source": "dbmart",
            "partitionedBy": "patient",
            "tables": {"events": "events/", "demographics": "demographics/"},
        },
        "index": {"date": "2026-11-24"},
    }
    obj = {
        "apiVersion": "mlho.io/v1alpha1",
        "kind": "ScoringRun",
        "metadata": {"name": "night"},
        "spec": spec,
    }
    stack.kubectl("create", "-f", "-", given=json.dumps(obj))

    status = stack.wait("night", "Succeeded", kind="scoringrun")

    key = status["outputs"]["scores"].removeprefix("s3://mlho-store/")
    manifest = json.loads(stack.s3.get_object(Bucket="mlho-store", Key=key)["Body"].read())
    assert manifest["scores"]["samples"] > 0
    assert status["headline"] == f"{manifest['scores']['samples']:,} scores"


def test_submit_by_date_is_made_once(stack: Stack, tmp_path: Path):
    """The same day, the same run: a CronJob may try again."""
    obj = stack.submit("template", desiredState="Suspended")
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(obj))

    first = mlho(stack, "submit", str(path), "--by-date", "-n", stack.namespace)
    second = mlho(stack, "submit", str(path), "--by-date", "-n", stack.namespace)

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "is there already" in second.stdout


@pytest.mark.parametrize(
    ("verb", "what", "answer"),
    [
        ("patch", "trainingruns/status", "yes"),
        ("create", "jobs", "yes"),
        ("patch", "trainingruns", "no"),
        ("delete", "trainingruns", "no"),
        ("get", "secrets", "no"),
        ("create", "pods", "no"),
    ],
)
def test_the_scheduler_has_no_right_that_it_does_not_need(stack: Stack, verb: str, what: str, answer: str):
    """Nor any in another namespace."""
    resource, _, part = what.partition("/")
    plural = f"{resource}.mlho.io" if resource == "trainingruns" else resource
    who = f"--as=system:serviceaccount:{stack.namespace}:mlho-scheduler"
    asked = ["auth", "can-i", verb, plural, who, *([f"--subresource={part}"] if part else [])]

    assert answer in stack.kubectl(*asked, check=False).split()
    assert "no" in Kubectl("default")(*asked, check=False).split()


def test_workers_hold_no_token(stack: Stack):
    """Nothing of Kubernetes is mounted into them."""
    pods = stack.pods("app.kubernetes.io/component=worker")

    assert pods
    for pod in pods:
        assert pod["spec"]["automountServiceAccountToken"] is False
        mounts = [mount["mountPath"] for own in pod["spec"]["containers"] for mount in own["volumeMounts"]]
        assert not any("serviceaccount" in path for path in mounts)
