"""Refused Jobs and pods: the message is kept and shown, and the request is not repeated at once."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from scheduler.api.client import ClusterError, ClusterUnavailable, Kind, Listed
from scheduler.api.config import WorkerTemplate
from scheduler.api.status import ConditionType, Phase, get_condition
from scheduler.controller import worker_jobs
from scheduler.controller.conditions import EventReason
from scheduler.controller.observation import JobFacts, PodFacts, pod_facts
from scheduler.controller.reconcile import decide
from scheduler.controller.worker_jobs import WorkerJobs
from tests.unit.scheduler.api.test_objects import WORKERS
from tests.unit.scheduler.controller.test_reconcile import NOW, OBSERVED, REQUEST, again, job

QUOTA = 'Kubernetes: jobs.batch "x" is forbidden: exceeded quota: few, used: count/jobs.batch=1 (status 403).'
NO_LIMIT = 'Error creating: pods "w1-abcde" is forbidden: failed quota: cpu: must specify limits.cpu'
UID = WORKERS.uid


class Refusing:
    """An API server that refuses Jobs, with Events for Jobs whose pods were refused."""

    def __init__(self, error: ClusterError | None = None, *, events: tuple[dict[str, Any], ...] = ()) -> None:
        self.error = error
        self.events = events
        self.asked: list[str] = []

    def apply(self, kind: Kind, obj: dict[str, Any], *, part: str = "") -> dict[str, Any]:
        """Refuse or accept a Job."""
        if self.error is not None:
            raise self.error
        return obj

    def list(self, kind: Kind, namespace: str, *, selector: str = "", fields: str = "") -> Listed:
        """Return the Events."""
        self.asked.append(fields)
        if self.error is not None:
            raise self.error
        return Listed(self.events, "1")


def jobs_of(cluster: Refusing) -> WorkerJobs:
    return WorkerJobs(cluster, WorkerTemplate(image="localhost/worker:1"))  # type: ignore[arg-type]  # as much of it as is needed


def event(message: str, seconds_ago: float) -> dict[str, Any]:
    moment = (NOW - dt.timedelta(seconds=seconds_ago)).isoformat()
    return {"metadata": {}, "reason": "FailedCreate", "message": message, "lastTimestamp": moment}


PLACED = {"type": "PodScheduled", "status": "True"}
CREATING = [{"state": {"waiting": {"reason": "ContainerCreating"}}}]
NO_MAP = 'MountVolume.SetUp failed for volume "ca" : configmap "house-ca" not found'


def placed_pod(seconds_ago: float, containers: list[dict[str, Any]]) -> PodFacts:
    """Return the facts of a pod that a node took this long ago."""
    since = (NOW - dt.timedelta(seconds=seconds_ago)).isoformat()
    return pod_facts(
        {
            "metadata": {"name": "w1-abcde", "labels": {"mlho.io/generation": "1"}},
            "status": {
                "phase": "Pending",
                "conditions": [{**PLACED, "lastTransitionTime": since}],
                "containerStatuses": containers,
            },
        }
    )


@pytest.mark.parametrize("seconds_ago", [1, 150])
def test_a_volume_that_cannot_be_mounted_is_shown(seconds_ago: float):
    """A worker whose volume is missing, such as a ConfigMap of certificates in this namespace, never starts and is not refused. The status
    quotes Kubernetes, and the run does not hold a turn.
    """
    cluster = Refusing(events=(event(NO_MAP, seconds_ago),))

    (pod,) = jobs_of(cluster).with_mounts(UID, "ehr", (placed_pod(60, CREATING),), NOW)

    assert cluster.asked == ["involvedObject.kind=Pod,involvedObject.name=w1-abcde,reason=FailedMount"]
    assert (pod.image_problem, pod.is_placed) == (f"Pod w1-abcde: {NO_MAP}", False)
    status = decide(replace(OBSERVED, jobs=(job(1, 1, active=1),), pods=(pod,))).status
    degraded = get_condition(status.conditions, ConditionType.DEGRADED)
    assert degraded is not None
    assert (degraded.reason, degraded.message) == ("WorkerCannotStart", pod.image_problem)


@pytest.mark.parametrize(
    ("pod", "events"),
    [
        (placed_pod(60, CREATING), ()),
        (placed_pod(60, CREATING), (event(NO_MAP, 600),)),
        (placed_pod(5, CREATING), (event(NO_MAP, 1),)),
        (placed_pod(60, [{"state": {"running": {}}}]), (event(NO_MAP, 1),)),
    ],
    ids=["no event", "an old event", "just placed", "running"],
)
def test_a_worker_that_starts_is_not_degraded(pod: PodFacts, events: tuple[dict[str, Any], ...]):
    """A worker that has just been placed, whose image is being pulled, or that runs is not reported, even after earlier faults."""
    assert jobs_of(Refusing(events=events)).with_mounts(UID, "ehr", (pod,), NOW) == (pod,)


def test_events_of_volumes_are_not_read_at_each_pass():
    """The Events of pods are read every few seconds, and rarely without the right to read them."""
    for error in (None, ClusterError("events is forbidden", status=403)):
        cluster = Refusing(error)
        workers = jobs_of(cluster)
        for _ in range(3):
            workers.with_mounts(UID, "ehr", (placed_pod(60, CREATING),), NOW)
        assert len(cluster.asked) == 1


def short_job(seconds: float = 60, **more: Any) -> JobFacts:
    """Return a Job that has one of its two pods."""
    return job(1, 2, **{"active": 1, "began_at": NOW - dt.timedelta(seconds=seconds), **more})


@pytest.mark.parametrize("status", [400, 403, 422, 500])
def test_a_refused_job_is_reported_and_retried(status: int, monkeypatch: pytest.MonkeyPatch):
    """A refused Job is reported and retried later. Quotas, webhooks and objects that the API server cannot read (status 500) refuse Jobs."""
    cluster = Refusing(ClusterError(QUOTA, status=status))
    jobs = jobs_of(cluster)

    assert jobs.ask(WORKERS) is None
    assert jobs.refusal(UID, "ehr", (), NOW) == QUOTA
    assert not jobs.may_ask(UID)

    monkeypatch.setattr(worker_jobs, "_ASK_AGAIN_SECONDS", (0.0,))
    jobs.ask(WORKERS)
    assert jobs.may_ask(UID)
    cluster.error = None
    assert jobs.ask(WORKERS)
    assert (jobs.refusal(UID, "ehr", (), NOW), jobs.may_ask(UID)) == ("", True)


@pytest.mark.parametrize("status", [0, 429, 503])
def test_an_api_server_that_does_not_answer_refuses_nothing(status: int):
    """An unavailable API server raises an error and is not a refusal of the run's Job."""
    jobs = jobs_of(Refusing(ClusterUnavailable("Kubernetes: does not answer.", status=status)))

    with pytest.raises(ClusterUnavailable):
        jobs.ask(WORKERS)
    assert jobs.refusal(UID, "ehr", (), NOW) == ""


