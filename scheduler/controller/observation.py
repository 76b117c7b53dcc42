"""Observed state of a run at one moment: its specification, its objects in the cluster, and its progress. Facts without decisions."""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic.alias_generators import to_camel

from mlho.settings import IMAGE
from scheduler.api.objects import (
    EXECUTION_ANNOTATION,
    GENERATION_LABEL,
    MEMORY_ANNOTATION,
    SECRETS_ANNOTATION,
)
from scheduler.api.resource import RunRequest, as_number
from scheduler.api.status import ConditionType, Cost, FailedTask, Outputs, Status
from scheduler.engine.progress import Stages

_ROUNDING: Final = 1.01  # the kernel accounts in whole pages


@dataclass(frozen=True)
class JobFacts:
    """Observed state of one generation of workers."""

    name: str
    generation: int
    execution: str
    memory: str
    parallelism: int
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    """Pods by state."""
    is_suspended: bool = False
    is_over: bool = False
    is_being_deleted: bool = False
    failure: str = ""
    """Reason and message of its failure from Kubernetes; empty if it has not failed."""
    seconds: float | None = None
    """Lifetime; ``None`` until it ends."""
    began_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    secrets: str = ""
    """Checksum of the Secrets of its pods."""
    image: str = ""
    """Image of its pods, as it was requested; empty if unknown."""

    @property
    def is_alive(self) -> bool:
        """Return whether the Job is neither over nor being deleted."""
        return not (self.is_over or self.is_being_deleted)

    @property
    def capacity(self) -> int:
        """Return the number of current and expected pods. After the first pod has succeeded, Kubernetes creates no replacements."""
        if not self.is_alive:
            return 0
        return self.active if self.succeeded and not self.is_suspended else self.parallelism


@dataclass(frozen=True)
class PodFacts:
    """Observed state of one worker pod."""

    name: str
    generation: int
    is_placed: bool = False
    """The pod is scheduled, and its container can start."""
    is_ready: bool = False
    is_out_of_memory: bool = False
    unschedulable: str = ""
    """Message from Kubernetes if the pod cannot be scheduled."""
    unschedulable_since: dt.datetime | None = None
    starting_since: dt.datetime | None = None
    """Time at which the pod was scheduled, until its container exists."""
    image_problem: str = ""
    """Reason and message if the container cannot start."""
    error: str = ""
    """Error with which the worker ended, without disruptions and lack of memory."""


@dataclass(frozen=True)
class Quota:
    """Quota of the latest workers as reported by Kueue."""

    is_reserved: bool
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Check:
    """Result of checking specification, store and data."""

    run_id: str = ""
    reason: str = "Valid"
    message: str = ""
    warning: str = ""
    """Input that an accepted run does not read."""

    @property
    def is_accepted(self) -> bool:
        """Return whether the run may start."""
        return bool(self.run_id)


@dataclass(frozen=True)
class RunProgress:
    """Progress of a run as reported by the thread that runs it."""

    execution: str = ""
    """Empty until the run has started."""
    stages: Stages = ()
    running: int = 0
    slots: int = 0
    retried: int = 0
    quarantined: int = 0
    trouble: tuple[str, str] | None = None
    """Reason and message of the problem of a run that continues or will be retried."""
    end: ConditionType | None = None
    """Final condition."""
    end_reason: str = ""
    end_message: str = ""
    outputs: Outputs | None = None
    metrics: Mapping[str, str] | None = None
    headline: str | None = None
    model: str | None = None
    warnings: tuple[str, ...] = ()
    gates: str | None = None
    quality: tuple[bool, str, str] | None = None
    """State, reason and message of the condition of the data quality of a finished training run."""
    cost: Cost | None = None
    failures: tuple[FailedTask, ...] = ()
    idle_seconds: float = 0.0
    """Time without running tasks."""
    memory_exceeded: int = 0
    """Memory of the largest worker in which a task ran out of memory, as reported by workers; 0 if there was none."""
    memory_needed: int = 0
    """Estimated memory of a process of a worker, which runs one task at a time; 0 if unknown."""


