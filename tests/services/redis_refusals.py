"""States in which a real Redis answers but rejects writes, and how each state ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest
import redis

from tests.ports import free_port
from tests.services.redis_servers import Server


@contextmanager
def broker_client(server: Server) -> "Iterator[redis.Redis]":
    client = redis.Redis.from_url(server.url)
    try:
        yield client
    finally:
        client.close()


def fill(client: "redis.Redis") -> None:
    """Set the memory limit below the used memory, so that Redis rejects writes."""
    client.set("ballast", bytes(1_000_000))
    client.config_set("maxmemory", 600_000)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("more", b"")


def make_replica(client: "redis.Redis") -> None:
    """Make Redis a replica of a missing server, so that it rejects writes, as after a failover."""
    client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    with pytest.raises(redis.exceptions.ReadOnlyError):
        client.set("more", b"")


def miss_replicas(client: "redis.Redis") -> None:
    """Require a replica that Redis does not have."""
    client.config_set("min-replicas-to-write", 1)
    with pytest.raises(redis.exceptions.ResponseError, match="NOREPLICAS"):
        client.set("more", b"")


@dataclass(frozen=True)
class Refusing:
    """A state in which Redis rejects writes, how it ends, and the expected message."""

    begins: "Callable[[redis.Redis], None]"
    passes: "Callable[[redis.Redis], object]"
    words: str


REFUSING: Final = {
    "full": Refusing(
        fill, lambda client: client.config_set("maxmemory", 0), "its memory is full (maxmemory). Raise it"
    ),
    "a replica": Refusing(
        make_replica,
        lambda client: client.execute_command("REPLICAOF", "NO", "ONE"),
        "it is a replica, which accepts no writes. Give the address of the primary",
    ),
    "without its replicas": Refusing(
        miss_replicas,
        lambda client: client.config_set("min-replicas-to-write", 0),
        "too few of its replicas are connected (min-replicas-to-write). Start them",
    ),
}
