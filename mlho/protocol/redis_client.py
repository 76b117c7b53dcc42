"""The Redis client of scheduler and worker: connection, health check, and errors with their remedies."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Final, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mlho.protocol.failures import QueueError
from mlho.protocol.names import Names

type Redis = redis.Redis

_ROOM_SECONDS: Final = 10
# A word of the reply, or the name of the client's exception: the cause and the remedy.
_WORDS: Final[Mapping[str, str]] = {
    "OutOfMemoryError": "its memory is full (maxmemory). Raise it: redis-cli config set maxmemory 2gb.",
    "MISCONF": "it cannot write its file to disk. Make room on its disk.",
    "ReadOnlyError": "it is a replica, which accepts no writes. Give the address of the primary, or wait until it has taken over.",
    "UNBLOCKED": "it has become a replica, which accepts no writes. Give the address of the primary, or wait until it has taken over.",
    "MasterDownError": "it is a replica that has lost its primary. Wait until the primary is available.",
    "ClusterDownError": "its cluster is down. Wait until it is available; a single server is sufficient.",
    "NOREPLICAS": "too few of its replicas are connected (min-replicas-to-write). Start them.",
}

# Part of the text of a failed connection: the cause and the remedy. The first match counts.
_NO_ANSWER: Final = "does not answer. Check its address, and that it runs."
_UNKNOWN_HOST: Final = (
    "the name of its host cannot be resolved. Correct the host in the address, or the DNS of this machine."
)
_LOST_WORDS: Final[Mapping[str, str]] = {
    "unix socket": _NO_ANSWER,
    "CERTIFICATE_REQUIRED": "it requires a certificate of the client, and got none. Set its tls-auth-clients to no.",
    "No such file": "the file of the certificates to trust does not exist. Correct MLHO_REDIS_CA (chart: redis.caConfigMap).",
    "NO_CERTIFICATE_OR_CRL_FOUND": "the file of the certificates to trust holds no certificate. Correct MLHO_REDIS_CA (chart: redis.caConfigMap).",
    "[SSL": "no TLS connection can be made. Check that it speaks TLS at this port, or write redis:// for one that does not.",
    "not known": _UNKNOWN_HOST,
    "name resolution": _UNKNOWN_HOST,
    "reset by peer": "closes the connection. If it expects TLS at this port, write rediss:// in the address; otherwise check that it runs.",
}


class QueueUnavailable(QueueError, ConnectionError):  # noqa: N818 - reads as the state
    """Redis does not answer, or rejects commands. Try again; a run in progress waits."""

    run_state: ClassVar[str] = "stopped"


class QueueAccessDenied(QueueUnavailable):
    """Redis rejects the password or the user."""


def connect(url: str) -> Redis:
    """Return a client that does not retry: each caller decides how long to retry.

    Raise QueueError if this is not an address.
    """
    try:
        return redis.Redis.from_url(
            url,
            decode_responses=True,
            encoding_errors="replace",  # undecodable bytes are neither a message nor an event
            socket_timeout=5,
            socket_connect_timeout=3,
            socket_keepalive=True,
            health_check_interval=10,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        raise QueueError(
            "broker: not an address. Write redis://HOST:PORT/0, rediss:// for TLS, or embedded."
        ) from None


def check_server(client: Redis, names: Names) -> bool:
    """Check that Redis answers, accepts the credentials and writes, and does not evict keys.

    Return false if the user may not read the eviction policy. Raise QueueError with the remedy.
    """
    with answering():
        client.set(names.room, 1, ex=_ROOM_SECONDS)
        try:
            memory = cast(dict[str, object], client.info("memory"))
        except redis.ResponseError:  # this user lacks the permission
            return False
    words = eviction_words(memory)
    if words is not None:
        raise QueueError(f"broker: {words}")
    return True


@contextmanager
def answering() -> Iterator[None]:
    """Translate errors of Redis into :class:`QueueUnavailable`."""
    try:
        yield
    except redis.exceptions.AuthenticationError as error:
        raise QueueAccessDenied(
            "broker: refuses this password or user. Set MLHO_BROKER (chart: the Secret of redis.existingSecret) to redis://USER:PASSWORD@HOST:PORT/0."
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise QueueAccessDenied(
            "broker: this user lacks permissions. Grant it the keys (~mlho:*) and commands."
        ) from error
    except redis.ResponseError as error:
        if "DB index is out of range" in str(error):
            raise QueueError(
                "broker: the server has no database with this number. End the address with a lower one, such as /0."
            ) from error
        words = outage_of(error) or "refuses a command, because a key has an unexpected type or value."
        raise QueueUnavailable(f"broker: {words} An active run then continues.") from error
    except redis.exceptions.InvalidResponse as error:
        raise QueueUnavailable(
            "broker: the server at this address does not speak the protocol of Redis. Correct host and port of the address."
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:  # raised also while Redis loads its file
        raise QueueUnavailable(f"broker: {lost_words(error)}") from error


def is_rejected(error: QueueUnavailable) -> bool:
    """Return whether Redis rejected a command for no known outage, for example because a key has the wrong type."""
    cause = error.__cause__
    return isinstance(cause, redis.ResponseError) and outage_of(cause) is None


def outage_of(error: Exception) -> str | None:
    """Return the cause and the remedy for a Redis that rejected a write, or ``None`` if waiting cannot help.

    Examples
    --------
    >>> outage_of(RuntimeError("MISCONF Errors writing to the AOF file: No space left on device"))
    'it cannot write its file to disk. Make room on its disk.'
    >>> outage_of(RuntimeError("WRONGTYPE Operation against a key")) is None
    True
    """
    tokens = (type(error).__name__, *str(error).split())
    return next((words for word, words in _WORDS.items() if word in tokens), None)


def lost_words(error: BaseException) -> str:
    """Return the cause of a failed connection, as far as it is known, and the remedy.

    Examples
    --------
    >>> lost_words(ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1000)"))
    'its certificate is not trusted (self-signed certificate). Set MLHO_REDIS_CA to the file of the certificates to trust (chart: redis.caConfigMap).'
    >>> lost_words(ConnectionError("certificate verify failed: certificate has expired (_ssl.c:1000)"))
    'its certificate is not valid now (certificate has expired). Renew the certificate of Redis, or correct the clock of this machine.'
    >>> lost_words(ConnectionError("Error -2 connecting to queue:6379. Name or service not known."))
    'the name of its host cannot be resolved. Correct the host in the address, or the DNS of this machine.'
    >>> lost_words(ConnectionError("Connection refused"))
    'does not answer. Check its address, and that it runs.'
    """
    text = str(error)
    distrust = re.search(r"certificate verify failed: (.*?)\.? *\(_ssl", text)
    if distrust is not None:
        return _distrust_words(distrust[1])
    return next((words for part, words in _LOST_WORDS.items() if part in text), _NO_ANSWER)


def _distrust_words(reason: str) -> str:
    """Return the words for a certificate that this machine rejects for the given reason."""
    if "expired" in reason or "not yet valid" in reason:
        return (
            f"its certificate is not valid now ({reason}). Renew the certificate of Redis, or correct the clock of this "
            "machine."
        )
    if "match" in reason or "not valid for" in reason:
        return (
            f"its certificate is for another host ({reason}). Use a host in the address that the certificate names, or "
            "give Redis a certificate for this one."
        )
    return (
        f"its certificate is not trusted ({reason}). Set MLHO_REDIS_CA to the file of the certificates to trust "
        "(chart: redis.caConfigMap)."
    )


def eviction_words(memory: Mapping[str, object]) -> str | None:
    """Return the problem and the remedy for a Redis that evicts keys, or ``None`` if it keeps them.

    Parameters
    ----------
    memory : mapping
        Answer of ``INFO memory``, which managed Redis services support too.

    Examples
    --------
    >>> eviction_words({"maxmemory": 0, "maxmemory_policy": "allkeys-lru"}) is None
    True
    """
    policy = memory.get("maxmemory_policy", "noeviction")
    if not memory.get("maxmemory") or policy == "noeviction":
        return None
    return (
        f"its maxmemory-policy is {policy}, so that it evicts messages and leases when memory is short. "
        "Set maxmemory-policy to noeviction."
    )
