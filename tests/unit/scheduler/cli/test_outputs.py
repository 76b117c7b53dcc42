"""Outputs of commands that cannot be written, and options without effect: both are told before any work is done."""

from pathlib import Path
from shutil import copytree

import pytest
import yaml

from mlho.errors import SpecError
from mlho.spec.training import load_spec
from mlho.store.local import LocalStore
from scheduler.cli.listing import checked_output
from scheduler.cli.run import prepare_with_warnings
from scheduler.engine.training_run import TrainingRun
from tests.builders import call_command, make_tables, write_spec
from tests.unit.scoring.conftest import make_score_document, train


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of tables, a bundle that was trained on them, and specifications."""
    folder = train(tmp_path_factory.mktemp("trained"), {}, make_tables(300, seed=6)).folder
    write_spec(folder)
    (folder / "score.yaml").write_text(yaml.safe_dump(make_score_document()))
    return folder


@pytest.mark.parametrize(
    ("name", "is_folder", "problem"),
    [
        ("file", True, "is a file"),
        ("folder", False, "is a folder"),
        ("none/page.html", False, "does not exist"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(name, is_folder, problem, tmp_path):
    """The message names the option, the path and what to give."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    with pytest.raises(SpecError, match=problem):
        checked_output(tmp_path / name, "--to", is_folder=is_folder)


@pytest.mark.parametrize(
    ("path", "is_folder"), [("page.html", False), ("page.html", True), ("new/sub", True)]
)
def test_an_output_in_a_read_only_folder_is_refused(path, is_folder, tmp_path, monkeypatch):
    """An evaluation of hours would otherwise end with “Permission denied”."""
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) != tmp_path)

    with pytest.raises(SpecError, match=r"--out .*: not writable for this user. Give another place."):
        checked_output(tmp_path / path, "--out", is_folder=is_folder)


@pytest.mark.parametrize("path", [None, "new.html", "file"])
def test_an_output_that_can_be_written_is_accepted(path, tmp_path):
    """A file may be replaced."""
    (tmp_path / "file").touch()

    checked_output(None if path is None else tmp_path / path, "--html")


@pytest.mark.parametrize(
    "words",
    [
        ("changes", "spec.yaml", "--html", "none/page.html"),
        ("compare", "a", "b", "--html", "none/page.html"),
        ("evaluate", "run:a", "--spec", "spec.yaml", "--out", "file"),
        ("export", "a", "--to", "file"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_refuses_its_output_before_it_reads_anything(words, tmp_path, monkeypatch, capsys):
    """The work would be lost at its end, with a traceback."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()

    output = call_command(words, tmp_path, capsys)

    assert output.code == 2
    assert words[-1] in output.err


@pytest.mark.parametrize(
    "words",
    [
        "evaluate bundle --spec spec.yaml",
        "evaluate run:a --spec spec.yaml",
        "test bundle",
        "plan score.yaml",
        "validate score.yaml",
    ],
)
def test_a_command_that_writes_nothing_to_a_store_does_not_make_one(
    words, place, tmp_path, monkeypatch, capsys
):
    """An empty folder would be left where the command was called. Only a bundle of a run or channel needs an existing store."""
    copytree(place, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    output = call_command(words.split(), tmp_path / "store", capsys)

    needs_store = "run:a" in words
    assert (output.code == 2) == needs_store, output.err
    assert ("no such folder" in output.err) == needs_store
    assert not (tmp_path / "store").exists()


def test_an_export_says_that_the_options_of_a_cluster_are_not_used(tmp_path, capsys):
    """A run of a store has no namespace."""
    output = call_command(["export", "a", "--namespace", "trials"], tmp_path, capsys)

    assert "--context and --namespace are ignored" in output.err


def test_a_run_with_another_name_says_that_the_store_keeps_the_first(place, tmp_path, capsys):
    """Names and texts are not part of a run's id: under its new name the run would not be found."""
    copytree(place, tmp_path, dirs_exist_ok=True)
    store = LocalStore(tmp_path / "store")

    def prepared(name: str) -> tuple[TrainingRun, str]:
        path = write_spec(tmp_path, name=name)
        return prepare_with_warnings(load_spec(path), path, store), capsys.readouterr().err

    run, before = prepared("first")
    run.describe()
    _, same = prepared("first")
    _, other = prepared("second")

    assert "The store has this run" not in before + same
    assert "under the name first: its data and settings are the same" in other
    assert f"not taken over: name. To change them, delete the run first: mlho delete {run.run_id}" in other
