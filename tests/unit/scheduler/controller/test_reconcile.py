"""The decisions for a run in a cluster, from plain facts: created and deleted workers, conditions, phases and Events."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from scheduler.api.cel_rules import RULES
from scheduler.api.resource import DesiredState, RunRequest, WorkersSpec
from scheduler.api.status import ConditionType, FailedTask, Phase, Status, get_condition, is_true
from scheduler.controller.conditions import EventReason
from scheduler.controller.observation import (
    Check,
    JobFacts,
    ObservedRun,
    PodFacts,
    Quota,
    RunProgress,
    job_facts,
    pod_facts,
    quota_of,
)
from scheduler.controller.reconcile import Decision, decide
from scheduler.engine.progress import StageProgress

NOW = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)
RUN = "0123456789abcdef"
EXECUTION = f"{RUN}-1"
REQUEST = RunRequest(
    kind="TrainingRun",
    namespace="ehr",
    name="prediabetes",
    uid="5f9bdc05-b6b2-4289-8746-c1b51198d1a5",
    generation=1,
    workers=WorkersSpec(max=4),
    desired=DesiredState.RUNNING,
)
BUSY = RunProgress(execution=EXECUTION, stages=(StageProgress("learn", 3, 10),), running=7, slots=2)
OBSERVED = ObservedRun(resource=REQUEST, status=Status(), now=NOW, check=Check(run_id=RUN), progress=BUSY)


def job(generation: int, parallelism: int, **more: Any) -> JobFacts:
    """Return one generation of workers."""
    facts = {"execution": EXECUTION, "memory": "2Gi", "active": parallelism}
    return JobFacts(name=f"w{generation}", generation=generation, parallelism=parallelism, **(facts | more))


def wanted(state: DesiredState) -> RunRequest:
    """Return the same run with this desired state."""
    return replace(REQUEST, desired=state)


def again(observed: ObservedRun, decision: Decision) -> ObservedRun:
    """Return the facts of the next pass, after the decision was applied."""
    return replace(observed, status=decision.status)


@pytest.mark.parametrize(
    ("running", "minimum", "jobs", "pods"),
    [
        pytest.param(7, 0, (), 4, id="as many as there is work for, up to the maximum"),
        pytest.param(2, 0, (), 2, id="no more than there is work for"),
        pytest.param(7, 0, (job(1, 1),), 3, id="what is missing, as another generation"),
        pytest.param(7, 0, (job(1, 4),), None, id="nothing, when all are there"),
        pytest.param(
            7, 0, (job(1, 4, is_suspended=True, active=0),), None, id="what Kueue holds back is counted"
        ),
        pytest.param(
            7,
            0,
            (job(1, 4, active=3, succeeded=1),),
            1,
            id="a pod that was drained is not replaced by its Job",
        ),
        pytest.param(7, 0, (job(1, 4, is_over=True),), 4, id="a generation that has ended"),
        pytest.param(1, 3, (), 3, id="the minimum stays"),
    ],
)
def test_workers_follow_the_work(running: int, minimum: int, jobs: tuple[JobFacts, ...], pods: int | None):
    """The number of workers follows the number of tasks, within the run's minimum and maximum."""
    request = replace(REQUEST, workers=WorkersSpec(min=minimum, max=4))
    observed = replace(OBSERVED, resource=request, progress=replace(BUSY, running=running), jobs=jobs)

    job = decide(observed).make

    assert (job.parallelism if job else None) == pods


def test_a_generation_has_a_number_that_no_other_had():
    """A generation's number is never reused, even if the Job of the latest generation is gone: the status keeps the number."""
    first = decide(OBSERVED)
    assert first.make is not None
    assert first.make.generation == 1

    second = decide(again(OBSERVED, first))

    assert second.make is not None
    assert second.make.generation == 2


def test_a_run_without_work_keeps_no_worker():
    """The workers of a run without running tasks are deleted after an idle time."""
    idle = replace(OBSERVED, progress=replace(BUSY, running=0, idle_seconds=60), jobs=(job(1, 2),))

    assert decide(idle).delete == ("w1",)
    assert decide(replace(idle, progress=replace(BUSY, running=0, idle_seconds=1))).delete == ()


