"""Data of given patients: where a store has them, and that a purge removes them all."""

import datetime as dt
import json
from pathlib import Path
from shutil import copytree

import pyarrow.parquet as pq
import pytest

from mlho.errors import SpecError
from mlho.pseudonyms import PSEUDONYM_KEY
from mlho.steps.records import read_commit
from mlho.store.keys import blob_key
from mlho.store.local import LocalStore
from scheduler.registry.promotion import promote
from scheduler.runs.deletion import delete_runs
from scheduler.runs.purge import find_patients
from scheduler.runs.record import RunRecord, RunState, swap_record, used_tasks
from scheduler.runs.stored import find_run, stored_runs
from tests.builders import call_command, make_tables, run_inline, write_spec, write_tables
from tests.unit.scheduler.runs.planted import NOW, author, passed
from tests.unit.scoring.conftest import score_inline

HELD, ABSENT = "p00007", "p09999"
OTHER = "q00003"


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return a store with two trainings on one hospital's patients, one on another's, and a scoring of the first's, and the run ids by name."""
    root = tmp_path_factory.mktemp("hospital")
    store = LocalStore(root / "store")
    data = write_tables(root / "p", make_tables(200, seed=2), partitions=2, by_patient=True)
    others = write_tables(root / "q", make_tables(150, seed=3, prefix="q"))
    first = run_inline(data, store)
    runs = {"older": first.finished.run_id}
    runs["newer"] = run_inline(data, store, {"validation.seed": 8}).finished.run_id
    runs["other"] = run_inline(others, store).finished.run_id
    for name, content in first.bundle().items():
        path = data / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    runs["scores"] = score_inline(data, store).finished.run_id
    return store.root, runs


@pytest.fixture
def store(hospital: tuple[Path, dict[str, str]], tmp_path: Path) -> LocalStore:
    """Return a copy of the store."""
    return LocalStore(copytree(hospital[0], tmp_path / "store"))


@pytest.fixture
def runs(hospital: tuple[Path, dict[str, str]]) -> dict[str, str]:
    """Return the ids of the runs by name."""
    return hospital[1]


def listed(folder: Path, *patients: str) -> Path:
    """Write a file with patient ids, and return its path."""
    path = folder / "patients.txt"
    path.write_text("".join(f"{patient}\n" for patient in patients), encoding="utf-8")
    return path


def files_with(store: LocalStore, patient: str) -> list[str]:
    """Return the names of all files in the store with a patient's id, in plain bytes or in a Parquet column."""
    found = []
    for path in sorted(file for file in store.root.rglob("*") if file.is_file()):
        content = path.read_bytes()
        if content[:4] == b"PAR1":
            column = "patient_id" in pq.read_schema(path).names
            held = column and patient in pq.read_table(path, columns=["patient_id"])["patient_id"].to_pylist()
        else:
            held = patient.encode() in content
        if held:
            found.append(str(path.relative_to(store.root)))
    return found


def test_a_purge_leaves_no_file_with_a_patient(store, runs, tmp_path, capsys):
    """A purge removes both trainings and the scores, even recent artifacts. The other hospital's run stays complete."""
    assert len(files_with(store, HELD)) >= 3
    n_of_others = len(files_with(store, OTHER))
    output = call_command(["purge", listed(tmp_path, HELD, ABSENT), "--yes"], store.root, capsys)

    assert output.code == 0
    assert files_with(store, HELD) == []
    assert len(files_with(store, OTHER)) == n_of_others > 0
    assert [run.run_id for run in stored_runs(store)] == [runs["other"]]
    again = call_command(["purge", listed(tmp_path, HELD)], store.root, capsys)
    assert (again.code, again.out) == (0, "1 patient asked for: 0 with data, in 0 runs; 1 without.\n")


