"""Outputs of commands that cannot be written, and options without effect: both are told before any work is done."""

import pytest

from mlho.errors import SpecError
from scheduler.cli.listing import checked_output
from tests.builders import call_command


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


def test_an_export_says_that_the_options_of_a_cluster_are_not_used(tmp_path, capsys):
    """A run of a store has no namespace."""
    output = call_command(["export", "a", "--namespace", "trials"], tmp_path, capsys)

    assert "--context and --namespace are not used" in output.err
