"""Prometheus metrics of a worker. Few series, no task names, no patient data."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    start_http_server,
)

from mlho.processes import serving_metrics

disable_created_metrics()  # type: ignore[no-untyped-call] # else each counter gets a second series with its creation time, which is not used


class WorkerMetrics:
    """The worker's series, in their own registry."""

    def __init__(self, *, slots: int) -> None:
        self.registry = CollectorRegistry()
        self.tasks = Counter(
            "mlho_worker_tasks",
            "Attempts by how they ended: committed, released, lease_lost, or a failure class",
            ["outcome"],
            registry=self.registry,
        )
        self.refused = Counter(
            "mlho_worker_messages_refused",
            "Messages that were refused, by reason",
            ["reason"],
            registry=self.registry,
        )
        self.dropped = Counter(
            "mlho_worker_messages_dropped",
            "Messages that required no action, by result of the claim",
            ["verdict"],
            registry=self.registry,
        )
        self.busy = Gauge("mlho_worker_busy", "Slots at work", registry=self.registry)
        Gauge("mlho_worker_slots", "Slots", registry=self.registry).set(slots)

    def serve(self, port: int, address: str) -> None:
        """Serve metrics on this port. Raise SpecError if the address or port cannot be used."""
        with serving_metrics(port, address):
            start_http_server(port, address, registry=self.registry)
