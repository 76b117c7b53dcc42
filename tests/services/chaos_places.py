"""The environments of chaos runs: Redis, and a store in a folder or in SeaweedFS behind a faulty proxy."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socketserver import BaseServer
from unittest import mock

from mlho.store import open_store
from mlho.store.local import LocalStore
from tests.services.chaos import Chaos
from tests.services.chaos_subjects import STORE_LOST, STORE_REFUSED, Subject, Verdict
from tests.services.redis_servers import Server, durable
from tests.services.s3_proxy import LOSE, REFUSE, proxy_of
from tests.services.s3_servers import BUCKET, S3Server, client_of, seaweedfs_server


def on_local(
    subject: Subject, folder: Path, *, plan: Mapping[str, int], seed: int, seconds: float
) -> Verdict:
    """Run chaos with a store in a folder."""
    address = folder / "store"
    with _redis(folder) as server:
        chaos = Chaos(
            subject,
            folder,
            server=server,
            address=str(address),
            environment={},
            store=LocalStore(address),
            plan=plan,
            seed=seed,
        )
        return chaos.carry_out(seconds=seconds)


def on_s3(
    subject: Subject,
    folder: Path,
    weed: S3Server,
    address: str,
    *,
    plan: Mapping[str, int],
    seed: int,
    seconds: float,
) -> Verdict:
    """Run chaos with a store in SeaweedFS, behind a proxy that rejects 5 % of the requests and loses 2 % of the responses to PUT.

    The verdict is read without the proxy.
    """
    with ExitStack() as stack:
        server = stack.enter_context(_redis(folder))
        # Clients that are killed close their connections; do not log that.
        stack.enter_context(mock.patch.object(BaseServer, "handle_error", autospec=True))
        proxy = stack.enter_context(proxy_of(weed.port))
        proxy.at_random(seed=seed)
        variables = {**weed.variables(), "AWS_EC2_METADATA_DISABLED": "true"}
        environment = {
            **variables,
            "MLHO_S3_ENDPOINT": proxy.endpoint,
            "MLHO_CACHE_DIR": str(folder / "cache"),
        }
        store = open_store(address, {**variables, "MLHO_CACHE_DIR": str(folder / "judge")})
        chaos = Chaos(
            subject,
            folder,
            server=server,
            address=address,
            environment=environment,
            store=store,
            plan=plan,
            seed=seed,
        )
        verdict = chaos.carry_out(seconds=seconds)
        done = Counter(fault for _, fault in proxy.done)
        verdict.faults |= {STORE_REFUSED: done[REFUSE], STORE_LOST: done[LOSE]}
        return verdict


@contextmanager
def object_storage(folder: Path) -> Iterator[S3Server]:
    """Yield a SeaweedFS with an empty bucket."""
    weed = seaweedfs_server(folder)
    weed.start()
    try:
        client_of(weed).create_bucket(Bucket=BUCKET)
        yield weed
    finally:
        weed.kill()


def _redis(folder: Path) -> Server:
    """Return Debian's Redis with an append-only file if it is installed, else one that loses its data when it is killed."""
    return durable(folder / "redis") or Server(folder / "redis")
