"""Whether Redis throws keys away when its memory is short, messages and leases among them. Pure; knows no client."""

from collections.abc import Mapping


def eviction_words(memory: Mapping[str, object]) -> str | None:
    """What is wrong with a Redis that throws keys away, and the remedy; ``None`` if it keeps them.

    Parameters
    ----------
    memory : mapping
        What ``INFO memory`` says, which a managed Redis answers as well.

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
