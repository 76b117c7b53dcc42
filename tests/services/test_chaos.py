"""The short form of ``make chaos``: with kills, lost data, failed requests and duplicated messages, the result is the same as without."""

from pathlib import Path
from uuid import uuid4

import pytest

from mlho.protocol.documents import State, read_execution
from mlho.protocol.names import Names
from mlho.protocol.redis_client import QueueUnavailable
from mlho.store.local import LocalStore
from scheduler.queue.executions import begin_execution
from scheduler.queue.leadership import StoreLease
from scheduler.queue.leases import Leases
from scheduler.queue.run import _ending
from tests.limits import SLOWER
from tests.services.chaos import FEW_SCHEDULERS, SHORT, TRAINING
from tests.services.chaos_places import on_local, on_s3
from tests.services.chaos_proof import kill_schedulers
from tests.services.chaos_subjects import DUPLICATE, chaos_subject, short_of, training_subject
from tests.services.measured import missed
from tests.services.s3_servers import BUCKET, S3Server

SEED = 1
N_TASKS = 300
_SECONDS = 600.0  # only ends a run that does not progress


@pytest.mark.usefixtures("credentials")
def test_small_tasks_on_object_storage_under_chaos(tmp_path: Path, seaweedfs: S3Server) -> None:
    """Of 300 tasks in two layers, none is lost or committed twice and every artifact is the same, with all planned faults."""
    subject = chaos_subject(tmp_path, N_TASKS)
    address = f"s3://{BUCKET}/{uuid4().hex[:8]}"

    verdict = on_s3(subject, tmp_path, seaweedfs, address, plan=SHORT, seed=SEED, seconds=_SECONDS)

    assert len(subject.expected) == N_TASKS
    assert verdict.is_exact, verdict
    assert short_of(verdict, SHORT, on_store=True) == {}


def test_training_run_under_chaos(tmp_path: Path) -> None:
    """A real training run under chaos, with a store in a folder, gives the same artifacts and the same bundle."""
    subject = training_subject(tmp_path, str(tmp_path / "store"))

    verdict = on_local(subject, tmp_path, plan=TRAINING, seed=SEED, seconds=_SECONDS)

    assert len(subject.bundle) > 3
    assert verdict.is_exact, verdict
    assert short_of(verdict, TRAINING, on_store=False).keys() <= {
        DUPLICATE
    }  # with 16 messages a duplicate is not certain


def test_schedulers_killed_and_stopped_at_random(tmp_path: Path) -> None:
    """With seven schedulers killed, two of them at the end, and one stopped and resumed, no committed task runs again, and
    no late write occurs.
    """
    assert missed(kill_schedulers(tmp_path, SEED, plan=FEW_SCHEDULERS, n_tasks=N_TASKS), slower=SLOWER) == []


def test_redis_gone_while_a_scheduler_starts_leaves_the_execution_open(tmp_path: Path) -> None:
    """If Redis is unavailable while a scheduler starts, the scheduler exits and leaves the execution open for its workers
    and the next scheduler.
    """
    store, run = LocalStore(tmp_path), "0123456789abcdef"
    execution, _ = begin_execution(store, run, tmp_path)
    leases = Leases("redis://127.0.0.1:1/0", Names(execution.id))

    with (
        StoreLease(store, run) as leader,
        pytest.raises(QueueUnavailable),
        _ending(store, execution, leases, leader, cleans_up=True),
    ):
        leases.declare(1)

    found = read_execution(store, run)
    assert found is not None
    assert found.state is State.OPEN
    assert begin_execution(store, run, tmp_path) == (execution, False)
