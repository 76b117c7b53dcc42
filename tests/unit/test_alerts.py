"""Alerts and the dashboard use only existing series, with their labels and with values that occur."""

import datetime as dt
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlho.protocol.failures import FailureClass
from scheduler.api.status import Phase
from scheduler.controller.controller import Operator
from scheduler.controller.metrics import METRICS, MetricValues, exposition, run_figures
from scheduler.controller.run_thread import _trouble_of
from scheduler.queue.errors import DISK_UNAVAILABLE, WORKER_OUTDATED
from worker.metrics import WorkerMetrics

REPO = Path(__file__).parents[2]
RULES = REPO / "helm" / "mlho" / "templates" / "monitoring.yaml"
DASHBOARD = REPO / "helm" / "mlho" / "files" / "dashboard.json"
MANUAL = REPO / "docs" / "kubernetes.md"
OF_PROMETHEUS = {"up": {"job", "namespace"}}
OF_EVERY_SERIES = {"namespace", "job", "pod", "instance"}  # Prometheus adds them
FUNCTIONS = {"sum", "by", "increase", "rate", "absent", "max", "max_over_time", "time", "filled"}
COUNTED = re.compile(r"(?:increase|rate)\((\w+)")
NOW = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)
NIGHTLY = {"labels": {"mlho.io/schedule": "nightly"}}
WAITING = {"type": "Progressing", "status": "False", "lastTransitionTime": "2026-11-24T11:00:00Z"}
SCORED = {
    "phase": "Succeeded",
    "finishedAt": "2026-11-23T02:00:00Z",
    "metrics": {
        "samples": "6000",
        "samplesWithoutEvents": "12",
        "scorePsi": "0.031",
        "shiftedFeatures": "2",
        "columnsMissingMore": "1",
        "newCodes": "3",
        "vanishedCodes": "0",
        "advisesRetraining": "0",
        "expectedAuroc": "0.741",
    },
    "warnings": ["Threshold youden: 30.0 % of the samples are flagged, compared with 10.0 % in training."],
}
RUNS: list[dict[str, Any]] = [
    {
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Degraded", "status": "True", "reason": "StoreUnavailable"}],
        }
    },
    {"status": {"phase": "Running", "conditions": [{"type": "Degraded", "status": "False"}]}},
    {"metadata": {"creationTimestamp": "2026-11-24T11:59:00Z"}},
    {"status": {"phase": "Waiting", "conditions": [WAITING]}},
    {"metadata": NIGHTLY, "status": {"phase": "Succeeded", "finishedAt": "2026-11-22T02:00:00Z"}},
    {"metadata": NIGHTLY, "status": SCORED},
    {"metadata": NIGHTLY, "status": {"phase": "Failed", "finishedAt": "2026-11-24T02:00:00Z"}},
]


