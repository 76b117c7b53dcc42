"""Laws: the key that encrypts ids changes neither result nor bundle, nor any task that writes no ids; and no id is in an artifact."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

from mlho.encoding.cohort.cohort import Cohort
from mlho.errors import SpecError
from mlho.pseudonyms import PSEUDONYM_KEY
from mlho.steps import STEPS
from mlho.steps.base import execute
from mlho.steps.records import read_commit
from mlho.store.base import Store
from mlho.store.keys import commit_key
from mlho.store.memory import MemoryStore
from scheduler.runs.earlier import run_artifact
from tests.builders import Home, make_tables, run_inline, write_tables

KEYS: Final = (None, "the first key of these tests", "the second key of these tests")
PREFIX: Final = "Zebulon-"
TABLES: Final = make_tables(150, seed=3, prefix=PREFIX)
SMALL: Final[dict[str, Any]] = {"validation.iterations": 2, "validation.folds": 3}
RULES: Final = {
    "data.tables.labels": None,
    "cohort.index": None,
    "cohort.unknownPatients": "keep",
    "cohort.rules": {
        "entry": {"codes": ["N0*"], "which": "first"},
        "outcome": {"codes": ["E11", "I10"], "toDays": 300},
        "notObservable": "negative",
    },
}
CASES: Final = {
    "labels, one partition": (1, {}),
    "labels, three partitions, persons": (3, {"cohort.groupBy": "person"}),
    "rules, two partitions": (2, RULES),
    "encoding shared by outcomes": (2, {"cohort.shareEncoding": True}),
}


def with_persons(tables: Any) -> Any:
    """Return the tables with the person of each patient; two patients are one person."""
    ids = tables.demographics.column("patient_id").to_pylist()
    persons = pa.array([f"{PREFIX}person-{int(patient[-5:]) // 2}" for patient in ids])
    return replace(tables, demographics=tables.demographics.append_column("person", persons))


def blobs_with_an_id(store: Store) -> list[str]:
    return [key for key in store.keys("blobs/") if PREFIX.encode() in store.get(key)]


def files_with_stated_content(store: Store) -> set[str]:
    """Return the names of files whose digest before the encryption is in a record. With few ids it would confirm a guess of them."""
    commits = [read_commit(store, key.rsplit("/", 1)[1]) for key in store.keys("commits/")]
    files = [item for commit in commits if commit is not None for item in commit.files.items()]
    return {name for name, file in files if file.encrypted is not None and file.encrypted.content}


def keys_of(home: Home, *, writing_ids: bool) -> set[str]:
    """Return the keys of the tasks that write ids, or of all others."""
    return {task.key for task in home.submitted if bool(STEPS[task.kind].writes_ids) is writing_ids}


@pytest.mark.parametrize("case", CASES)
def test_a_key_changes_only_the_files_with_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    """No key, one key and another one: the same run id, digest, bundle and keys of all other tasks."""
    partitions, changes = CASES[case]
    data = write_tables(tmp_path / "data", with_persons(TABLES), partitions=partitions)
    homes = []
    for key in KEYS:
        monkeypatch.delenv(PSEUDONYM_KEY, raising=False)
        if key is not None:
            monkeypatch.setenv(PSEUDONYM_KEY, key)
        homes.append(run_inline(data, MemoryStore(), {**SMALL, **changes}))
    plain, *encrypted = homes

    for home in encrypted:
        assert home.finished.run_id == plain.finished.run_id
        assert home.digest == plain.digest
        assert home.bundle() == plain.bundle()
        assert keys_of(home, writing_ids=False) == keys_of(plain, writing_ids=False)
        assert not keys_of(home, writing_ids=True) & keys_of(plain, writing_ids=True)
        assert blobs_with_an_id(home.run.store) == []
        assert files_with_stated_content(home.run.store) == {"cohort.arr"}
    assert blobs_with_an_id(plain.run.store) != []


def test_another_key_repeats_only_the_tasks_that_write_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run that is started again with another key is the same run; everything after the cohort is reused, and its artifacts are read."""
    data, store = write_tables(tmp_path, with_persons(TABLES), partitions=2), MemoryStore()
    monkeypatch.setenv(PSEUDONYM_KEY, str(KEYS[1]))
    first = run_inline(data, store, SMALL)
    monkeypatch.setenv(PSEUDONYM_KEY, str(KEYS[2]))
    again = run_inline(data, store, SMALL)

    assert again.digest == first.digest
    assert again.finished.run_id == first.finished.run_id
    assert again.finished.n_new == 1
    ids = Cohort.read(run_artifact(store, first.finished.run_id).path("cohort.arr")).patient_ids
    assert ids[0].startswith(PREFIX)


@pytest.mark.parametrize("key", [None, KEYS[2]])
def test_a_process_without_the_key_of_a_task_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
):
    """A worker with another key or none writes nothing, neither the ids nor what is computed from them, and does not try again."""
    data, store = write_tables(tmp_path, with_persons(TABLES)), MemoryStore()
    monkeypatch.setenv(PSEUDONYM_KEY, str(KEYS[1]))
    of_first = run_inline(data, store, SMALL)
    tasks = {task.kind: task for task in of_first.submitted}
    monkeypatch.delenv(PSEUDONYM_KEY)
    if key is not None:
        monkeypatch.setenv(PSEUDONYM_KEY, key)

    for kind in (
        "encode_partition",
        "define_cohort",
    ):  # the first one reads the cohort, so that it is still there
        task = tasks[kind]
        store.delete(commit_key(task.key))
        with pytest.raises(SpecError, match=PSEUDONYM_KEY) as caught:
            execute(task, store, data)
        assert not caught.value.retryable
        assert read_commit(store, task.key) is None
