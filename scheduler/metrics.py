"""What a scheduler tells Prometheus about the run that it drives. A handful of series, no patients."""

from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from scheduler.remote import Figures

_COUNTERS: Final = {
    "sent": "Messages sent",
    "retried": "Attempts made again after a failure",
    "lost": "Messages that were lost and sent again",
    "quarantined": "Tasks that used up their starts",
}


class RunMetrics:
    """The series of one run, in a registry of their own: they end with it.

    Parameters
    ----------
    figures : Figures
        What the executor counts; read when Prometheus asks.
    """

    def __init__(self, figures: Figures) -> None:
        self.registry = CollectorRegistry()
        self._tasks = Gauge(
            "mlho_run_tasks", "Tasks of the run, done and in all", ["stage", "state"], registry=self.registry
        )
        self._running = Gauge("mlho_run_running", "Tasks under way", registry=self.registry)
        self.registry.register(_Figures(figures))
        self._server: Any = None

    def serve(self, port: int, address: str) -> None:
        """Answer Prometheus on this port until :meth:`close`."""
        self._server, _ = start_http_server(port, address, registry=self.registry)

    def update(self, stages: list[tuple[str, int, int]], running: int) -> None:
        """Take in the run's progress."""
        for stage, done, total in stages:
            self._tasks.labels(stage, "done").set(done)
            self._tasks.labels(stage, "all").set(total)
        self._running.set(running)

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Figures(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Any:
        """The figures as Prometheus has them."""
        for name, words in _COUNTERS.items():
            yield CounterMetricFamily(f"mlho_run_{name}", words, value=getattr(self._figures, name))
        yield GaugeMetricFamily("mlho_run_slots", "Slots of all workers", value=self._figures.slots)
        yield GaugeMetricFamily(
            "mlho_run_degraded", "1 while Redis does not answer", value=int(self._figures.is_degraded)
        )
