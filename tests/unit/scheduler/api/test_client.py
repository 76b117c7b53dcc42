"""The client of the Kubernetes API, tested against an HTTP server on the loopback interface that stops responding."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import Configuration

from scheduler.api import client as door
from scheduler.api.client import Cluster, ClusterUnavailable, Conflict, Kind
from tests.limits import GUARD_SECONDS


@pytest.fixture
def silent() -> Iterator[Cluster]:
    """Yield the client of a cluster whose API server starts a response and then sends nothing more, like a dropped connection."""
    ended = threading.Event()

    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            event = b'{"type": "ADDED", "object": {"metadata": {"uid": "a"}}}\n'
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            ended.wait(GUARD_SECONDS)

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


def test_a_silent_watch_is_ended_by_the_client(silent: Cluster, monkeypatch: pytest.MonkeyPatch):
    """A watch without data ends with ClusterUnavailable on the client's side, after the events received so far were delivered."""
    monkeypatch.setattr(door, "_SILENCE_SECONDS", 2.0)  # the server has to answer within it
    changes = silent.watch(Kind.TRAINING_RUN, "ehr", "1")

    assert next(changes) == ("ADDED", {"metadata": {"uid": "a"}})
    with pytest.raises(ClusterUnavailable, match="does not answer"):
        next(changes)


def test_a_watch_that_is_cut_off_within_a_line_is_repeated(silent: Cluster, monkeypatch: pytest.MonkeyPatch):
    """A proxy may end a watch within an event. The rest of the line is no JSON, and the client reports an outage: list again."""
    lines = iter([b'{"type": "ADDED", "obj'])
    answer = SimpleNamespace(response=CutOff(lines))
    monkeypatch.setattr(silent, "_send", lambda *_, **__: answer)

    with pytest.raises(ClusterUnavailable):
        next(silent.watch(Kind.TRAINING_RUN, "ehr", "1"))


class CutOff:
    """A response that ends within a line."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[bytes]:
        return self._lines

    def close(self) -> None:
        """Close the response."""


def test_an_object_that_was_found_is_deleted_only_as_it_was_found():
    """A delete names the uid and the version of the object that was found, so that the API server keeps a replaced or changed one."""
    bodies: list[dict[str, Any]] = []

    class _Handler(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = b'{"kind": "Status", "message": "it has changed"}'
            self.send_response(409 if "preconditions" in bodies[-1] else 200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_address[1]}"
    cluster = Cluster(configuration, namespace="ehr")

    cluster.delete(Kind.JOB, "ehr", "w1")
    with pytest.raises(Conflict):
        cluster.delete(
            Kind.TRAINING_RUN, "ehr", "a", found={"metadata": {"uid": "u", "resourceVersion": "7"}}
        )
    server.shutdown()
    server.server_close()

    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    assert bodies == [options, options | {"preconditions": {"uid": "u", "resourceVersion": "7"}}]
