"""The scheduler's Prometheus metrics: the names of the manual, few series, and none of finished runs."""

import re
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mlho.errors import SpecError
from scheduler.engine.plan import STAGES
from scheduler.engine.progress import StageProgress
from scheduler.queue.executor_state import QueueCounters
from scheduler.queue.metrics import MetricsPage
from tests.limits import GUARD_SECONDS
from tests.ports import free_port

MANUAL = Path(__file__).parents[4] / "docs/operations.md"
ONE, OTHER = "a" * 16, "b" * 16
MOST_SERIES = 40


def samples_of(text):
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def started(page, run, counters):
    metrics = page.observer(run)
    metrics.started(None, SimpleNamespace(counters=counters))
    return metrics


@pytest.fixture
def page():
    page = MetricsPage()
    for run in (ONE, OTHER):
        metrics = started(page, run, QueueCounters(sent=7, retried=2, slots=4, is_degraded=True))
        metrics.update(tuple(StageProgress(stage, 1, 2) for stage in STAGES), 3)
    yield page
    page.close()


def test_names_and_labels_are_those_of_the_manual(page):
    """The metrics and their labels are exactly those of the manual."""
    documented = {
        name: frozenset(re.findall(r"`(\w+)`", labels.split(" (")[0]))
        for name, labels in re.findall(r"^\| `(mlho_run_\w+)` \| (.*?) \|", MANUAL.read_text(), re.MULTILINE)
    }
    exposed = {
        sample.name: frozenset(sample.labels)
        for sample in samples_of(generate_latest(page.registry).decode())
    }
    assert exposed == documented


def test_a_run_has_few_series_though_it_has_all_stages(page):
    """Each run has the same number of series, at most 40."""
    samples = samples_of(generate_latest(page.registry).decode())
    counts = {run: sum(sample.labels["run"] == run for sample in samples) for run in (ONE, OTHER)}
    assert counts[ONE] == counts[OTHER] <= MOST_SERIES
    assert sum(counts.values()) == len(samples)


def test_a_run_that_is_over_has_no_series(page):
    """The series of a run end with it; those of other runs stay."""
    page.remove(ONE)
    samples = samples_of(generate_latest(page.registry).decode())
    assert {sample.labels["run"] for sample in samples} == {OTHER}
    page.remove(OTHER)
    assert samples_of(generate_latest(page.registry).decode()) == []


def test_figures_are_read_when_prometheus_asks(page):
    """Metrics are read at the time of the HTTP request."""
    counters = QueueCounters(sent=1)
    started(page, "c" * 16, counters)
    counters.sent = 12
    port = free_port()
    page.serve(port, "127.0.0.1")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=GUARD_SECONDS) as answer:
        samples = samples_of(answer.read().decode())
    assert [
        sample.value
        for sample in samples
        if sample.name == "mlho_run_sent_total" and sample.labels["run"] == "c" * 16
    ] == [12.0]


def test_a_port_in_use_is_refused_with_the_remedy(page):
    """A port in use is rejected with the remedy, without a traceback."""
    port = free_port()
    page.serve(port, "127.0.0.1")
    with pytest.raises(SpecError, match=rf"--metrics-port {port} on 127\.0\.0\.1.*Choose a free port"):
        MetricsPage().serve(port, "127.0.0.1")
