"""A proxy in front of an S3 server that loses responses and answers 503, on request or at seeded random."""

import http.client
import random
import select
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

LOSE: Final = "lose the reply"  # the server carries out the request, and the client gets no response
REFUSE: Final = "503"  # the server does not get the request
DENY: Final = "403"  # the server does not get the request
EXPIRE: Final = "400"  # as AWS with an expired token; the server does not get the request
REDIRECT: Final = "307"  # to another address; the server does not get the request
PAGE: Final = "200"  # a web page; the server does not get the request
HANG: Final = "no answer"  # for as long as the fault lasts
CUT: Final = "cut the body"  # ends the response in the middle of its body
_HOP: Final = {"connection", "transfer-encoding", "keep-alive"}

Fate = Callable[[str, str], str | None]


@dataclass
class Proxy:
    """The proxy's address, its log of faults, and the next faults: ``fate(method, path)`` returns a fault or ``None``."""

    port: int
    fate: Fate = lambda method, path: None
    done: list[tuple[str, str]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def once(self, method: str, fault: str, *, times: int = 1, where: str = "") -> None:
        """Apply a fault to the next requests with this method and this text in the path."""
        lock, left = threading.Lock(), [times]

        def fate(verb: str, path: str) -> str | None:
            with lock:
                if verb != method or where not in path or not left[0]:
                    return None
                left[0] -= 1
                return fault

        self.fate = fate

    def all(self, fault: str | None) -> None:
        """Apply a fault, or none, to every request from now on."""
        self.fate = lambda method, path: fault

    def all_after(self, n: int, method: str, fault: str, *, where: str) -> None:
        """Apply a fault to every request after this many requests with this method and this text in the path."""
        lock, left = threading.Lock(), [n]

        def fate(verb: str, path: str) -> str | None:
            with lock:
                if not left[0]:
                    return fault
                left[0] -= verb == method and where in path
                return None

        self.fate = fate

    def at_random(self, *, seed: int, refuse: float = 0.05, lose: float = 0.02) -> None:
        """Reject a share of all requests with 503, and lose a share of the responses to PUT."""
        lock, dice = threading.Lock(), random.Random(seed)

        def fate(method: str, path: str) -> str | None:
            with lock:
                roll = dice.random()
            if roll < refuse:
                return REFUSE
            return LOSE if method == "PUT" and roll < refuse + lose else None

        self.fate = fate


@contextmanager
def proxy_of(port: int, *, certificate: Path | None = None) -> Iterator[Proxy]:
    """Run a proxy of the server on this loopback port. With a certificate (and its key in the same file), it uses TLS."""
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _handler(port))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        listener.handle_error = lambda *_: None  # type: ignore[method-assign] - clients that refuse it are the test
    listener.daemon_threads = True
    proxy = Proxy(listener.server_address[1])
    listener.proxy = proxy  # type: ignore[attr-defined] - where the handler finds it
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def _handler(port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else the second part of a response waits 40 ms

        def setup(self) -> None:
            """Keep one connection to the server for each connection of a client."""
            super().setup()
            self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

        def finish(self) -> None:
            self._connection.close()
            super().finish()

        def log_message(self, *_: object) -> None:
            """Suppress the log."""

        def handle_expect_100(self) -> bool:
            """Ask for the body, as the server would."""
            self.send_response_only(100)
            self.end_headers()
            return True

        def _pass_on(self) -> None:
            proxy: Proxy = self.server.proxy
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.fate(self.command, self.path)
            if fault is not None:
                proxy.done.append((self.command, fault))
            if fault == REFUSE:
                self._answer(503, [], b"<Error><Code>SlowDown</Code></Error>")
                return
            if fault == DENY:
                self._answer(403, [], b"<Error><Code>AccessDenied</Code></Error>")
                return
            if fault == EXPIRE:
                self._answer(400, [], b"<Error><Code>ExpiredToken</Code></Error>")  # without a body to HEAD
                return
            if fault == REDIRECT:
                self._answer(307, [("Location", "https://elsewhere.example/")], b"")
                return
            if fault == PAGE:
                self._answer(200, [("Content-Type", "text/html")], b"<!doctype html><title>Console</title>")
                return
            if fault == HANG:
                while proxy.fate(self.command, self.path) == HANG:
                    time.sleep(0.1)
                self.close_connection = True
                return
            reply, data = self._ask(body)
            if fault == LOSE:
                self.close_connection = True
                return
            self._answer(reply.status, reply.getheaders(), data, cut=fault == CUT)

        def _ask(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
            """Send the request to the server once, since it may be carried out although no response comes."""
            connection = self._connection
            if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
                connection.close()  # the server has closed it; the next call opens it again
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            reply = connection.getresponse()
            return reply, reply.read()

        def _answer(
            self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False
        ) -> None:
            self.send_response_only(status)
            names = {name.lower() for name, _ in headers}
            for name, value in headers:
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            if "content-length" not in names:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.close_connection = True

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815 - http.server's names

    return Handler