def test_workers_that_ran_out_of_memory_are_replaced_by_larger_ones():
    """If a worker runs out of memory, its whole generation is replaced by one with more memory, so that the task cannot
    start on a small worker again. An Event reports it.
    """
    pods = (PodFacts("p", 1, is_out_of_memory=True),)
    first = decide(OBSERVED)
    observed = replace(again(OBSERVED, first), jobs=(job(1, 4),), pods=pods)

    decision = decide(observed)

    assert decision.delete == ("w1",)
    assert decision.make is not None
    assert (decision.make.memory, decision.make.parallelism) == ("4096Mi", 4)
    assert EventReason.MEMORY_RAISED in {event.reason for event in decision.events}


@pytest.mark.parametrize(
    ("needed", "memory"), [(0, "2Gi"), (2**30, "2Gi"), (3 * 2**30, "3072Mi"), (90 * 2**30, "8192Mi")]
)
def test_the_first_workers_have_the_memory_that_the_plan_needs(needed: int, memory: str):
    """The first workers have the memory that the plan needs: at least the requested and at most the maximum memory."""
    decision = decide(replace(OBSERVED, progress=replace(BUSY, memory_needed=needed)))

    assert decision.make is not None
    assert decision.make.memory == memory


def test_a_task_that_a_worker_stopped_in_time_raises_the_memory_too():
    """If a worker stops a task that exceeds its memory, workers of that size are replaced by larger ones, as after an OOM kill."""
    first = decide(OBSERVED)
    stopped = replace(BUSY, memory_exceeded=2 * 2**30)
    observed = replace(again(OBSERVED, first), jobs=(job(1, 4),), progress=stopped)

    decision = decide(observed)

    assert decision.delete == ("w1",)
    assert decision.make is not None
    assert (decision.make.memory, decision.make.parallelism) == ("4096Mi", 4)
    assert EventReason.MEMORY_RAISED in {event.reason for event in decision.events}

    after = replace(again(observed, decision), jobs=(job(2, 4, memory="4096Mi"),))
    assert (decide(after).delete, decide(after).make) == (
        (),
        None,
    )  # the same figure does not concern the larger workers
    worse = replace(after, progress=replace(BUSY, memory_exceeded=4 * 2**30))
    more = decide(worse)
    assert (more.delete, more.make.memory if more.make else "") == (("w2",), "8192Mi")


def test_a_scheduler_that_takes_over_keeps_the_memory_that_was_raised():
    """A new leader keeps the raised memory, because it is in the status, even if the Job is gone."""
    stopped = replace(OBSERVED, jobs=(job(1, 4),), progress=replace(BUSY, memory_exceeded=2 * 2**30))

    taken_over = decide(replace(again(stopped, decide(stopped)), jobs=(), progress=BUSY))

    assert taken_over.make is not None
    assert taken_over.make.memory == "4096Mi"


@pytest.mark.parametrize("stopped", [False, True], ids=["by the kernel", "by its worker"])
def test_at_the_maximum_memory_the_status_has_the_remedy(stopped: bool):
    """At the maximum memory, no worker is replaced, and the status says how to submit a run with more memory."""
    observed = replace(
        OBSERVED, jobs=(job(3, 4, memory="8192Mi"),), pods=(PodFacts("p", 3, is_out_of_memory=True),)
    )
    if stopped:
        observed = replace(
            observed, pods=(PodFacts("p", 3),), progress=replace(BUSY, memory_exceeded=8 * 2**30)
        )

    decision = decide(observed)

    assert (decision.make, decision.delete) == (None, ())
    found = get_condition(decision.status.conditions, ConditionType.DEGRADED)
    assert found is not None
    assert (found.status, found.reason) == ("True", "OutOfMemory")
    assert "ran out of memory at 8192Mi" in found.message
    assert (
        "Cancel the run, and apply it under a new name with a larger workers.resources.maxMemory"
        in found.message
    )
    frozen = {rule.message.split()[0] for rule in RULES["TrainingRun"] if "cannot change" in rule.message}
    assert "spec.workers.resources" in frozen


