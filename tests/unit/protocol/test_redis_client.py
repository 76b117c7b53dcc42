"""Redis errors: temporary ones are outages, and permanent ones are not."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis._parsers import BaseParser

from mlho.protocol.failures import QueueError
from mlho.protocol.names import Names
from mlho.protocol.redis_client import (
    QueueUnavailable,
    answering,
    check_server,
    connect,
    lost_words,
    outage_of,
)
from mlho.settings import trusting

PASSING = {
    "OOM command not allowed when used memory > 'maxmemory'.": "its memory is full",
    "MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.": "cannot write its file",
    "READONLY You can't write against a read only replica.": "is a replica, which accepts no writes",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)": "has become a replica",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": "lost its primary",
    "CLUSTERDOWN The cluster is down": "its cluster is down",
    "NOREPLICAS Not enough good replicas to write.": "min-replicas-to-write",
}
LASTING = (
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR unknown command 'BLPOP'",
    "NOSCRIPT No matching script.",
    "NOPERM User mlho has no permissions to access one of the keys",
    "WRONGPASS invalid username-password pair or user is disabled.",
)


def raised(answer: str) -> Exception:
    """Return the client's exception for a server's error response."""
    error = BaseParser.parse_error(answer)
    assert isinstance(error, redis.RedisError)
    return error


@pytest.mark.parametrize(("answer", "words"), PASSING.items(), ids=[answer.split()[0] for answer in PASSING])
def test_an_answer_that_may_change_is_an_outage_with_its_remedy(answer, words):
    """A temporary error response is an outage with its remedy, for every exception class that the client uses for it."""
    error = outage_of(raised(answer))

    assert error is not None
    assert words in error


@pytest.mark.parametrize("answer", PASSING, ids=[answer.split()[0] for answer in PASSING])
def test_a_temporary_error_in_a_script_is_an_outage(answer):
    """A temporary error inside a script is an outage, although the server adds the position in the script."""
    assert outage_of(raised(f"{answer} script: 1f2e, on @user_script:3.")) is not None


@pytest.mark.parametrize("answer", LASTING, ids=[answer.split()[0] for answer in LASTING])
def test_a_permanent_error_is_no_outage(answer):
    """A defect or a wrong setting is not an outage, so that it is reported at once instead of retried."""
    assert outage_of(raised(answer)) is None


def test_a_database_that_the_server_does_not_have_is_named():
    """A number at the end of the address that is too high is a wrong setting, and the message says what to change."""
    with pytest.raises(QueueError, match="no database with this number"), answering():
        raise raised("ERR DB index is out of range")


REFUSALS = {
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1029).": "MLHO_REDIS_CA",
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1029).": "Renew the certificate",
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate is not yet valid (_ssl.c:1029).": "correct the clock",
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid for 'queue'. (_ssl.c:1029).": (
        "Use a host in the address that the certificate names"
    ),
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: IP address mismatch, certificate is not valid for '10.0.0.1'. (_ssl.c:1029).": (
        "Use a host in the address that the certificate names"
    ),
    "Error while reading from queue:6379 : (1, '[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2650)')": (
        "tls-auth-clients"
    ),
    "Error 1 connecting to queue:6379. [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1029).": "write redis://",
    "Error while reading from queue:6379 : (104, 'Connection reset by peer')": "write rediss://",
    "Error -2 connecting to queue:6379. Name or service not known.": "Correct the host",
    "Error -3 connecting to queue:6379. Temporary failure in name resolution.": "Correct the host",
    "Error 2 connecting to unix socket: /run/redis.sock. No such file or directory.": "does not answer",
    "Error 111 connecting to queue:6379. Connection refused.": "does not answer",
}


@pytest.mark.parametrize(("text", "remedy"), REFUSALS.items())
def test_a_failed_connection_names_its_own_remedy(text, remedy):
    """The remedy fits the cause: a certificate that has expired, for example, is not one that has to be trusted."""
    words = lost_words(redis.ConnectionError(text))

    assert remedy in words
    assert ("MLHO_REDIS_CA" in words) == ("self-signed" in text)


@contextmanager
def server_that_answers(answer: bytes) -> Iterator[int]:
    """Yield the port of a server that sends the same bytes to each client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(4096)
                    client.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def test_a_server_of_another_protocol_is_named():
    """An address of an HTTP server is reported as such, and is no error of the client's library."""
    with server_that_answers(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        client = connect(f"redis://127.0.0.1:{port}/0")
        with pytest.raises(
            QueueUnavailable, match=r"does not speak the protocol of Redis\. Correct host and port"
        ):
            check_server(client, Names("0123456789abcdef-1"))
        client.close()


@pytest.mark.parametrize(
    ("content", "words"), [(None, "does not exist"), ("no certificate", "holds no certificate")]
)
def test_a_wrong_file_of_certificates_is_named(content: str | None, words: str, tmp_path: Path):
    """A missing file of certificates and one without certificates are named with their variable."""
    trusted = tmp_path / "ca.crt"
    if content is not None:
        trusted.write_text(content)
    with server_that_answers(b"") as port:
        client = connect(trusting(f"rediss://127.0.0.1:{port}/0", str(trusted)))
        with pytest.raises(QueueUnavailable, match=rf"{words}\. Correct MLHO_REDIS_CA"):
            check_server(client, Names("0123456789abcdef-1"))
        client.close()
