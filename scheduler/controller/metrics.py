"""Prometheus metrics of the leading scheduler of a cluster. The number of series does not depend on the number of runs."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from scheduler.api.status import ConditionType, Phase
from scheduler.controller.observation import parsed

SCHEDULE_LABEL: Final = "mlho.io/schedule"
type MetricValues = Mapping[str, float | Mapping[str, float]]
"""Value of each metric by name; with a label, the value of each series by the label's value."""


class Metric(NamedTuple):
    """A metric of the scheduler: a counter if its name ends with ``_total``, otherwise a gauge."""

    words: str
    label: str | None = None
    field: str | None = None
    """Field of ``status.metrics`` of a scoring run that gives the value."""


METRICS: Final[Mapping[str, Metric]] = {
    "mlho_scheduler_leader": Metric("1 on the leading replica"),
    "mlho_scheduler_runs": Metric("Runs in the cluster, by phase", label="phase"),
    "mlho_scheduler_degraded_runs": Metric("Active runs with the condition Degraded"),
    "mlho_scheduler_unhealthy_runs": Metric("Degraded and rejected runs, by reason", label="reason"),
    "mlho_scheduler_longest_wait_seconds": Metric("Longest time that a pending or waiting run has waited"),
    "mlho_scheduler_schedule_failed": Metric(
        "1 if the latest finished run of the schedule failed", label="schedule"
    ),
    "mlho_scheduler_schedule_success_timestamp_seconds": Metric(
        "Time of the schedule's last successful run", label="schedule"
    ),
    "mlho_scheduler_schedule_samples": Metric(
        "Samples that the schedule's last successful run scored", "schedule", "samples"
    ),
    "mlho_scheduler_schedule_samples_without_events": Metric(
        "Samples without a usable event in the schedule's last successful run",
        "schedule",
        "samplesWithoutEvents",
    ),
    "mlho_scheduler_schedule_score_psi": Metric(
        "Population stability index of the scores of the schedule's last successful run against training",
        "schedule",
        "scorePsi",
    ),
    "mlho_scheduler_schedule_shifted_features": Metric(
        "Features that have shifted since training, in the schedule's last successful run",
        "schedule",
        "shiftedFeatures",
    ),
    "mlho_scheduler_schedule_columns_missing_more": Metric(
        "Demographics and event values with more missing values than in training, in the schedule's last successful run",
        "schedule",
        "columnsMissingMore",
    ),
    "mlho_scheduler_schedule_new_codes": Metric(
        "Codes in the events of the schedule's last successful run that did not occur in training",
        "schedule",
        "newCodes",
    ),
    "mlho_scheduler_schedule_vanished_codes": Metric(
        "Codes of training that no sample of the schedule's last successful run has",
        "schedule",
        "vanishedCodes",
    ),
    "mlho_scheduler_schedule_advises_retraining": Metric(
        "1 if the advice of the schedule's last successful run is to retrain",
        "schedule",
        "advisesRetraining",
    ),
    "mlho_scheduler_schedule_expected_auroc": Metric(
        "AUROC expected without labels for the schedule's last successful run", "schedule", "expectedAuroc"
    ),
    "mlho_scheduler_schedule_warnings": Metric(
        "Warnings of the schedule's last successful run", label="schedule"
    ),
    "mlho_scheduler_runs_ended_total": Metric("Finished runs, by phase", label="phase"),
    "mlho_scheduler_active_runs": Metric("Runs that the scheduler is carrying out"),
    "mlho_scheduler_status_writes_total": Metric("Status updates of runs"),
    "mlho_scheduler_worker_jobs_total": Metric("Kubernetes Jobs created for workers"),
    "mlho_scheduler_events_total": Metric("Events recorded"),
    "mlho_scheduler_reconciles_total": Metric("Reconciliations of a run"),
    "mlho_scheduler_api_errors_total": Metric(
        "Reconciliations that failed with an error of the Kubernetes API, and list requests refused for missing permissions"
    ),
    "mlho_scheduler_reconcile_errors_total": Metric(
        "Reconciliations that failed with any other error, which is a defect"
    ),
}


