"""A hostile client that can read and write an execution's keys in Redis, but has no signing key."""

import base64
import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from mlho.protocol.failures import FailureClass
from mlho.protocol.messages import TASK_NAME, new_message, signed
from mlho.protocol.names import TYPES, Names

VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    0,
    5,
    -1,
    1e308,
    "",
    "x",
    "2030-01-01T00:00:00",
    [],
    [1, 1],
    {},
    {"x": 1},
)
HEADERS: Final = (
    "id", "root_id", "parent_id", "group", "group_index", "eta", "expires", "retries", "timelimit", "shadow", "lang", "argsrepr", "kwargsrepr",
    "origin", "ignore_result", "replaced_task_nesting", "stamped_headers", "stamps", "compression", "redelivered", "hostname",
)  # fmt: skip
PROPERTIES: Final = (
    "correlation_id",
    "reply_to",
    "delivery_mode",
    "delivery_info",
    "delivery_tag",
    "priority",
    "expiration",
)
STRANGE: Final = (
    "",
    "x",
    "-1",
    "0",
    "1",
    "3",
    "999",
    "1e308",
    "nan",
    "inf",
    "-inf",
    "9" * 400,
    "[]",
    "{}",
    "\x00\x1b[2J",
    b"\xff\xfe",
)
SCORES: Final = ("-inf", "0", "1", "1e15", "1e300", "+inf")
WRONG_KEY: Final = b"a key that this client has made up"
_YEARS_MS: Final = 10**13


def hostile_copies(genuine: str) -> Iterator[str]:
    """Yield copies of a genuine item with each header and property changed to each kind of value."""
    places = [*(("headers", name) for name in HEADERS), *(("properties", name) for name in PROPERTIES)]
    for part, name in places:
        for value in VALUES:
            item = copy.deepcopy(json.loads(genuine))
            item[part][name] = value
            yield json.dumps(item)


@dataclass(frozen=True)
class Target:
    """The targets of an attack.

    Attributes
    ----------
    names : Names
        Names of the execution's keys.
    never : str
        Key of a task whose document is in the store and that was never submitted.
    under_way : sequence of str
        Keys of the run's tasks.
    genuine : str
        An item copied from the queue.
    blob : str
        Digest of a blob of another run.
    heard : sequence of str
        Genuine events of this execution and of an earlier one of the run.
    asked : sequence of str
        Genuine messages of both.
    """

    names: Names
    never: str
    under_way: Sequence[str]
    genuine: str
    blob: str
    heard: Sequence[str] = ()
    asked: Sequence[str] = ()


type Attack = Callable[["redis.Redis"], object]