def test_refused_pods_are_reported_by_the_events_of_their_job():
    """Refused pods are reported with the message of the Job's latest Event, which is kept until the Job has its pods."""
    cluster = Refusing(events=(event("older", 50), event(NO_LIMIT, 5), event("of another time", 500)))
    jobs = jobs_of(cluster)

    assert jobs.refusal(UID, "ehr", (short_job(),), NOW) == f"Kubernetes Job w1: {NO_LIMIT}"
    assert jobs.refusal(UID, "ehr", (short_job(),), NOW) == f"Kubernetes Job w1: {NO_LIMIT}"
    assert cluster.asked == ["involvedObject.kind=Job,involvedObject.name=w1,reason=FailedCreate"]
    assert jobs.refusal(UID, "ehr", (short_job(active=2),), NOW) == ""


def test_another_cause_of_refused_pods_replaces_the_first_one(monkeypatch: pytest.MonkeyPatch):
    """After a quota was raised, a LimitRange may refuse the pods: the status names the cause that holds."""
    monkeypatch.setattr(worker_jobs, "_RENEW_SECONDS", 0.0)
    cluster = Refusing(events=(event(QUOTA, 5),))
    jobs = jobs_of(cluster)

    assert jobs.refusal(UID, "ehr", (short_job(),), NOW) == f"Kubernetes Job w1: {QUOTA}"
    cluster.events = (event(QUOTA, 30), event(NO_LIMIT, 5))
    assert jobs.refusal(UID, "ehr", (short_job(),), NOW) == f"Kubernetes Job w1: {NO_LIMIT}"
    cluster.events = ()
    assert jobs.refusal(UID, "ehr", (short_job(),), NOW) == f"Kubernetes Job w1: {NO_LIMIT}"


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(short_job(1), id="it is new"),
        pytest.param(short_job(is_suspended=True, active=0), id="Kueue holds it back"),
        pytest.param(short_job(succeeded=1), id="its workers were drained"),
        pytest.param(short_job(is_over=True), id="it has ended"),
        pytest.param(short_job(is_being_deleted=True), id="it is deleted"),
    ],
)
def test_a_job_with_fewer_pods_for_another_reason_is_not_asked_about(found: JobFacts):
    """A Job that lacks pods for another reason causes no request for Events."""
    cluster = Refusing(events=(event(NO_LIMIT, 5),))

    assert jobs_of(cluster).refusal(UID, "ehr", (found,), NOW) == ""
    assert cluster.asked == []


def test_a_scheduler_that_may_not_read_events_continues():
    """A scheduler that may not read Events continues without them, for example with the roles of an earlier version."""
    cluster = Refusing(ClusterError("Kubernetes: events is forbidden (status 403).", status=403))
    jobs = jobs_of(cluster)

    assert jobs.refusal(UID, "ehr", (short_job(),), NOW) == ""
    jobs.refusal(UID, "ehr", (short_job(),), NOW)
    assert len(cluster.asked) == 1


def test_a_refusal_is_a_condition_and_one_event():
    """A refusal is shown as a condition and in one Event with the API server's message, and no further Job is created until the next attempt."""
    observed = replace(OBSERVED, refusal=QUOTA, may_ask=False)

    decision = decide(observed)

    found = get_condition(decision.status.conditions, ConditionType.DEGRADED)
    assert found is not None
    assert (found.status, found.reason, found.message) == ("True", "WorkersRefused", QUOTA)
    assert (decision.make, decision.status.phase, decision.status.reason) == (
        None,
        Phase.WAITING,
        "WorkersRefused",
    )
    assert [event.message for event in decision.events if event.reason is EventReason.DEGRADED] == [QUOTA]
    assert decide(again(observed, decision)).events == ()
    assert decide(replace(again(observed, decision), may_ask=True)).make is not None
    assert REQUEST.workers.max == 4