def test_workers_that_end_at_once_come_back_slowly():
    """Workers that fail at their start are replaced after a growing pause, to prevent a storm of Jobs."""
    failed = [
        job(n, 4, is_over=True, active=0, failure="PodFailurePolicy: exit code 78", seconds=2.0, ended_at=NOW)
        for n in range(1, 5)
    ]
    observed = replace(OBSERVED, jobs=tuple(failed))

    assert decide(observed).make is None
    later = decide(replace(observed, now=NOW + dt.timedelta(seconds=17)))
    assert later.make is not None
    assert later.make.generation == 5


def test_a_lower_maximum_ends_the_latest_workers():
    """A lower maximum of workers deletes the latest generation; the next pass creates the difference."""
    observed = replace(
        OBSERVED, resource=replace(REQUEST, workers=WorkersSpec(max=2)), jobs=(job(1, 2), job(2, 2))
    )

    assert decide(observed).delete == ("w2",)


def test_each_new_cause_of_a_degraded_state_is_reported():
    """Each new cause of a degraded state is reported by one Event, even if the run was degraded before for another cause."""
    lost = replace(OBSERVED, progress=replace(BUSY, trouble=("QueueUnavailable", "Redis is away.")))
    first = decide(lost)
    then = replace(again(lost, first), progress=replace(BUSY, trouble=("StoreUnavailable", "No answer.")))

    second = decide(then)

    told = [event.message for event in second.events if event.reason is EventReason.DEGRADED]
    assert told == ["No answer."]
    assert EventReason.DEGRADED not in {event.reason for event in decide(again(then, second)).events}


def test_the_end_of_a_problem_is_reported_with_its_name():
    """The Event of a recovery names the problem that is resolved."""
    lost = replace(OBSERVED, progress=replace(BUSY, trouble=("QueueUnavailable", "Redis is away.")))

    resolved = decide(replace(again(lost, decide(lost)), progress=BUSY))

    told = [event.message for event in resolved.events if event.reason is EventReason.RECOVERED]
    assert told == ["The problem QueueUnavailable is resolved."]


def test_requested_workers_stay_while_the_run_has_no_slot():
    """A run that gave up its slot keeps its suspended Job, so that the Job can still be admitted. The status says that the
    run waits for workers.
    """
    waiting = job(1, 4, active=0, is_suspended=True)
    decision = decide(replace(OBSERVED, jobs=(waiting,), progress=None))

    assert (decision.make, decision.delete, decision.should_run) == (None, (), True)
    assert decision.status.workers is not None
    assert decision.status.workers.desired == 4
    assert decision.status.reason == "WaitingForWorkers"


def test_workers_of_another_execution_are_ended():
    """Workers of an earlier execution are deleted, because its queue is gone."""
    observed = replace(OBSERVED, jobs=(job(1, 2, execution=f"{RUN}-0"),))

    assert decide(observed).delete == ("w1",)


def test_a_suspended_run_keeps_no_workers_and_can_be_resumed():
    """Suspending a run stops its thread and deletes its workers; the desired state Running starts it again."""
    observed = replace(OBSERVED, resource=wanted(DesiredState.SUSPENDED), jobs=(job(1, 4),))

    decision = decide(observed)

    assert (decision.should_run, decision.delete, decision.status.phase) == (False, ("w1",), Phase.SUSPENDED)
    assert EventReason.SUSPENDED in {event.reason for event in decision.events}
    resumed = decide(replace(again(observed, decision), resource=REQUEST, jobs=()))
    assert resumed.should_run
    assert EventReason.RESUMED in {event.reason for event in resumed.events}


def test_a_cancelled_run_ends_for_good():
    """A cancelled run stays cancelled even if its desired state changes afterwards."""
    decision = decide(replace(OBSERVED, resource=wanted(DesiredState.CANCELLED), jobs=(job(1, 4),)))

    assert (decision.is_cancelled, decision.delete, decision.status.phase) == (True, ("w1",), Phase.CANCELLED)
    after = decide(replace(again(OBSERVED, decision), jobs=(job(1, 4),)))
    assert not after.should_run
    assert after.make is None
    assert after.delete == ("w1",)


