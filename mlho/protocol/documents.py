"""What scheduler and workers leave for each other in the store: tasks, starts, and the state of an execution."""

from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from mlho.errors import ArtifactNotFound, MlhoError, SpecError
from mlho.spec.training import canonical_json
from mlho.steps.base import Task
from mlho.store.base import Store
from mlho.store.keys import run_key

TASKS: Final = "tasks"
ATTEMPTS: Final = "attempts"
NOT_ON_A_QUEUE: Final = "not on a queue"
"""What people are told for the state of a run that has no execution."""
PLACES: Final = ("iteration", "fold", "block")


class State(StrEnum):
    """Where an execution is."""

    OPEN = "open"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Committer(StrEnum):
    """Who writes commit records."""

    WORKERS = "workers"
    SCHEDULER = "scheduler"
    """In compat mode: workers propose."""


class Execution(BaseModel):
    """One try at a run. The run's pointer ``runs/<run>/execution`` holds the latest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    number: int
    """Starts at 1; a run that is started again after its end gets the next."""
    state: State
    data: str
    """Folder of the tables, as the scheduler sees it."""
    committer: Committer = Committer.WORKERS

    @property
    def id(self) -> str:
        """Name of the execution, as in messages and in Redis."""
        return f"{self.run}-{self.number}"

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(self.model_dump(mode="json", exclude_defaults=True))


def execution_key(run: str) -> str:
    """Key of the pointer to a run's latest execution."""
    return run_key(run, "execution")


def leader_key(run: str) -> str:
    """Key of the pointer to the scheduler that drives a run."""
    return run_key(run, "leader")


def cancel_key(execution: Execution) -> str:
    """Key of an execution's durable cancel flag."""
    return run_key(execution.run, f"cancel/{execution.number}")


def quarantine_key(run: str, task_key: str) -> str:
    """Key of the record that a task is quarantined, until ``mlho retry``."""
    return run_key(run, f"quarantine/{task_key}")


def read_execution(store: Store, run: str) -> Execution | None:
    """The latest execution of a run, or ``None`` before the first."""
    try:
        return Execution.model_validate_json(store.get(execution_key(run)))
    except ArtifactNotFound:
        return None
    except ValidationError:
        raise SpecError(
            f"run {run}: its execution document was written by another version of this program. Use the same version for scheduler "
            "and workers."
        ) from None


def committer_of(store: Store) -> Committer:
    """Who may write commit records in a store as it is opened here."""
    return Committer.WORKERS if store.has_one_winner else Committer.SCHEDULER


def check_committer(store: Store, execution: Execution) -> None:
    """Return if a worker that opened the store like this may serve an execution.

    Raises
    ------
    SpecError
        Scheduler and worker disagree about who commits: their ``MLHO_S3_CONDITIONAL`` differ.
    """
    if committer_of(store) is not execution.committer:
        mode = "compat" if execution.committer is Committer.SCHEDULER else "strict"
        raise SpecError(
            f"run {execution.run}: its scheduler uses the store in {mode} mode, and this worker does not. Set "
            f"MLHO_S3_CONDITIONAL={mode} for the worker too."
        )


def is_over(store: Store, execution: Execution) -> bool:
    """Whether nothing of this execution may start any more."""
    latest = read_execution(store, execution.run)
    is_latest = latest is not None and latest.number == execution.number and latest.state is State.OPEN
    return not is_latest or store.exists(cancel_key(execution))


def task_document_key(task_key: str) -> str:
    """Key of the document that says what a task is."""
    return f"{TASKS}/{task_key[:2]}/{task_key}"


def write_task(store: Store, task: Task, task_key: str) -> None:
    """Leave a task where workers find it."""
    store.put_if_absent(task_document_key(task_key), task.document())


def read_task(store: Store, task_key: str) -> Task:
    """The task under a key.

    Raises
    ------
    SpecError
        Its content has another hash: the document was tampered with, or this worker is of another version.
    """
    text = store.get(task_document_key(task_key))
    try:
        task = Task.model_validate_json(text)
        is_its_own = task.key == task_key
    except (ValidationError, KeyError):  # a field or a kind of step that this version does not know
        is_its_own = False
    if not is_its_own:
        raise SpecError(
            f"task {task_key[:12]}…: its document does not have the hash that names it. Use the same version of this "
            "program for scheduler and workers, and run again."
        )
    return task


def place_in(params: Mapping[str, Any]) -> dict[str, str | int]:
    """Iteration, fold and block: what tells a task from its siblings, in logs and traces."""
    return {name: params[name] for name in PLACES if name in params}


def place_of(store: Store, task_key: str) -> dict[str, str | int]:
    """Step, iteration, fold and block of a task; nothing while the store does not serve."""
    try:
        task = read_task(store, task_key)
    except (MlhoError, OSError):
        return {}
    return {"step": task.kind, **place_in(task.params)}


def attempt_key(execution: str, task_key: str, nonce: str) -> str:
    """Key of the record that a message has started a task again."""
    return f"{ATTEMPTS}/{execution}/{task_key}/{nonce}"


class Start(BaseModel):
    """The record of a start from the second on, which its worker renews."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempt: int
    renewals: int = 0
    is_over: bool = False
    """Its worker has seen it end, by the task's own fault."""

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(self.model_dump())


def noted_attempts(store: Store, execution: str, task_key: str) -> dict[str, Start]:
    """The records of a task's starts that stand, by the nonce of their message; the first start has none."""
    found = {}
    for key in store.keys(f"{ATTEMPTS}/{execution}/{task_key}/"):
        with suppress(ArtifactNotFound, ValidationError):  # withdrawn meanwhile; what a power cut left of it
            found[key.rpartition("/")[2]] = Start.model_validate_json(store.get(key))
    return found
