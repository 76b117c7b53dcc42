"""The operator on a real cluster: an applied resource gives the same result as on this machine, and users' requests are carried out."""

import json
from typing import get_args

import pytest

from mlho.spec.checks import CheckName
from tests.cluster.conftest import Kubectl
from tests.cluster.here import Here
from tests.cluster.stack import BUCKET, ONE_WORKER, Stack
from tests.cluster.storage import listed, storage_here, upload
from tests.cluster.test_restart import no_scheduler

FIRST = {"iterations": 6, "folds": 5, "seed": 10}


@pytest.fixture(scope="module")
def first(stack: Stack, here: Here) -> Stack:
    """Yield the installation after the success of a run named ``first``."""
    obj = stack.submit("first", validation=FIRST)
    here.begin(obj["spec"])
    stack.wait("first", "Succeeded")
    return stack


def test_a_run_in_the_cluster_has_the_result_that_it_has_on_this_machine(first: Stack, here: Here):
    """A run that is applied and carried out by worker pods publishes its result with the same digest as on this machine."""
    status = first.status("first")
    wanted = here.begin(first.run("first", validation=FIRST)["spec"])

    assert status["outputs"]["resultDigest"] == wanted.result().digest
    assert status["phase"] == "Succeeded"
    assert status["progress"] == "100%"
    key = status["outputs"]["report"].removeprefix(f"s3://{BUCKET}/")
    with storage_here(first.kubectl) as s3:
        assert b"<html" in s3.get_object(Bucket=BUCKET, Key=key)["Body"].read(4096)
    # Events are created after the status is written.
    told = {"Accepted", "Started", "WorkersCreated", "Succeeded"}
    first.wait_for("all Events are there", lambda: told <= first.events_of("first"))
    first.wait_for("the queue's keys are gone", lambda: not first.redis_keys())


def test_the_same_run_again_needs_no_worker(first: Stack):
    """An equal run finds all tasks done and creates no Kubernetes Job."""
    first.submit("again", validation=FIRST)

    status = first.wait("again", "Succeeded")

    assert status["outputs"] == first.status("first")["outputs"]
    assert status["workers"]["generation"] == 0


def test_a_condition_shows_the_data_quality(first: Stack):
    """The condition DataQuality is passed, has a finding that the run only warns of, or has the finding that stopped the run
    before training. All other checks are off.

    The result of the run with a finding is also compared with that of the first run.
    """
    off: dict[str, dict[str, object]] = {check: {"action": "off"} for check in get_args(CheckName)}
    checks = {
        "sound": off,
        "doubtful": {**off, "first-of-month": {"max": 0}},
        "unsound": {**off, "first-of-month": {"max": 0, "action": "block"}},
    }
    for number, (name, rules) in enumerate(checks.items()):
        validation = {"iterations": 2, "folds": 3, "seed": 121 + number}
        compared = {"compareWith": {"uri": "run:first"}} if name == "doubtful" else {}
        first.submit(name, quality={"checks": rules}, validation=validation, workers=ONE_WORKER, **compared)

    first.wait("sound", "Succeeded")
    doubtful = first.wait("doubtful", "Succeeded")
    first.wait("unsound", "Failed")

    found = {name: first.condition(name, "DataQuality") for name in checks}
    assert {name: (condition["status"], condition["reason"]) for name, condition in found.items()} == {
        "sound": ("True", "Passed"),
        "doubtful": ("False", "Findings"),
        "unsound": ("False", "Blocked"),
    }
    assert "first-of-month" in found["doubtful"]["message"]
    assert "first-of-month" in found["unsound"]["message"]
    with storage_here(first.kubectl) as s3:
        key = doubtful["outputs"]["result"].removeprefix(f"s3://{BUCKET}/")
        result = json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    assert result["changes"]["run"] == first.status("first")["runId"]


def test_a_missing_table_is_reported_with_its_remedy(stack: Stack):
    """A missing table gives ``Accepted=False`` with the remedy and no crash loop, and other runs continue."""
    tables = {"events": "events/", "labels": "labels/", "demographics": "demographics/"}
    stack.submit("missing", data={"uri": f"s3://{BUCKET}/nowhere/", "source": "dbmart", "tables": tables})

    refused = stack.wait_for(
        "it is refused",
        # A check that takes long is shown as StoreUnavailable until it has ended.
        lambda: (
            (condition := stack.condition("missing", "Accepted")).get("reason") == "InvalidData" and condition
        ),
    )

    assert refused["status"] == "False"
    assert "events/" in refused["message"]
    assert stack.status("missing")["reason"] == "InvalidData"


def test_a_table_that_a_worker_cannot_read_fails_the_run_with_its_remedy(stack: Stack):
    """A table that the inspection in a worker cannot read fails the run without a retry. The status has the failed task, the
    table, the problem and the remedy.
    """
    with storage_here(stack.kubectl) as s3:
        upload(s3, stack.cohort, BUCKET, "broken/")
        s3.put_object(Bucket=BUCKET, Key="broken/events/part-0001.parquet", Body=b"PAR1, as it seems")
    spec = stack.run("broken")["spec"]
    stack.submit("broken", data={**spec["data"], "uri": f"s3://{BUCKET}/broken/"})

    with pytest.raises(AssertionError, match="not Succeeded"):
        stack.wait("broken", "Succeeded")

    status = stack.status("broken")
    (failure,) = status["failures"]
    assert (status["phase"], status["reason"], failure["reason"]) == ("Failed", "InvalidData", "InvalidData")
    assert failure["task"] == "tables"
    assert failure["attempts"] == 1
    assert "events/part-0001.parquet" in failure["message"]
    assert "apply a new resource" in failure["remedy"]
    stack.wait_for("no worker", lambda: not stack.workers("broken"))


