"""Tests of the command ``mlho dossier``."""

import json

import pytest
import yaml

from tests.builders import call_command, make_tables, run_inline, write_spec, write_tables


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dossier")
    data = write_tables(folder / "data", make_tables(200, seed=3))
    return data, folder / "store", run_inline(data, folder / "store").finished.run_id


def with_statements(data, path, **changes):
    """Write the run's specification with an additional statement."""
    document = yaml.safe_load(write_spec(data, changes or None).read_text())
    document["metadata"]["statements"] = {"funding": "None."}
    path.write_text(yaml.safe_dump(document))
    return path


def test_it_writes_a_page_and_a_document_and_names_what_is_open(home, tmp_path, capsys):
    _, store, run = home
    output = call_command(["dossier", "--to", tmp_path / "out"], store, capsys)

    document = json.loads((tmp_path / "out" / "dossier.json").read_text())
    assert output.code == 0, output.err
    assert document["run"] == run
    assert "metadata.statements.funding" in output.out
    assert run in (tmp_path / "out" / "dossier.html").read_text()


def test_while_anything_is_open_a_pipeline_stops(home, capsys):
    _, store, _ = home

    assert call_command(["dossier", "--complete", "--json"], store, capsys).code == 1


def test_statements_can_be_added_after_the_run(home, tmp_path, capsys):
    data, store, _ = home
    spec = with_statements(data, tmp_path / "later.yaml")
    output = call_command(["dossier", "--json", "--spec", spec], store, capsys)

    assert output.code == 0, output.err
    assert "metadata.statements.funding" not in [entry["field"] for entry in json.loads(output.out)["open"]]


def test_the_specification_of_another_run_is_refused(home, tmp_path, capsys):
    data, store, run = home
    spec = with_statements(data, tmp_path / "other.yaml", **{"validation.seed": 99})
    output = call_command(["dossier", "--spec", spec], store, capsys)

    assert output.code == 2
    assert f"not the specification of run {run}" in output.error
