"""What a leading scheduler does for one run beside talking to Kubernetes: check it, carry it out, cancel it.

Each accepted run is carried out by a thread of its own with the code of ``mlho run --broker``. The thread tells how far it is
in small frozen pictures, which the reconciler reads whenever it likes.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import structlog

from mlho.errors import MlhoError, SpecError, StoreOutage, StoreUnavailable
from mlho.log import error_fields
from mlho.protocol.documents import Execution, State, read_execution
from mlho.protocol.failures import QueueError
from mlho.protocol.names import Names
from mlho.protocol.redis_client import QueueUnavailable
from mlho.settings import Settings
from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import RunSpec
from mlho.store import open_store
from mlho.store.base import Store
from mlho.store.keys import run_key
from mlho.store.probe import probe_store
from scheduler.api.status import MAX_MESSAGE, MAX_WARNINGS, ConditionType, Outputs, cut
from scheduler.api.tenancy import check_addresses
from scheduler.controller.observation import Check, RunProgress
from scheduler.controller.reasons import failures_shown, reason_of
from scheduler.engine.loop import Finished, PreparedRun, Run
from scheduler.engine.manifest import data_root, make_manifest
from scheduler.engine.outages import StoreGivenUp, StoreHealth
from scheduler.engine.progress import Stages
from scheduler.engine.scoring_run import ScoringRun, prepare_scoring
from scheduler.queue.executions import RunCancelled, cancel_execution
from scheduler.queue.executor import QueueExecutor
from scheduler.queue.leadership import AnotherScheduler, LeadershipLost
from scheduler.queue.leases import Leases
from scheduler.queue.pending import OTHER_KEY, TAMPERED
from scheduler.queue.run import QueueConfig, Stopped, cancel_run, carry_out_on_queue

_NOWHERE: Final = Path("/nonexistent")  # relative addresses count from a file; a resource is in none
_RETRY_SECONDS: Final = (2.0, 5.0, 10.0)  # no longer: it goes on within seconds of the end of an outage
_MAX_DEFECTS: Final = 3
_RUN_THREAD: Final = "run thread"
_METRICS: Final = ("auroc", "average_precision", "brier", "calibration_slope", "calibration_intercept")

log = structlog.get_logger()


class Backend:
    """What all runs of a scheduler share: the store, which is probed once, the queue, and the key.

    Parameters
    ----------
    store_address : str
    settings : Settings
        With broker and signing key.
    """

    def __init__(self, store_address: str, settings: Settings) -> None:
        broker = settings.broker_at(None)
        if broker is None:
            raise SpecError("MLHO_BROKER: not set. Give it the address of Redis.")
        settings.require_signing_key()
        self.store_address = store_address
        self.broker = broker
        self.settings = settings
        self._probed = False
        self._lock = threading.Lock()

    def store(self) -> Store:
        """The store, once it has shown that it keeps its promise."""
        store = open_store(self.store_address)
        with self._lock:
            if not self._probed:
                probe_store(store)
                self._probed = True
        return store

    def uri(self, run_id: str, name: str) -> str:
        """Address of a file of a run."""
        return f"{self.store_address.rstrip('/')}/{run_key(run_id, name)}"

    def data_of(self, run_id: str) -> str | None:
        """Where the tables of a run are that was carried out on a queue with this store; ``None`` if there is none."""
        execution = read_execution(self.store(), run_id)
        return execution.data if execution is not None else None

    def prepare(self, spec: RunSpec | ScoringRunSpec) -> PreparedRun:
        """Check a run's store, data and bundle, and pin its inputs.

        Raises
        ------
        MlhoError
            What is wrong, and what to do.
        """
        store = self.store()
        if isinstance(spec, ScoringRunSpec):
            return prepare_scoring(spec, _NOWHERE, store)
        data = data_root(spec, _NOWHERE)
        return Run(spec, make_manifest(spec.spec.data.tables, data), data, store)


def check_run(
    backend: Backend, spec: RunSpec | ScoringRunSpec, *, allowed: Sequence[str] | None = None
) -> tuple[Check, PreparedRun | None]:
    """Look whether a run may start; what is wrong becomes a reason and a message, never an exception.

    ``allowed`` are the prefixes that the runs of its namespace may read; ``None`` for no limits.
    """
    try:
        check_addresses(spec, allowed, backend.data_of)
        prepared = backend.prepare(spec)
        return Check(run_id=prepared.run_id), prepared
    except MlhoError as error:
        return Check(reason=reason_of(error), message=str(error)), None
    except Exception as error:
        log.exception("check_failed", error_kind=type(error).__name__)
        message = f"the check failed with {type(error).__name__}. It is tried again; report this as a defect."
        return Check(reason="InternalError", message=message), None


class RunThread:
    """Carries one run out, in a thread of its own.

    Parameters
    ----------
    backend : Backend
    prepared : PreparedRun
    on_change : callable
        Called whenever there is news; must return at once.
    note : callable
        Remembers where others look that the run is under way, before it begins.
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
        self._executor: QueueExecutor | None = None
        self._began_it = False
        self._picture = RunProgress()
        self._health = StoreHealth(patience=backend.settings.store_patience)
        self._idle_since = time.monotonic()
        self._thread = threading.Thread(
            target=self._run_or_stop, name=f"run-{prepared.run_id[:12]}", daemon=True
        )

    @property
    def run_id(self) -> str:
        """What it carries out."""
        return self._run.run_id

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop at the next moment; the execution stays open."""
        self._stop.set()

    def join(self, seconds: float) -> bool:
        """Wait for it to end; tell whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread.is_alive()

    @property
    def has_ended(self) -> bool:
        """Whether the run has come to an end, good or bad; a thread that was stopped has not."""
        return self._picture.end is not None

    def snapshot(self) -> RunProgress:
        """How far it is, at this moment."""
        found = self._picture
        executor = self._executor
        if found.end is not None:
            return found
        found = replace(found, trouble=_trouble_of(self._health, executor) or found.trouble)
        if executor is None:
            return found
        figures = executor.figures
        return replace(
            found,
            slots=figures.slots,
            retried=figures.retried,
            quarantined=figures.quarantined,
            idle_seconds=0.0 if found.running else time.monotonic() - self._idle_since,
            memory_exceeded=figures.memory_exceeded,
        )

    # What the thread does.

    def _run_or_stop(self) -> None:
        n_tries = n_defects = 0
        while not self._stop.is_set():
            try:
                self._once()
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
                given_up = self._take_in(error)
                if given_up is not None:
                    self._fail(given_up)
                    return
                if isinstance(error, AnotherScheduler):
                    n_tries = 0  # most often a former leader's, whose lease is over within seconds
                self._show(replace(self._picture, trouble=(reason_of(error), cut(str(error), 512))))
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

    def _take_in(self, error: MlhoError) -> StoreGivenUp | None:
        """Take in that the run was broken off; an error if its store has been away for too long."""
        if isinstance(error, StoreOutage):
            self._health.failed(_RUN_THREAD, error)
        self._health.only(_RUN_THREAD)
        return self._health.given_up()

    def _once(self) -> None:
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
        stages = tuple(replace(stage, done=stage.total) for stage in self._picture.stages)
        self._show(
            replace(
                self._picture,
                stages=stages,
                running=0,
                trouble=None,
                end=ConditionType.SUCCEEDED,
                end_reason="Succeeded",
                end_message=_count_of(finished, began_it=self._began_it),
                **outcome,
            )
        )

    def started(self, execution: Execution, executor: QueueExecutor) -> None:
        """Keep the executor, whose counters are read for each picture."""
        self._executor = executor
        self._began_it = executor.is_new
        self._health.served(_RUN_THREAD)
        self._idle_since = time.monotonic()
        self._show(replace(self._picture, execution=execution.id, trouble=None))

    def update(self, stages: Stages, running: int) -> None:
        """Take in where the run is, as its observer; the place at which it can be stopped."""
        if self._stop.is_set():
            raise Stopped
        if self._picture.running and not running:
            self._idle_since = time.monotonic()
        snapshot = replace(self._picture, stages=stages, running=running)
        if snapshot != self._picture:
            self._show(snapshot)

    def _fail(self, error: MlhoError) -> None:
        log.error("run_failed", run_id=self.run_id, **error_fields(error))
        retry = f"mlho retry {self.run_id} --store {self._backend.store_address}"
        self._picture = replace(self._picture, failures=failures_shown(error, retry=retry))
        self._end(ConditionType.FAILED, reason_of(error), str(error))

    def _end(self, end: ConditionType, reason: str, message: str) -> None:
        snapshot = self._picture
        self._show(
            replace(
                snapshot, running=0, trouble=None, end=end, end_reason=reason, end_message=cut(message, 512)
            )
        )

    def _show(self, snapshot: RunProgress) -> None:
        self._picture = snapshot
        self._on_change()


