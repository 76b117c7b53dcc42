"""Steps and tasks: keys, artifacts, and executing a task once."""

import datetime as dt
import errno
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlho.errors import ArtifactDamaged, ArtifactNotFound, DataError, MlhoError, StoreUnavailable
from mlho.spec.training import digest_of
from mlho.steps import STEPS
from mlho.steps.base import Artifact, InputFile, Task, execute
from mlho.steps.records import Commit, StoredFile, write_commit
from mlho.store.keys import blob_key
from mlho.store.memory import MemoryStore
from tests.builders import make_spec
from tests.limits import GUARD_SECONDS

TASK = Task(kind="merge_dictionary", params={"block": 1}, inputs={"a": ("k1",)}, digests={"a": ("d1",)})


class Echo(type(STEPS["merge_dictionary"])):  # type: ignore[misc]
    """A step for tests that writes given files and counts its executions."""

    def __init__(self, files=None, error=None):
        self.files, self.error, self.n_runs, self.before = files or {"out": b"1"}, error, 0, None

    def run(self, work):
        self.n_runs += 1
        if self.before:
            self.before()
        for name, data in self.files.items():
            path = work.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if self.error:
            raise self.error
        return {"n_rows": 3}


# Modules with another name than their kind, because the kind (part of every task key) begins with "test_".
MODULES = {"test_model": "verify_model", "test_bundle": "verify_bundle"}


@pytest.fixture
def echo(monkeypatch):
    def install(**arguments):
        step = Echo(**arguments)
        monkeypatch.setitem(STEPS, "merge_dictionary", step)
        return step

    return install


@pytest.mark.parametrize("n_files", [0, 1, 999, 1_001, 2_500])
def test_a_task_with_many_files_is_written_like_one_with_few(n_files):
    """The document of a task with any number of files restores the task, and the task's key is the hash of all its content."""
    names = tuple(f"é{number}" for number in range(n_files))
    files = tuple(InputFile(key=name, size=7, version="v") for name in names)
    task = Task(
        kind="merge_dictionary",
        spec=make_spec().spec,
        sources=files,
        inputs={"partitions": names, "none": ()},
        digests={"partitions": names, "none": ()},
    )

    whole = {
        "digests": {"partitions": names, "none": ()},
        "kind": "merge_dictionary",
        "params": {},
        "sources": [{"key": name, "size": 7, "version": "v"} for name in names],
        "spec": make_spec().spec.model_dump(mode="json", by_alias=True),
        "version": STEPS["merge_dictionary"].version,
    }
    assert Task.model_validate_json(task.document()) == task
    assert task.key == digest_of(whole)


def run(store, task=None, data=Path()):
    return execute(task or Task(kind="merge_dictionary"), store, data)


@pytest.mark.parametrize(
    "update",
    [
        {"kind": "balance_ledger"},
        {"params": {"block": 2}},
        {"digests": {"a": ("d2",)}},
        {"sources": (InputFile(key="e", size=1, version="v"),)},
        {"spec": make_spec().spec},
    ],
    ids=lambda update: next(iter(update)),
)
def test_a_key_counts_all_that_determines_the_output(update):
    """A change of kind, parameters, inputs, sources or specification changes the key."""
    assert TASK.model_copy(update=update).key != TASK.key


def test_a_key_does_not_depend_on_the_origin_of_inputs():
    """Equal inputs from another task give the same key."""
    assert TASK.model_copy(update={"inputs": {"a": ("k2",)}}).key == TASK.key


def test_a_key_counts_the_steps_version(monkeypatch):
    """A new version of a step gives new keys."""
    before = TASK.key
    monkeypatch.setattr(type(STEPS["merge_dictionary"]), "version", 99)

    assert TASK.key != before


def test_a_task_is_done_once(echo):
    """A second execution finds the commit record and does not run the step."""
    store, step = MemoryStore(), echo(files={"a": b"1", "deep/b": b"2"})
    first, second = run(store), run(store)

    assert (first.is_new, second.is_new, step.n_runs) == (True, False, 1)
    assert first.commit == second.commit
    assert set(first.commit.files) == {"a", "deep/b"}
    assert first.commit.facts == {"n_rows": 3}


def test_a_failed_task_commits_nothing(echo):
    """A failed task leaves no file in the store."""
    store = MemoryStore()
    echo(error=DataError("a", "b", expected="c", got="d", remedy="e"))

    with pytest.raises(DataError):
        run(store)
    assert list(store.keys("")) == []