@pytest.mark.parametrize(
    ("end", "phase"),
    [
        (ConditionType.SUCCEEDED, Phase.SUCCEEDED),
        (ConditionType.FAILED, Phase.CANCELLED),
        (None, Phase.CANCELLED),
    ],
)
def test_a_run_that_has_succeeded_is_not_cancelled(end: ConditionType | None, phase: Phase):
    """If the results were published before the cancellation was seen, the status says so. Any other run is cancelled."""
    observed = replace(OBSERVED, resource=wanted(DesiredState.CANCELLED), progress=replace(BUSY, end=end))

    decision = decide(observed)

    assert (decision.status.phase, decision.is_cancelled) == (phase, phase is Phase.CANCELLED)


def test_a_refused_run_is_reported_and_not_started():
    """A run whose data are invalid is not started. One warning Event and the condition have the reason and the message."""
    observed = replace(
        OBSERVED, progress=None, check=Check(reason="InvalidData", message="events/: no file. Correct it.")
    )

    decision = decide(observed)

    assert (decision.should_run, decision.status.phase, decision.status.reason) == (
        False,
        Phase.PENDING,
        "InvalidData",
    )
    assert [(event.reason, event.is_warning) for event in decision.events] == [
        (EventReason.NOT_ACCEPTED, True)
    ]
    assert decide(again(observed, decision)).events == ()


def test_ignored_files_are_reported_once():
    """Files that are not read are named in the condition as long as the run exists, and in one warning Event."""
    words = "2 file(s) in the folder of events are not read: notes.txt, old.xlsx."
    observed = replace(OBSERVED, check=Check(run_id=RUN, warning=words), progress=None)

    decision = decide(observed)

    (accepted,) = [condition for condition in decision.status.conditions if condition.type == "Accepted"]
    assert accepted.status == "True"
    assert accepted.message.endswith(f"Warning: {words}")
    (told,) = [event for event in decision.events if event.reason is EventReason.ACCEPTED]
    assert told.is_warning
    assert words in told.message
    assert decide(again(observed, decision)).events == ()


def conditions_of(decision: Decision) -> dict[str, str]:
    """Return the status of each condition."""
    return {condition.type: condition.status for condition in decision.status.conditions}


def test_all_conditions_exist_from_the_start():
    """All conditions exist before the first check. They cause no Event and do not change until there is a result."""
    observed = replace(OBSERVED, check=None, progress=None)

    decision = decide(observed)

    assert decision.status.phase is Phase.PENDING
    assert decision.status.reason == "NotChecked"
    assert conditions_of(decision) == {
        "Accepted": "Unknown",
        "WorkersReady": "False",
        "Progressing": "False",
        "Degraded": "False",
        "DataQuality": "Unknown",
        "Succeeded": "False",
        "Failed": "False",
        "Cancelled": "False",
    }
    assert decision.events == ()
    assert decide(again(observed, decision)).status == decision.status
    queued = replace(observed, resource=replace(REQUEST, workers=WorkersSpec(kueue_queue="batch")))
    assert conditions_of(decide(queued))["QuotaReserved"] == "Unknown"


def test_conditions_that_were_set_at_first_are_of_the_latest_generation():
    """The observed generation of unchanged conditions follows the resource, because ``kubectl wait
    --for=condition=Failed=false`` would wait forever otherwise. Events are not repeated.
    """
    observed = replace(OBSERVED, check=None, progress=None)
    accepted = replace(
        again(observed, decide(observed)), resource=replace(REQUEST, generation=2), check=OBSERVED.check
    )

    decision = decide(accepted)

    assert {condition.observed_generation for condition in decision.status.conditions} == {2}
    assert [event.reason for event in decision.events] == [EventReason.ACCEPTED]


@pytest.mark.parametrize("end", ["Succeeded", "Failed", "Cancelled"])
def test_of_the_conditions_of_an_end_exactly_one_is_true(end: str):
    """After its end, exactly one of Succeeded, Failed and Cancelled is true, even for a run that was cancelled before its first check."""
    if end == "Cancelled":
        decision = decide(
            replace(OBSERVED, resource=wanted(DesiredState.CANCELLED), progress=None, check=None)
        )
    else:
        decision = decide(replace(OBSERVED, progress=replace(BUSY, end=ConditionType(end))))

    found = conditions_of(decision)
    assert {kind: found[kind] for kind in ("Succeeded", "Failed", "Cancelled")} == {
        kind: str(kind == end) for kind in ("Succeeded", "Failed", "Cancelled")
    }
    assert len(found) == 8