def _count_of(finished: Finished, *, began_it: bool) -> str:
    """How many tasks a run had; how many are new is known only to what has seen the execution from its beginning."""
    return (
        f"{finished.n_tasks} tasks, {finished.n_new} of them new."
        if began_it
        else f"{finished.n_tasks} tasks."
    )


def _trouble_of(health: StoreHealth, executor: QueueExecutor | None) -> tuple[str, str] | None:
    """Reason and message of what is wrong though the run goes on: the store first, as the rest may follow from it."""
    if health.outage is not None:
        return health.outage.reason, cut(
            f"{health.outage.words} The run waits, and goes on once it serves.", 512
        )
    if executor is not None and executor.figures.is_degraded:
        return "QueueUnavailable", cut(
            f"{executor.figures.outage} Workers finish what they have, and wait.", 512
        )
    if executor is not None and executor.figures.forged:
        return "MessagesRefused", OTHER_KEY
    if executor is not None and executor.figures.is_tampered:
        return "QueueTampered", TAMPERED
    return None


def outcome_of(backend: Backend, run: PreparedRun, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs, metrics, headline and warnings of a finished run, by the names that :class:`~scheduler.controller.observation.RunProgress` has for them."""
    if isinstance(run, ScoringRun):
        prefix = run.spec.spec.output.prefix
        scores = json.loads(run.store.get(run.key("manifest.json")))["scores"]
        outputs = Outputs(scores=backend.uri(run.run_id, f"{prefix}/manifest.json"))
        metrics = {"samples": str(scores["samples"])}
        if "samples_without_events" in scores:  # earlier versions wrote neither this nor warnings
            metrics["samplesWithoutEvents"] = str(scores["samples_without_events"])
        return {
            "outputs": outputs,
            "metrics": metrics,
            "headline": f"{scores['samples']:,} scores",
            "warnings": _shown_warnings(scores.get("warnings", ())),
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
    shown = _shown_warnings(result["warnings"])
    return {"outputs": outputs, "metrics": metrics, "headline": headline, "warnings": shown}


def _shown_warnings(warnings: Sequence[str]) -> tuple[str, ...]:
    return tuple(cut(own, MAX_MESSAGE) for own in warnings[:MAX_WARNINGS])


def cancel(backend: Backend, run_id: str, *, flagged: Callable[[], None]) -> None:
    """Raise the durable flag, say so, tell the workers, and delete the queue once they have left. It takes a while.

    Raises
    ------
    MlhoError
        Store or queue do not answer: try again.
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
    leases = Leases(backend.broker, Names(execution.id))
    try:
        leases.remove_keys()
    finally:
        leases.close()
