"""What a worker tells Prometheus. Few series, no task names, no patients."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    start_http_server,
)

from mlho.processes import serving_metrics

disable_created_metrics()  # type: ignore[no-untyped-call] # else each counter comes twice: the other one is when it began, which nobody asks


class WorkerMetrics:
    """The worker's series, in a registry of their own."""

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
            "Messages that needed nothing done, by what the claim said",
            ["verdict"],
            registry=self.registry,
        )
        self.busy = Gauge("mlho_worker_busy", "Slots at work", registry=self.registry)
        Gauge("mlho_worker_slots", "Slots", registry=self.registry).set(slots)

    def serve(self, port: int, address: str) -> None:
        """Answer Prometheus on this port.

        Raises
        ------
        SpecError
            Nothing can be served there.
        """
        with serving_metrics(port, address):
            start_http_server(port, address, registry=self.registry)