def test_the_status_of_a_finished_run_has_its_headline():
    """The status of a finished run has its progress and headline; its workers get time to exit by themselves."""
    progress = replace(
        BUSY,
        end=ConditionType.SUCCEEDED,
        stages=(StageProgress("report", 10, 10),),
        headline="auroc 0.81",
        running=0,
    )
    observed = replace(OBSERVED, progress=progress, jobs=(job(1, 4),))

    decision = decide(observed)

    assert decision.status.phase is Phase.SUCCEEDED
    assert (decision.status.progress, decision.status.headline) == ("100%", "auroc 0.81")
    assert not is_true(decision.status.conditions, ConditionType.PROGRESSING)
    after = again(observed, decision)
    assert decide(after).delete == ()
    assert decide(replace(after, now=NOW + dt.timedelta(seconds=30))).delete == ("w1",)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"end": ConditionType.SUCCEEDED, "quality": (True, "Passed", "")}, ("True", "Passed")),
        ({"end": ConditionType.SUCCEEDED, "quality": (False, "Findings", "1 check")}, ("False", "Findings")),
        ({"end": ConditionType.SUCCEEDED}, ("Unknown", "NotChecked")),
        (
            {
                "end": ConditionType.FAILED,
                "failures": (FailedTask(task="quality", reason="InvalidData", message="units"),),
            },
            ("False", "Blocked"),
        ),
    ],
)
def test_the_quality_of_the_data_is_a_condition(change, expected):
    """The condition DataQuality is passed, has findings, is unknown for a result without checks, or has the reason that stopped the run."""
    decision = decide(replace(OBSERVED, progress=replace(BUSY, running=0, **change)))

    found = get_condition(decision.status.conditions, ConditionType.DATA_QUALITY)

    assert (found.status, found.reason) == expected


def test_a_scoring_run_has_no_condition_of_data_quality():
    observed = replace(OBSERVED, resource=replace(REQUEST, kind="ScoringRun"))

    assert "DataQuality" not in conditions_of(decide(observed))


def test_warnings_of_the_result_are_in_the_status_and_reported_once():
    """Warnings of the result are in the status, and each is one warning Event at the end of the run."""
    progress = replace(
        BUSY, end=ConditionType.SUCCEEDED, warnings=("Half of the rows are dropped.",), running=0
    )
    observed = replace(OBSERVED, progress=progress)

    decision = decide(observed)

    assert decision.status.plain()["warnings"] == ["Half of the rows are dropped."]
    told = [event for event in decision.events if event.reason is EventReason.RESULT_WARNING]
    assert [(event.message, event.is_warning) for event in told] == [("Half of the rows are dropped.", True)]
    assert not [
        event
        for event in decide(again(observed, decision)).events
        if event.reason is EventReason.RESULT_WARNING
    ]


@pytest.mark.parametrize(
    ("ttl", "seconds", "is_expired"),
    [(None, 10**9, False), (3600, 3599, False), (3600, 3600, True), (0, 0, True)],
)
def test_a_resource_is_deleted_some_time_after_its_end(ttl: int | None, seconds: int, is_expired: bool):
    """A resource expires when its TTL has passed since its end, successful or not. It never expires before its end or without a TTL."""
    request = replace(REQUEST, ttl=ttl)
    assert not decide(replace(OBSERVED, resource=request, now=NOW + dt.timedelta(days=9))).is_expired
    for end in (ConditionType.SUCCEEDED, ConditionType.FAILED):
        observed = replace(OBSERVED, resource=request, progress=replace(BUSY, end=end))
        decision = decide(observed)
        assert not decision.is_expired  # the status of its end is written first

        later = replace(again(observed, decision), progress=None, now=NOW + dt.timedelta(seconds=seconds))

        assert decide(later).is_expired == is_expired


