"""Prometheus metrics of a scheduler about the runs that it carries out. A few series per run, never patient data."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from mlho.processes import serving_metrics
from mlho.protocol.documents import Execution
from scheduler.engine.progress import Stages
from scheduler.queue.executor import QueueExecutor
from scheduler.queue.executor_state import QueueCounters

_COUNTERS: Final = {
    "sent": "Messages sent",
    "retried": "Retried attempts",
    "lost": "Messages that were lost and sent again",
    "quarantined": "Tasks that used up their starts",
    "dropped": "Items in Redis that no program of the run has written, and outdated answers",
}


class RunMetrics:
    """The series of one run: its progress, and the executor's counters, which are read at each scrape.

    They appear on the page once the run has started.
    """

    def __init__(self, page: "MetricsPage", run: str) -> None:
        self._page = page
        self._run = run
        self.counters = QueueCounters()
        self.stages: Stages = ()
        self.running = 0

    def started(self, _execution: Execution, executor: QueueExecutor) -> None:
        """Add the series to the page."""
        self.counters = executor.counters
        self._page.add(self._run, self)

    def update(self, stages: Stages, running: int) -> None:
        """Record the run's progress."""
        self.stages, self.running = stages, running


class MetricsPage(Collector):
    """The metrics endpoint: the series of the active runs. They disappear when their run ends."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._runs: dict[str, RunMetrics] = {}
        self._lock = threading.Lock()
        self._server: Any = None

    def serve(self, port: int, address: str) -> None:
        """Serve metrics on this port until :meth:`close`.

        Raise SpecError if the address or port cannot be used.
        """
        with serving_metrics(port, address):
            self._server, _ = start_http_server(port, address, registry=self.registry)

    def close(self) -> None:
        """Stop serving metrics."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def add(self, run: str, metrics: RunMetrics) -> None:
        """Add the series of a run."""
        with self._lock:
            self._runs[run] = metrics

    def observer(self, run: str) -> RunMetrics:
        """Return an observer that adds the series of a run when it starts."""
        return RunMetrics(self, run)

    def remove(self, run: str) -> None:
        """Remove the series of a run."""
        with self._lock:
            self._runs.pop(run, None)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield all series as metric families."""
        with self._lock:
            runs = dict(self._runs)
        yield _tasks(runs)
        for name, words, value in _GAUGES:
            gauge = GaugeMetricFamily(f"mlho_run_{name}", words, labels=["run"])
            for run, metrics in runs.items():
                gauge.add_metric([run], value(metrics))
            yield gauge
        for name, words in _COUNTERS.items():
            counter = CounterMetricFamily(f"mlho_run_{name}", words, labels=["run"])
            for run, metrics in runs.items():
                counter.add_metric([run], getattr(metrics.counters, name))
            yield counter


def _tasks(runs: dict[str, RunMetrics]) -> GaugeMetricFamily:
    labels = ["run", "stage", "state"]
    family = GaugeMetricFamily("mlho_run_tasks", "Tasks of the run, done and in total", labels=labels)
    for run, metrics in runs.items():
        for stage in metrics.stages:
            family.add_metric([run, stage.name, "done"], stage.done)
            family.add_metric([run, stage.name, "all"], stage.total)
    return family


_GAUGES: Final[Sequence[tuple[str, str, Callable[[RunMetrics], int]]]] = (
    ("running", "Tasks under way", lambda metrics: metrics.running),
    ("slots", "Slots of all workers", lambda metrics: metrics.counters.slots),
    (
        "degraded",
        "1 while Redis is unavailable, rejects writes, or contains foreign items, or a worker has a full disk or another version",
        lambda metrics: (
            metrics.counters.is_degraded or metrics.counters.is_tampered or bool(metrics.counters.repeated)
        ),
    ),
    (
        "store_unavailable",
        "1 while object storage does not serve",
        lambda metrics: metrics.counters.health.outage is not None,
    ),
)
