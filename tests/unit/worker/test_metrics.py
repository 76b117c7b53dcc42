"""The worker's Prometheus metrics: the names of the manual, and labels with a short fixed list of values."""

import re
import socket
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mlho.errors import SpecError
from mlho.protocol.failures import FailureClass
from mlho.protocol.messages import Refusal
from mlho.protocol.scripts import ClaimVerdict
from worker.metrics import WorkerMetrics

MANUAL = Path(__file__).parents[3] / "docs/operations.md"
MOST_SERIES = 40


def test_names_and_labels_are_those_of_the_manual_and_series_are_few():
    """With every outcome, reason and verdict, the metrics have the names and labels of the manual and fewer than 40 series."""
    metrics = WorkerMetrics(slots=2)
    for outcome in ("committed", "released", "lease_lost", *FailureClass):
        metrics.tasks.labels(outcome).inc()
    for reason in Refusal:
        metrics.refused.labels(reason.value).inc()
    for verdict in ClaimVerdict:
        metrics.dropped.labels(verdict.value).inc()

    text = generate_latest(metrics.registry).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    documented = {
        name: frozenset(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(r"^\| `(mlho_worker_\w+)` \|(.*?)\|", MANUAL.read_text(), re.MULTILINE)
    }
    assert {sample.name: frozenset(sample.labels) for sample in samples} == documented
    assert len(samples) <= MOST_SERIES


def test_an_unusable_port_is_refused_with_the_remedy():
    """A port in use or out of range is rejected with the remedy, as by the command, and without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port in (taken.getsockname()[1], 99_999):
            with pytest.raises(
                SpecError, match=rf"--metrics-port {port} on 127\.0\.0\.1.*Choose a free port"
            ):
                WorkerMetrics(slots=1).serve(port, "127.0.0.1")
