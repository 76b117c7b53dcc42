"""Garbage collection removes exactly the objects that no run uses: planted garbage, laws, kills, and races with runs and
other collectors.
"""

import datetime as dt
import hashlib
import json
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.errors import MlhoError, SpecError
from mlho.protocol.documents import task_document_key
from mlho.report.digest import result_digest
from mlho.steps.records import Commit, StoredFile, parse_record
from mlho.store.base import StoredObject
from mlho.store.keys import blob_key, commit_key, proposal_key, run_key
from mlho.store.local import LocalStore
from scheduler.engine.loop import carry_out
from scheduler.engine.manifest import make_manifest
from scheduler.engine.training_run import TrainingRun
from scheduler.runs.deletion import delete_runs
from scheduler.runs.garbage import collect, garbage
from scheduler.runs.record import RunRecord, RunState, swap_record
from scheduler.runs.stored import find_run, stored_runs
from tests.builders import InlineExecutor, NullObserver, make_spec, run_inline
from tests.unit.scheduler.runs.conftest import turn_back

NOW = dt.datetime(2026, 11, 26, tzinfo=dt.UTC)
TASK = "ab" + "0" * 62


@given(st.lists(st.tuples(st.integers(-50, 50), st.booleans()), max_size=20))
def test_only_old_unneeded_objects_are_garbage(drawn):
    """Each object is in exactly one of three groups, by age and need."""
    objects = [
        StoredObject(f"k/{number}", 1, NOW + dt.timedelta(hours=hours))
        for number, (hours, _) in enumerate(drawn)
    ]
    needs = {obj.key for obj, (_, is_needed) in zip(objects, drawn, strict=True) if is_needed}
    old, young, needed = garbage(objects, is_needed=lambda obj: obj.key in needs, before=NOW)

    assert [obj for obj in objects if obj.key in needs] == needed
    assert [obj for obj in objects if obj.key not in needs and obj.modified < NOW] == old
    assert sorted([*old, *young, *needed], key=lambda obj: obj.key) == sorted(
        objects, key=lambda obj: obj.key
    )


def plant(store: LocalStore) -> set[str]:
    """Write objects of a deleted run, an aborted task and an old version, and return their keys."""
    content = b"nobody's"
    digest = hashlib.sha256(content).hexdigest()
    commit = Commit(task=TASK, kind="x", files={"a": StoredFile(sha256=digest, size=8)}, seconds=1.0)
    objects = {
        blob_key(digest): content,
        blob_key("cd" + "1" * 62): b"no commit names it",
        commit_key(TASK): commit.to_bytes(),
        proposal_key(TASK, commit.digest): commit.to_bytes(),
        task_document_key(TASK): b"{}",
        "attempts/0123456789abcdef-1/task/nonce": b"{}",
        "probe/left": b"",
    }
    for key, data in objects.items():
        assert store.put_if_absent(key, data)
    return set(objects)


def ids_of(store: LocalStore) -> set[str]:
    return {stored.run_id for stored in stored_runs(store)}


def test_only_planted_garbage_is_removed(old_store):
    """Planted garbage is removed, and nothing else. A dry run counts the same and removes nothing."""
    before = set(old_store.keys(""))
    planted = plant(old_store)
    turn_back(old_store, hours=48)
    dry = collect(old_store, ids_of(old_store), act=False)

    assert set(old_store.keys("")) == before | planted
    assert collect(old_store, ids_of(old_store), act=True) == dry
    assert dry.n_objects == len(planted)
    assert set(old_store.keys("")) == before
    assert collect(old_store, ids_of(old_store), act=True).n_objects == 0


def test_young_garbage_stays_and_is_counted(old_store):
    """Garbage that is young by the store's clock is counted and kept, because it may belong to a task whose commit is not written yet."""
    before = set(old_store.keys(""))
    planted = plant(old_store)
    found = collect(old_store, ids_of(old_store), act=True)

    assert (found.n_objects, found.n_young) == (0, len(planted))
    assert set(old_store.keys("")) == before | planted


def is_whole(store: LocalStore) -> bool:
    """Return whether every file that a commit record names exists."""
    commits = [parse_record(store.get(key), key.rsplit("/", 1)[1]) for key in store.keys("commits/")]
    return all(store.exists(blob_key(file.sha256)) for commit in commits for file in commit.files.values())


def test_deleting_a_run_removes_only_its_exclusive_artifacts(old_store, two_runs):
    """Deleting a run removes only its exclusive artifacts. The other run is complete: running it again executes no task."""
    data, _, older, newer = two_runs
    run = find_run(stored_runs(old_store), older)
    planned = delete_runs(old_store, [run], act=False)
    done = delete_runs(old_store, [run], act=True)

    assert done == planned
    assert done.collected.n_objects > 0
    assert ids_of(old_store) == {newer}
    assert not [key for key in old_store.keys("") if older in key]
    assert is_whole(old_store)
    assert run_inline(data, old_store, {"validation.seed": 8}).finished.n_new == 0


class Killed(LocalStore):
    """A store whose process is killed after a given number of deletions."""

    left = 0

    def delete(self, key: str) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        super().delete(key)


