"""When Redis answers, takes nothing, and that may pass: what it says then, and what helps. Pure; knows no client."""

from collections.abc import Mapping
from typing import Final

# A word of the answer, or the name that the client gives it, to what is wrong and the remedy.
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
    """What is wrong with a Redis that refused a write, and the remedy; ``None`` if waiting cannot help.

    Examples
    --------
    >>> outage_of(RuntimeError("MISCONF Errors writing to the AOF file: No space left on device"))
    'it cannot write its file to disk. Make room on its disk.'
    >>> outage_of(RuntimeError("WRONGTYPE Operation against a key")) is None
    True
    """
    said = (type(error).__name__, *str(error).split())
    return next((words for word, words in _WORDS.items() if word in said), None)
