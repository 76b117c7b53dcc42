"""The run loop: plan, hand out ready tasks, collect their commits, publish.

The store is the source of truth. A committed task is never executed again, even if another scheduler
committed it: a stopped run resumes at its last commits, and a finished run that is started again does
nothing.
"""

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from mlho.errors import ArtifactDamaged, ArtifactNotFound, CommitLost, MlhoError, StoreOutage, plural
from mlho.log import bound_run, error_fields, log
from mlho.protocol.documents import place_in
from mlho.protocol.failures import Quarantined
from mlho.steps.base import Task
from mlho.steps.proposals import SOLE_LEADER, Leader
from mlho.steps.records import Commit, Outcome, read_commit
from mlho.store.base import Store
from mlho.store.keys import blob_key, run_key
from scheduler.engine.commits import Commits
from scheduler.engine.outages import StoreHealth, watching
from scheduler.engine.plan import Manifest, Plan, PlannedTask
from scheduler.engine.process_pool import worker_lost
from scheduler.engine.progress import FanOut, Observer
from scheduler.engine.ready_tasks import ReadyTasks
from scheduler.engine.run_state import LoopState
from scheduler.runs.record import Recording, RunCost

MAX_ATTEMPTS: Final = 3
MAX_LOSSES: Final = 10  # per commit record; a store that loses the same record repeatedly is an error
_POLL_SECONDS: Final = 0.5
_DISPATCH: Final = "hand out"


class Executor(Protocol):
    """Runs tasks: a local process pool, or workers on a queue (``scheduler/queue/executor.py``)."""

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        """Start tasks in the given order."""


class PreparedRun(Protocol):
    """Work for the run loop: a training run here, or a scoring run in ``scheduler/engine/scoring_run.py``."""

    @property
    def run_id(self) -> str:
        """Return the identity: the hash of the specification and the inputs."""

    @property
    def manifest(self) -> Manifest:
        """Return the pinned inputs."""

    @property
    def data(self) -> Path | str:
        """Return the folder of the tables."""

    @property
    def store(self) -> Store:
        """Return the store for artifacts, commits and published files."""

    def describe(self) -> None:
        """Write the description of the run before it starts."""

    def first_plan(self) -> Plan:
        """Return the tasks whose results determine the rest of the plan."""

    def whole_plan(self, commits: Mapping[str, Commit]) -> Plan:
        """Return all tasks, including those of the first plan."""

    def publish(self, commits: Mapping[str, Commit]) -> Commit:
        """Publish the files under readable names, the completion marker last.

        Return the commit that holds the result.
        """


@dataclass(frozen=True)
class Finished:
    """A completed run."""

    run_id: str
    n_tasks: int
    n_new: int
    seconds: float
    report: Commit
    cost: RunCost


def carry_out(
    run: PreparedRun,
    executor: Executor,
    observer: Observer,
    *,
    n_slots: int | Callable[[], int],
    leader: Leader = SOLE_LEADER,
    health: StoreHealth | None = None,
) -> Finished:
    """Carry out a run.

    Raise the first failure that a retry cannot fix. Tasks in flight are abandoned; commits stay.

    Parameters
    ----------
    n_slots : int or callable
        Maximum number of tasks in flight. A callable is evaluated each time, because workers come and go.
    leader : Leader
        Asked before anything is committed or published. Raises if another scheduler has taken over the run.
    """
    slots = n_slots if callable(n_slots) else lambda: n_slots
    health = health or StoreHealth()
    with (
        bound_run(run.run_id),
        watching(run.store, run_key(run.run_id, "spec.yaml"), health, run=run.run_id),
        Recording(
            run.store, run.run_id, leader=leader, is_away=lambda: health.outage is not None
        ) as recording,
    ):
        state = LoopState({}, Commits(run.store, leader), health)
        return _Loop(run, state, executor, FanOut([observer]), slots).carry_out(recording, leader)