@dataclass(frozen=True)
class ObservedRun:
    """All facts known about a run at one moment."""

    resource: RunRequest
    status: Status
    now: dt.datetime
    jobs: tuple[JobFacts, ...] = ()
    pods: tuple[PodFacts, ...] = ()
    quota: Quota | None = None
    check: Check | None = None
    progress: RunProgress | None = None
    is_waiting_for_turn: bool = False
    """Other runs have precedence, or the same run is active for another resource."""
    refusal: str = ""
    """Message of the API server if it rejected the workers' Kubernetes Job or pods."""
    may_ask: bool = True
    """Workers may be requested now: the backoff after a rejection has elapsed."""
    secrets: str = ""
    """Checksum of the current Secrets; empty if rotation is not detected."""
    image: str = ""
    """Image of new workers; empty if unknown."""

    @property
    def latest_job(self) -> JobFacts | None:
        """Return the latest generation of workers."""
        return max(self.jobs, key=lambda job: job.generation, default=None)

    @property
    def n_ready(self) -> int:
        """Return the number of ready pods."""
        return sum(pod.is_ready for pod in self.pods)

    def has_old_secrets(self, job: JobFacts) -> bool:
        """Return whether a Job has pods with rotated Secrets. New pods of a Job get the current ones."""
        is_known = bool(self.secrets and job.secrets)
        return is_known and job.secrets != self.secrets and job.active > 0

    def has_old_image(self, job: JobFacts) -> bool:
        """Return whether a Job has another image than new workers: the chart was upgraded during the run."""
        return bool(self.image and job.image) and job.image != self.image

    def ran_out(self, job: JobFacts) -> bool:
        """Return whether workers of a generation had too little memory: the kernel killed one, or a worker stopped a task before."""
        ended = any(pod.generation == job.generation and pod.is_out_of_memory for pod in self.pods)
        return ended or self.was_exceeded(job.memory)

    def was_exceeded(self, memory: str) -> bool:
        """Return whether a task was stopped in a worker with this much memory or more.

        Workers report the memory they had, so that a repeated check does not blame larger workers.
        """
        return self.progress is not None and as_number(memory) <= _ROUNDING * self.progress.memory_exceeded


# Conversion of Kubernetes objects.


def parsed(moment: str) -> dt.datetime:
    """Parse a timestamp of Kubernetes."""
    return dt.datetime.fromisoformat(moment)


