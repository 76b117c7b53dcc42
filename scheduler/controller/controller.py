"""The operator's control loop on the leading scheduler: observe, decide and act for each changed run, with periodic resync.

:mod:`scheduler.controller.reconcile` decides, and :mod:`scheduler.controller.run_thread` carries out a run.
This module connects both with the cluster. A single thread reconciles. Runs, checks and cancellations have
their own threads, which enqueue a run when its state changes.
"""

import datetime as dt
import math
import threading
import time
from dataclasses import replace
from typing import Final

from mlho.errors import SpecError
from mlho.log import error_fields, log
from scheduler.api.client import (
    RUN_KINDS,
    Cluster,
    ClusterError,
    ClusterUnavailable,
    Conflict,
    Kind,
    NotFound,
    status_body,
)
from scheduler.api.config import ClusterConfig
from scheduler.api.objects import WorkerGeneration
from scheduler.api.resource import DesiredState, RunRequest, from_resource
from scheduler.api.status import Status, read_status
from scheduler.controller.checks import RunChecks
from scheduler.controller.cleanup import Cleaner
from scheduler.controller.conditions import EventReason, RunEvent, has_ended
from scheduler.controller.event_recorder import EventRecorder
from scheduler.controller.finalizer import RunFinalizer
from scheduler.controller.informer import Cache, Object, Watcher
from scheduler.controller.metrics import MetricValues, run_figures
from scheduler.controller.observation import (
    Check,
    ObservedRun,
    Quota,
    job_facts,
    pod_facts,
    quota_of,
)
from scheduler.controller.reconcile import Decision, decide
from scheduler.controller.run_thread import Backend, RunThread
from scheduler.controller.tracked_run import (
    OperatorCounts,
    TrackedRun,
    owner_of,
    request_of_invalid,
    run_of,
)
from scheduler.controller.turns import assign_turns, learn_priority
from scheduler.controller.work_queue import WorkQueue
from scheduler.controller.worker_jobs import WorkerJobs

STATUS_SECONDS: Final = 2.0  # between two writes of one run's status
_TICK_SECONDS: Final = 0.25
_POLL_SECONDS: Final = 1.0  # between two reconciliations of an active run
_RESYNC_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 20.0
_WORKERS: Final = "app.kubernetes.io/managed-by=mlho-scheduler"
_AT_ONCE: Final = (EventReason.WORKERS_CREATED, EventReason.MEMORY_RAISED)


