"""Deletion of runs, with the artifacts that no other run uses."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mlho.errors import SpecError
from mlho.protocol.documents import ATTEMPTS
from mlho.store.base import Store
from mlho.store.keys import RUNS, run_key, uses_prefix
from scheduler.runs.channels import KEPT_ENTRIES
from scheduler.runs.garbage import GRACE, Collected, collect, store_time
from scheduler.runs.origin import kept_with_origins
from scheduler.runs.record import RECORD, RunRecord, RunState, read_record, swap_record, used_tasks
from scheduler.runs.stored import RECALIBRATION, StoredRun, stored_runs

_SPEC: Final = "spec.yaml"


@dataclass(frozen=True)
class Deletion:
    """Runs and artifacts that were deleted, or would be."""

    runs: Sequence[StoredRun]
    n_files: int
    n_bytes: int
    """Files in the folders of these runs."""
    collected: Collected | None
    """Artifacts that no other run uses; ``None`` if the artifacts of other runs are unknown."""
    unknown: Sequence[StoredRun]
    """Runs of earlier versions, which did not list their tasks."""


def delete_runs(
    store: Store,
    runs: Sequence[StoredRun],
    *,
    act: bool,
    grace: dt.timedelta = GRACE,
    kept: Mapping[str, str] | None = None,
) -> Deletion:
    """Delete runs, and the artifacts that no other run uses.

    Runs whose deletion was interrupted are deleted, too. Raise SpecError if one of the runs is running, or a channel shows its
    model or showed it recently.

    Parameters
    ----------
    act : bool
        Whether to delete; otherwise only count.
    grace : timedelta
        Age from which an artifact may be removed.
    kept : mapping of str to str, optional
        Ids of runs that must stay, with the reason; by default those of the newest entries of channels, and those that they recalibrated.
    """
    now = store_time(store)
    present = stored_runs(store, now=now)
    wanted_ids = {run.run_id for run in runs}
    active = [run for run in present if run.run_id in wanted_ids and run.state is RunState.RUNNING]
    if active:
        raise SpecError(
            f"run {active[0].run_id} ({active[0].name}): a process is running it. Stop it, or cancel it (mlho cancel "
            f"{active[0].run_id}); if it was killed, wait five minutes."
        )
    _refuse_promoted(kept_with_origins(store) if kept is None else kept, wanted_ids)
    to_delete = [run for run in present if run.run_id in wanted_ids or run.state is RunState.DELETING]
    ids = {run.run_id for run in to_delete} | _half_deleted(store)
    files = [obj for run in sorted(ids) for obj in store.objects(f"{RUNS}/{run}/")]
    if act:
        seen = {run.run_id: run.record for run in present}
        for run in sorted(ids):
            _delete_run(store, run, seen.get(run))
    unknown = [run for run in present if run.run_id not in ids and not _is_listed(store, run)]
    all_ids = {run.run_id for run in present}
    collected = None if unknown else collect(store, all_ids, act=act, without=ids, grace=grace)
    return Deletion(to_delete, len(files), sum(file.size for file in files), collected, unknown)


def _is_listed(store: Store, run: StoredRun) -> bool:
    """Return whether the tasks of a run are listed. ``mlho recalibrate`` lists its task without a record."""
    return run.record is not None or (run.kind == RECALIBRATION and bool(used_tasks(store, run.run_id)))


def _refuse_promoted(kept: Mapping[str, str], wanted_ids: set[str]) -> None:
    for run in sorted(wanted_ids & kept.keys()):
        raise SpecError(
            f"run {run}: {kept[run]}. The runs of the newest {KEPT_ENTRIES} entries of a channel are kept for a "
            "rollback. Keep this run; it can be deleted once newer entries have replaced it."
        )


def _half_deleted(store: Store) -> set[str]:
    """Return the ids of runs whose only remaining object is the record."""
    names = {key: key.split("/")[1] for key in store.keys(f"{RUNS}/") if key.count("/") == 2}
    described = {run for key, run in names.items() if key.endswith(f"/{_SPEC}")}
    recorded = {run for key, run in names.items() if key.endswith(f"/{RECORD}")}
    records = {run: read_record(store, run) for run in recorded - described}
    return {run for run, record in records.items() if record and record.state is RunState.DELETING}


def _delete_run(store: Store, run: str, seen: RunRecord | None) -> None:
    """Delete the objects of a run. If the deletion is interrupted at any point, the next one completes it."""

    def change(record: RunRecord | None) -> RunRecord:
        if record is not None and record.state is RunState.RUNNING and record != seen:
            raise SpecError(f"run {run}: has just been started. Stop it first, or do not delete it.")
        started = record.started if record is not None else dt.datetime.now(dt.UTC)
        return RunRecord(state=RunState.DELETING, started=started)

    swap_record(store, run, change)  # from here on the run cannot be started
    last = [run_key(run, _SPEC), run_key(run, RECORD)]
    # The file that marks the run as finished is deleted before the files that it names.
    keys = sorted(
        store.keys(f"{RUNS}/{run}/"), key=lambda key: not key.endswith(("/result.json", "/manifest.json"))
    )
    keys = [key for key in keys if key not in last]
    keys += [*store.keys(uses_prefix(run)), *store.keys(f"{ATTEMPTS}/{run}-")]
    store.each(store.delete, keys)
    for key in last:
        store.delete(key)
