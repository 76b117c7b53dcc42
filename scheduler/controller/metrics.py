"""What a leading scheduler of a cluster tells Prometheus: a few series, whatever the number of runs."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from scheduler.api.status import ConditionType, Phase
from scheduler.controller.observation import parsed

SCHEDULE_LABEL: Final = "mlho.io/schedule"
GAUGE: Final = "gauge"
COUNTER: Final = "counter"
SERIES: Final[Mapping[str, tuple[str, str]]] = {
    "mlho_scheduler_leader": (GAUGE, "1 for the replica that leads"),
    "mlho_scheduler_runs": (GAUGE, "Runs in the cluster, by phase"),
    "mlho_scheduler_runs_degraded": (GAUGE, "Runs that go on though something is wrong"),
    "mlho_scheduler_runs_in_trouble": (GAUGE, "Runs that are degraded or not accepted, by reason"),
    "mlho_scheduler_waiting_seconds": (GAUGE, "For how long the run has waited that has waited longest"),
    "mlho_scheduler_schedule_failed": (GAUGE, "1 if the latest run of a schedule that has ended has failed"),
    "mlho_scheduler_schedule_success_timestamp_seconds": (GAUGE, "When a run of a schedule last succeeded"),
    "mlho_scheduler_runs_ended_total": (COUNTER, "Runs that have ended, by phase"),
    "mlho_scheduler_driven": (GAUGE, "Runs that are carried out now"),
    "mlho_scheduler_status_writes_total": (COUNTER, "Writes of a run's status"),
    "mlho_scheduler_worker_jobs_total": (COUNTER, "Kubernetes Jobs of workers that were made"),
    "mlho_scheduler_events_total": (COUNTER, "Events that were told"),
    "mlho_scheduler_looks_total": (COUNTER, "Looks at a run"),
    "mlho_scheduler_api_errors_total": (COUNTER, "Looks that the Kubernetes API made fail"),
    "mlho_scheduler_errors_total": (COUNTER, "Looks that failed for another reason: a defect of ours"),
}


def run_figures(runs: Iterable[Mapping[str, Any]], now: dt.datetime) -> dict[str, float]:
    """How the runs stand, from the resources as they are; few series, whatever their number."""
    found = [(own.get("metadata") or {}, own.get("status") or {}) for own in runs]
    phases = Counter(status.get("phase", Phase.PENDING.value) for _, status in found)
    troubles = Counter(reason for _, status in found if (reason := _trouble(status)))
    return {
        **{f'mlho_scheduler_runs{{phase="{phase}"}}': n for phase, n in sorted(phases.items())},
        "mlho_scheduler_runs_degraded": sum(
            _held(status, ConditionType.DEGRADED, "True") is not None for _, status in found
        ),
        **{f'mlho_scheduler_runs_in_trouble{{reason="{own}"}}': n for own, n in sorted(troubles.items())},
        "mlho_scheduler_waiting_seconds": max(
            (_waiting_seconds(metadata, status, now) for metadata, status in found), default=0.0
        ),
        **_schedule_figures(found),
    }


def _schedule_figures(found: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, float]:
    """How the latest run of each schedule ended, and when one last ended well."""
    ended: dict[str, list[tuple[float, str]]] = {}
    for metadata, status in found:
        schedule = (metadata.get("labels") or {}).get(SCHEDULE_LABEL)
        if schedule and status.get("finishedAt"):
            ended.setdefault(schedule, []).append(
                (parsed(status["finishedAt"]).timestamp(), status.get("phase", ""))
            )
    succeeded = {
        schedule: [at for at, phase in own if phase == Phase.SUCCEEDED] for schedule, own in ended.items()
    }
    return {
        **{
            f'mlho_scheduler_schedule_failed{{schedule="{schedule}"}}': float(max(own)[1] == Phase.FAILED)
            for schedule, own in sorted(ended.items())
        },
        **{
            f'mlho_scheduler_schedule_success_timestamp_seconds{{schedule="{schedule}"}}': max(own)
            for schedule, own in sorted(succeeded.items())
            if own
        },
    }


def _trouble(status: Mapping[str, Any]) -> str:
    """Why a run is degraded, or not accepted; empty if it is neither."""
    held = _held(status, ConditionType.DEGRADED, "True") or _held(status, ConditionType.ACCEPTED, "False")
    return str(held.get("reason", "")) if held is not None else ""


def _waiting_seconds(metadata: Mapping[str, Any], status: Mapping[str, Any], now: dt.datetime) -> float:
    """For how long a run has waited: since it stopped to progress, or since it is there."""
    if status.get("phase", Phase.PENDING) not in (Phase.PENDING, Phase.WAITING):
        return 0.0
    held = _held(status, ConditionType.PROGRESSING, "False") or {}
    since = held.get("lastTransitionTime") or metadata.get("creationTimestamp")
    return max(0.0, (now - parsed(since)).total_seconds()) if since else 0.0


def _held(status: Mapping[str, Any], kind: ConditionType, says: str) -> Mapping[str, Any] | None:
    found = (own for own in status.get("conditions", ()) if own["type"] == kind and own["status"] == says)
    return next(found, None)


def exposition(figures: Mapping[str, float]) -> str:
    """The page that Prometheus reads; figures of one name must stand together."""
    return "".join(f"{line}\n" for line in _lines(figures))


def _lines(figures: Mapping[str, float]) -> Iterator[str]:
    for name, series in groupby(figures, key=lambda own: own.partition("{")[0]):
        kind, words = SERIES[name]
        yield f"# HELP {name} {words}"
        yield f"# TYPE {name} {kind}"
        yield from (f"{own} {figures[own]:.17g}" for own in series)
