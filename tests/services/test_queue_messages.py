"""A thousand invalid messages are refused and counted, and nothing is executed. A Redis with unsafe settings is refused."""

import base64
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import structlog

from mlho.protocol.documents import write_task
from mlho.protocol.failures import QueueError
from mlho.protocol.messages import SIGNATURE, TASK_NAME, new_message, signed
from mlho.protocol.names import Names
from mlho.protocol.redis_client import QueueUnavailable
from scheduler.queue import failure_policy
from scheduler.queue.leases import Leases
from tests.limits import GUARD_SECONDS
from tests.services.hostile import hostile_copies
from tests.services.queue_home import KEY, RUN, Home, result, wait_until
from tests.services.queue_steps import noted_starts, task
from tests.services.redis_servers import Server


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path) as home:
        yield home


def _envelope(
    arguments: Any,
    *,
    name: str = TASK_NAME,
    content_type: str = "application/json",
    body: bytes | None = None,
) -> str:
    """Return a message in Celery's format."""
    text = (
        body
        if body is not None
        else json.dumps(
            [[], arguments, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
        ).encode()
    )
    tag = os.urandom(8).hex()
    return json.dumps(
        {
            "body": base64.b64encode(text).decode(),
            "content-encoding": "utf-8",
            "content-type": content_type,
            "headers": {
                "lang": "py",
                "task": name,
                "id": tag,
                "root_id": tag,
                "parent_id": None,
                "group": None,
                "retries": 0,
                "timelimit": [None, None],
            },
            "properties": {
                "correlation_id": tag,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "tasks"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": tag,
            },
        }
    )


def test_a_thousand_forgeries_start_nothing_and_are_counted(home: Home) -> None:
    """Messages with a wrong key, a changed field, another execution, an expired time, excessive size, wrong names or invalid
    JSON start nothing and are counted.
    """
    never = task("test_noted", "never", home.starts)
    write_task(home.store, never, never.key)
    rng = random.Random(7)
    home.start_worker(slots=2)
    with home.executor() as executor, home.redis() as client:
        home.wait_for_slots(2)
        now = int(client.time()[0]) * 1000
        far = now + 3_600_000

        def fresh(execution: str = home.execution.id, expires: int = far, key: bytes = KEY) -> dict[str, Any]:
            return signed(new_message(run=RUN, execution=execution, task=never.key, expires=expires), key=key)

        makers = {
            "forged": lambda: _envelope(fresh(key=b"somebody else's key, long enough")),
            "changed": lambda: _envelope({**fresh(), "nonce": rng.randbytes(16).hex()}),
            "foreign": lambda: _envelope(fresh(execution=f"{RUN}-99")),
            "expired": lambda: _envelope(fresh(expires=now - 1)),
            "oversized": lambda: _envelope({**fresh(), "padding": "x" * 5000}),
            "unsigned": lambda: _envelope({k: v for k, v in fresh().items() if k != SIGNATURE}),
            "unknown name": lambda: _envelope(fresh(), name="celery.chord_unlock"),
            "pickle": lambda: _envelope(
                None, content_type="application/x-python-serialize", body=b"cos\nsystem\n(S'true'\ntR."
            ),
            "not a task": lambda: _envelope(None, body=b'"hello"'),
            "not an envelope": lambda: json.dumps({"hello": "world"}),
            "not JSON": lambda: rng.randbytes(40).hex() + "{",
        }
        kinds = [*makers] * 91
        rng.shuffle(kinds)
        for kind in kinds[:1000]:
            client.lpush(home.names.queue, makers[kind]())
        genuine = executor.submit(task("test_noted", "genuine", home.starts))
        wait_while_it_shrinks(lambda: cast(int, client.llen(home.names.queue)))
        assert result(genuine).is_new
        counters = {name: int(count) for name, count in client.hgetall(home.names.counters).items()}
    assert noted_starts(home.starts) == ["genuine"]
    sent = {kind: kinds[:1000].count(kind) for kind in makers}
    assert counters["refused:forged"] == sent["forged"] + sent["changed"]
    assert counters["refused:foreign"] == sent["foreign"]
    assert counters["refused:expired"] == sent["expired"]
    assert counters["refused:oversized"] == sent["oversized"]
    assert counters["refused:unknown"] == sent["unknown name"]
    rest = sent["unsigned"] + sent["pickle"] + sent["not a task"] + sent["not an envelope"] + sent["not JSON"]
    assert counters["refused:malformed"] == rest
    assert "system" not in home.log.read_text()


def wait_while_it_shrinks(length: Callable[[], int], *, still_seconds: float = 60) -> None:
    """Wait until nothing is left, as long as the number decreases, however slow the machine is."""
    least, moved_at = length(), time.monotonic()
    while least:
        time.sleep(0.02)
        left = length()
        if left < least:
            least, moved_at = left, time.monotonic()
        assert time.monotonic() - moved_at < still_seconds, f"{left} stay"


def test_replayed_message_starts_nothing(home: Home) -> None:
    """The message of a finished task and that of a failed one start nothing when they are sent 50 more times."""
    home.start_worker()
    with home.executor() as executor, home.redis() as client:
        home.wait_for_slots(1)
        expires = int(client.time()[0]) * 1000 + 3_600_000
        done = task("test_noted", "done", home.starts)
        failed = task("test_bad_input", "failed", home.starts)
        copies = []
        for work in (done, failed):
            write_task(home.store, work, work.key)
            message = signed(
                new_message(run=RUN, execution=home.execution.id, task=work.key, expires=expires), key=KEY
            )
            copies.append(_envelope(message))
        for copy in copies * 50:
            client.lpush(home.names.queue, copy)
        result(executor.submit(task("test_noted", "last", home.starts)))
        counters = {name: int(count) for name, count in client.hgetall(home.names.counters).items()}
    assert sorted(noted_starts(home.starts)) == ["done", "failed", "last"]
    assert counters["refused:replayed"] == 49
    assert counters["dropped:committed"] == 49


def test_copied_message_with_any_header_neither_ends_nor_stops_a_worker(home: Home) -> None:
    """A copied message with each header and property set to each kind of value neither starts a task again nor stops the worker."""
    with home.executor() as executor, home.redis() as client:
        copied = executor.submit(task("test_noted", "copied", home.starts))
        (genuine,) = cast(list[str], client.lrange(home.names.queue, 0, -1))
        copies = list(hostile_copies(genuine))
        for copy in copies:
            client.lpush(home.names.queue, copy)
        worker = home.start_worker()
        assert result(copied).is_new
        wait_while_it_shrinks(lambda: cast(int, client.llen(home.names.queue)))
        assert result(executor.submit(task("test_noted", "next", home.starts))).is_new
        assert worker.poll() is None
    assert len(copies) > 200
    assert noted_starts(home.starts) == ["copied", "next"]


def test_events_that_no_worker_can_have_sent_change_nothing(home: Home) -> None:
    """Forged events about the running task, and queue items that are not text, change nothing: the task and the run finish."""
    home.start_worker()
    slow = task("test_sleep", "slow", home.starts, seconds=6)
    with home.executor() as executor, home.redis() as client:
        home.wait_for_slots(1)
        running, waiting = executor.submit_all([slow, task("test_noted", "next", home.starts)])
        wait_until(lambda: noted_starts(home.starts) == ["slow"], what="start")
        for event in (
            {"event": "failed", "task": slow.key},
            {"event": "failed", "task": slow.key, "attempt": "many", "failure": []},
            {"event": "exhausted", "task": slow.key, "attempt": None},
            {"event": "committed", "task": slow.key},
            {"event": "dance", "task": slow.key},
        ):
            client.rpush(home.names.events, json.dumps(event))
        client.rpush(home.names.events, b"\xff\xfe")
        client.lpush(home.names.queue, b"\xff\xfe")
        assert result(running).is_new
        assert result(waiting).is_new
        assert executor.counters.retried == 0
    assert noted_starts(home.starts) == ["slow", "next"]


def test_tampered_task_document_is_not_run(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replaced task document, whose hash differs from its key, is refused each time that its task is sent."""
    monkeypatch.setattr(failure_policy, "INFRASTRUCTURE_SECONDS", 1.0)
    genuine, other = task("test_noted", "genuine", home.starts), task("test_noted", "other", home.starts)
    write_task(home.store, other, genuine.key)
    home.start_worker()
    with home.executor() as executor:
        home.wait_for_slots(1)
        with pytest.raises(Exception, match="does not match the hash in its name"):
            result(executor.submit(genuine))
    assert noted_starts(home.starts) == []


def test_a_wrong_password_is_reported_at_once(tmp_path: Path) -> None:
    """Scheduler and worker report a wrong password at once. The worker's exit code prevents restarts."""
    with Home(tmp_path, server=Server(tmp_path / "server", options=("--requirepass", "right"))) as home:
        wrong = home.server.url.replace("redis://", "redis://:wrong@")
        leases = Leases(wrong, home.names)
        with pytest.raises(QueueError, match="refuses this password"):
            leases.check()
        leases.close()
        worker = home.start_worker(broker=wrong)
        assert worker.wait(GUARD_SECONDS) == 78
        assert "refuses this password" in home.log.read_text()
        assert "wrong@" not in home.log.read_text()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_redis_that_evicts_is_refused(tmp_path: Path, policy: str) -> None:
    options = ("--maxmemory", "100mb", "--maxmemory-policy", policy)
    with Server(tmp_path, options=options) as server:
        leases = Leases(server.url, Names(f"{RUN}-1"))
        with pytest.raises(QueueError, match=f"maxmemory-policy is {policy}.*noeviction"):
            leases.check()
        leases.close()


def test_redis_that_hides_its_policy_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the user may not read the eviction policy, Redis is used with a warning."""
    with Server(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-info", "-config")
        leases = Leases(server.url, Names(f"{RUN}-1"))
        logger = structlog.testing.CapturingLogger()
        monkeypatch.setattr("scheduler.queue.leases.log", logger)
        leases.check()
        leases.close()
    assert [call.args for call in logger.calls] == [("queue_policy_unknown",)]


def test_redis_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    leases = Leases(Server(tmp_path).url, Names(f"{RUN}-1"))
    with pytest.raises(QueueUnavailable, match="does not answer"):
        leases.check()
    leases.close()


def test_message_on_the_wire_names_no_more_than_it_must(home: Home) -> None:
    """A waiting task's message in Redis has only ids, and all keys have the execution's prefix."""
    with home.executor() as executor:
        executor.submit(task("test_noted", "Jane-Canary", home.starts))
        raw = redis.Redis.from_url(home.server.url)
        keys = sorted(raw.keys("*"))
        (message,) = raw.lrange(home.names.queue, 0, -1)
        raw.close()
    assert all(key.startswith(home.names.prefix.encode()) for key in keys)
    assert b"Canary" not in message
    assert b"Canary" not in base64.b64decode(json.loads(message)["body"])
    assert len(message) < 2048