def test_a_purge_finds_every_file_with_an_id(store, runs):
    """Each blob with a patient id belongs to a run that the purge finds. A new kind of file with ids would fail this test."""
    blobs = {name.rsplit("/", 1)[1] for name in files_with(store, HELD) if name.startswith("blobs/")}
    tasks = [key.rsplit("/", 1)[1] for key in store.keys("commits/")]
    files = [file for task in tasks for file in read_commit(store, task).files.items()]
    found = find_patients(store, {HELD})

    assert {holding.run.run_id for holding in found.holdings} == {
        runs["older"],
        runs["newer"],
        runs["scores"],
    }
    assert {holding.held for holding in found.holdings} == {
        ("encoded rows",),
        ("demographics", "scores", "table of patients to score"),
    }
    assert {name for name, file in files if file.sha256 in blobs} == {
        "cohort.arr",
        "roster.arr",
        "persons.arr",
        "part.parquet",
    }
    assert len(blobs) >= 4


def test_without_yes_a_purge_lists_and_deletes_nothing(store, runs, tmp_path, capsys):
    """Without `--yes`, a purge lists the data and the models trained on them, as JSON too, and deletes nothing. It prints no
    id; the exit code is 1 while data are left.
    """
    before = sorted(store.root.rglob("*"))
    output = call_command(["purge", listed(tmp_path, HELD, ABSENT)], store.root, capsys)
    facts = json.loads(
        call_command(["purge", listed(tmp_path, HELD, ABSENT), "--json"], store.root, capsys).out
    )

    assert output.code == 1
    assert HELD not in output.out + output.err
    assert "add --yes" in output.out
    assert (facts["patients"], facts["patients_found"]) == (2, 1)
    assert [entry["run"] for entry in facts["runs"]] == [runs["scores"], runs["newer"], runs["older"]]
    assert facts["runs"][0]["bundle"] is None
    assert sorted(store.root.rglob("*")) == before


def test_a_byte_order_mark_does_not_hide_the_first_patient(store, tmp_path, capsys):
    """Editors on Windows write one."""
    output = call_command(["purge", listed(tmp_path, f"\ufeff{HELD}"), "--json"], store.root, capsys)

    assert json.loads(output.out)["patients_found"] == 1


def test_a_model_in_use_stays_until_another_one_is_promoted(store, runs, tmp_path, capsys):
    """The run of a model in use is named and kept, and the others are deleted. After the promotion of another model it is
    deleted, even if retention would keep it.
    """
    older, other = (find_run(stored_runs(store), runs[name]) for name in ("older", "other"))
    promote(store, older, "production", author(), test=passed)
    first = call_command(["purge", listed(tmp_path, HELD), "--yes"], store.root, capsys)
    left = {run.run_id for run in stored_runs(store)}
    promote(store, other, "production", author(minutes=1), test=passed)
    second = call_command(["purge", listed(tmp_path, HELD), "--yes"], store.root, capsys)

    assert first.code == 1
    assert "stays: channel production shows its model" in first.out
    assert left == {older.run_id, other.run_id}
    assert second.code == 0
    assert files_with(store, HELD) == []


def test_a_recalibrated_model_in_use_keeps_the_run_that_trained_it(hospital, store, runs, tmp_path, capsys):
    """A recalibration has the model of another run, so that it was trained on the same patients, and holds no id itself."""
    spec = write_spec(tmp_path, uri=str(hospital[0].parent / "p"))
    recalibrate = ["recalibrate", f"run:{runs['older']}", "--spec", spec, "--name", "adjusted"]
    assert call_command(recalibrate, store.root, capsys).code == 0
    adjusted, other = (find_run(stored_runs(store), name) for name in ("adjusted", runs["other"]))
    promote(store, adjusted, "production", author(), test=passed)

    first = call_command(["purge", listed(tmp_path, HELD), "--yes"], store.root, capsys)
    left = {run.run_id for run in stored_runs(store)}
    promote(store, other, "production", author(minutes=1), test=passed)
    second = call_command(["purge", listed(tmp_path, HELD), "--yes"], store.root, capsys)

    assert first.code == 1
    assert first.out.count("stays: channel production shows its model") == 2
    assert left == {runs["older"], adjusted.run_id, other.run_id}
    assert second.code == 0
    assert {run.run_id for run in stored_runs(store)} == {other.run_id}


