"""Clients of object storage: how many a process creates."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import boto3.session
import pytest
from botocore.exceptions import ClientError, SSLError

from mlho.errors import StoreOutage
from mlho.store import s3
from mlho.store.s3_settings import S3Settings

N_THREADS = 8


class _Sessions:
    """Counts the clients that are created, each of which takes a while."""

    region_name = None

    def __init__(self) -> None:
        self.n_clients = 0

    def client(self, *_: object, **__: object) -> SimpleNamespace:
        self.n_clients += 1
        time.sleep(0.1)
        answer = {"ContentLength": 1, "ETag": "1", "LastModified": None}
        return SimpleNamespace(head_object=lambda **_: answer)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> _Sessions:
    sessions = _Sessions()
    monkeypatch.setattr(boto3.session, "Session", lambda: sessions)
    return sessions


def test_threads_and_stores_of_a_process_share_one_client(sessions):
    """Threads that send their first request at the same time share one client, also if their stores have different prefixes."""
    settings = S3Settings(region="of-this-test-1")
    buckets = [s3.Bucket("a", settings, where=f"s3://a/{number}/") for number in range(N_THREADS)]
    start = threading.Barrier(N_THREADS)

    def request(bucket: s3.Bucket) -> None:
        start.wait(60)
        bucket.head("key")

    threads = [threading.Thread(target=request, args=(bucket,)) for bucket in buckets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sessions.n_clients == 1


def test_other_settings_have_a_client_of_their_own(sessions):
    """A bucket with other settings, such as shorter deadlines, does not use the client of another one."""
    bucket = s3.Bucket("a", S3Settings(region="of-this-test-2"))
    bucket.head("key")
    bucket.impatient().head("key")

    assert sessions.n_clients == 2


class _EndedUpload:
    """A client whose multipart upload cannot be completed. The object there, if any, has the given mark or that of the upload."""

    def __init__(self, code: str, status: int, *, has_object: bool, mark: str | None = None) -> None:
        self._refusal = ClientError(
            {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},
            "CompleteMultipartUpload",
        )
        self._has_object = has_object
        self._mark = mark

    def create_multipart_upload(self, **given: Any) -> dict[str, str]:
        self._mark = self._mark or given["Metadata"]["mlho-writer"]
        return {"UploadId": "1"}

    def upload_part(self, **_: object) -> dict[str, str]:
        return {"ETag": "part"}

    def complete_multipart_upload(self, **_: object) -> None:
        raise self._refusal

    def abort_multipart_upload(self, **_: object) -> None:
        """Do nothing."""

    def head_object(self, **_: object) -> dict[str, Any]:
        if not self._has_object:
            raise ClientError(
                {"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "HeadObject"
            )
        return {
            "ContentLength": 3,
            "ETag": "whole",
            "LastModified": None,
            "Metadata": {"mlho-writer": self._mark},
        }


def _bucket_of(client: object, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> s3.Bucket:
    session = SimpleNamespace(region_name=None, client=lambda *_, **__: client)
    monkeypatch.setattr(boto3.session, "Session", lambda: session)
    return s3.Bucket("a", S3Settings(region=f"of-this-test-{id(client)}", **settings))


@pytest.mark.parametrize(
    ("client", "is_new"),
    [
        pytest.param(
            _EndedUpload("PreconditionFailed", 412, has_object=True, mark="other"), False, id="other-writer"
        ),
        pytest.param(_EndedUpload("NoSuchUpload", 404, has_object=True), True, id="lost-reply"),
    ],
)
def test_an_upload_that_takes_longer_than_the_deadline_may_find_its_object(
    client, is_new, monkeypatch, tmp_path
):
    """The deadline limits retries, not the time of an upload: the object that is there decides who has written it."""
    bucket = _bucket_of(client, monkeypatch, multipart_bytes=1, deadline_seconds=1e-9)
    (tmp_path / "file").write_bytes(b"abc")

    assert bucket.put_file("key", tmp_path / "file") is is_new


@pytest.mark.parametrize(
    ("code", "status"), [("NoSuchUpload", 404), ("ConditionalRequestConflict", 409)], ids=["gone", "conflict"]
)
def test_an_upload_that_was_ended_after_the_deadline_can_be_tried_again(code, status, monkeypatch, tmp_path):
    """Neither is a fault of the specification."""
    client = _EndedUpload(code, status, has_object=False)
    bucket = _bucket_of(client, monkeypatch, multipart_bytes=1, deadline_seconds=1e-9)
    (tmp_path / "file").write_bytes(b"abc")

    with pytest.raises(StoreOutage, match=f"did not write in time .{code}."):
        bucket.put_file("key", tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "certificate is not trusted"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "http:// for a server without TLS"),
        ("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol", "Check that it runs"),
    ],
    ids=["certificate", "no-tls", "closed"],
)
def test_only_a_certificate_is_reported_as_one(text, words, monkeypatch):
    """A server without TLS, or one that closes the connection while it restarts, has no certificate to trust."""

    def get_object(**_: object) -> None:
        raise SSLError(endpoint_url="https://a", error=text)

    bucket = _bucket_of(SimpleNamespace(get_object=get_object), monkeypatch, deadline_seconds=0.01)

    with pytest.raises(StoreOutage, match=words):
        bucket.get("key")


def test_a_connection_that_is_closed_during_the_handshake_is_tried_again(monkeypatch):
    """A server behind a proxy that restarts ends handshakes for a moment."""
    replies: list[Any] = [
        SSLError(endpoint_url="https://a", error="EOF occurred in violation of protocol"),
        {"ETag": "1", "Body": SimpleNamespace(read=lambda: b"1")},
    ]

    def get_object(**_: object) -> Any:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    bucket = _bucket_of(SimpleNamespace(get_object=get_object), monkeypatch)

    assert bucket.get("key") == (b"1", "1")
