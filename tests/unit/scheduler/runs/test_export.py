"""The export of a run's files to a folder: complete, verified, and all or nothing."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

import scheduler.runs.export
from mlho.errors import ArtifactDamaged, SpecError
from mlho.report.digest import result_digest
from mlho.store.keys import blob_key, run_key
from mlho.store.local import LocalStore
from scheduler.cli.cluster import shown_status
from scheduler.runs.export import export_run, output_lines, split_output

TRAINED, SCORED = "0a1b2c3d4e5f6071", "ffeeddccbbaa0099"
RESULT = {"headline": {"auroc": {"mean": 0.8}}, "timing": {"seconds": 1.0}, "inputs": {}}
TRAINING_FILES = {
    "result.json": json.dumps(RESULT).encode(),
    "report.html": b"<html>",
    "bundle/bundle.json": b"{}",
    "bundle/model/model.json": b"[1]",
}


def commit(store: LocalStore, run: str, name: str, content: bytes) -> None:
    """Publish a file as runs do: as a blob with a name in the run's folder."""
    blob = blob_key(hashlib.sha256(content).hexdigest())
    store.put_if_absent(blob, content)
    store.copy_if_absent(blob, run_key(run, name))


def describe(store: LocalStore, run: str, kind: str, **spec: object) -> None:
    document = {"kind": kind, "metadata": {"name": "own"}, "spec": spec}
    store.put_if_absent(run_key(run, "spec.yaml"), yaml.safe_dump(document).encode())


@pytest.fixture
def store(local_store: LocalStore) -> LocalStore:
    """Return a store with a finished training run and a finished scoring run."""
    describe(local_store, TRAINED, "TrainingRun")
    for name, content in TRAINING_FILES.items():
        commit(local_store, TRAINED, name, content)
    part = b"PAR1 rows PAR1"
    listed = [{"name": "part-00000.parquet", "sha256": hashlib.sha256(part).hexdigest()}]
    describe(local_store, SCORED, "ScoringRun", output={"prefix": "nightly/scores"})
    for name, content in {
        "part-00000.parquet": part,
        "scores.json": b"{}",
        "manifest.json": json.dumps({"parts": listed}).encode(),
    }.items():
        commit(local_store, SCORED, f"nightly/scores/{name}", content)
    return local_store


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_training_run_leaves_its_report_result_and_bundle(store, tmp_path):
    """The export of a training run has its report, result and bundle, byte for byte, and no other file."""
    done = export_run(store, TRAINED, tmp_path / "out")

    assert files_in(tmp_path / "out") == TRAINING_FILES
    assert (done.is_new, done.n_files) == (True, 4)
    assert done.outputs["resultDigest"] == result_digest(RESULT)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_for_mlflow_differs_in_one_file(store, tmp_path):
    """An export for MLflow has one additional file with loader, bundle folder, run, digests and figures. A scoring run has
    no model to export.
    """
    out = tmp_path / "out"
    done = export_run(store, TRAINED, out, mlflow=True)

    described = yaml.safe_load((out / "MLmodel").read_bytes())
    assert set(files_in(out)) == {*TRAINING_FILES, "MLmodel"}
    assert described["flavors"]["python_function"] == {"loader_module": "mlho.pyfunc", "data": "bundle"}
    assert described["metadata"]["metrics"] == {"auroc": 0.8}
    assert described["metadata"]["result_digest"] == done.outputs["resultDigest"]
    assert not export_run(store, TRAINED, out, mlflow=True).is_new
    with pytest.raises(SpecError, match="scoring run"):
        export_run(store, SCORED, tmp_path / "scores", mlflow=True)


def test_a_scoring_run_leaves_its_scores(store, tmp_path):
    """The export of a scoring run has every part that its manifest names, under the prefix of its specification."""
    done = export_run(store, SCORED, tmp_path / "out")

    assert set(files_in(tmp_path / "out")) == {
        f"nightly/scores/{name}" for name in ("manifest.json", "scores.json", "part-00000.parquet")
    }
    assert done.outputs == {"scores": f"{tmp_path}/out/nightly/scores/manifest.json"}


def test_the_second_export_writes_nothing(store, tmp_path):
    """A second export writes nothing and says so. Other content is never overwritten."""
    export_run(store, TRAINED, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}

    assert not export_run(store, TRAINED, tmp_path / "out").is_new
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before

    (tmp_path / "out" / "report.html").write_bytes(b"mine")
    with pytest.raises(SpecError, match=r"contains other files.*--to"):
        export_run(store, TRAINED, tmp_path / "out")
    assert (tmp_path / "out" / "report.html").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["report.html", "result.json", "bundle/model/model.json"])
