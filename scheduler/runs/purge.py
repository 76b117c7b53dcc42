"""Find and delete all data that a store holds on given patients.

A training run holds the rows of its patients in artifacts, and its bundle was trained on them; a recalibration has the same model. A
scoring run holds scores. Bundles contain no patient's rows. A bundle is therefore not deleted, but withdrawn by another promotion.
"""

import datetime as dt
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from mlho.errors import ArtifactDamaged, SpecError
from mlho.steps.base import verified_blob
from mlho.steps.patient_files import PATIENT_FILES, patients_in
from mlho.steps.records import read_commit
from mlho.store.base import Store
from mlho.store.keys import BLOBS, COMMITS, blob_key
from scheduler.runs.channels import channel_names, inspect_channel, kept_runs
from scheduler.runs.deletion import Deletion, delete_runs
from scheduler.runs.record import RunState, used_tasks
from scheduler.runs.stored import MODELS, RECALIBRATION, StoredRun, read_document, stored_runs

_MODEL: Final = "the model of another run"


@dataclass(frozen=True)
class Holding:
    """The data of the wanted patients in a run."""

    run: StoredRun
    n_patients: int
    """Wanted patients on whom the run holds data."""
    held: tuple[str, ...]
    """Kinds of data, in words."""
    bundle: str | None
    """Digest of the bundle that was trained on data of these patients."""
    live_in: tuple[str, ...]
    """Channels that show this bundle. The run is not deleted while any channel does."""


@dataclass(frozen=True)
class Purge:
    """Runs that hold data of the wanted patients."""

    holdings: tuple[Holding, ...]
    """Newest run first."""
    n_wanted: int
    n_found: int
    """Numbers of wanted patients, and of those on whom the store holds data."""
    n_unlisted: int
    """Wanted patients in artifacts that no run lists, such as the last ones of a killed run, or those of a deleted run."""
    unlisted: tuple[str, ...]
    """Kinds of data in these artifacts, in words."""
    unknown: tuple[StoredRun, ...]
    """Runs of earlier versions, which do not list their artifacts. Their patients are unknown."""
    damaged: tuple[StoredRun, ...] = ()
    """Runs with a damaged file. The patients in that file are unknown."""
    n_unnamed: int = 0
    """Files that no artifact names, such as those that a killed deletion left. Their patients are unknown."""

    @property
    def deletable(self) -> list[StoredRun]:
        """Runs whose model no channel shows."""
        return [holding.run for holding in self.holdings if not holding.live_in]


def find_patients(store: Store, patient_ids: Set[str]) -> Purge:
    """Find the runs of a store that hold data of patients, and artifacts that no run lists.

    Raise SpecError if a run is active, and may still write data of patients.

    Parameters
    ----------
    patient_ids : set of str
        Ids of patients as in the tables, as text.
    """
    runs = stored_runs(store)
    active = next((run for run in runs if run.state is RunState.RUNNING), None)
    if active is not None:
        raise SpecError(
            f"run {active.run_id} ({active.name}): a process is running it and may write data of these patients. Wait until it "
            "has ended, or cancel it."
        )
    origins = _origins(store, runs)
    live = _live_bundles(store, {bundle: origin for _, bundle, origin in origins})
    patients_by_file: dict[str, set[str] | None] = {}
    named = set[str]()
    holdings, found_ids, unknown, damaged = [], set[str](), [], []
    unlisted_tasks = {key.rsplit("/", 1)[1] for key in store.keys(f"{COMMITS}/")}
    for run in runs:
        if run.state is RunState.DELETING:
            continue  # the next deletion completes it, until which its artifacts count as those that no run lists
        tasks = used_tasks(store, run.run_id)
        unlisted_tasks -= tasks
        if not tasks:
            unknown.append(run)
            continue
        held, patients, is_damaged = _held(store, tasks, patient_ids, patients_by_file, named)
        if is_damaged:
            damaged.append(run)
        if patients:
            bundle = _bundle_of(store, run)
            channels = tuple(name for name, digest in live if digest == bundle)
            holdings.append(Holding(run, len(patients), held, bundle, channels))
            found_ids |= patients
    n_by_bundle = {holding.bundle: holding.n_patients for holding in holdings if holding.bundle is not None}
    while derived := [found for found in origins if found[1] not in n_by_bundle and found[2] in n_by_bundle]:
        for run, bundle, origin in derived:
            n_by_bundle[bundle] = n_by_bundle[origin]
            channels = tuple(name for name, digest in live if digest == bundle)
            holdings.append(Holding(run, n_by_bundle[bundle], (_MODEL,), bundle, channels))
    holdings.sort(key=lambda holding: (holding.run.started, holding.run.run_id), reverse=True)
    unlisted, patients, is_damaged = _held(store, unlisted_tasks, patient_ids, patients_by_file, named)
    if is_damaged:
        unlisted = (*unlisted, "a damaged file")
    return Purge(
        tuple(holdings),
        n_wanted=len(patient_ids),
        n_found=len(found_ids | patients),
        n_unlisted=len(patients),
        unlisted=unlisted,
        unknown=tuple(unknown),
        damaged=tuple(damaged),
        n_unnamed=sum(key.rsplit("/", 1)[1] not in named for key in store.keys(f"{BLOBS}/")),
    )


