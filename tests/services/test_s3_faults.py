"""With lost responses, 503s and truncated bodies, the store neither loses a write nor counts one twice."""

import datetime
import io
import ipaddress
import os
import time
from argparse import Namespace
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlho.errors import SpecError, StoreAccessDenied, StoreOutage, StoreUnavailable
from mlho.store.base import file_digest
from mlho.store.keys import blob_key
from mlho.store.probe import probe_store
from mlho.store.s3_store import S3Store
from scheduler.cli.listing import existing_store
from tests.limits import GUARD_SECONDS
from tests.services.s3_proxy import CUT, LOSE, PAGE, REDIRECT, REFUSE, Proxy, proxy_of
from tests.services.s3_servers import BUCKET, S3Server, client_of
from tests.services.test_store_s3 import new_store, uploads

pytestmark = pytest.mark.usefixtures("credentials")
_PART_BYTES = 5 << 20


@pytest.fixture
def store(proxy: Proxy, seaweedfs: S3Server, tmp_path: Path) -> S3Store:
    return new_store(
        seaweedfs,
        tmp_path,
        endpoint=proxy.endpoint,
        multipart_bytes=_PART_BYTES,
        deadline_seconds=GUARD_SECONDS,
    )


def test_a_write_with_a_lost_response_succeeds(store, proxy):
    """If the response to a write is lost, the repeated request finds the object, and the store still reports that this call wrote it."""
    proxy.once("PUT", LOSE)

    assert store.put_if_absent("commits/a", b"1")
    assert proxy.done == [("PUT", LOSE)]
    assert store.get("commits/a") == b"1"
    assert not store.put_if_absent("commits/a", b"1")


def test_a_lost_response_is_not_a_success_if_another_writer_was_first(store, proxy):
    """If another writer stored equal bytes first, the store reports that this call did not write them, even if the response was lost."""
    store.put_if_absent("commits/a", b"1")
    proxy.once("PUT", LOSE)

    assert not store.put_if_absent("commits/a", b"1")


def test_a_swap_with_a_lost_response_succeeds(store, proxy):
    """If the response to a swap is lost, the store still reports that this call moved the pointer."""
    store.put_if_absent("channel", b"1")
    proxy.once("PUT", LOSE)

    assert store.compare_and_swap("channel", b"2", expected=b"1")
    assert store.get("channel") == b"2"