def job_facts(obj: Mapping[str, Any]) -> JobFacts:
    """Return the observed state of a ``batch/v1`` Job."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status", {})
    annotations, labels = metadata.get("annotations", {}), metadata.get("labels", {})
    conditions = {
        condition["type"]: condition
        for condition in status.get("conditions", ())
        if condition["status"] == "True"
    }
    over = conditions.get("Complete") or conditions.get("Failed")
    began = status.get("startTime") or metadata["creationTimestamp"]
    ended_at = parsed(over["lastTransitionTime"]) if over else None
    failed = conditions.get("Failed") or conditions.get("FailureTarget")
    return JobFacts(
        name=metadata["name"],
        generation=int(labels.get(GENERATION_LABEL, 0)),
        execution=annotations.get(EXECUTION_ANNOTATION, ""),
        memory=annotations.get(MEMORY_ANNOTATION, "0"),
        parallelism=spec.get("parallelism", 1),
        active=status.get("active", 0),
        succeeded=status.get("succeeded", 0),
        failed=status.get("failed", 0),
        is_suspended=bool(spec.get("suspend")),
        is_over=over is not None,
        is_being_deleted=metadata.get("deletionTimestamp") is not None,
        failure=f"{failed.get('reason', '')}: {failed.get('message', '')}" if failed else "",
        seconds=(ended_at - parsed(began)).total_seconds() if ended_at else None,
        began_at=parsed(began),
        ended_at=ended_at,
        secrets=annotations.get(SECRETS_ANNOTATION, ""),
        image=_image(spec),
    )


def _image(spec: Mapping[str, Any]) -> str:
    """Return the image that the operator requested. A webhook may have replaced that of the container, by a mirror for example."""
    containers = spec.get("template", {}).get("spec", {}).get("containers", ())
    variables = [variable for container in containers for variable in container.get("env", ())]
    return next((str(variable.get("value", "")) for variable in variables if variable["name"] == IMAGE), "")


_IMAGE_REASONS: Final = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImagePull",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
)


_LAST_EVENTS: Final = ("worker_failed", "worker_refused")


def _error(terminated: Mapping[str, Any]) -> str:
    """Return the error with which a worker ended: that of its last event, with which Kubernetes ends the message, or the exit code."""
    code = terminated.get("exitCode", 0)
    if code == 0 or terminated.get("reason") == "OOMKilled":
        return ""
    for line in reversed(terminated.get("message", "").splitlines()):
        try:
            event = json.loads(line)
        except ValueError:  # Kubernetes cuts the message at its beginning
            continue
        if isinstance(event, dict) and event.get("event") in _LAST_EVENTS:
            return str(event.get("error", ""))
    return f"exit code {code}."


def pod_facts(obj: Mapping[str, Any]) -> PodFacts:
    """Return the observed state of a worker pod."""
    metadata, status = obj["metadata"], obj.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    states = [container.get("state", {}) for container in status.get("containerStatuses", ())]
    waiting: Mapping[str, str] = next((state["waiting"] for state in states if "waiting" in state), {})
    scheduled = conditions.get("PodScheduled", {})
    is_alive = metadata.get("deletionTimestamp") is None and status.get("phase") in ("Pending", "Running")
    is_unschedulable = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    since = scheduled.get("lastTransitionTime") or metadata.get("creationTimestamp")
    cannot_start = waiting.get("reason") in _IMAGE_REASONS
    is_placed = is_alive and scheduled.get("status") == "True" and not cannot_start
    is_disrupted = conditions.get("DisruptionTarget", {}).get("status") == "True"
    errors = [] if is_disrupted else [_error(state.get("terminated", {})) for state in states]
    is_creating = all(state.get("waiting", {}).get("reason") == "ContainerCreating" for state in states)
    return PodFacts(
        name=metadata["name"],
        generation=int(metadata.get("labels", {}).get(GENERATION_LABEL, 0)),
        is_placed=is_placed,
        is_ready=is_alive and conditions.get("Ready", {}).get("status") == "True",
        is_out_of_memory=any(state.get("terminated", {}).get("reason") == "OOMKilled" for state in states),
        unschedulable=scheduled.get("message", "") if is_alive and is_unschedulable else "",
        unschedulable_since=parsed(since) if is_alive and is_unschedulable and since else None,
        starting_since=parsed(since) if is_placed and since and is_creating else None,
        image_problem=(
            f"{waiting['reason']}: {waiting.get('message', '')}" if is_alive and cannot_start else ""
        ),
        error=next(filter(None, errors), ""),
    )


def quota_of(workload: Mapping[str, Any]) -> Quota:
    """Return the quota of a Kueue Workload."""
    conditions = {
        condition["type"]: condition for condition in workload.get("status", {}).get("conditions", ())
    }
    reservation = conditions.get("QuotaReserved", {"status": "False", "reason": "Pending", "message": ""})
    admitted = conditions.get("Admitted", {"status": reservation["status"]})
    holds = reservation["status"] == "True" and admitted["status"] == "True"
    return Quota(holds, reservation.get("reason") or "Pending", reservation.get("message", ""))


_COMPARED: Final = ("compared_mean", "rank_correlation", "mean_absolute_difference", "top_tenth_shared")


def scoring_metrics(scores: Mapping[str, Any], comparison: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the figures of a scoring run for its status, from ``scores.json`` and, with ``compareWith``, ``comparison.json``."""
    metrics = {"samples": str(scores["samples"])}
    if "samples_without_events" in scores:  # earlier versions wrote neither this nor warnings
        metrics["samplesWithoutEvents"] = str(scores["samples_without_events"])
    drift = scores.get("drift") or {}
    if drift.get("n_compared"):
        metrics["shiftedFeatures"] = str(drift["n_shifted"])
    if drift.get("n_missing_compared"):
        metrics["columnsMissingMore"] = str(drift["n_missing_shifted"])
    codes = drift.get("codes") or {}
    if codes.get("n_compared"):
        metrics |= {"newCodes": str(codes["n_new"]), "vanishedCodes": str(codes["n_vanished"])}
    if drift.get("score_psi") is not None:
        metrics["scorePsi"] = str(drift["score_psi"])
    if scores.get("advice") is not None:
        metrics["advisesRetraining"] = str(int(scores["advice"]["action"] == "retrain"))
    expected = (scores.get("expected") or {}).get("auroc", {})
    if expected.get("value") is not None:
        metrics["expectedAuroc"] = str(expected["value"])
    figures = {} if comparison is None else {to_camel(name): comparison[name] for name in _COMPARED}
    return metrics | {name: f"{value:.4f}" for name, value in figures.items() if value is not None}
