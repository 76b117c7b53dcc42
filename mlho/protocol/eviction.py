"""Eviction policy of Redis: whether it evicts keys, including messages and leases, when memory is short. Pure."""

from collections.abc import Mapping


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
        f"its maxmemory-policy is {policy}, so that it throws away messages and leases when memory is short. "
        "Set maxmemory-policy to noeviction."
    )
