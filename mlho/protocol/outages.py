"""Temporary outages of Redis, in which it answers but rejects writes: the cause and the remedy. Pure."""

import re
from collections.abc import Mapping
from typing import Final

# From a word of the answer, or the client's exception name, to the cause and the remedy.
_WORDS: Final[Mapping[str, str]] = {
    "OutOfMemoryError": "its memory is full (maxmemory). Raise it: redis-cli config set maxmemory 2gb.",
    "MISCONF": "it cannot write its file to disk. Make room on its disk.",
    "ReadOnlyError": "it is a replica, which takes no writes. Give the address of the primary, or wait until it has taken over.",
    "UNBLOCKED": "it has become a replica, which takes no writes. Give the address of the primary, or wait until it has taken over.",
    "MasterDownError": "it is a replica that has lost its primary. Wait until that is back.",
    "ClusterDownError": "its cluster is down. Wait until that is back; and a single server is enough.",
    "NOREPLICAS": "too few of its replicas are there (min-replicas-to-write). Start them.",
}


def outage_of(error: Exception) -> str | None:
    """Return the cause and the remedy for a Redis that rejected a write, or ``None`` if waiting cannot help.

    Examples
    --------
    >>> outage_of(RuntimeError("MISCONF Errors writing to the AOF file: No space left on device"))
    'it cannot write its file to disk. Make room on its disk.'
    >>> outage_of(RuntimeError("WRONGTYPE Operation against a key")) is None
    True
    """
    said = (type(error).__name__, *str(error).split())
    return next((words for word, words in _WORDS.items() if word in said), None)


def lost_words(error: BaseException) -> str:
    """Return the cause of a failed connection, as far as TLS reports it, and the remedy.

    Examples
    --------
    >>> lost_words(ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1000)"))
    'its certificate is not trusted (self-signed certificate). Set MLHO_REDIS_CA to the file of the certificates to trust (chart: redis.caConfigMap).'
    >>> lost_words(ConnectionError("Connection refused"))
    'does not answer. Check its address, and that it runs.'
    """
    said = str(error)
    distrust = re.search(r"certificate verify failed: (.*?)\.? *\(_ssl", said)
    if distrust is not None:
        return (
            f"its certificate is not trusted ({distrust[1]}). Set MLHO_REDIS_CA to the file of the certificates to trust "
            "(chart: redis.caConfigMap)."
        )
    if "[SSL" in said:
        return "no TLS connection can be made. Check that it speaks TLS at this port, or write redis:// for one that does not."
    return "does not answer. Check its address, and that it runs."