def expressions() -> list[str]:
    """Return all expressions of alerts and dashboard, with a word in place of each Helm template."""
    alerts = re.findall(r"^ +expr: (.*)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    return [re.sub(r"\{\{.*?\}\}", "filled", expression) for expression in (*alerts, *queries)]


def exposed() -> dict[str, set[str]]:
    """Return the labels of each series of scheduler and workers, by the name that Prometheus stores."""
    found = {name: {metric.label} - {None} for name, metric in METRICS.items()}
    for family in WorkerMetrics(slots=1).registry.collect():
        found[family.name + ("_total" if family.type == "counter" else "")] = set()
    return found | {
        "mlho_worker_tasks_total": {"outcome"},
        "mlho_worker_messages_refused_total": {"reason"},
        "mlho_worker_messages_dropped_total": {"verdict"},
    }


def label_names(expression: str) -> Iterator[str]:
    """Yield the labels that an expression matches or sums by."""
    for group in re.findall(r"\{(.*?)\}", expression):
        yield from re.findall(r"(\w+) *(?:=~|!~|!=|=)", group)
    for group in re.findall(r"\bby *\((.*?)\)", expression):
        yield from re.findall(r"\w+", group)


def words(expression: str) -> set[str]:
    """Return the names in an expression that are neither labels nor label values nor durations."""
    bare = re.sub(r"\{.*?\}|\[.*?\]|\bby *\(.*?\)", " ", expression)
    return set(re.findall(r"[a-zA-Z_]\w*", bare))


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_uses_existing_series_and_labels(expression: str):
    """An expression uses only existing series and labels, because an alert on a misspelled one would never fire."""
    known = exposed() | OF_PROMETHEUS
    names = words(expression) - FUNCTIONS

    assert names
    assert names <= known.keys()
    labels = {label for name in names for label in known[name]} | OF_EVERY_SERIES
    assert set(label_names(expression)) <= labels


@pytest.mark.parametrize("expression", expressions())
def test_only_counters_are_asked_for_their_rate(expression: str):
    """A rate is computed for counters only, and counters are used only in a rate, because their total since the start says little."""
    counted = set(COUNTED.findall(expression))
    counters = {name for name in words(expression) if name.endswith("_total")}

    assert counted == counters


def test_the_listed_labels_of_the_worker_are_the_real_ones():
    """The worker's labels listed in this module are the real ones."""
    metrics = WorkerMetrics(slots=1)
    metrics.tasks.labels(outcome="committed").inc()
    metrics.refused.labels(reason="x").inc()
    metrics.dropped.labels(verdict="x").inc()

    found = {
        sample.name: set(sample.labels)
        for family in metrics.registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }

    assert found == {name: labels for name, labels in exposed().items() if name.startswith("mlho_worker")}


def test_an_attempt_that_failed_is_none_of_those_that_the_alert_leaves_out():
    """The failure alert counts every failure class and excludes every other outcome of an attempt."""
    (alert,) = (expression for expression in expressions() if "outcome!~" in expression)
    left_out = set(re.findall(r'outcome!~"(.*?)"', alert)[0].split("|"))
    source = (REPO / "worker" / "task_handler.py").read_text(encoding="utf-8")

    assert left_out == set(re.findall(r'return "(\w+)"', source))
    assert not left_out & {member.value for member in FailureClass}


def test_every_trouble_of_store_and_queue_has_an_alert():
    """Each reason that a run may show for store or queue has an alert, and each reason in an alert is in the manual."""
    reasons = {
        reason
        for expression in expressions()
        for found in re.findall(r'\breason=~?"([\w|]+)"', expression)
        for reason in found.split("|")
    }
    shown = set(re.findall(r'return "(\w+)"', inspect.getsource(_trouble_of))) | {
        DISK_UNAVAILABLE,
        WORKER_OUTDATED,
    }
    listed = set(re.findall(r"`([A-Z]\w+)`", MANUAL.read_text(encoding="utf-8")))

    assert "QueueTampered" in shown
    assert shown <= reasons <= listed


def test_a_queue_that_was_tampered_with_is_an_alert_longer_than_a_run_shows_it():
    """The alert on a tampered queue looks back 15 minutes and does not wait, because a run shows that reason for only 30 s."""
    text = RULES.read_text(encoding="utf-8")
    (alert,) = (
        block for block in re.split(r"^ +- alert: ", text, flags=re.MULTILINE) if "QueueTampered" in block
    )

    assert re.search(r"max_over_time\(mlho_scheduler_unhealthy_runs\{[^[]*\}\[15m\]\)", alert)
    assert "for:" not in alert


def test_every_alert_has_a_summary_and_a_severity():
    """Every alert has a severity and a summary."""
    text = RULES.read_text(encoding="utf-8")
    alerts = re.split(r"^ +- alert: ", text, flags=re.MULTILINE)[1:]

    assert len(alerts) >= 7
    for alert in alerts:
        assert re.search(r"labels: \{severity: (critical|warning)[,}]", alert), alert
        assert re.search(r"summary: \S.{30,}\.$", alert, re.MULTILINE), alert


def operator_figures() -> MetricValues:
    """Return the metrics of an operator with three runs."""
    counts = SimpleNamespace(
        status_writes=1_234_567, jobs_created=2, api_errors=3, reconciles=4, errors=5, ended={Phase.FAILED: 1}
    )
    parts: dict[str, Any] = {
        "counts": counts,
        "_tracked": {},
        "_watchers": (),
        "_recorder": SimpleNamespace(n_recorded=6),
    }
    operator = SimpleNamespace(**parts, _runs=SimpleNamespace(all=lambda: RUNS))
    return {"mlho_scheduler_leader": 1.0, **Operator.figures(operator)}  # type: ignore[arg-type]  # a stand-in


def test_a_scheduler_exports_the_series_of_the_manual():
    """The scheduler exports exactly the series of the manual, with their types and without rounding."""
    figures = operator_figures()

    families = {
        family.name: family for family in text_string_to_metric_families(exposition(figures).decode())
    }

    listed = re.findall(r"^\| `(mlho_scheduler_\w+)`", MANUAL.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(figures) == set(METRICS) == set(listed)
    assert {name: family.type for name, family in families.items()} == {
        name.removesuffix("_total"): "counter" if name.endswith("_total") else "gauge" for name in METRICS
    }
    writes = families["mlho_scheduler_status_writes"]
    assert [(sample.name, sample.value) for sample in writes.samples] == [
        ("mlho_scheduler_status_writes_total", 1_234_567)
    ]


def test_runs_are_counted_by_phase_and_those_that_are_degraded():
    """Runs are counted by phase; an unchecked run is pending. Degraded runs are counted separately, and the series
    of a schedule are those of its last run.
    """
    assert run_figures(RUNS, NOW) == {
        "mlho_scheduler_runs": {"Failed": 1, "Pending": 1, "Running": 2, "Succeeded": 2, "Waiting": 1},
        "mlho_scheduler_degraded_runs": 1,
        "mlho_scheduler_unhealthy_runs": {"StoreUnavailable": 1},
        "mlho_scheduler_longest_wait_seconds": 3600.0,
        "mlho_scheduler_schedule_failed": {"nightly": 1.0},
        "mlho_scheduler_schedule_success_timestamp_seconds": {"nightly": 1_795_399_200.0},
        "mlho_scheduler_schedule_samples": {"nightly": 6000.0},
        "mlho_scheduler_schedule_samples_without_events": {"nightly": 12.0},
        "mlho_scheduler_schedule_score_psi": {"nightly": 0.031},
        "mlho_scheduler_schedule_shifted_features": {"nightly": 2.0},
        "mlho_scheduler_schedule_columns_missing_more": {"nightly": 1.0},
        "mlho_scheduler_schedule_new_codes": {"nightly": 3.0},
        "mlho_scheduler_schedule_vanished_codes": {"nightly": 0.0},
        "mlho_scheduler_schedule_advises_retraining": {"nightly": 0.0},
        "mlho_scheduler_schedule_expected_auroc": {"nightly": 0.741},
        "mlho_scheduler_schedule_warnings": {"nightly": 1},
    }
    assert run_figures([], NOW)["mlho_scheduler_longest_wait_seconds"] == 0
    assert Phase.PENDING == "Pending"
