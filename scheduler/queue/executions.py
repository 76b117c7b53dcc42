"""Executions of a run and its quarantined tasks: documents in the store, updated by compare-and-swap."""

import json
from pathlib import Path
from typing import ClassVar

from mlho.errors import ArtifactNotFound, MlhoError
from mlho.protocol.documents import (
    Execution,
    State,
    cancel_key,
    committer_of,
    execution_key,
    quarantine_key,
    read_execution,
)
from mlho.protocol.failures import Failure
from mlho.spec.training import canonical_json
from mlho.steps.proposals import SOLE_LEADER, Leader
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.queue.leadership import AnotherScheduler


class RunCancelled(MlhoError):  # noqa: N818 - names the event, not an error
    """The run was cancelled: run the same command to continue."""

    run_state: ClassVar[str] = "cancelled"


def begin_execution(
    store: Store, run: str, data: Path | str, *, leader: Leader = SOLE_LEADER
) -> tuple[Execution, bool]:
    """Open the run's next execution, or continue the open one. Return it and whether it is new."""
    latest = read_execution(store, run)
    expected = latest.to_bytes() if latest is not None else None
    # Do not continue an execution whose workers were given another committer.
    committer = committer_of(store)
    goes_on = (
        latest is not None
        and latest.state is State.OPEN
        and latest.committer is committer
        and not store.exists(cancel_key(latest))
    )
    number = latest.number if latest is not None and goes_on else (latest.number if latest else 0) + 1
    execution = Execution(run=run, number=number, state=State.OPEN, data=str(data), committer=committer)
    leader.check()  # between the read and the swap: an update by another leader since then makes the swap fail
    if execution != latest and not store.compare_and_swap(
        execution_key(run), execution.to_bytes(), expected=expected
    ):
        raise AnotherScheduler(
            f"run {run}: another scheduler has just started it. Wait for it, or run again."
        )
    return execution, not goes_on


def end_execution(store: Store, execution: Execution, state: State) -> None:
    """Close an execution. Its workers exit."""
    closed = execution.model_copy(update={"state": state})
    store.compare_and_swap(execution_key(execution.run), closed.to_bytes(), expected=execution.to_bytes())


def cancel_execution(store: Store, execution: Execution) -> None:
    """Write the durable flag that stops all further tasks of an execution."""
    store.put_if_absent(cancel_key(execution), b"{}")


def quarantined_tasks(store: Store, run: str) -> list[str]:
    """Return the keys of the quarantined tasks of a run."""
    return [key.rsplit("/", 1)[1] for key in store.keys(run_key(run, "quarantine/"))]


def quarantine_task(
    store: Store, run: str, task_key: str, failure: Failure, *, step: str, attempts: int
) -> None:
    """Record that a task used up its attempts, and why. The record stays until :func:`release_quarantine`."""
    record = {"attempts": attempts, "step": step, **failure.plain()}
    store.put_if_absent(quarantine_key(run, task_key), canonical_json(record))


def quarantined_for(store: Store, run: str, task_key: str) -> tuple[Failure, int] | None:
    """Return why a task is quarantined and after how many attempts, or ``None`` if it is not quarantined."""
    try:
        record = json.loads(store.get(quarantine_key(run, task_key)))
    except ArtifactNotFound:
        return None
    return Failure.from_plain(record), int(record["attempts"])


def release_quarantine(store: Store, run: str) -> int:
    """Give every quarantined task of a run new attempts. Return the number of tasks."""
    tasks = quarantined_tasks(store, run)
    for task_key in tasks:
        store.delete(quarantine_key(run, task_key))
    return len(tasks)
