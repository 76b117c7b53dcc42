"""Test, before the first write, whether a store guarantees atomic conditional writes.

The guarantee: of several writes under one key the first one succeeds, and all others are refused. Some servers ignore the
condition of a write. With such a server, two workers that finish the same task would silently overwrite each other. The
server is therefore refused unless compat mode is configured, which does not need the guarantee because only the scheduler
commits.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final
from uuid import uuid4

from mlho.errors import MlhoError, SpecError, StoreUnavailable
from mlho.log import log
from mlho.store.base import Store
from mlho.store.local import LocalStore
from mlho.store.s3 import Bucket
from mlho.store.s3_settings import COMPAT, CONDITIONAL
from mlho.store.s3_store import S3Store

PROBES: Final = "probe"
_WRITERS: Final = 4
COMPAT_WORDS: Final = (
    f"Compat mode ({CONDITIONAL}={COMPAT}): the store need not refuse a second write, so only the scheduler commits records that "
    "workers propose. The result is the same. It costs a few more requests per task, and nothing is committed while the scheduler is down; "
    "only Redis prevents several schedulers from leading one run."
)


def probe_store(store: Store) -> None:
    """Test the guarantees on temporary keys, which are removed afterwards. In compat mode no conditional write is sent.

    Parameters
    ----------
    store : Store
        A store in a folder or in memory is known to be correct; only whether a folder is writable is tested.

    Raises
    ------
    SpecError
        The server does not give the guarantee, or the folder is not writable.
    StoreAccessDenied
        The credentials are wrong, the bucket does not exist, or a permission is missing.
    StoreUnavailable
        No answer within a few seconds.
    """
    if isinstance(store, LocalStore):
        store.check_writable()
    if not isinstance(store, S3Store):
        return
    bucket = store.bucket.impatient()
    prefix = f"{store.prefix}{PROBES}/{uuid4().hex}"
    if not bucket.asks_conditions:
        log.warning("compat_mode", store=bucket.where)
    # The first request reports a wrong bucket or credential at once.
    next(bucket.listed(prefix, page=1), None)
    try:
        if bucket.asks_conditions:
            _try_writes(bucket, prefix)
        else:
            _try_plain(bucket, f"{prefix}/once")
    finally:
        _clean_up(bucket, prefix)


def _try_plain(bucket: Bucket, key: str) -> None:
    """Test the requirement of compat mode: a completed write is visible at once."""
    bucket.put(key, b"first")
    found = bucket.get(key)
    listed = [item.key for item in bucket.listed(key)]
    if found is None or found[0] != b"first" or listed != [key]:
        raise SpecError(
            f"{bucket.where}: an object that was just written is not found. This server cannot be used. Expected reads and lists that "
            "show every completed write. Use another server, or a folder as the store."
        )


def _clean_up(bucket: Bucket, prefix: str) -> None:
    for name in ("once", "race"):
        # The error that is already being raised names the failure. Without permission to delete, two small objects remain.
        with suppress(MlhoError):
            bucket.delete(f"{prefix}/{name}")


def _try_writes(bucket: Bucket, prefix: str) -> None:
    """Test that of several writes under one key, one after another or at the same time, only the first one succeeds."""
    once = f"{prefix}/once"
    if not bucket.put(once, b"first"):
        raise StoreUnavailable(
            f"{bucket.where}: the server refused a first write. Run the same command again."
        )
    second = bucket.put(once, b"second")
    first = bucket.get(once)
    is_first = first is not None and first[0] == b"first"
    moved = first is not None and bucket.put(once, b"third", if_match=first[1])
    stale = first is not None and bucket.put(once, b"fourth", if_match=first[1])
    race = f"{prefix}/race"
    with ThreadPoolExecutor(_WRITERS) as threads:
        wins = sum(threads.map(lambda number: bucket.put(race, b"%d" % number), range(_WRITERS)))
    kept = {
        "refuses_second_write": is_first and not second,
        "refuses_stale_swap": moved and not stale,
        "has_one_winner": wins == 1,
    }
    broken = [name for name, is_kept in kept.items() if not is_kept]
    if broken:
        raise SpecError(
            f"{bucket.where}: this server overwrites existing objects although conditional writes were requested ({', '.join(broken)} is false), so results could be "
            "replaced silently. Use a server with conditional writes (AWS S3, MinIO, Ceph, SeaweedFS, in a recent "
            f"version) or a folder as the store; or set {CONDITIONAL}={COMPAT} for the command and its workers: then only the "
            "scheduler commits."
        )