def test_a_damaged_file_is_not_exported(store, tmp_path, name):
    """A file whose bytes are not a blob of the store is not exported, and no folder is created."""
    path = store.root / run_key(TRAINED, name)
    path.unlink()
    path.write_bytes(TRAINING_FILES[name].replace(b"1", b"2") + b" ")

    with pytest.raises(ArtifactDamaged, match=rf"{name}: its bytes are not those"):
        export_run(store, TRAINED, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_part_is_not_exported(store, tmp_path):
    """Parts of the scores are verified against the digests of their manifest, and a damaged one is not exported.
    The message names the command that computes it again.
    """
    digest = hashlib.sha256(b"PAR1 rows PAR1").hexdigest()
    blob = store.root / blob_key(digest)
    blob.unlink()
    blob.write_bytes(b"PAR1 other PAR1")

    with pytest.raises(ArtifactDamaged, match=rf"part-.*{digest[:12]}.*--again"):
        export_run(store, SCORED, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unexpected_result_is_refused(store, tmp_path):
    """An export whose digest differs from the expected one is rejected, for example after a port-forward to the wrong cluster's storage."""
    with pytest.raises(ArtifactDamaged, match=r"another result.*endpoint"):
        export_run(store, TRAINED, tmp_path / "out", expected_digest="0" * 64)
    assert not (tmp_path / "out").exists()


def test_a_run_that_has_not_ended_is_refused(store, tmp_path):
    """A run without result.json, which is published last, is not exported."""
    store.delete(run_key(TRAINED, "result.json"))

    with pytest.raises(SpecError, match="not finished"):
        export_run(store, TRAINED, tmp_path / "out")


def test_nothing_is_left_of_an_export_that_fails(store, tmp_path, monkeypatch):
    """If an export fails, for example because the disk is full at the second file, no folder and no partial folder are left."""
    written = []

    def full(path: Path, content: object) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")

    monkeypatch.setattr(scheduler.runs.export, "_write_one", full)
    with pytest.raises(SpecError, match=r"No space left on device.*--to"):
        export_run(store, TRAINED, tmp_path / "fresh" / "out")

    assert written
    assert list((tmp_path / "fresh").iterdir()) == []


def test_a_manifest_cannot_write_outside_the_folder(store, tmp_path):
    """A manifest's file name that leaves the folder is rejected, so that write access to the store does not give write access elsewhere."""
    part = b"PAR1 rows PAR1"
    listed = [{"name": "../../../escaped", "sha256": hashlib.sha256(part).hexdigest()}]
    store.delete(run_key(SCORED, "nightly/scores/manifest.json"))
    commit(store, SCORED, "nightly/scores/manifest.json", json.dumps({"parts": listed}).encode())

    with pytest.raises(SpecError, match="relative path of plain names"):
        export_run(store, SCORED, tmp_path / "deep" / "out")
    assert not (tmp_path / "escaped").exists()
    assert list((tmp_path / "deep").iterdir()) == []


def test_the_command_exports_by_name(command, store, tmp_path):
    """The first lines of an export equal those at the end of a run. The folder has the run's id unless the user names one."""
    output = command("export", TRAINED, "--to", tmp_path / "mine", store=store.root)

    assert output.code == 0
    assert output.out.splitlines() == [
        f"run      {TRAINED}",
        f"result   {result_digest(RESULT)}",
        f"bundle   {tmp_path}/mine/bundle",
        f"report   {tmp_path}/mine/report.html",
    ]
    assert "4 files" in output.err


def test_outputs_of_a_cluster_are_printed_like_those_of_a_local_run():
    """The outputs in the status of a custom resource are printed as those of a local run."""
    outputs = {"report": "s3://b/r", "result": "s3://b/j", "bundle": "s3://b/m", "resultDigest": "0f"}

    assert list(output_lines("0a", outputs)) == [
        "run      0a",
        "result   0f",
        "bundle   s3://b/m",
        "report   s3://b/r",
    ]


def test_an_output_that_is_not_in_the_runs_folder_is_refused():
    """An output outside the run's folder is rejected, because its store cannot be derived from it."""
    with pytest.raises(SpecError, match="--store"):
        split_output("s3://bucket/elsewhere/report.html", "0a1b")


def test_the_status_of_a_resource_begins_like_that_of_a_run_on_a_queue():
    """A resource's status begins with the fields run, execution, state and running, as that of a run on a queue. Fields of
    the cluster follow.
    """
    status = {"phase": "Running", "runId": "0a", "execution": "e1", "tasks": {"running": 3}}
    failures = [{"task": "fit 3", "reason": "TasksQuarantined"}, {"task": "fit 4", "reason": "InvalidData"}]

    assert shown_status(status) == {
        "run": "0a",
        "execution": "e1",
        "state": "open",
        "quarantined": [],
        "running": 3,
        **status,
    }
    assert shown_status({"phase": "Pending"})["state"] == "not on a queue"
    assert shown_status({**status, "phase": "Succeeded"})["state"] == "finished"
    assert shown_status({**status, "failures": failures})["quarantined"] == ["fit 3"]