def purge(store: Store, plan: Purge) -> Deletion:
    """Delete the runs that hold data of the patients, with their artifacts of any age, unless a channel shows their model."""
    only_live = kept_runs(store, n_entries=1)
    return delete_runs(store, plan.deletable, act=True, grace=dt.timedelta(0), kept=only_live)


def _held(
    store: Store,
    tasks: Set[str],
    patient_ids: Set[str],
    patients_by_file: dict[str, set[str] | None],
    named: set[str],
) -> tuple[tuple[str, ...], set[str], bool]:
    """Return the data that the store holds of the patients, the patients, and whether a file is damaged.

    ``patients_by_file`` keeps the patients of each file that was read, and ``named`` the digests of all files of the tasks.
    """
    held, patients, is_damaged = set[str](), set[str](), False
    for commit in store.each(lambda task: read_commit(store, task), sorted(tasks)):
        for name, file in () if commit is None else commit.files.items():
            named.add(file.sha256)
            if name not in PATIENT_FILES:
                continue
            if file.sha256 not in patients_by_file:
                patients_by_file[file.sha256] = _patients_of(store, file.sha256, name, patient_ids)
            found = patients_by_file[file.sha256]
            if found is None:
                is_damaged = True
            elif found:
                held.add(PATIENT_FILES[name])
                patients |= found
    return tuple(sorted(held)), patients, is_damaged


def _patients_of(store: Store, sha256: str, name: str, patient_ids: Set[str]) -> set[str] | None:
    """Return the patients of a file, none if it is missing; ``None`` if it is damaged."""
    try:
        return patients_in(verified_blob(store, sha256), name, patient_ids)
    except ArtifactDamaged:
        return None if store.exists(blob_key(sha256)) else set()


def _origins(store: Store, runs: Sequence[StoredRun]) -> list[tuple[StoredRun, str, str]]:
    """Return each finished recalibration with the digests of its bundle and of the bundle that it recalibrated."""
    found = []
    for run in runs:
        if run.kind == RECALIBRATION and run.result is not None:
            document = read_document(store, run.run_id, run.result)
            found.append((run, document["final_model"]["bundle_digest"], document["recalibrated_from"]))
    return found


def _live_bundles(store: Store, origin_of: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    """Return the channels with the bundle that each shows, and with those from which it was recalibrated: the model is the same."""
    live = []
    for name in channel_names(store):
        head = inspect_channel(store, name).head
        digest = None if head is None else head.bundle
        while digest is not None and (name, digest) not in live:
            live.append((name, digest))
            digest = origin_of.get(digest)
    return live


def _bundle_of(store: Store, run: StoredRun) -> str | None:
    if run.kind not in MODELS or run.result is None:
        return None
    digest: str = read_document(store, run.run_id, run.result)["final_model"]["bundle_digest"]
    return digest
