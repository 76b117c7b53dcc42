"""Clients of object storage: how many a process creates."""

import threading
import time
from types import SimpleNamespace

import boto3.session
import pytest

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
        return SimpleNamespace(head_object=lambda **_: None)


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
