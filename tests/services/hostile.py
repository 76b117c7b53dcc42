"""A hostile client: it reads and writes all of an execution's Redis, and has no signing key."""

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

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


def hostile_copies(genuine: str) -> Iterator[str]:
    """Copies of a genuine item with each header and property changed to each kind of value."""
    places = [*(("headers", name) for name in HEADERS), *(("properties", name) for name in PROPERTIES)]
    for part, name in places:
        for value in VALUES:
            item = copy.deepcopy(json.loads(genuine))
            item[part][name] = value
            yield json.dumps(item)
