"""A failure in a status has its task, a reason in one word, and a remedy."""

import errno

import pytest

from mlho.errors import (
    BundleError,
    ChannelDamaged,
    DataError,
    MlhoError,
    SpecError,
    StoreAccessDenied,
    StoreOutage,
    StoreUnavailable,
)
from mlho.protocol.failures import Failure, FailureClass, OtherVersion, Quarantined
from mlho.protocol.redis_client import QueueUnavailable
from scheduler.controller.reasons import failures_shown, reason_of
from scheduler.queue.errors import LEASE_EXPIRED, failure_error, now_quarantined, still_quarantined

RUN = "0123456789abcdef"
RETRY = f"mlho retry {RUN} --store s3://bucket/store"
BAD_TABLE = DataError("events/2.csv", "no column", expected="code", got="2 columns", remedy="Add it.")


def remote(which: FailureClass) -> MlhoError:
    """Return a worker's error as the scheduler raises it."""
    return failure_error(Failure(which, "Kind", "events/2.csv: no column."))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreUnavailable("no answer"), "StoreUnavailable"),
        (StoreOutage("no answer"), "StoreUnavailable"),
        (StoreAccessDenied("refused"), "StoreAccessDenied"),
        (QueueUnavailable("no answer"), "QueueUnavailable"),
        (Quarantined("3 tasks"), "TasksQuarantined"),
        (BundleError("damaged"), "InvalidBundle"),
        (ChannelDamaged("entry 2 is missing"), "ChannelDamaged"),
        (BAD_TABLE, "InvalidData"),
        (SpecError("no such field"), "InvalidSpec"),
        (remote(FailureClass.INPUT), "InvalidData"),
        (remote(FailureClass.SPEC), "InvalidSpec"),
        (failure_error(Failure.of(StoreUnavailable("/tmp: full."), step="a task")), "DiskUnavailable"),
        (failure_error(Failure.of(OSError(errno.EMFILE, ""), step="a task")), "SystemError"),
        (
            failure_error(Failure.of(OtherVersion("task ab…: another version."), step="a task")),
            "WorkerOutdated",
        ),
        (remote(FailureClass.INTERNAL), "InternalError"),
    ],
)
def test_an_error_has_its_reason_wherever_it_was_raised(error: MlhoError, reason: str):
    """An error has the same reason whether the scheduler or a worker raised it, and always a remedy."""
    (failure,) = failures_shown(error, retry=RETRY)

    assert reason_of(error) == failure.reason == reason
    assert failure.message == str(error)
    assert failure.remedy.endswith(".")


def test_each_quarantined_task_is_shown_with_its_starts_and_its_cause():
    """The first ten quarantined tasks are shown with their starts and cause. The remedy is the retry command with the run's name."""
    tasks = {
        f"learn/{number}": now_quarantined(RUN, "fit", "ab" * 32, LEASE_EXPIRED, 3) for number in range(12)
    }

    failures = failures_shown(Quarantined("12 tasks are quarantined", tasks=tasks), retry=RETRY)

    assert [failure.task for failure in failures] == list(tasks)[:10]
    assert {failure.attempts for failure in failures} == {3}
    assert all("its worker died" in failure.message for failure in failures)
    assert all(RETRY in failure.remedy for failure in failures)


def test_a_failure_names_its_task_or_object():
    """A failure names the failed task. An error without a task names its object, such as a file."""
    named = remote(FailureClass.INPUT)
    named.task = "encode/2"

    assert failures_shown(named, retry=RETRY)[0].task == "encode/2"
    assert failures_shown(BAD_TABLE, retry=RETRY)[0].task == "events/2.csv"


def test_a_task_quarantined_earlier_has_its_cause():
    """The error of a task that an earlier execution quarantined gives the number of starts and the last cause."""
    error = still_quarantined(RUN, "fit", "ab" * 32, LEASE_EXPIRED, 3)

    assert "by an earlier execution, after 3 starts. Last: its worker died" in str(error)
    assert error.attempts == 3
