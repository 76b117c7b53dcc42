"""`mlho validate`, and the look at the tables that other commands begin with."""

import json

import pytest

from tests.builders import call_command, make_tables, write_spec, write_tables


@pytest.fixture
def folder(tmp_path):
    return write_tables(tmp_path / "data", make_tables(300))


def test_tables_that_fit_are_described(folder, tmp_path, capsys):
    """A short table of what was found, and nothing is written."""
    said = call_command(["validate", write_spec(folder)], tmp_path / "store", capsys)

    assert said.code == 0
    assert "300 patients" in said.out
    assert "0 errors" in said.out
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
def test_a_wrong_column_is_found_before_the_first_task(command, folder, tmp_path, capsys):
    """The exit code is that of a run which meets the error later."""
    spec = write_spec(folder, {"data.columns": {"events": {"code": "ICD"}}, "cohort.outcome": "readmitted"})

    said = call_command([command, spec], tmp_path / "store", capsys)

    assert said.code == 3
    everything = said.out + said.err
    assert "'ICD' is missing" in everything
    assert "'readmitted' is missing" in everything
    assert not list((tmp_path / "store").glob("commits/*"))


def test_a_program_reads_the_same(folder, tmp_path, capsys):
    """JSON has the errors as a list."""
    spec = write_spec(folder, {"cohort.outcome": "readmitted"})

    said = call_command(["validate", spec, "--json"], tmp_path / "store", capsys)

    plain = json.loads(said.out)
    assert plain["valid"] is False
    assert len(plain["errors"]) == 1
    assert set(plain["tables"]) == {"events", "labels", "demographics", "concepts"}
