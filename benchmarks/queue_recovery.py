"""Measure how long a restarted scheduler takes to read 2,000 commits from object storage.

    python benchmarks/queue_recovery.py [TASKS | --short]

The server is SeaweedFS over HTTP. A plan whose tasks are all committed runs through the scheduler's own loop, with
the window for two workers. The comparison reads the same records one after the other. Both run three times,
alternately.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from _figures import show
from _queueing import NullObserver, Planned, how_many, planned, show_load

from mlho.steps.base import Task
from mlho.steps.records import Commit, Outcome, read_commit
from mlho.store.base import Store
from mlho.store.cache import BlobCache
from mlho.store.keys import commit_key
from mlho.store.s3 import Bucket
from mlho.store.s3_store import S3Store
from scheduler.engine.loop import carry_out
from tests.services.s3_servers import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, client_of, seaweedfs_server

N_TASKS, N_SHORT, N_TURNS = 2_000, 200, 3
WINDOW = 72  # tasks in progress of a scheduler with two workers


class NothingToDo:
    """An executor for a run whose tasks are all done."""

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        """Reject every request."""
        assert not tasks, "a committed task was to run again"
        return []


def main() -> int:
    n_tasks = how_many(__doc__, "TASKS", usual=N_TASKS, short=N_SHORT)
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    show_load()
    with tempfile.TemporaryDirectory() as folder:
        server = seaweedfs_server(Path(folder))
        server.start()
        try:
            client_of(server).create_bucket(Bucket=BUCKET)
            ours, one_by_one = _measure(server, Path(folder), n_tasks)
        finally:
            server.stop()
    is_ok = show(
        f"{n_tasks:,} commits read by a new scheduler", ours, one_by_one, "s", source="one after the other"
    )
    print(
        f"  a commit: ours {1000 * ours / n_tasks:.2f} ms, one after the other {1000 * one_by_one / n_tasks:.2f} ms"
    )
    show_load()
    return 0 if is_ok else 1


def _measure(server: S3Server, folder: Path, n_tasks: int) -> tuple[float, float]:
    """Return the median seconds of both."""
    store = S3Store(Bucket(BUCKET, server.settings()), "", BlobCache(folder / "cache"))
    plan = {name: planned("test_noop", name, folder) for name in (f"t{number}" for number in range(n_tasks))}
    keys = [task.bind({}).key for task in plan.values()]
    store.each(lambda key: _commit(store, key), keys)
    run = Planned(plan, folder, store)
    turns = [
        (_seconds(lambda: _recover(run)), _seconds(lambda: [read_commit(store, key) for key in keys]))
        for _ in range(N_TURNS)
    ]
    return statistics.median(recovery for recovery, _ in turns), statistics.median(
        rival for _, rival in turns
    )


def _commit(store: Store, key: str) -> None:
    commit = Commit(task=key, kind="test_noop", files={}, seconds=0.0)
    store.put_if_absent(commit_key(key), commit.model_dump_json().encode())


def _recover(run: Planned) -> None:
    carry_out(run, NothingToDo(), NullObserver(), n_slots=WINDOW)


def _seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