def test_a_finished_run_has_a_duration():
    """The duration of a finished run counts from its first ready worker. A run that never had a worker has no duration."""
    pods = (PodFacts("p", 1, is_ready=True),)
    working = replace(OBSERVED, jobs=(job(1, 4),), pods=pods)
    end = replace(BUSY, end=ConditionType.SUCCEEDED)
    started = again(working, decide(working))
    assert started.status.duration is None

    later = decide(replace(started, progress=end, now=NOW + dt.timedelta(seconds=192)))

    assert later.status.duration == "3m12s"
    assert decide(replace(OBSERVED, progress=end)).status.duration is None


def test_equal_facts_make_an_equal_status():
    """Equal facts give an equal status and no Event, so that nothing is written."""
    observed = replace(OBSERVED, jobs=(job(1, 4),), pods=(PodFacts("p", 1, is_ready=True),))
    first = decide(observed)

    second = decide(replace(again(observed, first), now=NOW + dt.timedelta(minutes=5)))

    assert second.status == first.status
    assert second.events == ()


def test_waiting_for_quota_has_kueues_message():
    """While a run waits for quota, the condition has Kueue's message and the status has its reason."""
    request = replace(REQUEST, workers=WorkersSpec(max=4, kueue_queue="batch"))
    quota = Quota(False, "Pending", "insufficient unused quota for cpu")
    jobs = (job(1, 4, is_suspended=True, active=0),)
    observed = replace(
        OBSERVED, resource=request, jobs=jobs, quota=quota
    )  # although the queue still reports two slots

    status = decide(observed).status

    assert (status.phase, status.reason, status.message) == (Phase.WAITING, "Pending", quota.message)


@pytest.mark.parametrize(
    ("slots", "ready", "phase"), [(0, 0, "Waiting"), (2, 0, "Running"), (0, 1, "Running")]
)
def test_a_run_is_running_once_workers_take_its_tasks(slots: int, ready: int, phase: str):
    """A run is Running as soon as the queue reports slots of its workers, even before their pods are ready."""
    pods = tuple(PodFacts(f"p{number}", 1, is_ready=True) for number in range(ready))
    observed = replace(OBSERVED, jobs=(job(1, 4),), pods=pods, progress=replace(BUSY, slots=slots))

    decision = decide(observed)

    assert decision.status.phase == phase
    assert (EventReason.STARTED in {event.reason for event in decision.events}) == (phase == "Running")


def test_a_status_stays_below_its_size_limit():
    """A status stays below 16 KiB, and its progress is a percentage."""
    status = decide(OBSERVED).status

    assert len(str(status.plain())) < 16 * 1024
    assert (status.stage, status.progress) == ("learn", "30%")
    assert status.tasks is not None
    assert (status.tasks.done, status.tasks.running) == (3, 2)


def test_facts_of_a_job():
    """The facts of a Job are read from the API server's object."""
    obj = {
        "metadata": {
            "name": "w1",
            "creationTimestamp": "2026-11-24T11:59:00Z",
            "labels": {"mlho.io/generation": "3"},
            "annotations": {"mlho.io/execution": EXECUTION, "mlho.io/memory": "2Gi"},
        },
        "spec": {"parallelism": 2, "suspend": False},
        "status": {
            "startTime": "2026-11-24T11:59:30Z",
            "failed": 2,
            "conditions": [
                {
                    "type": "Failed",
                    "status": "True",
                    "reason": "BackoffLimitExceeded",
                    "message": "too often",
                    "lastTransitionTime": "2026-11-24T12:00:00Z",
                }
            ],
        },
    }

    assert job_facts(obj) == JobFacts(
        name="w1",
        generation=3,
        execution=EXECUTION,
        memory="2Gi",
        parallelism=2,
        failed=2,
        is_over=True,
        failure="BackoffLimitExceeded: too often",
        seconds=30.0,
        began_at=NOW - dt.timedelta(seconds=30),
        ended_at=NOW,
    )


def test_facts_of_a_pod_that_was_killed_for_its_memory():
    """The container's state OOMKilled marks a pod as out of memory."""
    state = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    obj = {
        "metadata": {"name": "p", "labels": {"mlho.io/generation": "2"}},
        "status": {"phase": "Failed", "containerStatuses": [{"state": state}]},
    }

    assert pod_facts(obj) == PodFacts("p", 2, is_out_of_memory=True)


