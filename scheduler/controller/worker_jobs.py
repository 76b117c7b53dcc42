"""Create the Kubernetes Jobs of workers, and record their rejection: of a Job by the response, of its pods by Events of the Job."""

import datetime as dt
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mlho.log import log
from scheduler.api.client import Cluster, ClusterError, Conflict, Kind, NotFound
from scheduler.api.config import WorkerTemplate
from scheduler.api.objects import WorkerGeneration, worker_job
from scheduler.controller.informer import Object
from scheduler.controller.observation import JobFacts, PodFacts, parsed

_ASK_AGAIN_SECONDS: Final = (5.0, 10.0, 30.0, 60.0)
_POD_SECONDS: Final = 3.0  # for the Job controller to create pods
_POLL_SECONDS: Final = 5.0  # between two reads of a Job's Events
_RENEW_SECONDS: Final = 60.0  # between two reads once the cause is known: another cause may follow it
_NO_RIGHT_SECONDS: Final = 600.0  # between retries without the right to read Events
_RECENT_SECONDS: Final = 120.0  # the Job controller tries again at least each minute
_START_SECONDS: Final = 30.0  # for a node to mount the volumes
_MOUNT_SECONDS: Final = 180.0  # a node tries again at least every two minutes
_OVERLOADED: Final = (429, 502, 503, 504)


@dataclass
class _Refused:
    """Rejections of one run's workers."""

    job: str = ""
    n_times: int = 0
    ask_again_at: float = 0.0
    pods: str = ""
    look_again_at: float = 0.0
    mounts: str = ""
    mounts_again_at: float = 0.0


class WorkerJobs:
    """Creates the Kubernetes Jobs of workers, with backoff after a rejection.

    Parameters
    ----------
    secrets : str
        Checksum of the current Secrets of the workers.
    """

    def __init__(self, cluster: Cluster, template: WorkerTemplate, *, secrets: str = "") -> None:
        self._cluster = cluster
        self._template = template
        self._secrets = secrets
        self._refused: dict[str, _Refused] = {}

    @property
    def image(self) -> str:
        """Return the image of new workers."""
        return self._template.image

    def ask(self, workers: WorkerGeneration) -> Object | None:
        """Create a generation of workers. Return ``None`` if the API server rejects it; :meth:`refusal` then returns the reason.

        Raise ClusterError if the API server does not answer, or the run was changed concurrently.
        """
        try:
            job = self._cluster.apply(Kind.JOB, worker_job(workers, self._template, secrets=self._secrets))
        except (Conflict, NotFound):
            raise
        except ClusterError as error:
            if not error.status or error.status in _OVERLOADED:
                raise
            refused = self._refused.setdefault(workers.uid, _Refused())
            pause = _ASK_AGAIN_SECONDS[min(refused.n_times, len(_ASK_AGAIN_SECONDS) - 1)]
            refused.job, refused.ask_again_at = str(error), time.monotonic() + pause
            refused.n_times += 1
            log.warning("workers_refused", run_id=workers.run_id, error=str(error))
            return None
        self.forget(workers.uid)
        log.info("workers_created", run_id=workers.run_id, workers=workers.parallelism)
        return job

    def may_ask(self, uid: str) -> bool:
        """Return whether the backoff after a rejection has elapsed."""
        refused = self._refused.get(uid)
        return refused is None or time.monotonic() >= refused.ask_again_at

    def refusal(self, uid: str, namespace: str, jobs: Iterable[JobFacts], now: dt.datetime) -> str:
        """Return the message of the API server if it rejects a run's Kubernetes Job or pods, or an empty string."""
        short = next((job for job in jobs if _lacks_pods(job, now)), None)
        refused = self._refused.get(uid)
        if short is None:
            if refused is not None:
                refused.pods = ""
            return refused.job if refused is not None else ""
        refused = refused or self._refused.setdefault(uid, _Refused())
        if time.monotonic() >= refused.look_again_at:
            refused.look_again_at = time.monotonic() + _POLL_SECONDS
            message = self._event(
                refused, namespace, ("Job", short.name, "FailedCreate"), now, _RECENT_SECONDS
            )
            if message:
                refused.look_again_at = time.monotonic() + _RENEW_SECONDS
                refused.pods = f"Kubernetes Job {short.name}: {message}"
        return refused.job or refused.pods

    def with_mounts(
        self, uid: str, namespace: str, pods: tuple[PodFacts, ...], now: dt.datetime
    ) -> tuple[PodFacts, ...]:
        """Return a run's pods. Those that cannot start because a volume is missing have the message of Kubernetes."""
        stuck = [
            pod
            for pod in pods
            if pod.starting_since is not None and (now - pod.starting_since).total_seconds() >= _START_SECONDS
        ]
        if not stuck:
            return pods
        refused = self._refused.setdefault(uid, _Refused())
        if time.monotonic() >= refused.mounts_again_at:
            refused.mounts_again_at = time.monotonic() + _POLL_SECONDS
            name = stuck[0].name
            message = self._event(refused, namespace, ("Pod", name, "FailedMount"), now, _MOUNT_SECONDS)
            refused.mounts = message and f"Pod {name}: {message}"
        if not refused.mounts:
            return pods
        return tuple(
            replace(pod, is_placed=False, image_problem=refused.mounts) if pod in stuck else pod
            for pod in pods
        )

    def forget(self, uid: str) -> None:
        """Remove the state of a run."""
        self._refused.pop(uid, None)

    def _event(
        self, refused: _Refused, namespace: str, about: tuple[str, str, str], now: dt.datetime, seconds: float
    ) -> str:
        """Return the message of the latest Event of an object (kind, name, reason) within the last few seconds."""
        fields = "involvedObject.kind={},involvedObject.name={},reason={}".format(*about)
        try:
            events = self._cluster.list(Kind.EVENT, namespace, fields=fields).items
        except ClusterError as error:
            if error.status == 403:  # roles of an earlier version
                refused.look_again_at = refused.mounts_again_at = time.monotonic() + _NO_RIGHT_SECONDS
            log.warning("events_not_read", error_kind=type(error).__name__, error=str(error))
            return ""
        recent = [event for event in events if _age(event, now) <= seconds]
        latest = min(recent, key=lambda event: _age(event, now), default=None)
        return str(latest.get("message", "")) if latest is not None else ""


def _lacks_pods(job: JobFacts, now: dt.datetime) -> bool:
    """Return whether a Job has had fewer pods than requested for longer than their creation takes."""
    if not job.is_alive or job.is_suspended or job.succeeded:
        return False
    age = (now - job.began_at).total_seconds() if job.began_at is not None else 0.0
    return job.active < job.parallelism and age >= _POD_SECONDS


def _age(event: Mapping[str, Any], now: dt.datetime) -> float:
    series = event.get("series") or {}
    moment = (
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
    )
    return (now - parsed(moment)).total_seconds() if moment else math.inf
