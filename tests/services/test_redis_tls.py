"""Redis with TLS: a variable names the trusted certificates, and TLS errors have a remedy."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlho.protocol.messages import new_message
from mlho.protocol.names import Names
from mlho.protocol.redis_client import QueueUnavailable
from mlho.settings import REDIS_CA, Settings
from mlho.steps.proposals import SOLE_LEADER
from mlho.store.local import LocalStore
from scheduler.queue.dispatch import Sender
from scheduler.queue.embedded_server import LOOPBACK
from scheduler.queue.leases import Leases
from tests.limits import GUARD_SECONDS
from tests.services.queue_commands import Commands, ending, write_small_run
from tests.services.queue_home import wait_until
from tests.services.redis_servers import Server

RUN = "0123456789abcdef"
_DISTRUST = "its certificate is not trusted"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a self-signed certificate for the loopback address, with its key beside it."""
    return make_certificate(tmp_path / "tls.crt")


def make_certificate(path: Path) -> Path:
    """Write a self-signed certificate for the loopback address, with its key beside it, and return its path."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    name = ("-subj", "/CN=redis", "-addext", f"subjectAltName=IP:{LOOPBACK}")
    subprocess.run(
        [openssl, "req", *kind, *name, "-keyout", str(path.with_suffix(".key")), "-out", str(path)],
        check=True,
        capture_output=True,
    )
    return path


@contextlib.contextmanager
def with_tls(server: Server, certificate: Path) -> Iterator[str]:
    """Yield the address of a TLS server that forwards to another server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    listener = socket.create_server((LOOPBACK, 0))

    def pump(source: socket.socket, target: socket.socket) -> None:
        # ValueError: the other direction has closed the socket at this moment.
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(65536):
                target.sendall(data)
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                client = context.wrap_socket(plain, server_side=True)
            except OSError:  # the client does not trust the certificate
                plain.close()
                continue
            try:
                behind = socket.create_connection((LOOPBACK, server.port))
            except OSError:  # the server has been stopped
                client.close()
                continue
            for pair in ((client, behind), (behind, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"rediss://{LOOPBACK}:{listener.getsockname()[1]}/0"
    finally:
        listener.close()


def test_a_self_signed_certificate_is_trusted_if_it_is_configured(tmp_path: Path, certificate: Path):
    """A self-signed certificate is trusted by leases and dispatch if the variable names it. Otherwise the error has the cause and the remedy."""
    with Server(tmp_path / "redis") as server, with_tls(server, certificate) as address:
        environment = {"MLHO_BROKER": address, "MLHO_REDIS_CA": str(certificate)}
        trusted = Settings.from_environment(environment).broker_at(None)
        distrusted = Settings.from_environment({"MLHO_BROKER": address}).broker_at(None)
        assert trusted is not None
        assert distrusted == address

        leases = Leases(trusted, Names(f"{RUN}-1"))
        leases.check()
        leases.close()
        sender = Sender(trusted, Names(f"{RUN}-1"), key=b"k" * 32)
        sender.send(
            [new_message(run=RUN, execution=f"{RUN}-1", task="a" * 64, expires=2**40)], leader=SOLE_LEADER
        )
        sender.close()
        doubting = Leases(distrusted, Names(f"{RUN}-1"))
        with pytest.raises(QueueUnavailable) as refused:
            doubting.check()
        doubting.close()

    assert "its certificate is not trusted (self-signed certificate" in str(refused.value)
    assert "MLHO_REDIS_CA" in str(refused.value)


def test_run_over_tls_is_carried_out_by_a_worker(tmp_path: Path, certificate: Path):
    """A run with scheduler and worker as separate processes finishes over TLS, with all communication to Redis encrypted."""
    spec = write_small_run(tmp_path / "cohort")
    store = str(tmp_path / "store")
    with (
        Server(tmp_path / "redis") as server,
        with_tls(server, certificate) as address,
        ending(Commands(spec, tmp_path, store, address, {REDIS_CA: str(certificate)})) as commands,
    ):
        run = commands.run_id(LocalStore(tmp_path / "store"))
        scheduler, worker = commands.run("--broker", address), commands.worker(run)

        assert scheduler.wait(180) == 0, commands.log()
        assert worker.wait(GUARD_SECONDS) == 0, commands.log()
    assert list((tmp_path / "store").glob("runs/*/result.json"))


def test_worker_and_scheduler_that_trust_another_certificate_say_why(tmp_path: Path, certificate: Path):
    """With another certificate, the command exits at once, and the worker logs the cause while it waits; both name the variable to set."""
    spec = write_small_run(tmp_path / "cohort")
    store = tmp_path / "store"
    another = {REDIS_CA: str(make_certificate(tmp_path / "another.crt"))}
    (tmp_path / "logs").mkdir()
    with (
        Server(tmp_path / "redis") as server,
        with_tls(server, certificate) as address,
        ending(Commands(spec, tmp_path, str(store), address, {REDIS_CA: str(certificate)})) as trusting,
        ending(Commands(spec, tmp_path / "logs", str(store), address, another)) as doubting,
    ):
        assert doubting.run("--broker", address).wait(GUARD_SECONDS) == 2
        assert _DISTRUST in doubting.log()
        assert "MLHO_REDIS_CA" in doubting.log()
        trusting.run("--broker", address)
        wait_until(lambda: list(store.glob("runs/*/execution")) != [], what="that an execution begins")
        worker = doubting.worker(trusting.run_id(LocalStore(store)))
        wait_until(lambda: doubting.log().count(_DISTRUST) == 2, what="that the worker tells the cause")
        assert worker.poll() is None  # the certificate may be replaced