@pytest.mark.parametrize(("seconds", "is_degraded"), [(0, False), (59, False), (60, True), (3600, True)])
def test_a_pod_that_waits_for_a_node_for_a_moment_is_no_trouble(seconds: int, is_degraded: bool):
    """An unschedulable pod degrades the run only after some time from its first report, because workers often wait briefly
    for those of another run to exit.
    """
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
        "lastTransitionTime": "2026-11-24T12:00:00Z",
    }
    obj = {
        "metadata": {"name": "p", "labels": {"mlho.io/generation": "1"}},
        "status": {"phase": "Pending", "conditions": [condition]},
    }
    observed = replace(OBSERVED, jobs=(job(1, 4),), pods=(pod_facts(obj),), progress=replace(BUSY, slots=0))

    decision = decide(replace(observed, now=NOW + dt.timedelta(seconds=seconds)))

    found = get_condition(decision.status.conditions, ConditionType.DEGRADED)
    assert found is not None
    assert (found.status, found.reason) == (("True", "Unschedulable") if is_degraded else ("False", "Well"))
    assert (EventReason.DEGRADED in {event.reason for event in decision.events}) == is_degraded


def test_a_pod_that_cannot_start_is_named_before_one_without_room():
    """A worker without its image holds the CPU that the next worker lacks: the image is the cause to report, in any order of the pods."""
    no_room = PodFacts("a", 1, unschedulable="0/1 nodes are available: 1 Insufficient cpu.")
    no_image = PodFacts("b", 1, image_problem="ImagePullBackOff: no such image")
    observed = replace(OBSERVED, jobs=(job(1, 2),), progress=replace(BUSY, slots=0))

    for pods in ((no_room, no_image), (no_image, no_room)):
        found = get_condition(decide(replace(observed, pods=pods)).status.conditions, ConditionType.DEGRADED)

        assert found is not None
        assert (found.reason, found.message) == ("WorkerCannotStart", "ImagePullBackOff: no such image")


def ended_worker(name: str, message: str = "", **more: Any) -> PodFacts:
    """Return the facts of a pod of the first generation that ended with code 1 and this last output."""
    terminated = {"exitCode": 1, "reason": "Error", "message": message, **more}
    return pod_facts(
        {
            "metadata": {"name": name, "labels": {"mlho.io/generation": "1"}},
            "status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": terminated}}]},
        }
    )


def test_workers_that_end_with_an_error_degrade_the_run_until_one_is_ready():
    """The status has the error of workers that end again and again, also between two generations. One failure alone is no trouble."""
    output = 'cut off", "event": "x"}\n{"event": "worker_failed", "error": "The key is refused."}\n'
    pods = (ended_worker("a", output), ended_worker("b", output))
    observed = replace(OBSERVED, jobs=(job(1, 1),), progress=replace(BUSY, slots=0))

    once = decide(replace(observed, pods=pods[:1]))
    twice = decide(replace(observed, pods=pods))
    then = decide(replace(again(observed, twice), jobs=(job(2, 1),)))
    ready = replace(again(observed, then), pods=(PodFacts("c", 2, is_ready=True),))

    shown = [get_condition(found.status.conditions, ConditionType.DEGRADED) for found in (once, twice, then)]
    told = ("WorkersFailed", "Workers end with an error: The key is refused.")
    assert [(found.reason, found.message) for found in shown if found] == [("Well", ""), told, told]
    assert [event.reason for event in decide(ready).events if event.reason is EventReason.RECOVERED]


def test_the_error_of_a_worker_is_its_exit_code_if_it_logged_none():
    """A worker that logged no error has its exit code. Lack of memory has its own fact, and the worker's success no error."""
    assert ended_worker("a", "Segmentation fault").error == "exit code 1."
    assert ended_worker("a", reason="OOMKilled", exitCode=137).error == ""
    assert ended_worker("a", reason="Completed", exitCode=0).error == ""


def test_quota_of_a_workload():
    """The quota's reservation and admission are read from the Workload."""
    held = {"type": "QuotaReserved", "status": "True", "reason": "QuotaReserved", "message": ""}

    assert quota_of({"status": {"conditions": [held]}}).is_reserved
    assert not quota_of({}).is_reserved