def test_an_upload_with_a_lost_completion_succeeds(store, proxy, seaweedfs, tmp_path):
    """If the response to the last request of a multipart upload is lost, the store still reports that this call wrote the file."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(2 * _PART_BYTES))
    proxy.once("POST", LOSE, where="uploadId")

    assert store.bucket.put_file(f"{store.prefix}big", file)
    assert store.get("big") == file.read_bytes()
    assert uploads(seaweedfs, store.prefix) == []


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE"])
def test_an_overloaded_server_is_asked_again(store, proxy, method):
    """A request that gets more 503s than boto3 retries is retried by the store."""
    store.put_if_absent("a", b"1")
    proxy.once(method, REFUSE, times=6)
    calls = {
        "PUT": lambda: store.put_if_absent("b", b"2"),
        "GET": lambda: store.get("a") == b"1",
        "HEAD": lambda: store.exists("a"),
        "DELETE": lambda: store.delete("a") is None,
    }

    assert calls[method]()
    assert proxy.done == [(method, REFUSE)] * 6


def test_an_overload_that_does_not_end_is_an_error_to_try_again(seaweedfs, proxy, tmp_path):
    """A 503 that lasts beyond the deadline raises a retryable StoreUnavailable."""
    store = new_store(seaweedfs, tmp_path, endpoint=proxy.endpoint, max_attempts=1, deadline_seconds=1.0)
    proxy.once("GET", REFUSE, times=1000)

    with pytest.raises(StoreUnavailable, match="SlowDown"):
        store.get("a")


def test_a_server_that_redirects_each_request_is_refused(seaweedfs, proxy, tmp_path):
    """A balancer that redirects to https gives an error that names the setting, and no chain of exceptions of the library."""
    proxy.all(REDIRECT)
    with pytest.raises(StoreAccessDenied, match=r"redirects each request.*MLHO_S3_ENDPOINT") as caught:
        list(new_store(seaweedfs, tmp_path, endpoint=proxy.endpoint).keys("runs/"))

    assert caught.value.__suppress_context__


@pytest.mark.parametrize("call", ["get", "head", "download"])
def test_a_web_page_in_place_of_an_answer_is_refused(seaweedfs, proxy, tmp_path, call):
    """The address of a web console, or a proxy that asks for a login, gives an error that names the setting."""
    proxy.all(PAGE)
    bucket = new_store(seaweedfs, tmp_path, endpoint=proxy.endpoint).bucket
    calls = {
        "get": lambda: bucket.get("a"),
        "head": lambda: bucket.head("a"),
        "download": lambda: bucket.download("a", io.BytesIO()),
    }

    with pytest.raises(SpecError, match="MLHO_S3_ENDPOINT"):
        calls[call]()


def test_a_command_that_reads_a_store_does_not_wait_for_a_server_that_refuses(seaweedfs, proxy, monkeypatch):
    """It fails within seconds, not after the deadline of 120 s of a run that has started."""
    proxy.all(REFUSE)
    for name, value in seaweedfs.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLHO_S3_ENDPOINT", proxy.endpoint)
    began = time.monotonic()
    with pytest.raises(StoreOutage, match="Check that it runs"):
        existing_store(Namespace(store=f"s3://{BUCKET}/listed"))

    assert time.monotonic() - began < GUARD_SECONDS


def test_a_body_that_ends_in_the_middle_is_read_again(store, proxy, tmp_path):
    """A truncated response is read again, for bytes and for files."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3_000_000))
    key = blob_key(file_digest(file))
    store.put_file_if_absent(key, file)
    store.cache.discard(file_digest(file))
    proxy.once("GET", CUT, times=2)

    assert store.path(key).read_bytes() == file.read_bytes()
    proxy.once("GET", CUT, times=2)
    assert store.get(key) == file.read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_exact_under_random_faults(store, proxy, seed):
    """With 8 writers on 40 keys, a tenth of the requests rejected and a fifth of the PUT responses lost, each key has exactly one winner."""
    proxy.at_random(seed=seed, refuse=0.1, lose=0.2)

    def write(number: int) -> tuple[int, bool]:
        return number % 40, store.put_if_absent(f"commits/{number % 40}", str(number).encode())

    with ThreadPoolExecutor(8) as threads:
        wins = Counter(key for key, won in threads.map(write, range(160)) if won)

    assert wins == dict.fromkeys(range(40), 1)
    assert len(proxy.done) > 20


def write_certificate(path: Path) -> Path:
    """Write a self-signed certificate for 127.0.0.1 and its key to one file, and return its path."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_a_private_certificate_is_trusted_if_it_is_configured(seaweedfs, tmp_path):
    """Without the CA bundle the server is refused, and the error names the variable to set. With it, TLS works."""
    certificate = write_certificate(tmp_path / "house.pem")
    with proxy_of(seaweedfs.port, certificate=certificate) as proxy:
        endpoint = proxy.endpoint.replace("http:", "https:")
        with pytest.raises(StoreOutage, match="MLHO_S3_CA_BUNDLE"):
            probe_store(new_store(seaweedfs, tmp_path, endpoint=endpoint, max_attempts=1))
        store = new_store(seaweedfs, tmp_path, endpoint=endpoint, ca_bundle=str(certificate))

        assert store.put_if_absent("a", b"1")
        assert store.get("a") == b"1"


@pytest.mark.parametrize("size", [10, 2 * _PART_BYTES], ids=["one request", "in parts"])
def test_a_key_of_kms_is_asked_for(moto, tmp_path, size):
    """Every written object is encrypted with the configured KMS key."""
    store = new_store(moto, tmp_path, sse_kms_key="key-of-the-house", multipart_bytes=_PART_BYTES)
    file = tmp_path / "file"
    file.write_bytes(bytes(size))
    store.put_file_if_absent("a", file)
    head = client_of(moto).head_object(Bucket=BUCKET, Key=f"{store.prefix}a")

    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"].endswith("key-of-the-house")