def _delete_until_killed(root: Path, run_id: str, n_deletions: int) -> None:
    store = Killed(root)
    store.left = n_deletions
    delete_runs(store, [find_run(stored_runs(store), run_id)], act=True)


@pytest.mark.parametrize("n_deletions", [1, 2, 5, 8, 10, 11, 13, 20])
def test_a_killed_deletion_leaves_a_whole_store_and_is_completed(n_deletions, old_store, two_runs, tmp_path):
    """After a SIGKILL at any deletion, the store is consistent, and the next collection of any kind removes the rest."""
    data, _, older, _ = two_runs
    process = multiprocessing.get_context("fork").Process(
        target=_delete_until_killed, args=(old_store.root, older, n_deletions)
    )
    process.start()
    process.join()

    assert process.exitcode == -signal.SIGKILL
    assert is_whole(old_store)
    assert run_inline(data, old_store, {"validation.seed": 8}).finished.n_new == 0
    delete_runs(old_store, [], act=True)
    assert not [key for key in old_store.keys("") if older in key]
    assert delete_runs(old_store, [], act=False).collected.n_objects == 0


def test_collectors_at_the_same_time_do_no_harm(old_store, two_runs):
    """Four concurrent collectors remove each object once, and the other run stays complete."""
    data, _, older, _ = two_runs
    run = find_run(stored_runs(old_store), older)
    delete_runs(
        old_store, [run], act=True, grace=dt.timedelta(days=9)
    )  # deletes only the run, because its artifacts are too young
    with ThreadPoolExecutor(4) as threads:
        list(
            threads.map(lambda _: collect(LocalStore(old_store.root), ids_of(old_store), act=True), range(4))
        )

    assert collect(old_store, ids_of(old_store), act=True).n_objects == 0
    assert is_whole(old_store)
    assert run_inline(data, old_store, {"validation.seed": 8}).finished.n_new == 0


@pytest.mark.parametrize(
    "kind", ["define_cohort", "pack_features", "run_iteration", "summarize_run", "write_report"]
)
def test_a_run_that_reuses_old_artifacts_is_complete_beside_a_collector(kind, old_store, two_runs):
    """A deleted run that starts again beside a collector has the same digest and loses no artifact."""
    data, _, older, newer = two_runs
    digest = result_digest(json.loads(old_store.get(run_key(older, "result.json"))))
    run = find_run(stored_runs(old_store), older)
    delete_runs(old_store, [run], act=True, grace=dt.timedelta(days=9))
    for key in list(old_store.keys("commits/"))[::2]:  # so that some tasks are found, and some run
        commit = parse_record(old_store.get(key), key.rsplit("/", 1)[1])
        if commit.kind in (kind, "summarize_run"):
            old_store.delete(key)

    class Collecting(InlineExecutor):
        def submit(self, task):
            if task.kind == kind:
                collect(LocalStore(old_store.root), {older, newer}, act=True)
            return super().submit(task)

    spec = make_spec()
    again = TrainingRun(spec, make_manifest(spec.spec.data.tables, data), data, old_store)
    finished = carry_out(again, Collecting(old_store, data), NullObserver(), n_slots=3)
    turn_back(old_store, hours=48)
    collect(old_store, ids_of(old_store), act=True)

    assert finished.run_id == older
    assert finished.report.facts["result_digest"] == digest
    assert is_whole(old_store)
    assert run_inline(data, old_store).finished.n_new == 0


def test_writing_an_existing_blob_renews_its_age(old_store, two_runs):
    """Writing an existing blob renews its age, because a task relies on it before its commit is written."""
    key = next(old_store.keys("blobs/"))
    before = next(old_store.objects(key)).modified

    assert old_store.refresh(key)
    assert next(old_store.objects(key)).modified > before + dt.timedelta(hours=40)
    assert not old_store.refresh(blob_key("0" * 64))


def test_a_run_that_is_carried_out_is_not_deleted(old_store, two_runs):
    """A run whose record was just renewed cannot be deleted, and a run that is being deleted cannot be started."""
    data, _, older, newer = two_runs
    running = RunRecord(state=RunState.RUNNING, started=NOW)
    swap_record(old_store, older, lambda _: running)
    with pytest.raises(SpecError, match="a process is running it"):
        delete_runs(old_store, [find_run(stored_runs(old_store), older)], act=True)

    swap_record(old_store, newer, lambda _: RunRecord(state=RunState.DELETING, started=NOW))
    with pytest.raises(MlhoError, match=f"mlho delete {newer}"):
        run_inline(data, old_store, {"validation.seed": 8})


def test_nothing_is_collected_beside_a_run_of_an_earlier_version(old_store, two_runs):
    """Nothing is collected while the store has a run of an earlier version, whose artifacts are unknown. Running it again
    lists them and executes no task.
    """
    data, _, older, _ = two_runs
    for key in [run_key(older, "record.json"), *old_store.keys(f"uses/{older}/")]:
        old_store.delete(key)
    plant(old_store)
    turn_back(old_store, hours=48)
    found = delete_runs(old_store, [], act=True)

    assert found.collected is None
    assert [run.run_id for run in found.unknown] == [older]
    assert run_inline(data, old_store).finished.n_new == 0
    assert delete_runs(old_store, [], act=True).collected.n_objects == 7
