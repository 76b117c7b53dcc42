"""HTTP endpoints of a scheduler in a cluster: liveness, readiness, and Prometheus metrics."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from scheduler.controller.metrics import MetricValues, exposition


@dataclass(frozen=True)
class Health:
    """Callbacks that the endpoints evaluate at each request."""

    is_alive: Callable[[], bool]
    is_ready: Callable[[], bool]
    figures: Callable[[], MetricValues]
    """Values of the metrics."""


def serve_health(health: Health, *, port: int) -> ThreadingHTTPServer:
    """Serve ``/healthz``, ``/readyz`` and ``/metrics`` on a port, in background threads."""

    class _Handler(BaseHTTPRequestHandler):
        server_version = "mlho"
        sys_version = ""

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, exposition(health.figures()))
            elif self.path in ("/healthz", "/readyz"):
                is_well = health.is_alive() if self.path == "/healthz" else health.is_ready()
                self._answer(200 if is_well else 503, b"ok\n" if is_well else b"no\n")
            else:
                self._answer(404, b"not found\n")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: probes arrive every few seconds."""

    server = ThreadingHTTPServer(("", port), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