class Operator:
    """Carries out the runs of a cluster.

    Parameters
    ----------
    secrets : str
        Checksum of the Secrets at startup.
    """

    def __init__(
        self,
        cluster: Cluster,
        config: ClusterConfig,
        backend: Backend,
        *,
        identity: str,
        secrets: str = "",
    ) -> None:
        self._cluster = cluster
        self._config = config
        self._backend = backend
        self._secrets = secrets
        self._recorder = EventRecorder(cluster, identity)
        self._workers = WorkerJobs(cluster, config.worker, secrets=secrets)
        self._tracked: dict[str, TrackedRun] = {}
        self._queue = WorkQueue()
        self._stop = threading.Event()
        self._runs = Cache(self._run_changed)
        self._jobs = Cache(self._owned_changed)
        self._pods = Cache(self._owned_changed)
        self._workloads = Cache(self._workload_changed)
        self._watchers = self._make_watchers()
        self._checks = RunChecks(backend, config.prefixes, self._queue)
        self._cleaner = Cleaner(backend, f"{config.namespace}.{config.lease_name}")
        self._finalizer = RunFinalizer(self._cleaner, self._tracked, self._queue)
        self._turns: frozenset[str] = frozenset()
        self._priorities: dict[str, int] = {}
        self._thread = threading.Thread(target=self._reconcile_for_ever, name="reconcile", daemon=True)
        self.counts = OperatorCounts()
        self.last_pass_at = time.monotonic()
        """Time of the last pass of the loop, by the monotonic clock."""

    def start(self) -> None:
        """Start the informers and the control loop."""
        for watcher in self._watchers:
            watcher.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop all threads. Runs stay open for the next leader. The status of runs that end in the meantime is written."""
        self._stop.set()
        self._checks.stop()
        self._queue.wake()
        # One limit for all threads together: a pod is killed 30 s after SIGTERM.
        until = time.monotonic() + _STOP_SECONDS
        self._thread.join(_STOP_SECONDS)
        drivers = [tracked.thread for tracked in self._tracked.values() if tracked.thread is not None]
        for thread in drivers:
            thread.stop()
        for thread in drivers:
            thread.join(max(0.0, until - time.monotonic()))
        self._write_ended()
        self._cleaner.stop()
        for watcher in self._watchers:
            watcher.stop()

    def _write_ended(self) -> None:
        """Write the status of runs that have ended since the last pass: the next leader would carry them out again."""
        if self._thread.is_alive():  # blocked in a request: two threads must not reconcile one run
            return
        for uid, tracked in list(self._tracked.items()):
            if tracked.thread is not None and tracked.thread.has_ended:
                tracked.written_at = -math.inf
                self._process(uid)

    @property
    def is_ready(self) -> bool:
        """Return whether all informers have completed their first list, except for namespaces that cannot be read, such as a deleted one."""
        is_answered = all(watcher.synced.is_set() or watcher.n_refused for watcher in self._watchers)
        return is_answered and any(map(self._is_known, self._config.watch_namespaces))

    def _is_known(self, namespace: str = "") -> bool:
        """Return whether all objects of a namespace are known; without a name, those of all namespaces."""
        return all(
            watcher.synced.is_set()
            for watcher in self._watchers
            if not namespace or watcher.namespace in ("", namespace)
        )

    def figures(self) -> MetricValues:
        """Return the metrics for Prometheus."""
        counts = self.counts
        return {
            **run_figures(self._runs.all(), dt.datetime.now(dt.UTC)),
            "mlho_scheduler_runs_ended_total": {phase.value: n for phase, n in counts.ended.items()},
            "mlho_scheduler_active_runs": sum(
                tracked.thread is not None for tracked in list(self._tracked.values())
            ),
            "mlho_scheduler_status_writes_total": counts.status_writes,
            "mlho_scheduler_worker_jobs_total": counts.jobs_created,
            "mlho_scheduler_events_total": self._recorder.n_recorded,
            "mlho_scheduler_reconciles_total": counts.reconciles,
            "mlho_scheduler_api_errors_total": counts.api_errors
            + sum(watcher.n_refused for watcher in self._watchers),
            "mlho_scheduler_reconcile_errors_total": counts.errors,
        }

    # Informers and their event handlers.

    def _make_watchers(self) -> list[Watcher]:
        kinds = [(Kind.TRAINING_RUN, self._runs, ""), (Kind.SCORING_RUN, self._runs, "")]
        kinds += [(Kind.JOB, self._jobs, _WORKERS), (Kind.POD, self._pods, _WORKERS)]
        if self._config.kueue_enabled:
            kinds.append((Kind.WORKLOAD, self._workloads, ""))
        return [
            Watcher(self._cluster, kind, namespace, cache, selector=selector)
            for namespace in self._config.watch_namespaces
            for kind, cache, selector in kinds
        ]

    def _run_changed(self, old: Object | None, new: Object | None) -> None:
        self._queue.mark(((new or old) or {})["metadata"]["uid"])

    def _owned_changed(self, old: Object | None, new: Object | None) -> None:
        uid = run_of((new or old) or {})
        if uid:
            self._queue.mark(uid)

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        learn_priority(self._priorities, new or {})
        job = self._jobs.get(owner_of((new or old) or {}))
        if job is not None:
            self._owned_changed(None, job)

    def _assign_turns(self) -> None:
        """Select the runs to carry out, and enqueue each run whose turn starts or ends."""
        tracked = {uid: run for uid, run in self._tracked.items() if run.wants_turn or run.thread is not None}
        priorities = self._priorities if self._config.kueue_enabled else None
        self._turns = assign_turns(run.contender(uid, priorities) for uid, run in tracked.items())
        for uid, run in tracked.items():
            if (uid in self._turns) != (run.thread is not None):
                self._queue.mark(uid)

    # The loop.

    def _reconcile_for_ever(self) -> None:
        while not self.is_ready and not self._stop.wait(_TICK_SECONDS):
            self.last_pass_at = time.monotonic()
        self._finalizer.start()
        resync_at = 0.0
        while not self._stop.is_set():
            now = time.monotonic()
            self.last_pass_at = now
            if self._is_known():  # a run is not cancelled because its resource cannot be read
                self._finalizer.take_over(self._under_way)
            if now >= resync_at:
                resync_at = now + _RESYNC_SECONDS
                for uid in {obj["metadata"]["uid"] for obj in self._runs.all()} | self._tracked.keys():
                    self._queue.mark(uid)
            self._assign_turns()
            for uid in self._queue.take_due(now):
                if self._stop.is_set():
                    return
                self.last_pass_at = time.monotonic()
                self._process(uid)
            self._queue.wait(_TICK_SECONDS)

    def _under_way(self) -> set[str]:
        return {obj["metadata"]["uid"] for obj in self._runs.all() if not has_ended(read_status(obj))}

    def _process(self, uid: str) -> None:
        """Reconcile one run. Errors are retried later and do not affect other runs."""
        self.counts.reconciles += 1
        try:
            obj = self._runs.get(uid)
            if obj is None:
                self._workers.forget(uid)
                self._checks.forget(uid)
                self._finalizer.on_deleted(uid)
            elif self._is_known(obj["metadata"]["namespace"]):  # otherwise the next resync tries again
                self._reconcile(uid, obj)
        except (Conflict, NotFound):
            self._queue.mark(uid, seconds=1.0)  # the object was changed concurrently
        except ClusterError as error:
            self.counts.api_errors += 1
            log.warning("not_reconciled", task=uid, **error_fields(error))
            self._queue.mark(uid, seconds=2.0 if isinstance(error, ClusterUnavailable) else 10.0)
        except Exception as error:
            self.counts.errors += 1
            log.exception("not_reconciled", task=uid, error_kind=type(error).__name__)
            self._queue.mark(uid, seconds=10.0)

    def _reconcile(self, uid: str, obj: Object) -> None:
        tracked = self._tracked.setdefault(uid, TrackedRun())
        status = read_status(obj)
        self._read(tracked, obj)
        assert tracked.request is not None
        thread = tracked.thread
        if thread is not None and not thread.is_alive and (has_ended(status) or not thread.has_ended):
            tracked.thread = None
        self._checks.begin(uid, tracked, status)
        observed = self._observe(uid, tracked, status)
        self._act(uid, obj, tracked, observed, decide(observed))

    def _observe(self, uid: str, tracked: TrackedRun, status: Status) -> ObservedRun:
        assert tracked.request is not None
        jobs = tuple(job_facts(job) for job in self._jobs.all() if run_of(job) == uid)
        pods = tuple(pod_facts(pod) for pod in self._pods.all() if run_of(pod) == uid)
        progress, now = tracked.progress_shown(status), dt.datetime.now(dt.UTC)
        pods = self._workers.with_mounts(uid, tracked.request.namespace, pods, now)
        refusal = self._workers.refusal(uid, tracked.request.namespace, jobs, now)
        tracked.note_workers(jobs, pods, progress)
        tracked.is_hindered = bool(refusal or (progress is not None and progress.trouble))
        is_wanted = tracked.request.desired is DesiredState.RUNNING and not has_ended(status)
        tracked.wants_turn = is_wanted and tracked.prepared is not None
        if tracked.wants_turn and tracked.thread is None and uid not in self._turns:
            self._assign_turns()
        has_turn = tracked.thread is not None or uid in self._turns
        return ObservedRun(
            resource=tracked.request,
            status=status,
            now=now,
            jobs=jobs,
            pods=pods,
            quota=self._quota(uid, tracked.request),
            check=self._checks.shown(tracked, status),
            progress=progress,
            # A run whose workers are not admitted waits for admission, not for its turn.
            refusal=refusal,
            may_ask=self._workers.may_ask(uid),
            secrets=self._secrets,
            image=self._workers.image,
            is_waiting_for_turn=tracked.wants_turn
            and not has_turn
            and (tracked.has_workers or not tracked.has_jobs),
        )

    def _read(self, tracked: TrackedRun, obj: Object) -> None:
        """Parse the resource if it has changed."""
        metadata = obj["metadata"]
        is_new = tracked.generation != metadata.get("generation", 0)
        if not is_new and (tracked.request is None or not metadata.get("deletionTimestamp")):
            return
        try:
            resource = from_resource(obj)
        except SpecError as error:
            tracked.request = request_of_invalid(obj)
            tracked.reject(Check(reason="InvalidSpec", message=str(error)))
        else:
            tracked.request = resource
            tracked.set_spec(resource.spec)
        tracked.generation = metadata.get("generation", 0)
        tracked.created = metadata.get("creationTimestamp", "")

    def _quota(self, uid: str, request: RunRequest) -> Quota | None:
        if request.workers.kueue_queue is None or not self._config.kueue_enabled:
            return None
        jobs = [job for job in self._jobs.all() if run_of(job) == uid and not job_facts(job).is_over]
        latest = max(jobs, key=lambda job: job_facts(job).generation, default=None)
        if latest is None:
            return None
        for workload in self._workloads.all():
            if owner_of(workload) == latest["metadata"]["uid"]:
                return quota_of(workload)
        return None

    # Actions.

    def _act(
        self, uid: str, obj: Object, tracked: TrackedRun, observed: ObservedRun, decision: Decision
    ) -> None:
        namespace = observed.resource.namespace
        if decision.is_cancelled and not self._finalizer.is_cancelled(uid, tracked, observed):
            decision = replace(decision, status=observed.status, events=())
        for name in decision.delete:
            self._cluster.delete(Kind.JOB, namespace, name)
        if not has_ended(observed.status):
            self._run_or_stop(uid, tracked, decision)
        if decision.make is not None:
            observed, decision = self._make_workers(uid, decision.make, observed, decision)
        for event in decision.events if decision.make is not None else ():
            if event.reason in _AT_ONCE:
                self._recorder.record(obj, event)
        if decision.status != observed.status:
            later = [event for event in decision.events if event.reason not in _AT_ONCE]
            self._write(uid, obj, tracked, decision.status, later)
        if tracked.thread is not None or decision.should_run:
            self._queue.mark(uid, seconds=_POLL_SECONDS)
        elif has_ended(decision.status):
            self._finalizer.close(uid, tracked, observed)
        if decision.is_expired:
            self._cluster.delete(RUN_KINDS[obj["kind"]], namespace, obj["metadata"]["name"], found=obj)

    def _make_workers(
        self, uid: str, workers: WorkerGeneration, observed: ObservedRun, decision: Decision
    ) -> tuple[ObservedRun, Decision]:
        """Create the workers. If the API server rejects them, decide again with the reason."""
        job = self._workers.ask(workers)
        if job is not None:
            self._jobs.put(job)
            self.counts.jobs_created += 1
            return observed, decision
        refusal = self._workers.refusal(uid, observed.resource.namespace, observed.jobs, observed.now)
        observed = replace(observed, refusal=refusal, may_ask=False)
        return observed, decide(observed)

    def _write(
        self, uid: str, obj: Object, tracked: TrackedRun, status: Status, events: list[RunEvent]
    ) -> None:
        wait = tracked.written_at + STATUS_SECONDS - time.monotonic()
        if wait > 0:
            self._queue.mark(uid, seconds=wait)
            return
        body = status_body(obj, status.plain())
        self._runs.put(self._cluster.apply(RUN_KINDS[obj["kind"]], body, part="status"))
        if read_status(obj).phase is not None:  # the first status contains only initial values
            tracked.written_at = time.monotonic()
        self.counts.status_writes += 1
        if has_ended(status) and not has_ended(read_status(obj)) and status.phase is not None:
            self.counts.ended[status.phase] += 1
        for event in events:
            self._recorder.record(obj, event)

    def _run_or_stop(self, uid: str, tracked: TrackedRun, decision: Decision) -> None:
        """Start, stop or cancel the thread that carries out the run."""
        thread = tracked.thread
        has_turn = uid in self._turns
        if decision.is_cancelled:
            if thread is not None:
                thread.cancel()
            return
        if thread is not None and not (decision.should_run and has_turn):
            if thread.has_ended:
                return
            if decision.should_run:
                tracked.parked_at = time.monotonic()
            thread.stop()
            return
        run = tracked.prepared
        if decision.should_run and thread is None and run is not None and has_turn:
            tracked.active_run_id, tracked.busy_at = run.run_id, time.monotonic()
            tracked.thread = RunThread(
                self._backend,
                run,
                lambda: self._queue.mark(uid),
                note=lambda: self._cleaner.note(uid, run.run_id),
            )
            tracked.thread.start()
