"""Prometheus metrics of the leading scheduler of a cluster. The number of series does not depend on the number of runs."""

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
    "mlho_scheduler_leader": (GAUGE, "1 on the leading replica"),
    "mlho_scheduler_runs": (GAUGE, "Runs in the cluster, by phase"),
    "mlho_scheduler_degraded_runs": (GAUGE, "Active runs with the condition Degraded"),
    "mlho_scheduler_unhealthy_runs": (GAUGE, "Degraded and rejected runs, by reason"),
    "mlho_scheduler_longest_wait_seconds": (GAUGE, "Longest time that a pending or waiting run has waited"),
    "mlho_scheduler_schedule_failed": (GAUGE, "1 if the latest finished run of the schedule failed"),
    "mlho_scheduler_schedule_success_timestamp_seconds": (
        GAUGE,
        "Time of the schedule's last successful run",
    ),
    "mlho_scheduler_schedule_samples": (GAUGE, "Samples that the schedule's last successful run scored"),
    "mlho_scheduler_schedule_samples_without_events": (GAUGE, "Those of them without a usable event"),
    "mlho_scheduler_schedule_warnings": (GAUGE, "Warnings of the schedule's last successful run"),
    "mlho_scheduler_runs_ended_total": (COUNTER, "Finished runs, by phase"),
    "mlho_scheduler_active_runs": (GAUGE, "Runs that the scheduler is carrying out"),
    "mlho_scheduler_status_writes_total": (COUNTER, "Status updates of runs"),
    "mlho_scheduler_worker_jobs_total": (COUNTER, "Kubernetes Jobs created for workers"),
    "mlho_scheduler_events_total": (COUNTER, "Events recorded"),
    "mlho_scheduler_reconciles_total": (COUNTER, "Reconciliations of a run"),
    "mlho_scheduler_api_errors_total": (
        COUNTER,
        "Reconciliations that failed with an error of the Kubernetes API",
    ),
    "mlho_scheduler_reconcile_errors_total": (
        COUNTER,
        "Reconciliations that failed with any other error, which is a defect",
    ),
}


def run_figures(runs: Iterable[Mapping[str, Any]], now: dt.datetime) -> dict[str, float]:
    """Return the series that are derived from the custom resources."""
    found = [(own.get("metadata") or {}, own.get("status") or {}) for own in runs]
    phases = Counter(status.get("phase", Phase.PENDING.value) for _, status in found)
    troubles = Counter(reason for _, status in found if (reason := _trouble(status)))
    return {
        **{f'mlho_scheduler_runs{{phase="{phase}"}}': n for phase, n in sorted(phases.items())},
        "mlho_scheduler_degraded_runs": sum(
            _held(status, ConditionType.DEGRADED, "True") is not None for _, status in found
        ),
        **{f'mlho_scheduler_unhealthy_runs{{reason="{own}"}}': n for own, n in sorted(troubles.items())},
        "mlho_scheduler_longest_wait_seconds": max(
            (_waiting_seconds(metadata, status, now) for metadata, status in found), default=0.0
        ),
        **_schedule_figures(found),
    }


def _schedule_figures(found: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, float]:
    """Return whether the latest finished run of each schedule failed, and when one last succeeded."""
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
        **_result_figures(found),
    }


def _result_figures(found: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, float]:
    """Return the counts of the last successful run of each schedule."""
    latest: dict[str, Mapping[str, Any]] = {}
    for metadata, status in sorted(found, key=lambda own: own[1].get("finishedAt", "")):
        schedule = (metadata.get("labels") or {}).get(SCHEDULE_LABEL)
        if schedule and status.get("phase") == Phase.SUCCEEDED:
            latest[schedule] = status
    counts = {"samples": "samples", "samples_without_events": "samplesWithoutEvents"}
    return {
        **{
            f'mlho_scheduler_schedule_{name}{{schedule="{schedule}"}}': float(status["metrics"][field])
            for name, field in counts.items()
            for schedule, status in sorted(latest.items())
            if field in (status.get("metrics") or {})
        },
        **{
            f'mlho_scheduler_schedule_warnings{{schedule="{schedule}"}}': len(status.get("warnings", ()))
            for schedule, status in sorted(latest.items())
        },
    }


def _trouble(status: Mapping[str, Any]) -> str:
    """Return the reason why a run is degraded or not accepted, or an empty string."""
    held = _held(status, ConditionType.DEGRADED, "True") or _held(status, ConditionType.ACCEPTED, "False")
    return str(held.get("reason", "")) if held is not None else ""


def _waiting_seconds(metadata: Mapping[str, Any], status: Mapping[str, Any], now: dt.datetime) -> float:
    """Return how long a run has waited: since it stopped progressing, or since its creation."""
    if status.get("phase", Phase.PENDING) not in (Phase.PENDING, Phase.WAITING):
        return 0.0
    held = _held(status, ConditionType.PROGRESSING, "False") or {}
    since = held.get("lastTransitionTime") or metadata.get("creationTimestamp")
    return max(0.0, (now - parsed(since)).total_seconds()) if since else 0.0


def _held(status: Mapping[str, Any], kind: ConditionType, says: str) -> Mapping[str, Any] | None:
    found = (own for own in status.get("conditions", ()) if own["type"] == kind and own["status"] == says)
    return next(found, None)


def exposition(figures: Mapping[str, float]) -> str:
    """Return the series in the Prometheus text format. Series of one name must be adjacent."""
    return "".join(f"{line}\n" for line in _lines(figures))


def _lines(figures: Mapping[str, float]) -> Iterator[str]:
    for name, series in groupby(figures, key=lambda own: own.partition("{")[0]):
        kind, words = SERIES[name]
        yield f"# HELP {name} {words}"
        yield f"# TYPE {name} {kind}"
        yield from (f"{own} {figures[own]:.17g}" for own in series)
