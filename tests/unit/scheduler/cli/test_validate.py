"""`mlho validate`, and the check of the tables with which other commands begin."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.cli.validate import inspect_before_submission
from tests.builders import call_command, make_spec, make_tables, write_spec, write_tables

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
def folder(tmp_path):
    return write_tables(tmp_path / "data", make_tables(300))


def test_tables_that_fit_are_described(folder, tmp_path, capsys):
    """Valid tables are described in a short table, and nothing is written."""
    output = call_command(["validate", write_spec(folder)], tmp_path / "store", capsys)

    assert output.code == 0
    assert "300 patients" in output.out
    assert "0 errors" in output.out
    assert not (tmp_path / "store").exists()


def test_the_check_of_tables_imports_no_pandas(folder):
    """The check of the tables does not import pandas, which would take a fifth of the command's CPU time."""
    program = (
        "import sys\n"
        "from scheduler.cli.parser import main\n"
        "assert main(['validate', sys.argv[1]]) == 0\n"
        "assert 'pandas' not in sys.modules\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, write_spec(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
def test_a_wrong_column_is_found_before_the_first_task(command, folder, tmp_path, capsys):
    """A wrong column is found before the first task, with the exit code that the run would have."""
    spec = write_spec(folder, {"data.columns": {"events": {"code": "ICD"}}, "cohort.outcome": "readmitted"})

    output = call_command([command, spec], tmp_path / "store", capsys)

    assert output.code == 3
    everything = output.out + output.err
    assert "'ICD' is missing" in everything
    assert "'readmitted' is missing" in everything
    assert not list((tmp_path / "store").glob("commits/*"))


def test_a_program_reads_the_same(folder, tmp_path, capsys):
    """With `--json`, the errors are a list."""
    spec = write_spec(folder, {"cohort.outcome": "readmitted"})

    output = call_command(["validate", spec, "--json"], tmp_path / "store", capsys)

    plain = json.loads(output.out)
    assert plain["valid"] is False
    assert len(plain["errors"]) == 1
    assert set(plain["tables"]) == {"events", "labels", "demographics", "concepts"}


def test_a_submission_does_not_wait_for_unreadable_tables(monkeypatch, capsys):
    """If a submission cannot read the tables in object storage, it continues, and a task of the run checks them. Without
    access it does not even try.
    """
    spec = make_spec({"data.uri": "s3://bucket/tables"})

    inspect_before_submission(spec)
    assert capsys.readouterr().err == ""

    monkeypatch.setenv("MLHO_S3_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("MLHO_S3_DEADLINE", "0.1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    inspect_before_submission(spec)
    assert "by a task of the run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "error"),
    [("", "MLHO_SIGNING_KEY"), ("a key that only the tests use", "broker: does not answer")],
    ids=["no key", "no Redis"],
)
def test_an_unusable_queue_is_reported_before_the_tables_are_inspected(
    key, error, folder, tmp_path, capsys, monkeypatch
):
    """Tables may be large, and the cause is one setting. Errors of the tables are reported once the queue can be used."""
    monkeypatch.setenv("MLHO_SIGNING_KEY", key)
    spec = write_spec(folder, {"data.columns": {"events": {"code": "ICD"}}})

    output = call_command(["run", spec, "--broker", "redis://127.0.0.1:1/0"], tmp_path / "store", capsys)

    assert output.code == 2
    assert error in output.err
    assert "ICD" not in output.err


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize(("n_features", "is_told"), [(200, True), (1, False)])
def test_a_sample_that_is_too_small_is_told_before_a_run(command, n_features, is_told, tmp_path, capsys):
    """The warning of the plan is also that of `mlho validate` and `mlho run`. A sample that is large enough gives no warning."""
    folder = write_tables(tmp_path / "data", make_tables(600))
    spec = write_spec(folder, {"selection.nFeatures": n_features, "features.demographics": []})

    output = call_command([command, spec], tmp_path / "store", capsys)

    assert output.code == 0
    everything = " ".join((output.out + output.err).split())
    assert ("Warning: Sample size: 600 patients" in everything) is is_told
