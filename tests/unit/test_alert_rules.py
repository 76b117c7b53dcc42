"""Prometheus evaluates the chart's alerts on series of a night: each fires at its time, and no other does."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_chart import SCHEDULE, helm, render

__all__ = ["helm"]  # a fixture

HOURS = 26
VALUES = {
    "metrics": {"prometheusRule": {"enabled": True, "waitingMinutes": 60}},
    "schedules": [{**SCHEDULE, "alertAfterHours": HOURS}],
}
MINUTES = 2_000
TWICE = "MlhoScheduleMissing"  # one rule for an old last success and one for a missing success


def steady(value: int, *, after: int = 0, before: int = 0) -> str:
    """Return values for each minute that change once."""
    first = f"{before}+0x{after - 1} " if after else ""  # promtool would read 0x9 as the number nine
    return f"{first}{value}+0x{MINUTES}"


def named(name: str, **labels: str) -> str:
    """Return the name of a series of the release's scheduler."""
    matched = ",".join(f'{label}="{value}"' for label, value in {"namespace": "ehr", **labels}.items())
    return f"{name}{{{matched}}}"


UP = named("up", job="mlho-scheduler")
LEADER = named("mlho_scheduler_leader")
DEGRADED = named("mlho_scheduler_degraded_runs")
FAILED = named("mlho_scheduler_runs_ended_total", phase="Failed")
WAITING = named("mlho_scheduler_longest_wait_seconds")
NIGHT_FAILED = named("mlho_scheduler_schedule_failed", schedule="nightly")
NIGHT_WARNINGS = named("mlho_scheduler_schedule_warnings", schedule="nightly")
NIGHT_SUCCEEDED = named("mlho_scheduler_schedule_success_timestamp_seconds", schedule="nightly")
#: A scheduler that leads and has nothing to report, and a nightly run that has just succeeded: no alert.
WELL: dict[str, str | None] = {
    UP: steady(1),
    LEADER: steady(1),
    named("mlho_scheduler_reconcile_errors_total"): steady(0),
    named("mlho_scheduler_api_errors_total"): steady(0),
    **dict.fromkeys((DEGRADED, FAILED, WAITING, NIGHT_FAILED, NIGHT_WARNINGS, NIGHT_SUCCEEDED), steady(0)),
}


def trouble(reason: str) -> dict[str, str | None]:
    """Return a series in which one run has this reason from minute 10 on."""
    return {named("mlho_scheduler_unhealthy_runs", reason=reason): steady(1, after=10)}


@dataclass(frozen=True)
class Case:
    """The series, the alert, the last minute before it fires, and a minute at which it fires."""

    series: dict[str, str | None]
    alert: str
    quiet: int
    loud: int
    rule: int = 0
    """Which of the rules of this name."""
    labels: dict[str, str] = field(default_factory=dict)
    """Labels that the expression adds."""


CASES = {
    "a run failed": Case({FAILED: steady(1, after=10)}, "MlhoRunFailed", 9, 11),
    "a run waits long": Case({WAITING: f"0+60x{MINUTES}"}, "MlhoRunWaitsLong", 60, 61),
    "the nightly run is missing": Case({}, TWICE, HOURS * 60, HOURS * 60 + 1),
    "no nightly run has ever succeeded": Case(
        {NIGHT_SUCCEEDED: None}, TWICE, HOURS * 60 - 1, HOURS * 60, rule=1, labels={"namespace": "ehr"}
    ),
    "the nightly run failed": Case({NIGHT_FAILED: steady(1, after=10)}, "MlhoScheduleFailed", 9, 10),
    "the nightly run has warnings": Case({NIGHT_WARNINGS: steady(2, after=10)}, "MlhoScheduleWarns", 9, 10),
    "the store is away": Case(trouble("StoreUnavailable"), "MlhoStoreDegraded", 14, 15),
    "the store refuses": Case(trouble("StoreAccessDenied"), "MlhoStoreDegraded", 14, 15),
    "the queue is away": Case(trouble("QueueUnavailable"), "MlhoQueueDegraded", 14, 15),
    "messages are refused": Case(trouble("MessagesRefused"), "MlhoQueueDegraded", 14, 15),
    "Redis was written to by others": Case(trouble("QueueTampered"), "MlhoQueueTampered", 9, 10),
    "the disk of a worker is full": Case(trouble("DiskUnavailable"), "MlhoTasksRepeated", 11, 12),
    "the system of a worker reports an error": Case(trouble("SystemError"), "MlhoTasksRepeated", 11, 12),
    "a worker has another version": Case(trouble("WorkerOutdated"), "MlhoTasksRepeated", 11, 12),
    "a run is degraded": Case({DEGRADED: steady(1, after=10)}, "MlhoRunsDegraded", 24, 25),
    "no scheduler answers": Case({UP: steady(0, after=10, before=1)}, "MlhoSchedulerAbsent", 14, 15),
    "nobody leads": Case({LEADER: steady(0, after=10, before=1)}, "MlhoNobodyLeads", 14, 15),
}


@pytest.fixture(scope="module")
def promtool() -> str:
    """Return the path of promtool."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool, of the Debian package prometheus")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the rules' file."""
    return tmp_path_factory.mktemp("rules")


@pytest.fixture(scope="module")
def rules(helm: str, folder: Path) -> list[dict[str, Any]]:
    """Render the chart's rules, write them to a file for Prometheus, and return them."""
    (rule,) = [obj for obj in render(helm, VALUES, folder) if obj["kind"] == "PrometheusRule"]
    (folder / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]), encoding="utf-8")
    return [entry for group in rule["spec"]["groups"] for entry in group["rules"]]


def check(
    promtool: str, folder: Path, series: Mapping[str, str | None], alerts: Sequence[dict[str, Any]]
) -> None:
    """Let Prometheus evaluate the rules."""
    inputs = [{"series": name, "values": values} for name, values in series.items() if values is not None]
    test = {"interval": "1m", "input_series": inputs, "alert_rule_test": [*alerts]}
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (folder / "test.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    done = subprocess.run(
        [promtool, "test", "rules", "test.yaml"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_alert_fires_at_its_time(
    promtool: str, rules: list[dict[str, Any]], folder: Path, case: Case
) -> None:
    """An alert fires at its time and not a minute earlier, with the annotations and the severity of its rule."""
    rule = [entry for entry in rules if entry["alert"] == case.alert][case.rule]
    fired = {"exp_labels": {**rule["labels"], **case.labels}, "exp_annotations": rule["annotations"]}

    check(
        promtool,
        folder,
        {**WELL, **case.series},
        [
            {"alertname": case.alert, "eval_time": f"{case.quiet}m", "exp_alerts": []},
            {"alertname": case.alert, "eval_time": f"{case.loud}m", "exp_alerts": [fired]},
        ],
    )


def test_no_alert_fires_in_a_healthy_system(promtool: str, rules: list[dict[str, Any]], folder: Path) -> None:
    """No alert fires during a day whose nightly run succeeded at its beginning."""
    names = sorted({rule["alert"] for rule in rules})
    assert len(names) > 10

    check(
        promtool,
        folder,
        WELL,
        [{"alertname": name, "eval_time": "24h", "exp_alerts": []} for name in names],
    )
