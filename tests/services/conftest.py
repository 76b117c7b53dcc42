"""Fixtures of the service tests: real servers on the loopback interface."""

import fcntl
import os
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.contract.test_store")

from mlho.store.memory import MemoryStore  # noqa: E402 - the suite is registered before anything imports it
from tests.builders import make_tables, run_inline, write_tables  # noqa: E402
from tests.services.queue_commands import SMALL  # noqa: E402
from tests.services.s3_proxy import Proxy, proxy_of  # noqa: E402
from tests.services.s3_servers import S3Server, credentials, moto, rclone, seaweedfs  # noqa: E402

__all__ = ["credentials", "moto", "rclone", "seaweedfs"]


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile the numba functions of a small run once, before processes with time limits need them."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with (shared / "compiled.txt").open("a+") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        if os.fstat(note.fileno()).st_size:  # its position is that of the moment it was opened
            return
        data = write_tables(tmp_path_factory.mktemp("compiled"), make_tables(100, seed=3))
        run_inline(data, MemoryStore(), SMALL)
        note.write("done")


@pytest.fixture
def proxy(seaweedfs: S3Server) -> Iterator[Proxy]:
    """Return a proxy in front of the S3 server, which makes faults."""
    with proxy_of(seaweedfs.port) as proxy:
        yield proxy