def run_figures(
    runs: Iterable[Mapping[str, Any]], now: dt.datetime
) -> dict[str, float | Mapping[str, float]]:
    """Return the series that are derived from the custom resources."""
    facts = [(obj.get("metadata") or {}, obj.get("status") or {}) for obj in runs]
    phases = Counter(status.get("phase", Phase.PENDING.value) for _, status in facts)
    troubles = Counter(reason for _, status in facts if (reason := _trouble(status)))
    return {
        "mlho_scheduler_runs": dict(sorted(phases.items())),
        "mlho_scheduler_degraded_runs": sum(
            _held(status, ConditionType.DEGRADED, "True") is not None for _, status in facts
        ),
        "mlho_scheduler_unhealthy_runs": dict(sorted(troubles.items())),
        "mlho_scheduler_longest_wait_seconds": max(
            (_waiting_seconds(metadata, status, now) for metadata, status in facts), default=0.0
        ),
        **_schedule_figures(facts),
    }


def _schedule_figures(
    facts: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> dict[str, float | Mapping[str, float]]:
    """Return whether the latest finished run of each schedule failed, and when one last succeeded."""
    ended: dict[str, list[tuple[float, str]]] = {}
    for metadata, status in facts:
        schedule = (metadata.get("labels") or {}).get(SCHEDULE_LABEL)
        if schedule and status.get("finishedAt"):
            ended.setdefault(schedule, []).append(
                (parsed(status["finishedAt"]).timestamp(), status.get("phase", ""))
            )
    succeeded = {
        schedule: [at for at, phase in ends if phase == Phase.SUCCEEDED] for schedule, ends in ended.items()
    }
    return {
        "mlho_scheduler_schedule_failed": {
            schedule: float(max(ends)[1] == Phase.FAILED) for schedule, ends in sorted(ended.items())
        },
        "mlho_scheduler_schedule_success_timestamp_seconds": {
            schedule: max(times) for schedule, times in sorted(succeeded.items()) if times
        },
        **_result_figures(facts),
    }


def _result_figures(
    facts: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> dict[str, float | Mapping[str, float]]:
    """Return the counts of the last successful run of each schedule."""
    latest: dict[str, Mapping[str, Any]] = {}
    for metadata, status in sorted(facts, key=lambda run: run[1].get("finishedAt", "")):
        schedule = (metadata.get("labels") or {}).get(SCHEDULE_LABEL)
        if schedule and status.get("phase") == Phase.SUCCEEDED:
            latest[schedule] = status
    figures: dict[str, float | Mapping[str, float]] = {
        name: {
            schedule: float(status["metrics"][metric.field])
            for schedule, status in sorted(latest.items())
            if metric.field in (status.get("metrics") or {})
        }
        for name, metric in METRICS.items()
        if metric.field is not None
    }
    n_warnings = {schedule: len(status.get("warnings", ())) for schedule, status in sorted(latest.items())}
    return figures | {"mlho_scheduler_schedule_warnings": n_warnings}


def _trouble(status: Mapping[str, Any]) -> str:
    """Return the reason why a run is degraded or not accepted, or an empty string."""
    condition = _held(status, ConditionType.DEGRADED, "True") or _held(
        status, ConditionType.ACCEPTED, "False"
    )
    return str(condition.get("reason", "")) if condition is not None else ""


def _waiting_seconds(metadata: Mapping[str, Any], status: Mapping[str, Any], now: dt.datetime) -> float:
    """Return how long a run has waited: since it stopped progressing, or since its creation."""
    if status.get("phase", Phase.PENDING) not in (Phase.PENDING, Phase.WAITING):
        return 0.0
    condition = _held(status, ConditionType.PROGRESSING, "False") or {}
    since = condition.get("lastTransitionTime") or metadata.get("creationTimestamp")
    return max(0.0, (now - parsed(since)).total_seconds()) if since else 0.0


def _held(status: Mapping[str, Any], kind: ConditionType, says: str) -> Mapping[str, Any] | None:
    matching = (
        condition
        for condition in status.get("conditions", ())
        if condition["type"] == kind and condition["status"] == says
    )
    return next(matching, None)


@dataclass(frozen=True)
class _Snapshot(Collector):
    """The values of one scrape as metric families."""

    figures: MetricValues

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for name, value in self.figures.items():
            words, label, _ = METRICS[name]
            make = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = make(name, words, labels=[label] if label else [])
            for label_value, number in value.items() if isinstance(value, Mapping) else [(None, value)]:
                family.add_metric([label_value] if label_value is not None else [], number)
            yield family


def exposition(figures: MetricValues) -> bytes:
    """Return the metrics in the Prometheus text format."""
    return generate_latest(_Snapshot(figures))