@dataclass
class _Loop:
    """One run while it is carried out."""

    run: PreparedRun
    state: LoopState
    executor: Executor
    observer: FanOut
    slots: Callable[[], int]

    def carry_out(self, recording: Recording, leader: Leader) -> Finished:
        """Carry out the run."""
        run, state = self.run, self.state
        started = time.monotonic()
        self._served(run.describe)
        state.plan = self._served(run.first_plan)
        self._served(lambda: recording.begin(state.commits.drain))
        log.info("run_started", n_bytes=run.manifest.n_bytes, workers=self.slots())
        self._run_until_complete()
        state.plan = self._with_repair(lambda: run.whole_plan(state.commits))
        state.is_whole = True
        self._run_until_complete()
        self._served(
            lambda: state.commits.log.compare_late(commit.task for commit in state.commits.known.values())
        )

        def publish() -> Commit:
            leader.wait(meanwhile=self.observer.repeat)
            recording.check_not_deleted()
            recording.list_tasks()
            return run.publish(state.commits)

        report = self._with_repair(publish)
        cost = state.commits.cost(read_bytes=run.manifest.n_bytes)
        self._served(lambda: recording.finish(n_new=state.n_new, cost=cost))
        seconds = round(time.monotonic() - started, 3)
        log.info("run_finished", n_tasks=len(state.plan), n_new=state.n_new, seconds=seconds)
        return Finished(run.run_id, len(state.plan), state.n_new, seconds, report, cost)

    def _served[T](self, do: Callable[[], T]) -> T:
        """Return the result of a call, once the store serves it."""
        return self.state.health.until_served(do, meanwhile=self.observer.repeat)

    def _with_repair[T](self, do: Callable[[], T]) -> T:
        """Return the result of a call that reads commits and blobs. Rebuild damaged or lost artifacts and retry."""
        for _ in range(MAX_ATTEMPTS - 1):
            try:
                return self._served(do)
            except ArtifactDamaged as error:
                _forget_damaged(self.run.store, self.state, error)
            except CommitLost as error:
                _forget_lost(self.state, error)
            self._run_until_complete()
        return self._served(do)

    def _run_until_complete(self) -> None:
        """Hand out ready tasks and collect their commits until the plan is complete or only quarantined tasks block it."""
        state = self.state
        ready = state.recompute_ready()
        while len(state.commits) < len(state.plan):
            state.health.check()
            due = state.again_at
            is_due = time.monotonic() >= due
            if is_due:
                ready = self._dispatch_if_served(ready)
            self._report(ready)
            # A delay may end during this pass. Only a pass that handed out every ready task shows that no task is
            # ready.
            was_served = is_due and state.again_at == due
            if (
                was_served
                and not state.running
                and not state.resting
                and len(state.commits) < len(state.plan)
            ):
                raise _blocked_error(state)
            for future in _completed(state):
                ready = self._record_outcome(ready, future)
        self._report(ready)

    def _report(self, ready: ReadyTasks) -> None:
        """Report progress, unless the first plan is complete and the whole plan is not yet known.

        The run would seem complete, and the progress of a resumed run would go backwards.
        """
        state = self.state
        if state.is_whole or len(state.commits) < len(state.plan):
            self.observer.update(ready.by_stage(), len(state.running))

    def _dispatch_if_served(self, ready: ReadyTasks) -> ReadyTasks:
        """Start ready tasks, or wait for the store. Return the updated ready tasks."""
        state = self.state
        try:
            for name in state.rested():
                ready.put_back(name)
            self._dispatch_ready(ready)
        except StoreOutage as error:
            state.again_at = time.monotonic() + state.health.failed(_DISPATCH, error)
            return state.recompute_ready()
        state.health.served(_DISPATCH)
        return ready

    def _dispatch_ready(self, ready: ReadyTasks) -> None:
        """Start ready tasks up to the number of slots.

        Tasks that are already committed are counted as done without a start.
        """
        store, state, n_slots = self.run.store, self.state, self.slots()
        while due := ready.next_ready(n_slots - len(state.running)):
            tasks = [planned.bind(state.commits.known) for planned in due]
            commits = store.each(lambda task: read_commit(store, task.key), tasks)
            missing = []
            for planned, task, commit in zip(due, tasks, commits, strict=True):
                if commit is None:
                    missing.append((planned, task))
                else:
                    state.commits[planned.name] = commit
                    ready.take_in(planned.name)
            futures = self.executor.submit_all([task for _, task in missing])
            state.running.update(zip(futures, (planned for planned, _ in missing), strict=True))

    def _record_outcome(self, ready: ReadyTasks, future: "Future[Outcome]") -> ReadyTasks:
        """Record the outcome of a task. Return the updated ready tasks."""
        state = self.state
        planned = state.running.pop(future)
        if not isinstance(future.exception(), StoreOutage):
            state.health.served(planned.name)
            state.again_at = 0.0
        try:
            outcome = _settled(state, future.result())
        except BrokenProcessPool as error:
            raise worker_lost() from error
        except Quarantined as error:
            log.error("task_quarantined", **_log_fields(planned), **error_fields(error))
            state.quarantined[planned.name] = error
        except StoreOutage as error:
            state.rest(planned, error)
        except CommitLost as error:
            is_lost = state.health.until_served(partial(_forget_lost, state, error))
            if not is_lost and state.has_needs_of(planned):
                _count_attempt(state, planned, error)
            return state.recompute_ready()
        except ArtifactDamaged as error:
            _count_attempt(state, planned, error)
            state.health.until_served(partial(_forget_damaged, self.run.store, state, error))
            return state.recompute_ready()
        except MlhoError as error:
            log.error("task_failed", **_log_fields(planned), **error_fields(error))
            if state.has_needs_of(planned):
                _count_attempt(state, planned, error)
            return state.recompute_ready()
        else:
            state.commits[planned.name] = outcome.commit
            ready.take_in(planned.name)
            state.n_new += outcome.is_new
            log.info(
                "task_finished", **_log_fields(planned), stage=planned.stage, seconds=outcome.commit.seconds
            )
        return ready