def test_recalibrations_of_recalibrations_are_found_in_any_order(store, runs):
    """A recalibration that was repeated has a later start than those of its bundle."""
    digest = json.loads(store.get(f"runs/{runs['older']}/result.json"))["final_model"]["bundle_digest"]
    made = {"aa" * 8: ("second", "first"), "bb" * 8: ("first", digest), "cc" * 8: ("stranger", "unknown")}
    for run, (bundle, origin) in made.items():
        result = {"final_model": {"bundle_digest": bundle}, "recalibrated_from": origin}
        store.put_if_absent(f"runs/{run}/spec.yaml", b"kind: RecalibrationRun\nmetadata: {name: made}\n")
        store.put_if_absent(f"runs/{run}/result.json", json.dumps(result).encode())

    found = {holding.run.run_id: holding.bundle for holding in find_patients(store, {HELD}).holdings}

    assert found.items() >= {("aa" * 8, "second"), ("bb" * 8, "first")}
    assert "cc" * 8 not in found


def test_a_purge_waits_for_active_runs(store, runs):
    """A purge is refused while a run is active, because its future artifacts are unknown."""
    swap_record(store, runs["other"], lambda _: RunRecord(state=RunState.RUNNING, started=NOW))

    with pytest.raises(SpecError, match=f"run {runs['other']}"):
        find_patients(store, {HELD})


def test_a_run_of_unknown_artifacts_is_named(store, runs, tmp_path, capsys):
    """A run of an earlier version, whose artifacts are unknown, is listed because it may have the patients' data; the exit code is 1."""
    for key in list(store.keys(f"uses/{runs['older']}/")):
        store.delete(key)
    output = call_command(["purge", listed(tmp_path, ABSENT)], store.root, capsys)

    assert output.code == 1
    assert f"mlho delete {runs['older']}" in output.out


def test_artifacts_that_no_run_lists_are_found_and_deleted(store, runs, tmp_path, capsys):
    """The last tasks of a killed run are in no list, and the young artifacts of a deleted run stay for a day. A purge names
    them, with exit code 1, and deletes them.
    """
    delete_runs(store, stored_runs(store), act=True)
    assert files_with(store, HELD) != []
    before = call_command(["purge", listed(tmp_path, HELD)], store.root, capsys)
    deleted = call_command(["purge", listed(tmp_path, HELD), "--yes"], store.root, capsys)

    assert before.code == 1
    assert "artifacts that no run lists" in before.out
    assert "1 patient: demographics, encoded rows, scores" in before.out
    assert deleted.code == 0
    assert files_with(store, HELD) == []


def test_data_of_a_killed_purge_are_reported_until_they_are_deleted(store, runs, tmp_path, capsys):
    """A purge is killed while it deletes a run, and again when only files without their commit records are left. Each time
    `mlho purge` reports the data with exit code 1, and the repeated purge deletes them.
    """
    trained = [run for run in stored_runs(store) if run.run_id in (runs["newer"], runs["older"])]
    delete_runs(store, trained, act=True, grace=dt.timedelta(0))
    swap_record(store, runs["scores"], lambda _: RunRecord(state=RunState.DELETING, started=NOW))
    begun = call_command(["purge", listed(tmp_path, HELD)], store.root, capsys)
    for key in [*store.keys(f"uses/{runs['scores']}/"), *store.keys("commits/")]:
        store.delete(key)
    late = call_command(["purge", listed(tmp_path, HELD)], store.root, capsys)
    repeated = call_command(["purge", listed(tmp_path, HELD), "--yes"], store.root, capsys)

    assert begun.code == 1
    assert "1 patient: demographics, scores, table of patients to score" in begun.out
    assert late.code == 1
    assert "that no artifact names" in late.out
    assert repeated.code == 0
    assert files_with(store, HELD) == []


def test_a_run_whose_deletion_has_begun_is_not_used(store, runs, capsys):
    """Its files may still be complete. It is not shown as finished, and the messages name the commands that complete the deletion."""
    swap_record(store, runs["older"], lambda _: RunRecord(state=RunState.DELETING, started=NOW))
    shown = call_command(["show", runs["older"]], store.root, capsys)
    repeated = call_command(["delete", "gone", runs["older"], "--yes"], store.root, capsys)

    assert shown.code == 2
    assert f"mlho delete {runs['older']}" in shown.err
    assert repeated.code == 2
    assert "mlho prune completes it" in repeated.err