def left_of(stack: Stack, name: str, uid: str) -> list[str]:
    """Return what is left of a deleted run in the cluster, in Redis and among the notes."""
    pods = [pod["metadata"]["name"] for pod in stack.items("pods") if f"{name}-" in pod["metadata"]["name"]]
    jobs = [job["metadata"]["name"] for job in stack.items("jobs") if f"{name}-" in job["metadata"]["name"]]
    with storage_here(stack.kubectl) as s3:
        notes = [key for key in listed(s3, BUCKET, "store/operator/runs/") if key.endswith(uid)]
    return [*pods, *jobs, *notes, *stack.redis_keys()]


def test_a_run_that_is_deleted_while_it_runs_leaves_nothing(stack: Stack):
    """Deleting a running resource removes its workers, keys and note; committed artifacts stay in the store."""
    stack.submit("deleted", validation={"iterations": 60, "folds": 5, "seed": 13})
    stack.wait_until_it_learns("deleted")
    uid = stack.get("trun", "deleted")["metadata"]["uid"]
    before = stack.commits()

    stack.kubectl("delete", "trun", "deleted", "--wait=false")

    stack.wait_for("nothing is left", lambda: not left_of(stack, "deleted", uid))
    assert before
    assert before.items() <= stack.commits().items()


def test_a_run_that_is_deleted_while_suspended_leaves_nothing(stack: Stack):
    """Deleting a suspended resource removes its queue, too, although no thread carries the run out."""
    stack.submit("asleep", validation={"iterations": 60, "folds": 5, "seed": 14})
    stack.wait_until_it_learns("asleep")
    uid = stack.get("trun", "asleep")["metadata"]["uid"]
    assert stack.mlho("suspend", "trainingrun/asleep").returncode == 0
    stack.wait_for("no worker", lambda: not stack.workers("asleep"))

    stack.kubectl("delete", "trun", "asleep", "--wait=false")

    stack.wait_for("nothing is left", lambda: not left_of(stack, "asleep", uid))


def test_a_run_that_is_deleted_without_a_scheduler_is_cleaned_up_later(stack: Stack):
    """The next leader finds the deleted run by its note in the store, and cleans it up."""
    stack.submit("orphan", validation={"iterations": 60, "folds": 5, "seed": 15})
    stack.wait_until_it_learns("orphan")
    uid = stack.get("trun", "orphan")["metadata"]["uid"]

    with no_scheduler(stack):
        stack.kubectl("delete", "trun", "orphan", "--wait=false")
        stack.wait_for(
            "it is gone",
            lambda: "orphan" not in [obj["metadata"]["name"] for obj in stack.items("trun")],
        )
        assert stack.redis_keys()  # nothing is cleaned up yet

    stack.wait_for("nothing is left", lambda: not left_of(stack, "orphan", uid))


def test_patients_are_scored_with_the_bundle_of_a_run(first: Stack):
    """A ScoringRun uses the same queue and store, and commits its scores with one manifest."""
    spec = {
        "bundle": {"uri": f"run:{first.status('first')['runId']}"},
        "data": {
            "uri": f"s3://{BUCKET}/cohort/",
            "source": "dbmart",
            "partitionedBy": "patient",
            "tables": {"events": "events/", "demographics": "demographics/"},
        },
        "index": {"date": "2026-11-24"},
    }
    first.create(
        {
            "apiVersion": "mlho.io/v1alpha1",
            "kind": "ScoringRun",
            "metadata": {"name": "night"},
            "spec": spec,
        }
    )

    status = first.wait("night", "Succeeded", kind="scoringrun")

    key = status["outputs"]["scores"].removeprefix(f"s3://{BUCKET}/")
    with storage_here(first.kubectl) as s3:
        manifest = json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    assert manifest["scores"]["samples"] > 0
    assert status["headline"] == f"{manifest['scores']['samples']:,} scores"


@pytest.mark.parametrize(
    ("verb", "what", "answer"),
    [
        ("patch", "trainingruns/status", "yes"),
        ("create", "jobs", "yes"),
        ("patch", "trainingruns", "no"),
        ("delete", "trainingruns", "yes"),  # ttlSecondsAfterFinished
        ("get", "secrets", "no"),
        ("create", "pods", "no"),
    ],
)
def test_the_scheduler_has_no_right_that_it_does_not_need(stack: Stack, verb: str, what: str, answer: str):
    """The scheduler has exactly the rights that it needs, and none in another namespace."""
    resource, _, part = what.partition("/")
    plural = f"{resource}.mlho.io" if resource == "trainingruns" else resource
    who = f"--as=system:serviceaccount:{stack.namespace}:mlho-scheduler"
    question = ["auth", "can-i", verb, plural, who, *([f"--subresource={part}"] if part else [])]

    assert answer in stack.kubectl(*question, check=False).split()
    assert "no" in Kubectl("default")(*question, check=False).split()


def test_workers_hold_no_token(stack: Stack):
    """No token of Kubernetes is mounted in a worker."""
    stack.submit("tokenless", validation={"iterations": 60, "folds": 5, "seed": 16}, workers=ONE_WORKER)
    # Workers of an ended run may already be deleted.
    pods = stack.wait_for(
        "it has a worker",
        lambda: [pod for pod in stack.pods("worker") if pod["metadata"]["name"].startswith("tokenless-")],
    )
    stack.kubectl("delete", "trun", "tokenless")

    for pod in pods:
        assert pod["spec"]["automountServiceAccountToken"] is False
        mounts = [
            mount["mountPath"]
            for container in pod["spec"]["containers"]
            for mount in container["volumeMounts"]
        ]
        assert not any("serviceaccount" in path for path in mounts)
