"""The artifacts of a finished training run that a comparison reads, and the earlier run that a specification names."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import yaml

from mlho.errors import ArtifactNotFound, MlhoError, SpecError
from mlho.model.files import facts_of
from mlho.pseudonyms import known_keys
from mlho.report.digest import result_digest
from mlho.spec.data import EarlierRun
from mlho.spec.scoring import CHANNEL_BUNDLE, RUN_BUNDLE, RUN_ID
from mlho.spec.training import parse_spec
from mlho.steps.base import Artifact, Task
from mlho.steps.publish.pin_earlier import SCORES
from mlho.steps.records import Commit, StoredFile, read_commit
from mlho.store.base import Store
from mlho.store.keys import blob_key, run_key
from scheduler.runs.origin import entry_at
from scheduler.runs.record import used_tasks
from scheduler.runs.stored import TRAINING, find_run, stored_runs

_ITERATIONS: Final = ("run_iteration", "finish_iteration")


@dataclass(frozen=True)
class PinnedRun:
    """An earlier run with which another is compared, pinned by its result."""

    address: EarlierRun
    """Its id and the digest of its result, for the specification."""
    commit: Commit
    """Refers to its files; written when the other run starts."""


def address_now(earlier: EarlierRun, store: Store) -> EarlierRun:
    """Return the id of the run to which an address refers now: the newest finished one of a name, or that of a channel's model.

    Raise SpecError if there is none.
    """
    if earlier.uri.startswith(CHANNEL_BUNDLE):
        return earlier.model_copy(update={"uri": RUN_BUNDLE + entry_at(earlier.uri, store).run})
    wanted = earlier.uri.removeprefix(RUN_BUNDLE)
    if RUN_ID.fullmatch(wanted):
        return earlier
    finished = [run for run in stored_runs(store) if run.result is not None]
    try:
        run = find_run(finished, wanted, kind=TRAINING)
    except SpecError as error:
        raise SpecError(
            f"compareWith.uri {earlier.uri}: among the finished training runs, {error} Leave compareWith out of the first run."
        ) from None
    return earlier.model_copy(update={"uri": RUN_BUNDLE + run.run_id})


def compared_before(run: str, store: Store) -> EarlierRun | None:
    """Return the earlier run that a run was compared with; ``None`` without one.

    A run that is not stored yet has no specification. A specification that this version cannot read is treated in the
    same way: the address is resolved again, and the id of the run differs if the address now refers to a different
    run.
    """
    with suppress(ArtifactNotFound, SpecError):
        return parse_spec(store.get(run_key(run, "spec.yaml")).decode()).spec.compare_with
    return None


def pinned_run(earlier: EarlierRun, store: Store, *, outcome: str) -> PinnedRun:
    """Return the run with this id, whose artifacts are kept for a comparison.

    Raise SpecError if there is no such result, its digest differs from the requested one, or it has another outcome, and
    MlhoError if its artifacts are missing.
    """
    run = earlier.uri.removeprefix(RUN_BUNDLE)
    # A run that was compared before keeps the files, also after the deletion of the earlier run.
    kept = None if earlier.digest is None else read_commit(store, _task(run, earlier.digest).key)
    key = run_key(run, "result.json") if kept is None else blob_key(kept.files["result.json"].sha256)
    try:
        content = store.get(key)
        result = json.loads(content)
        digest, name = result_digest(result), _name_of(store, run) if kept is None else kept.facts["name"]
    except (ArtifactNotFound, ValueError, KeyError, TypeError, AttributeError):
        raise SpecError(
            f"compareWith: run {run} has no result that can be read. Expected a finished training run of this store; mlho list shows them. Name "
            "another one, or leave out compareWith."
        ) from None
    if earlier.digest not in (None, digest):
        raise SpecError(
            f"compareWith: run {run} has another result. Expected digest {earlier.digest}; got {digest}. Correct compareWith.digest, or leave "
            "it out."
        )
    if result.get("outcome") != outcome:
        raise SpecError(
            f"compareWith: run {run} predicts another outcome. Expected {outcome!r}; got {result.get('outcome')!r}. Name a run with the same "
            "outcome, or leave out compareWith."
        )
    pinned = EarlierRun(uri=RUN_BUNDLE + run, digest=digest)
    if kept is not None:
        return PinnedRun(pinned, kept)
    facts = facts_of(content)
    files = {**run_artifact(store, run).commit.files}
    files["result.json"] = StoredFile(sha256=facts.sha256, size=facts.n_bytes)
    task = _task(run, digest)
    return PinnedRun(
        pinned, Commit(task=task.key, kind=task.kind, files=files, facts={"name": name}, seconds=0.0)
    )


def pin_params(earlier: EarlierRun) -> dict[str, str | None]:
    """Return the parameters of the task whose artifact is an earlier run."""
    return {"run": earlier.uri.removeprefix(RUN_BUNDLE), "digest": earlier.digest}


def _task(run: str, digest: str) -> Task:
    return Task(kind="pin_earlier", params=pin_params(EarlierRun(uri=RUN_BUNDLE + run, digest=digest)))


def _name_of(store: Store, run: str) -> str:
    document = yaml.safe_load(store.get(run_key(run, "spec.yaml")))
    if document["kind"] != TRAINING:
        raise ValueError("a recalibration and a scoring run have no features to compare")
    return str(document["metadata"]["name"])


def run_artifact(store: Store, run: str) -> Artifact:
    """Return the files of a run that are compared, as one artifact: cohort, dictionary, and the test scores of each iteration.

    Raise MlhoError if artifacts of the run are missing.
    """
    commits_by_kind: dict[str, list[Commit]] = {}
    for commit in store.each(lambda key: read_commit(store, key), sorted(used_tasks(store, run))):
        if commit is not None:
            commits_by_kind.setdefault(commit.kind, []).append(commit)
    files = {
        "cohort.arr": _only(run, commits_by_kind, "define_cohort").files["cohort.arr"],
        "dictionary.arr": _only(run, commits_by_kind, "merge_dictionary").files["dictionary.arr"],
    }
    # In the order of the task keys, so that sums over iterations are the same at every call.
    commits = sorted(
        (commit for kind in _ITERATIONS for commit in commits_by_kind.get(kind, [])),
        key=lambda commit: commit.task,
    )
    files |= {f"{SCORES}{place:04d}.arr": commit.files["scores.arr"] for place, commit in enumerate(commits)}
    return Artifact(store, Commit(task=run, kind="run", files=files, seconds=0.0))


def _only(run: str, commits_by_kind: Mapping[str, list[Commit]], kind: str) -> Commit:
    # A run that was started again with another key has the same content twice. Take the one that can be read here.
    readable_last = sorted(commits_by_kind.get(kind, []), key=_is_readable)
    commits = list({commit.digest: commit for commit in readable_last}.values())
    if len(commits) != 1:
        raise MlhoError(
            f"run {run}: {kind} is committed {len(commits)} times, expected once. Its artifacts were removed, or "
            "another version wrote them; run its specification again."
        )
    return commits[0]


def _is_readable(commit: Commit) -> bool:
    """Return whether this process has the keys of a commit's encrypted ids."""
    keys = {file.encrypted.key for file in commit.files.values() if file.encrypted is not None}
    return keys <= known_keys().keys()