def test_a_failed_task_leaves_no_scratch(echo, tmp_path):
    """Neither a failed nor a successful task leaves scratch files."""
    echo(error=MlhoError("x"))
    with pytest.raises(MlhoError):
        execute(Task(kind="merge_dictionary"), MemoryStore(), Path(), scratch=tmp_path)
    echo()
    execute(Task(kind="merge_dictionary"), MemoryStore(), Path(), scratch=tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(monkeypatch, tmp_path):
    """The error of a full disk names both folders in which a task writes, which may be on different disks, and what to do."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mlho.steps.base.scratch_folder", full)

    store, asked = MemoryStore(), []
    monkeypatch.setattr(store, "make_room", lambda: asked.append(1), raising=False)

    with pytest.raises(
        StoreUnavailable,
        match=f"No space left on device for its files in {tmp_path} or {tempfile.gettempdir()}. Free",
    ):
        execute(Task(kind="merge_dictionary"), store, Path(), scratch=tmp_path)
    assert asked == [1]  # the next attempt finds space, if copies of the store could be removed


def test_an_artifact_is_verified_before_it_is_used(echo):
    """An artifact with changed or missing bytes raises ArtifactDamaged with the blob's digest."""
    store = MemoryStore()
    echo()
    commit = run(store).commit
    artifact = Artifact(store, commit)
    digest = commit.files["out"].sha256

    assert artifact.read("out") == b"1"
    store.delete(blob_key(digest))
    with pytest.raises(ArtifactDamaged, match="it is missing") as gone:
        artifact.read("out")
    assert gone.value.sha256 == digest
    store.put_if_absent(blob_key(digest), b"2")
    with pytest.raises(ArtifactDamaged, match="do not match") as changed:
        artifact.read("out")
    assert changed.value.sha256 == digest


def test_a_file_that_an_artifact_does_not_have_is_not_found():
    """A file that an artifact does not list raises ArtifactNotFound and is not damage, because no task would create it."""
    commit = Commit(task="t", kind="merge_dictionary", files={}, seconds=0)

    with pytest.raises(ArtifactNotFound, match="no file 'out'"):
        Artifact(MemoryStore(), commit).path("out")


@pytest.mark.parametrize("other", [b"1", b"2"], ids=["equal", "other"])
def test_a_second_attempt_must_give_the_first_ones_bytes(other, echo):
    """If two attempts run concurrently, equal bytes are a success for both, and different bytes raise an error."""
    store, step = MemoryStore(), echo()

    def overtake():
        step.before, step.files = None, {"out": other}
        run(store)
        step.files = {"out": b"1"}

    step.before = overtake
    if other == b"1":
        assert not run(store).is_new
    else:
        with pytest.raises(MlhoError, match="gave different bytes"):
            run(store)
    assert step.n_runs == 2


def test_a_missing_input_is_reported(echo):
    """A task whose input is not committed does not run its step."""
    step = echo()

    with pytest.raises(ArtifactNotFound, match="input of this task is missing"):
        run(MemoryStore(), TASK)
    assert step.n_runs == 0


class RemoteStore(MemoryStore):
    """A store that sends requests at the same time. Its reads of inputs are answered when all are under way."""

    def __init__(self, n_inputs):
        super().__init__()
        self.all_sent = threading.Barrier(n_inputs)

    def get(self, key):
        data = super().get(key)
        self.all_sent.wait(GUARD_SECONDS)
        return data

    def each(self, do, items):
        with ThreadPoolExecutor() as threads:
            return list(threads.map(do, items))


def test_the_records_of_inputs_are_requested_at_once(echo):
    """A task with many inputs does not wait for one reply of the store after the other."""
    keys = tuple(f"{number:064x}" for number in range(4))
    store = RemoteStore(len(keys))
    for key in keys:
        write_commit(store, Commit(task=key, kind="echo", files={}, seconds=0.0))
    echo()

    outcome = execute(TASK.model_copy(update={"inputs": {"a": keys}}), store, Path())

    assert outcome.is_new


def test_the_digest_is_of_names_and_contents():
    """The digest of a commit depends on the names and contents of its files, and not on duration, facts or order."""

    def commit(files, **other):
        return Commit(
            task="t", kind="k", files={n: StoredFile(sha256=s, size=1) for n, s in files.items()}, **other
        )

    first = commit({"a": "1", "b": "2"}, seconds=1).digest
    assert commit({"b": "2", "a": "1"}, seconds=9, facts={"n": 1}).digest == first
    assert commit({"a": "2", "b": "1"}, seconds=1).digest != first


@pytest.mark.parametrize(
    "kind", [kind for kind, step in STEPS.items() if type(step).__module__.startswith("mlho.")]
)
def test_every_step_has_kind_docstring_and_module(kind):
    """A step's kind is its key in STEPS, it has a docstring, and its module has its name."""
    step = STEPS[kind]

    assert step.kind == kind
    assert step.__doc__
    assert type(step).__module__.split(".")[-1] == MODULES.get(kind, kind)
    assert step.version >= 1


def test_a_record_has_the_end_time_of_its_task(echo):
    """The commit record has the end time of the task in seconds. A second attempt keeps the first one's time."""
    store = MemoryStore()
    echo()

    def at(second):
        return lambda: dt.datetime(2026, 11, 26, 9, 12, second, 999, tzinfo=dt.UTC)

    first = execute(Task(kind="merge_dictionary"), store, Path(), now=at(1))
    second = execute(Task(kind="merge_dictionary"), store, Path(), now=at(2))

    assert first.commit.finished_at == "2026-11-26T09:12:01+00:00"
    assert second.commit == first.commit
