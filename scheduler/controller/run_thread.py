"""Check, carry out and cancel a run, without access to Kubernetes.

Each accepted run has a thread, which executes the same code as ``mlho run --broker``. It publishes its
progress as immutable snapshots, which the reconciler reads at any time.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

from mlho.errors import (
    ArtifactNotFound,
    ChannelDamaged,
    MlhoError,
    SpecError,
    StoreOutage,
    StoreUnavailable,
    plural,
)
from mlho.log import error_fields, log
from mlho.protocol.documents import Execution, State, read_execution
from mlho.protocol.failures import QueueError
from mlho.protocol.names import Names
from mlho.protocol.redis_client import QueueUnavailable
from mlho.report.gates import gates_in_words
from mlho.settings import Settings
from mlho.spec.scoring import CHANNEL_BUNDLE, ScoringRunSpec
from mlho.spec.training import RunSpec
from mlho.store import open_store
from mlho.store.base import Store
from mlho.store.keys import run_key
from mlho.store.probe import probe_store
from scheduler.api.status import MAX_MESSAGE, MAX_SHORT, MAX_WARNINGS, ConditionType, Cost, Outputs, cut
from scheduler.api.tenancy import check_addresses
from scheduler.controller.observation import Check, RunProgress, scoring_metrics
from scheduler.controller.reasons import failures_shown, quality_shown, reason_of
from scheduler.engine.loop import Finished, PreparedRun
from scheduler.engine.manifest import left_out_sentences
from scheduler.engine.outages import StoreGivenUp, StoreHealth
from scheduler.engine.plan import left_out_facts
from scheduler.engine.prepare import prepare_in_cluster
from scheduler.engine.progress import Stages
from scheduler.engine.scoring_run import (
    COMPARISON_FILE,
    RETRAIN_FILE,
    ScoringRun,
    entry_at,
    with_run_id,
)
from scheduler.engine.training_run import TrainingRun, with_pinned_earlier, with_pinned_model
from scheduler.queue.executions import RunCancelled, cancel_execution
from scheduler.queue.executor import QueueExecutor
from scheduler.queue.executor_state import OTHER_KEY, TAMPERED
from scheduler.queue.leadership import AnotherScheduler, LeadershipLost
from scheduler.queue.leases import Leases
from scheduler.queue.run import QueueConfig, Stopped, cancel_run, carry_out_on_queue
from scheduler.site.pages import renew_site

_RETRY_SECONDS: Final = (2.0, 5.0, 10.0)  # at most 10 s, so that a run resumes soon after an outage
_MAX_DEFECTS: Final = 3
_RUN_THREAD: Final = "run thread"
_METRICS: Final = ("auroc", "average_precision", "brier", "calibration_slope", "calibration_intercept")


class Backend:
    """Store, broker and settings that all runs of a scheduler share. The store is probed once.

    Parameters
    ----------
    settings : Settings
        Including broker and signing key.
    """

    def __init__(self, store_address: str, settings: Settings) -> None:
        broker = settings.broker_at(None)
        if broker is None:
            raise SpecError("MLHO_BROKER: not set. Set it to the address of Redis.")
        settings.require_signing_key()
        self.store_address = store_address
        self.broker = broker
        self.settings = settings
        self._probed = False
        self._lock = threading.Lock()

    def store(self) -> Store:
        """Return the store. At the first call, verify that it provides the required guarantees."""
        store = open_store(self.store_address)
        with self._lock:
            if not self._probed:
                probe_store(store)
                self._probed = True
        return store

    def uri(self, run_id: str, name: str) -> str:
        """Return the address of a file of a run."""
        return f"{self.store_address.rstrip('/')}/{run_key(run_id, name)}"

    def data_of(self, run: str) -> str | None:
        """Return the location of a run's tables, or ``None`` if the run has not been carried out on a queue with this store.

        The run is given by its id, or by the address of a channel that shows its model.
        """
        if run.startswith(CHANNEL_BUNDLE):
            try:
                run = entry_at(run, self.store()).run
            except (SpecError, ChannelDamaged):
                return None
        execution = read_execution(self.store(), run)
        return execution.data if execution is not None else None

    def prepare(self, spec: RunSpec | ScoringRunSpec) -> PreparedRun:
        """Check store, data and bundle of a run, and pin its inputs.

        Raise MlhoError if the run cannot start.
        """
        return prepare_in_cluster(spec, self.store())


def check_run(
    backend: Backend,
    spec: RunSpec | ScoringRunSpec,
    *,
    allowed: Sequence[str] | None = None,
    accepted: str | None = None,
) -> tuple[Check, PreparedRun | None]:
    """Check whether a run may start. Errors are returned as reason and message.

    ``allowed`` are the prefixes that the runs of its namespace may read; ``None`` for no restriction.
    ``accepted`` is the id of the run if it was accepted before.
    """
    try:
        check_addresses(spec, allowed, backend.data_of)
        if isinstance(spec, ScoringRunSpec):
            spec = with_run_id(spec, backend.store(), accepted=accepted)
        else:
            spec = with_pinned_model(spec, backend.store(), accepted=accepted)
            spec = with_pinned_earlier(spec, backend.store(), accepted=accepted)
        check_addresses(spec, allowed, backend.data_of)  # the channel may have moved since the first check
        prepared = backend.prepare(spec)
        left_out = " ".join(left_out_sentences(left_out_facts(prepared.manifest.left_out)))
        return Check(run_id=prepared.run_id, warning=left_out), prepared
    except MlhoError as error:
        return Check(reason=reason_of(error), message=str(error)), None
    except Exception as error:
        log.exception("check_failed", error_kind=type(error).__name__)
        message = f"The check failed with {type(error).__name__} and is retried. Report this as a defect."
        return Check(reason="InternalError", message=message), None


class RunThread:
    """Carries out one run in a thread.

    Parameters
    ----------
    on_change : callable
        Called after each change of the progress; must not block.
    note : callable
        Records in the store that the run is active, before it starts.
    """

    def __init__(
        self,
        backend: Backend,
        prepared: PreparedRun,
        on_change: Callable[[], None],
        *,
        note: Callable[[], None] = lambda: None,
    ) -> None:
        self._backend = backend
        self._run = prepared
        self._on_change = on_change
        self._note = note
        self._stop = threading.Event()
        self._is_cancelled = threading.Event()
        self._executor: QueueExecutor | None = None
        self._began_it = False
        needed = prepared.worker_bytes if isinstance(prepared, TrainingRun) else 0
        self._progress = RunProgress(memory_needed=needed)
        self._health = StoreHealth(patience=backend.settings.store_patience)
        self._idle_since = time.monotonic()
        self._thread = threading.Thread(
            target=self._run_or_stop, name=f"run-{prepared.run_id[:12]}", daemon=True
        )

    @property
    def run_id(self) -> str:
        """Return the id of the run."""
        return self._run.run_id

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the run at its next update. The execution stays open."""
        self._stop.set()

    def cancel(self) -> None:
        """Cancel the run at its next update: the durable flag does not reach a run that has not opened its execution."""
        self._is_cancelled.set()

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end. Return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Return whether the thread is running."""
        return self._thread.is_alive()

    @property
    def has_ended(self) -> bool:
        """Return whether the run has ended, successfully or not. A stopped run has not ended."""
        return self._progress.end is not None

    def snapshot(self) -> RunProgress:
        """Return the current progress."""
        progress = self._progress
        executor = self._executor
        if progress.end is not None:
            return progress
        progress = replace(progress, trouble=_trouble_of(self._health, executor) or progress.trouble)
        if executor is None:
            return progress
        counters = executor.counters
        return replace(
            progress,
            slots=counters.slots,
            retried=counters.retried,
            quarantined=counters.quarantined,
            idle_seconds=0.0 if progress.running else time.monotonic() - self._idle_since,
            memory_exceeded=counters.memory_exceeded,
        )

    # The methods below run in the thread.

    def _run_or_stop(self) -> None:
        n_tries = n_defects = 0
        while not self._stop.is_set():
            try:
                self._carry_out()
                return
            except Stopped:
                return
            except RunCancelled as error:
                self._end(ConditionType.CANCELLED, "Cancelled", str(error))
                return
            except (
                AnotherScheduler,
                LeadershipLost,
                QueueUnavailable,
                QueueError,
                StoreUnavailable,
            ) as error:
                given_up = self._record_error(error)
                if given_up is not None:
                    self._fail(given_up)
                    return
                if isinstance(error, AnotherScheduler):
                    n_tries = 0  # usually the previous leader, whose lease expires within seconds
                self._show(trouble=(reason_of(error), str(error)))
            except MlhoError as error:
                self._fail(error)
                return
            except Exception as error:
                n_defects += 1
                log.exception("run_thread_failed", run_id=self.run_id, error_kind=type(error).__name__)
                if n_defects >= _MAX_DEFECTS:
                    message = f"{type(error).__name__} in the scheduler. Report this as a defect."
                    self._end(ConditionType.FAILED, "InternalError", message)
                    return
            finally:
                self._executor = None
            self._stop.wait(_RETRY_SECONDS[min(n_tries, len(_RETRY_SECONDS) - 1)])
            n_tries += 1

    def _record_error(self, error: MlhoError) -> StoreGivenUp | None:
        """Record an error that interrupted the run. Return an error if the outage of the store has lasted too long."""
        if isinstance(error, StoreOutage):
            self._health.failed(_RUN_THREAD, error)
        self._health.only(_RUN_THREAD)
        return self._health.given_up()

    def _carry_out(self) -> None:
        self._note()
        queue_config = QueueConfig(self._backend.broker, self._backend.store_address, 0)
        finished = carry_out_on_queue(
            self._run,
            queue_config,
            self._backend.settings,
            [self],
            notify=lambda _: None,
            health=self._health,
        )
        outcome = outcome_of(self._backend, self._run, finished.report.facts)
        stages = tuple(replace(stage, done=stage.total) for stage in self._progress.stages)
        self._show(
            stages=stages,
            running=0,
            trouble=None,
            end=ConditionType.SUCCEEDED,
            end_reason="Succeeded",
            end_message=_count_of(finished, began_it=self._began_it),
            cost=_shown_cost(finished),
            **outcome,
        )
        renew_site(self._backend.store())

    def started(self, execution: Execution, executor: QueueExecutor) -> None:
        """Keep the executor, whose counters each snapshot reads."""
        self._executor = executor
        self._began_it = executor.is_new
        self._health.served(_RUN_THREAD)
        self._idle_since = time.monotonic()
        self._show(execution=execution.id, trouble=None)

    def update(self, stages: Stages, running: int) -> None:
        """Receive the progress as an observer. Raise ``Stopped`` or ``RunCancelled`` if the run is to be stopped or cancelled."""
        if self._stop.is_set():
            raise Stopped
        if self._is_cancelled.is_set():
            raise RunCancelled(f"run {self.run_id}: cancelled. Committed results are kept.")
        if self._progress.running and not running:
            self._idle_since = time.monotonic()
        if (stages, running) != (self._progress.stages, self._progress.running):
            self._show(stages=stages, running=running)

    def _fail(self, error: MlhoError) -> None:
        log.error("run_failed", run_id=self.run_id, **error_fields(error))
        retry = f"mlho retry {self.run_id} --store {self._backend.store_address}"
        self._progress = replace(self._progress, failures=failures_shown(error, retry=retry))
        self._end(ConditionType.FAILED, reason_of(error), str(error))

    def _end(self, end: ConditionType, reason: str, message: str) -> None:
        self._show(running=0, trouble=None, end=end, end_reason=reason, end_message=message)

    def _show(self, **changes: Any) -> None:
        self._progress = replace(self._progress, **changes)
        self._on_change()


def _count_of(finished: Finished, *, began_it: bool) -> str:
    """Return the number of tasks. The number of new tasks is known only if this scheduler started the execution."""
    new = f", {finished.n_new} of them new" if began_it else ""
    return f"{plural(finished.n_tasks, 'task')}{new}."


def _trouble_of(health: StoreHealth, executor: QueueExecutor | None) -> tuple[str, str] | None:
    """Return reason and message of the problem of a run that continues. An outage of the store comes first, as it may cause others."""
    if health.outage is not None:
        outage = health.outage
        return outage.reason, f"{outage.words} The run waits, and resumes when the store is available."
    if executor is None:
        return None
    if executor.counters.is_degraded:
        return "QueueUnavailable", f"{executor.counters.outage} Workers finish their current tasks, and wait."
    if executor.counters.forged:
        return "MessagesRefused", OTHER_KEY
    if executor.counters.is_tampered:
        return "QueueTampered", TAMPERED
    return executor.counters.repetition


def _shown_cost(finished: Finished) -> Cost:
    cost = finished.cost
    hours = f"{cost.cpu_seconds / 3600:.2g}"
    return Cost(cpu_hours=hours, read_bytes=cost.read_bytes, stored_bytes=cost.stored_bytes)


def outcome_of(backend: Backend, run: PreparedRun, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return outputs, metrics, headline and warnings of a finished run, by field of :class:`~scheduler.controller.observation.RunProgress`."""
    inspected = _inspection_warnings(run)
    if isinstance(run, ScoringRun):
        prefix = run.spec.spec.output.prefix
        manifest = json.loads(run.store.get(run.key("manifest.json")))
        scores, of_partitions = manifest["scores"], manifest.get("warnings", ())
        has_advised = run.store.exists(run.key(RETRAIN_FILE))
        outputs = Outputs(
            scores=backend.uri(run.run_id, f"{prefix}/manifest.json"),
            advised=backend.uri(run.run_id, f"{prefix}/{RETRAIN_FILE}") if has_advised else None,
        )
        comparison = None if run.compared is None else json.loads(run.store.get(run.key(COMPARISON_FILE)))
        return {
            "outputs": outputs,
            "metrics": scoring_metrics(scores, comparison),
            "headline": f"{scores['samples']:,} scores",
            "model": cut(run.spec.spec.bundle.uri, MAX_SHORT),
            "warnings": _shown_warnings([*inspected, *scores.get("warnings", ()), *of_partitions]),
        }
    result = json.loads(run.store.get(run_key(run.run_id, "result.json")))
    means = {name: result["headline"][name]["mean"] for name in _METRICS if name in result["headline"]}
    metrics = {name: f"{value:.3f}" for name, value in means.items() if value is not None}
    outputs = Outputs(
        report=backend.uri(run.run_id, "report.html"),
        result=backend.uri(run.run_id, "result.json"),
        bundle=backend.uri(run.run_id, "bundle"),
        result_digest=facts.get("result_digest"),
    )
    headline = f"auroc {metrics['auroc']}" if "auroc" in metrics else None
    warnings = _shown_warnings([*inspected, *result["warnings"]])
    outcome = {"outputs": outputs, "metrics": metrics, "headline": headline, "warnings": warnings}
    return {**outcome, "gates": gates_in_words(result), "quality": quality_shown(result)}


def _inspection_warnings(run: PreparedRun) -> list[str]:
    """Return the warnings of the inspection of the tables; a run that a command carried out has no record of them."""
    try:
        return list(json.loads(run.store.get(run_key(run.run_id, "inspection.json")))["warnings"])
    except ArtifactNotFound:
        return []


def _shown_warnings(warnings: Sequence[str]) -> tuple[str, ...]:
    return tuple(cut(warning, MAX_MESSAGE) for warning in warnings[:MAX_WARNINGS])


def cancel(backend: Backend, run_id: str, *, flagged: Callable[[], None]) -> None:
    """Set the durable cancel flag, call ``flagged``, notify the workers, and delete the queue once they have left. Blocks for some seconds.

    Raise MlhoError if store or queue are unavailable: call again later.
    """
    store = backend.store()
    execution = read_execution(store, run_id)
    if execution is not None and execution.state is State.OPEN:
        cancel_execution(store, execution)
        flagged()
        cancel_run(store, run_id, backend.broker)
        return
    flagged()
    if execution is None or execution.state is State.FINISHED:
        return
    with closing(Leases(backend.broker, Names(execution.id))) as leases:
        leases.remove_keys()