def _completed(state: LoopState) -> "Collection[Future[Outcome]]":
    """Return the futures that have completed, waiting at most one poll interval."""
    if not state.running and state.is_waiting:
        time.sleep(_POLL_SECONDS)
    return wait(state.running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED).done


def _log_fields(planned: PlannedTask) -> dict[str, str | int]:
    return {"task": planned.name, "step": planned.kind, **place_in(planned.params)}


def _settled(state: LoopState, outcome: Outcome) -> Outcome:
    """Return a committed outcome. In compat mode a pool's worker only proposes a commit, which is adopted here."""
    if not outcome.is_proposed:
        return outcome
    commit = state.commits.log.find(outcome.commit.task)
    if commit is None:
        raise MlhoError(
            f"{outcome.commit.kind}: its proposal is missing from the store. Run the same command again."
        )
    return Outcome(commit, is_new=outcome.is_new)


def _blocked_error(state: LoopState) -> MlhoError:
    """Return the error of a run that can make no further progress."""
    if not state.quarantined:
        return MlhoError(
            "no task is running or ready, but the plan is not complete. Report this as a defect."
        )
    words = str(next(iter(state.quarantined.values())))
    if len(state.quarantined) > 1:
        names = ", ".join(list(state.quarantined)[:10])
        words = f"{plural(len(state.quarantined), 'quarantined task')} ({names}). The first: {words}"
    return Quarantined(words, tasks=state.quarantined)


def _count_attempt(state: LoopState, planned: PlannedTask, error: MlhoError) -> None:
    state.attempts[planned.name] += 1
    if not error.retryable or state.attempts[planned.name] >= MAX_ATTEMPTS:
        error.task = planned.name
        raise error


def _forget_damaged(store: Store, state: LoopState, error: ArtifactDamaged) -> None:
    """Remove a blob and the commits that name it, so that their tasks run again.

    First verify that the blob is damaged.
    """
    if not error.sha256:
        raise error
    if _is_whole(store, error.sha256):  # rebuilt in the meantime, or the damage was outside the store
        return
    damaged = state.commits.naming(error.sha256)
    if error.sha256 in state.forgotten and not damaged:  # several tasks reported it, and it is being rebuilt
        return
    state.forgotten.add(error.sha256)
    for name in damaged:
        state.commits.log.remove(state.commits.known[name].task)
        del state.commits[name]
    store.delete(blob_key(error.sha256))
    if not damaged:
        raise error


def _forget_lost(state: LoopState, error: CommitLost) -> bool:
    """Schedule a task to run again if its commit record is missing or damaged. Return whether it was."""
    name = state.commits.lost(error.sha256)
    if name is None:
        return False
    state.n_lost[name] += 1
    if state.n_lost[name] > MAX_LOSSES:
        raise error
    log.warning("commit_lost", task=name)
    del state.commits[name]
    return True


def _is_whole(store: Store, sha256: str) -> bool:
    """Return whether the bytes in the store match a blob's digest. A local copy is not evidence of that."""
    try:
        return hashlib.sha256(store.get(blob_key(sha256))).hexdigest() == sha256
    except ArtifactNotFound:
        return False