def scores_of(store: LocalStore) -> list[Path]:
    """Return the files of the store with scores."""
    commits = [read_commit(store, key.rsplit("/", 1)[1]) for key in store.keys("commits/")]
    return [
        store.path(blob_key(commit.files["part.parquet"].sha256))
        for commit in commits
        if "part.parquet" in commit.files
    ]


def test_a_damaged_file_does_not_stop_a_purge(store, runs, tmp_path, capsys):
    """Its run is named with the remedy, because it is not known whom the file holds. The others are searched and deleted. Nothing is
    left of the patients once the named run is deleted, too.
    """
    for path in scores_of(store):
        path.write_bytes(path.read_bytes()[:-1])
    for task in used_tasks(store, runs["scores"]):  # only the damaged file of this run could hold them
        for name, file in read_commit(store, task).files.items():
            if name in ("roster.arr", "persons.arr"):
                store.delete(blob_key(file.sha256))

    before = call_command(["purge", listed(tmp_path, HELD)], store.root, capsys)
    deleted = call_command(["purge", listed(tmp_path, HELD), "--yes"], store.root, capsys)

    assert (before.code, deleted.code) == (1, 1)
    assert (
        f"a file with ids of patients is damaged, so its patients are unknown. Delete the run: mlho delete {runs['scores']}"
        in before.out
    )
    assert "1 with data, in 2 runs" in before.out
    assert {run.run_id for run in stored_runs(store)} == {runs["scores"], runs["other"]}
    call_command(["delete", runs["scores"], "--yes"], store.root, capsys)
    again = call_command(["purge", listed(tmp_path, HELD)], store.root, capsys)
    assert (again.code, "a damaged file" in again.out) == (1, True)
    assert call_command(["purge", listed(tmp_path, HELD), "--yes"], store.root, capsys).code == 0
    assert scores_of(store) == []


def test_a_missing_file_holds_no_patient(store, runs, tmp_path, capsys):
    """A file that was lost does not stop a purge, and does not name its run."""
    for path in scores_of(store):
        path.unlink()

    output = call_command(["purge", listed(tmp_path, ABSENT), "--json"], store.root, capsys)

    assert (output.code, json.loads(output.out)["damaged_runs"]) == (0, [])


@pytest.mark.parametrize("content", [None, b"\n  \n", b"\xff\xfe", b'"p00007"\n'])
def test_a_list_of_patients_that_cannot_be_read_is_refused(store, tmp_path, capsys, content):
    """A missing, an empty, a non-UTF-8 and a quoted list of patients is rejected; a quoted id would match no patient."""
    path = tmp_path / "patients.txt"
    if content is not None:
        path.write_bytes(content)
    output = call_command(["purge", path], store.root, capsys)

    assert output.code == 2
    assert "patient id per line" in output.error or "Give one per line" in output.error


def test_a_purge_finds_patients_whose_ids_are_encrypted(tmp_path, capsys, monkeypatch):
    """With the key of the artifacts, or as a replaced one. Without it nothing is deleted: whom the run holds is not known."""
    monkeypatch.setenv(PSEUDONYM_KEY, "the key of this store")
    store = LocalStore(tmp_path / "store")
    run = run_inline(write_tables(tmp_path / "data", make_tables(150, seed=2)), store).finished.run_id
    wanted = listed(tmp_path, HELD)
    assert files_with(store, HELD) == []

    monkeypatch.setenv(PSEUDONYM_KEY, "another key of this store")
    without = call_command(["purge", wanted, "--yes"], store.root, capsys)
    assert without.code == 2
    assert PSEUDONYM_KEY in without.err
    assert HELD not in without.out + without.err
    assert [stored.run_id for stored in stored_runs(store)] == [run]

    monkeypatch.setenv(PSEUDONYM_KEY, "the key of this store")
    assert call_command(["purge", wanted], store.root, capsys).code == 1
    assert call_command(["purge", wanted, "--yes"], store.root, capsys).code == 0
    assert stored_runs(store) == []