def attacks(target: Target, n_items: int, dice: random.Random) -> list[tuple[str, Attack]]:
    """Return this many hostile items by name, with the same number of each kind, in random order."""
    kinds = [
        _messages(target),
        _events(target),
        _replays(target),
        _types(target),
        _values(target),
        _losses(target),
    ]
    found: list[tuple[str, Attack]] = []
    pools = [pool for pool in map(list, kinds) if pool]
    for pool in pools:
        dice.shuffle(pool)
    while len(found) < n_items:
        for pool in pools:
            found.append(pool[len(found) // len(pools) % len(pool)])
    dice.shuffle(found)
    return found[:n_items]


def _messages(target: Target) -> Iterator[tuple[str, Attack]]:
    """Yield queue items: copies with hostile headers, forgeries, and items that are not messages."""
    queue = target.names.queue

    def put(item: str | bytes) -> Attack:
        return lambda client: client.lpush(queue, item)

    for item in hostile_copies(target.genuine):
        yield "message: copied with a hostile header", put(item)
    for item in _forgeries(target):
        yield "message: forged", put(item)
    for item in STRANGE:
        yield "message: none", put(item)
    for name in ("celery.chord_unlock", "celery.backend_cleanup", TASK_NAME + "2", "", None, 7):
        changed = json.loads(target.genuine)
        changed["headers"]["task"] = name
        yield "message: of another name", put(json.dumps(changed))


def _forgeries(target: Target) -> Iterator[str]:
    envelope = json.loads(target.genuine)
    run, execution = target.names.execution.rpartition("-")[0], target.names.execution
    genuine = json.loads(base64.b64decode(envelope["body"]))[1]
    made_up = signed(
        new_message(run=run, execution=execution, task=target.never, expires=_YEARS_MS), key=WRONG_KEY
    )
    for arguments in (
        made_up,
        {**made_up, "signature": genuine["signature"]},
        {**genuine, "task": target.never},
        {**genuine, "expires": _YEARS_MS},
        {**genuine, "nonce": "0" * 32},
        {**genuine, "signature": ""},
        {**genuine, "signature": None},
        {name: value for name, value in genuine.items() if name != "signature"},
        {**genuine, "padding": "x" * 6_000},
    ):
        for embedded in ({}, {"callbacks": [{"task": TASK_NAME, "kwargs": made_up}]}, {"chord": "x"}, None):
            body = base64.b64encode(json.dumps([[], arguments, embedded]).encode()).decode()
            yield json.dumps({**envelope, "body": body})
    for encoding in ("application/x-python-serialize", "application/x-yaml", "application/data", None):
        yield json.dumps({**envelope, "content-type": encoding})
    yield '{"__type__": "decimal", "__value__": "x"}'
    yield "[" * 100_000


def _events(target: Target) -> Iterator[tuple[str, Attack]]:
    """Yield events about tasks in progress, of each kind and failure class: unsigned, signed with another key, and truncated."""
    for task in (*target.under_way[:3], target.never):
        for kind in ("committed", "failed", "released", "exhausted", "expired", "poison", ""):
            for failure_class in FailureClass:
                failure = {
                    "class": failure_class.value,
                    "kind": "ArtifactDamaged",
                    "message": "m",
                    "sha256": target.blob,
                }
                event = {"execution": target.names.execution, "task": task, "nonce": "0" * 32, "event": kind, "attempt": 3, "failure": failure}  # fmt: skip
                text = json.dumps(event)
                for item in (text, "0" * 64 + text, text[:40]):
                    yield f"event: {kind}", _pushes(target.names.events, item)
    for item in STRANGE:
        yield "event: none", _pushes(target.names.events, item)


def _replays(target: Target) -> Iterator[tuple[str, Attack]]:
    """Yield replays of genuine events and messages: of finished tasks, of tasks with a later attempt, and of another execution."""
    for event in target.heard:
        yield "replay: event", _pushes(target.names.events, event)
        yield (
            "replay: event with another attempt",
            _pushes(target.names.events, event.replace('"attempt":1', '"attempt":3')),
        )
    for message in target.asked:
        yield "replay: message", lambda client, item=message: client.lpush(target.names.queue, item)  # type: ignore[misc]


def _pushes(key: str, item: str | bytes) -> Attack:
    return lambda client: client.rpush(key, item)


def _types(target: Target) -> Iterator[tuple[str, Attack]]:
    """Yield each key as each type."""
    puts: dict[str, Callable[[redis.Redis, str], object]] = {
        "string": lambda client, key: client.set(key, "x"),
        "list": lambda client, key: client.rpush(key, "x"),
        "set": lambda client, key: client.sadd(key, "x"),
        "hash": lambda client, key: client.hset(key, "x", "y"),
        "zset": lambda client, key: client.zadd(key, {"x": 1}),
        "stream": lambda client, key: client.xadd(key, {"x": "y"}),
    }
    for name in TYPES:
        key = getattr(target.names, name)
        for kind, put in puts.items():
            yield f"key: {name} as {kind}", _replaces(key, put)


def _replaces(key: str, put: "Callable[[redis.Redis, str], object]") -> Attack:
    def replace(client: "redis.Redis") -> None:
        pipe = client.pipeline()
        pipe.delete(key)
        put(pipe, key)
        pipe.execute()

    return replace


def _values(target: Target) -> Iterator[tuple[str, Attack]]:
    """Yield values of the right type with any content: counts, owners, leases, flags, workers, marks of finished tasks."""
    names = target.names
    for value in STRANGE:
        for name in ("epoch", "cancelled", "done", "progress"):
            yield f"value: {name}", _sets(getattr(names, name), value)
        for task in target.under_way:
            yield "value: attempts", _sets_field(names.attempts, task, value)
            yield "value: owners", _sets_field(names.owners, task, value)
        yield "value: counters", _sets_field(names.counters, "refused:forged", value)
        yield "value: quarantine", _sets_field(f"{names.prefix}quarantine", target.under_way[0], value)
    for score in SCORES:
        for member in (*target.under_way, target.never, "", "x", "x/1", "x/99999999", b"\xff"):
            for name in ("leases", "workers", "nonces"):
                yield f"value: {name}", _scores(getattr(names, name), member, score)
    for task in (*target.under_way, "x"):
        yield "value: committed", _adds(names.committed, task)


def _sets(key: str, value: str | bytes) -> Attack:
    return lambda client: client.set(key, value)


def _sets_field(key: str, field: str, value: str | bytes) -> Attack:
    return lambda client: client.hset(key, field, value)


def _scores(key: str, member: str | bytes, score: str) -> Attack:
    return lambda client: client.zadd(key, {member: score})


def _adds(key: str, member: str) -> Attack:
    return lambda client: client.sadd(key, member)


def _losses(target: Target) -> Iterator[tuple[str, Attack]]:
    """Yield deletions and changes of expiry of each key."""
    for name in TYPES:
        key = getattr(target.names, name)
        yield f"loss: {name}", _deletes(key)
        yield f"loss: {name} lasts", _persists(key)
        yield f"loss: {name} ends", _ends(key)
    yield "loss: everything", lambda client: client.flushall()
    yield "loss: scripts", lambda client: client.script_flush()
    for name in ("queue", "events"):
        key = getattr(target.names, name)
        yield f"flood: {name}", lambda client, key=key: client.lpush(key, *["x"] * 20_000)  # type: ignore[misc]


def _deletes(key: str) -> Attack:
    return lambda client: client.delete(key)


def _persists(key: str) -> Attack:
    return lambda client: client.persist(key)


def _ends(key: str) -> Attack:
    return lambda client: client.pexpire(key, 1)
