"""The door to the Kubernetes API, against a server on the loopback interface that falls silent."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from kubernetes.client import Configuration

from scheduler.api import client as door
from scheduler.api.client import Cluster, ClusterUnavailable, Kind


@pytest.fixture
def silent() -> Iterator[Cluster]:
    """A cluster whose API server begins to answer and says nothing more, as after a connection that died unseen."""
    ended = threading.Event()

    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            event = b'{"type": "ADDED", "object": {"metadata": {"uid": "a"}}}\n'
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            ended.wait(20)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_address[1]}"
    yield Cluster(configuration, namespace="ehr")
    ended.set()
    server.shutdown()
    server.server_close()


def test_a_watch_that_falls_silent_is_given_up_on_this_side(silent: Cluster, monkeypatch: pytest.MonkeyPatch):
    """What came before is handed on; the server need not end anything."""
    monkeypatch.setattr(door, "_SILENCE_SECONDS", 0.2)
    changes = silent.watch(Kind.TRAINING_RUN, "ehr", "1")

    assert next(changes) == ("ADDED", {"metadata": {"uid": "a"}})
    with pytest.raises(ClusterUnavailable, match="does not answer"):
        next(changes)
