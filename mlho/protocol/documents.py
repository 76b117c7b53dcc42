"""Documents that scheduler and workers exchange through the store: tasks, attempts, and the state of an execution."""

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from mlho.errors import ArtifactNotFound, MlhoError, SpecError
from mlho.protocol.failures import OtherVersion
from mlho.spec.training import canonical_json
from mlho.steps.base import Task
from mlho.steps.commit_log import CommitLog
from mlho.store.base import Store, get_if_present
from mlho.store.keys import run_key

TASKS: Final = "tasks"
ATTEMPTS: Final = "attempts"
NOT_ON_A_QUEUE: Final = "not on a queue"
"""Displayed state of a run that has no execution."""
PLACES: Final = ("iteration", "fold", "block")


class State(StrEnum):
    """State of an execution."""

    OPEN = "open"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Committer(StrEnum):
    """The side that writes commit records."""

    WORKERS = "workers"
    SCHEDULER = "scheduler"
    """In compat mode: workers only propose commits."""


class Execution(BaseModel):
    """One execution of a run. The run's pointer ``runs/<run>/execution`` holds the latest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    number: int
    """Starts at 1; a run that is started again after it ended gets the next number."""
    state: State
    data: str
    """Folder of the tables, as the scheduler sees it."""
    committer: Committer = Committer.WORKERS

    @property
    def id(self) -> str:
        """Return the id of the execution, as used in messages and in Redis."""
        return f"{self.run}-{self.number}"

    def to_bytes(self) -> bytes:
        """Return canonical JSON."""
        return canonical_json(self.model_dump(mode="json", exclude_defaults=True))


def execution_key(run: str) -> str:
    """Return the key of the pointer to a run's latest execution."""
    return run_key(run, "execution")


def leader_key(run: str) -> str:
    """Return the key of the pointer to the scheduler that leads a run."""
    return run_key(run, "leader")


def cancel_key(execution: Execution) -> str:
    """Return the key of an execution's durable cancel flag."""
    return run_key(execution.run, f"cancel/{execution.number}")


def quarantine_key(run: str, task_key: str) -> str:
    """Return the key of the record that marks a task as quarantined until ``mlho retry``."""
    return run_key(run, f"quarantine/{task_key}")


def read_execution(store: Store, run: str) -> Execution | None:
    """Return the latest execution of a run, or ``None`` before the first."""
    try:
        return Execution.model_validate_json(store.get(execution_key(run)))
    except ArtifactNotFound:
        return None
    except ValidationError:
        raise SpecError(
            f"run {run}: its execution document was written by a different version of this program. Use the same version for scheduler "
            "and workers."
        ) from None


def committer_of(store: Store) -> Committer:
    """Return the side that writes commit records, given the mode in which the store is opened."""
    return Committer.SCHEDULER if CommitLog(store).is_adopted else Committer.WORKERS


def check_committer(store: Store, execution: Execution) -> None:
    """Check that a worker with this store can serve an execution.

    Raise SpecError if scheduler and worker disagree about the committer: their ``MLHO_S3_CONDITIONAL`` settings differ.
    """
    if committer_of(store) is not execution.committer:
        mode = "compat" if execution.committer is Committer.SCHEDULER else "strict"
        raise SpecError(
            f"run {execution.run}: its scheduler uses the store in {mode} mode, and this worker does not. Set "
            f"MLHO_S3_CONDITIONAL={mode} for the worker too."
        )


def is_over(store: Store, execution: Execution) -> bool:
    """Return whether no further task of this execution may start."""
    latest = read_execution(store, execution.run)
    is_latest = latest is not None and latest.number == execution.number and latest.state is State.OPEN
    return not is_latest or store.exists(cancel_key(execution))


def task_document_key(task_key: str) -> str:
    """Return the key of the document that defines a task."""
    return f"{TASKS}/{task_key[:2]}/{task_key}"


def write_task(store: Store, task: Task, task_key: str) -> None:
    """Write the document of a task for the workers. Replace a document that was truncated by a power cut."""
    key, document = task_document_key(task_key), task.document()
    if store.put_if_absent(key, document):
        return
    found = get_if_present(store, key)
    if found is not None and _is_truncated(found):
        store.compare_and_swap(key, document, expected=found)


def _is_truncated(document: bytes) -> bool:
    try:
        json.loads(document)
    except ValueError:
        return True
    return False


def read_task(store: Store, task_key: str) -> Task:
    """Return the task under a key.

    Raise OtherVersion if the hash of its content differs: the document was tampered with, or this worker has a different version.
    """
    text = store.get(task_document_key(task_key))
    try:
        task = Task.model_validate_json(text)
        is_its_own = task.key == task_key
    except (ValidationError, KeyError):  # a field or a kind of step that is unknown to this version
        is_its_own = False
    if not is_its_own:
        raise OtherVersion(
            f"task {task_key[:12]}…: its document does not match the hash in its name. Most often the worker on {platform.node()} has "
            "another version of this program than the scheduler: stop it, and start one of the same version. The same command resumes."
        )
    return task


def place_in(params: Mapping[str, Any]) -> dict[str, str | int]:
    """Return the iteration, fold and block, which distinguish a task from its siblings in logs and traces."""
    return {name: params[name] for name in PLACES if name in params}


def place_of(store: Store, task_key: str) -> dict[str, str | int]:
    """Return the step, iteration, fold and block of a task, or nothing while the store is unavailable."""
    try:
        task = read_task(store, task_key)
    except (MlhoError, OSError):
        return {}
    return {"step": task.kind, **place_in(task.params)}


def attempt_key(execution: str, task_key: str, nonce: str) -> str:
    """Return the key of the record of a repeated attempt at a task, started by this message."""
    return f"{ATTEMPTS}/{execution}/{task_key}/{nonce}"


class Start(BaseModel):
    """The record of a repeated attempt, from the second on. Its worker renews it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempt: int
    renewals: int = 0
    is_over: bool = False
    """Whether the worker saw the attempt end through a fault of the task itself."""

    def to_bytes(self) -> bytes:
        """Return canonical JSON."""
        return canonical_json(self.model_dump())


def noted_attempts(store: Store, execution: str, task_key: str) -> dict[str, Start]:
    """Return the records of a task's attempts by the nonce of their message. The first attempt has no record."""
    starts = {}
    for key in store.keys(f"{ATTEMPTS}/{execution}/{task_key}/"):
        # Withdrawn in the meantime, or truncated by a power failure.
        with suppress(ArtifactNotFound, ValidationError):
            starts[key.rpartition("/")[2]] = Start.model_validate_json(store.get(key))
    return starts
