"""One run, from its specification to its files: plan, hand out what is ready, bring it home, publish.

The store is the truth. What is committed there is never done again, whoever did it: a run that was stopped goes on
where it was, and a finished run that is started again does nothing.
"""

import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import structlog
import yaml

from mlho.errors import ArtifactDamaged, MlhoError
from mlho.log import error_fields
from mlho.spec import RunSpec, canonical_json, run_id
from mlho.steps.base import Commit, Outcome, Task, read_commit
from mlho.store.base import Store
from mlho.store.keys import blob_key, commit_key, run_key
from scheduler.local import worker_lost
from scheduler.plan import COHORT_TASK, Manifest, Plan, PlannedTask, plan_cohort, plan_run
from scheduler.progress import done_by_stage, ready_tasks

MAX_ATTEMPTS: Final = 3
_POLL_SECONDS: Final = 0.5

log = structlog.get_logger()


class Executor(Protocol):
    """Whatever runs tasks: a pool of processes here, workers on a queue elsewhere."""

    def submit(self, task: Task) -> "Future[Outcome]":
        """Start a task."""


class Observer(Protocol):
    """Whoever watches a run, such as a progress bar."""

    def update(self, stages: list[tuple[str, int, int]], running: int) -> None:
        """Show the stages (name, done, all) and how many tasks run."""


@dataclass(frozen=True)
class Run:
    """A run that is about to start: what is asked, on which inputs, from where, into which store."""

    spec: RunSpec
    manifest: Manifest
    data: Path
    store: Store

    @property
    def run_id(self) -> str:
        """Identity: the hash of what is asked and of the inputs."""
        return run_id(self.spec, self.manifest.plain())


@dataclass(frozen=True)
class Finished:
    """A run that is home."""

    run_id: str
    n_tasks: int
    n_new: int
    seconds: float
    report: Commit


@dataclass
class _State:
    """What a run's loop knows: commits by task name, tasks under way, attempts."""

    plan: Plan
    commits: dict[str, Commit] = field(default_factory=dict)
    running: "dict[Future[Outcome], tuple[PlannedTask, Task]]" = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    n_new: int = 0

    def taken(self) -> set[str]:
        """Names of the tasks under way."""
        return {task.name for task, _ in self.running.values()}


def carry_out(run: Run, executor: Executor, observer: Observer, *, n_slots: int) -> Finished:
    """Carry out a run.

    Parameters
    ----------
    run : Run
    executor : Executor
    observer : Observer
    n_slots : int
        Tasks to keep under way at once.

    Raises
    ------
    MlhoError
        The first failure that trying again cannot mend. Tasks under way are given up; what is committed stays.
    """
    started = time.monotonic()
    name = run.run_id
    _describe(run, name)
    state = _State(plan_cohort(run.spec.spec, run.manifest))
    log.info("run_started", run_id=name, n_bytes=run.manifest.n_bytes, workers=n_slots)
    _bring_home(run, state, executor, observer, n_slots)
    facts = state.commits[COHORT_TASK].facts
    state.plan = plan_run(
        run.spec.spec, run.manifest, n_blocks=facts["n_blocks"], n_samples=facts["n_samples"]
    )
    _bring_home(run, state, executor, observer, n_slots)
    _publish(run, name, state.commits)
    seconds = round(time.monotonic() - started, 3)
    log.info("run_finished", run_id=name, n_tasks=len(state.plan), n_new=state.n_new, seconds=seconds)
    return Finished(name, len(state.plan), state.n_new, seconds, state.commits["report"])


def _bring_home(run: Run, state: _State, executor: Executor, observer: Observer, n_slots: int) -> None:
    """Hand out ready tasks and take in their commits until the plan is done."""
    while len(state.commits) < len(state.plan):
        progressed = _hand_out(run, state, executor, n_slots)
        observer.update(done_by_stage(state.plan, state.commits), len(state.running))
        if progressed or not state.running:
            continue
        done, _ = wait(state.running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            _take_in(run, state, future)
    observer.update(done_by_stage(state.plan, state.commits), 0)


def _hand_out(run: Run, state: _State, executor: Executor, n_slots: int) -> bool:
    """Start ready tasks up to the number of slots; tell whether any turned out to be done already."""
    found = False
    for planned in list(ready_tasks(state.plan, state.commits, state.taken())):
        task = planned.bind(state.commits)
        commit = read_commit(run.store, task.key)
        if commit is not None:
            state.commits[planned.name] = commit
            found = True
        elif len(state.running) < n_slots:
            state.running[executor.submit(task)] = (planned, task)
    return found


def _take_in(run: Run, state: _State, future: "Future[Outcome]") -> None:
    planned, task = state.running.pop(future)
    try:
        outcome = future.result()
    except BrokenProcessPool as error:
        raise worker_lost() from error
    except ArtifactDamaged as error:
        _count_attempt(state, planned, error)
        _forget_damaged(run, state, error)
    except MlhoError as error:
        log.error("task_failed", task=planned.name, step=planned.kind, **error_fields(error))
        _count_attempt(state, planned, error)
    else:
        state.commits[planned.name] = outcome.commit
        state.n_new += outcome.is_new
        log.info(
            "task_finished",
            task=planned.name,
            step=task.kind,
            stage=planned.stage,
            seconds=outcome.commit.seconds,
        )


def _count_attempt(state: _State, planned: PlannedTask, error: MlhoError) -> None:
    state.attempts[planned.name] += 1
    if not error.retryable or state.attempts[planned.name] >= MAX_ATTEMPTS:
        raise error


def _forget_damaged(run: Run, state: _State, error: ArtifactDamaged) -> None:
    """Remove a damaged blob and the commits that name it, so that their tasks run again."""
    if not error.sha256:
        raise error
    damaged = [
        name
        for name, commit in state.commits.items()
        if error.sha256 in {f.sha256 for f in commit.files.values()}
    ]
    for name in damaged:
        run.store.delete(commit_key(state.commits[name].task))
        del state.commits[name]
    run.store.delete(blob_key(error.sha256))
    if not damaged:
        raise error


def _describe(run: Run, name: str) -> None:
    """Write what the run is, before it starts: the specification and the manifest."""
    document = run.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    document |= {"apiVersion": run.spec.api_version, "kind": run.spec.kind}
    run.store.put_if_absent(run_key(name, "spec.yaml"), yaml.safe_dump(document, sort_keys=False).encode())
    run.store.put_if_absent(run_key(name, "manifest.json"), canonical_json(run.manifest.plain()))


def _publish(run: Run, name: str, commits: Mapping[str, Commit]) -> None:
    """Give the files that people look for a name in the run's folder; ``result.json`` comes last and means done."""
    model = commits["model"].files
    published = {file: stored for file, stored in model.items() if file.startswith("bundle/")}
    report = commits["report"].files
    published |= {file: stored for file, stored in report.items() if file != "result.json"}
    published["result.json"] = report["result.json"]
    for file, stored in published.items():
        run.store.copy_if_absent(blob_key(stored.sha256), run_key(name, file))
