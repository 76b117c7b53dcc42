"""The runs of a store, and the rule by which all commands find a run: by id, by the beginning of an id, or by name."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from mlho.errors import ArtifactDamaged, ArtifactNotFound, SpecError, plural
from mlho.store.base import Store, StoredObject
from mlho.store.keys import RUNS, run_key
from scheduler.runs.record import RECORD, STALE_SECONDS, RunRecord, RunState, read_record

TRAINING: Final = "TrainingRun"
SCORING: Final = "ScoringRun"
RECALIBRATION: Final = "RecalibrationRun"
#: Kinds of runs that produce a model.
MODELS: Final = (TRAINING, RECALIBRATION)
_SPEC: Final = "spec.yaml"
#: Name of a run whose specification cannot be read.
DAMAGED: Final = f"(damaged {_SPEC})"
#: Beginnings of the names of studies, which end with a digest: ``variants-0123.html``.
STUDIES: Final = ("variants-", "evolution-")
_MAX_LISTED: Final = 10


@dataclass(frozen=True)
class StoredRun:
    """A run in a store."""

    run_id: str
    name: str
    """``metadata.name`` of its specification."""
    kind: str
    """``TrainingRun``, ``RecalibrationRun`` or ``ScoringRun``."""
    state: RunState
    started: dt.datetime
    """Time of its latest start, or of its description if an earlier version of this program wrote it."""
    record: RunRecord | None
    """``None`` for a run that an earlier version of this program started."""
    result: str | None
    """Key of the file that marks it as finished, if that exists; ``None`` if its deletion has begun."""
    studies: tuple[str, ...] = ()
    """Names of the pages that compare it with the other runs of its document: variants, or windows after the index date."""

    @property
    def reason(self) -> str | None:
        """Why it failed."""
        return self.record.reason if self.record is not None and self.state is RunState.FAILED else None


def stored_runs(store: Store, *, now: dt.datetime | None = None) -> list[StoredRun]:
    """Return the runs of a store, the newest first: by the time of their latest start.

    Parameters
    ----------
    now : datetime, optional
        Time by which a run counts as stopped if its record was not renewed; default: the time of this machine.
    """
    objects = {obj.key: obj for obj in store.objects(f"{RUNS}/")}
    studies: dict[str, list[str]] = {}
    for key in sorted(objects):
        run, _, name = key.removeprefix(f"{RUNS}/").partition("/")
        if name.startswith(STUDIES) and name.endswith(".html"):
            studies.setdefault(run, []).append(name)
    ids = [key.split("/")[1] for key in objects if key.count("/") == 2 and key.endswith(f"/{_SPEC}")]
    now = now or dt.datetime.now(dt.UTC)
    maybe_runs = store.each(
        lambda run: _stored_run(store, run, objects, now, tuple(studies.get(run, ()))), ids
    )
    return sorted(
        (run for run in maybe_runs if run is not None),
        key=lambda run: (run.started, run.run_id),
        reverse=True,
    )


def _stored_run(
    store: Store, run: str, objects: Mapping[str, StoredObject], now: dt.datetime, studies: tuple[str, ...]
) -> StoredRun | None:
    try:
        document = yaml.safe_load(store.get(run_key(run, _SPEC)))
        kind, name = str(document["kind"]), str(document["metadata"]["name"])
        result = run_key(run, result_name(document))
    except ArtifactNotFound:
        return None  # deleted meanwhile
    except (yaml.YAMLError, LookupError, TypeError, AttributeError):
        kind, name, result = "", DAMAGED, ""  # listed, so that it can be deleted
    recorded = objects.get(run_key(run, RECORD))
    record = read_record(store, run) if recorded is not None else None
    state = _state(record, recorded, now, is_published=result in objects)
    result_there = result if result in objects and state is not RunState.DELETING else None
    started = record.started if record is not None else objects[run_key(run, _SPEC)].modified
    return StoredRun(run, name, kind, state, started, record, result_there, studies)


def result_name(document: Mapping[str, Any]) -> str:
    """Return the name of the file that is published last, which marks a run as finished, from its specification."""
    if document["kind"] in MODELS:
        return "result.json"
    prefix = document["spec"].get("output", {}).get("prefix", "scores")
    return f"{prefix}/manifest.json"


def read_document(store: Store, run: str, key: str) -> dict[str, Any]:
    """Return a JSON document of a run.

    Raise ArtifactNotFound if the run has not written it, and ArtifactDamaged if it is not JSON.
    """
    try:
        document: dict[str, Any] = json.loads(store.get(key))
    except ValueError:
        raise damaged(key, run) from None
    return document


def damaged(key: str, run: str) -> ArtifactDamaged:
    """Return the error for a document of a run that is not JSON, or that lacks fields."""
    return ArtifactDamaged(
        f"{key}: is damaged. Delete this object, and run the specification of run {run} again: it is published again."
    )


def _state(
    record: RunRecord | None, recorded: StoredObject | None, now: dt.datetime, *, is_published: bool
) -> RunState:
    if record is not None and recorded is not None:
        if record.state is RunState.DELETING:
            return record.state
        if record.state is RunState.RUNNING and (now - recorded.modified).total_seconds() < STALE_SECONDS:
            return record.state
    if is_published:
        return RunState.FINISHED
    if record is None or record.state in (RunState.RUNNING, RunState.FINISHED):
        return RunState.STOPPED
    return record.state


def find_run(
    runs: Sequence[StoredRun], wanted: str | None, *, kind: str | tuple[str, ...] | None = None
) -> StoredRun:
    """Return the run with this id, the newest run with this name, or the run whose id begins with this text.

    Raise SpecError if no run matches, or several do.

    Parameters
    ----------
    runs : sequence of StoredRun
        Newest first, as :func:`stored_runs` returns them.
    wanted : str or None
        ``None``: the only run.
    kind : str or tuple of str, optional
        Only runs of this kind, or of these, count.
    """
    kinds = (kind,) if isinstance(kind, str) else kind
    candidates = [run for run in runs if kinds is None or run.kind in kinds]
    if wanted is not None:
        exact = [run for run in candidates if run.run_id == wanted] or [
            run for run in candidates if run.name == wanted
        ]
        if exact:
            return exact[0]
    matches = [run for run in candidates if wanted is None or (wanted and run.run_id.startswith(wanted))]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(f"{run.run_id} ({run.name})" for run in candidates[:_MAX_LISTED]) or "none"
    if len(candidates) > _MAX_LISTED:
        listed += f" and {len(candidates) - _MAX_LISTED} more"
    other = next((run for run in runs if wanted in (run.run_id, run.name)), None)
    if other is not None:
        raise SpecError(
            f"run {other.run_id} ({other.name}): is a {other.kind}. Expected a {' or '.join(kinds or ())}; the store has: {listed}. Give an id, "
            "the beginning of one, or a name."
        )
    if wanted is None and matches:
        raise SpecError(f"the store has {len(matches)} runs, and no name is given. Give one of: {listed}.")
    problem = "no run matches" if not matches else f"{plural(len(matches), 'run')} match"
    raise SpecError(
        f"{problem} {wanted or 'without a name'}. The store has: {listed}. Give an id, the beginning of one, or a name."
    )


def finished_run(
    runs: Sequence[StoredRun], wanted: str | None, *, kind: str | tuple[str, ...] | None = None
) -> StoredRun:
    """Return the run that :func:`find_run` finds, if it is finished.

    Raise SpecError if no run matches, several do, or the run is not finished.
    """
    run = find_run(runs, wanted, kind=kind)
    if run.result is not None:
        return run
    why = f": {run.reason.rstrip('.')}" if run.reason else ""
    namesakes = (other for other in runs if (other.name, other.kind) == (run.name, run.kind))
    earlier = next((other for other in namesakes if other.result is not None), None)
    hint = f" The newest finished run of this name is {earlier.run_id}." if earlier is not None else ""
    remedy = "Run its specification again to continue it."
    if run.state is RunState.RUNNING:
        remedy = (
            "Wait until it has ended. If its process was killed, run its specification again to continue it."
        )
    elif run.state is RunState.DELETING:
        remedy = f"Complete its deletion with: mlho delete {run.run_id}."
    raise SpecError(f"run {run.run_id} ({run.name}): not finished ({run.state}{why}). {remedy}{hint}")


def headline_of(store: Store, run: StoredRun) -> str:
    """Return the most important figure of a finished run; empty if it is not finished."""
    if run.result is None:
        return ""
    try:
        result = read_document(store, run.run_id, run.result)
        if run.kind == SCORING:
            return f"{result['scores']['samples']:,} scores of {result['scores']['outcome']}"
        auroc = result["headline"]["auroc"]["mean"]
        shown = "no AUROC" if auroc is None else f"AUROC {auroc:.3f}"
        return f"{shown} for {result['outcome']}" + (
            "" if result.get("predictive", True) else ", not predictive"
        )
    except ArtifactNotFound:
        return ""
    except (ValueError, LookupError, TypeError):
        return f"{run.result.rsplit('/', 1)[1]} is damaged"
