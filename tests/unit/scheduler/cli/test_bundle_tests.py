"""`mlho test` runs the tests of a bundle, in a new process, for a bundle in a folder or in a store."""

import dataclasses
import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import scheduler.registry.bundle_tests
from mlho.errors import BundleError
from mlho.model.bundle import load_bundle
from scheduler.registry.bundle_tests import run_in_fresh_process
from tests.builders import CommandOutput, make_tables, run_inline, write_tables

Command = Callable[..., CommandOutput]
WEAK = {"tests": {"floors": {"auroc": 0.99}}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a store's folder and the id of its run, whose bundle fails a floor."""
    folder = tmp_path_factory.mktemp("tested")
    data = write_tables(folder / "data", make_tables(300, seed=6))
    return folder / "store", run_inline(data, folder / "store", WEAK).finished.run_id


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_failed_floor_is_a_row_a_sentence_and_exit_code_4(trained, command: Command, tmp_path: Path):
    """A failed floor appears in the table, as a sentence and in the JUnit XML report; the exit code is 4."""
    store, _ = trained
    report = tmp_path / "tests.xml"

    output = command("test", "run:small", "--junit", report, store=store)

    assert output.code == 4
    assert "floor.auroc" in output.out
    assert "FAILED" in output.out
    assert "floor.auroc: It ranks patients by risk less well than tests.floors.auroc requires" in output.out
    assert "The bundle is not promoted, and not used for scoring." in output.out
    suite = ET.fromstring(report.read_bytes())
    assert int(suite.get("tests", "0")) >= 25
    [failure] = [
        case for case in suite if case.find("failure") is not None and case.get("name") == "floor.auroc"
    ]
    assert failure.find("failure").get("type") == "required"


def test_a_folder_and_a_run_give_the_same_results(trained, command: Command):
    """The bundle's folder and its run id give the same JSON, except for the measured seconds."""
    store, run = trained

    def plain(uri: str) -> dict[str, Any]:
        found = json.loads(command("test", uri, "--json", store=store).out)
        measured = [test for test in found["tests"] if test["kind"] in ("seconds", "memory")]
        assert len(measured) == 2
        found["tests"] = [
            {**test, "seconds": 0} for test in found["tests"] if test["kind"] not in ("seconds", "memory")
        ]
        return found

    assert plain(f"run:{run}") == plain(str(store / "runs" / run / "bundle"))


def test_a_damaged_bundle_is_refused_before_its_tests_run(trained, command: Command, tmp_path: Path):
    """A damaged bundle is rejected before its tests run, with the file's name and the remedy."""
    store, run = trained
    bundle = Path(shutil.copytree(store / "runs" / run / "bundle", tmp_path / "bundle"))
    content = bytearray((bundle / "tests/tests.json").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "tests/tests.json").write_bytes(content)

    output = command("test", bundle, store=store)

    assert output.code == 4
    assert "tests/tests.json: damaged" in output.error
    assert "Fetch the bundle again, or build it again." in output.error


def test_a_bundle_of_an_earlier_version_gets_default_tests(command: Command):
    """A bundle of an earlier version, without tests, gets the default tests and passes them; the output says so."""
    before = Path(__file__).parents[2] / "model" / "written_before" / "glmboost"

    output = command("test", before)

    assert output.code == 0, output.out
    assert "The bundle carries no tests" in output.out


def test_a_missing_run_and_an_unwritable_report_are_errors_of_the_command(
    trained, command: Command, tmp_path, monkeypatch
):
    """A missing run and an unwritable report give exit code 2 and the remedy, before the tests run."""
    store, run = trained
    monkeypatch.delattr(scheduler.registry.bundle_tests, "_start")
    folder = command("test", f"run:{run}", "--junit", tmp_path, store=store)
    unwritable = command("test", f"run:{run}", "--junit", tmp_path / "nowhere" / "x.xml", store=store)

    assert command("test", "run:nothing", store=store).code == 2
    for refused, remedy in (
        (folder, "Give the name of a file."),
        (unwritable, "Create the folder, or give another"),
    ):
        assert refused.code == 2
        assert remedy in " ".join(refused.error.split())


def test_a_requirement_that_is_not_met_bars_scoring_and_is_a_warning_of_the_run(trained, command: Command):
    """A failed requirement is a warning in the finished run's report and prevents promotion and scoring."""
    store, run = trained
    result = json.loads((store / "runs" / run / "result.json").read_text(encoding="utf-8"))

    assert any(
        warning.startswith("The bundle cannot be used for scoring or promoted") and "floor.auroc" in warning
        for warning in result["warnings"]
    )
    page = (store / "runs" / run / "report.html").read_text(encoding="utf-8")
    assert "Tests of the bundle" in page
    output = command("promote", run, "--channel", "production", "--why", "x", store=store)
    assert output.code == 4
    assert "floor.auroc" in output.error


def test_the_error_of_the_fresh_process_names_the_missing_file(trained):
    """The error of the fresh process names the missing file and not the temporary folder."""
    store, run = trained
    files = files_of(store / "runs" / run / "bundle")
    del files["model_card.md"]

    with pytest.raises(BundleError, match=r"^bundle: 1 file missing, first model_card.md"):
        run_in_fresh_process(files)


def test_a_fresh_process_gives_the_results_of_this_one(trained):
    """A fresh process runs all tests of the bundle and returns their results, equal but for what is measured."""
    store, run = trained
    bundle = store / "runs" / run / "bundle"

    def plain(results: Any) -> list[Any]:
        return [dataclasses.replace(result, seconds=0) for result in results if not result.is_measured]

    results = run_in_fresh_process(files_of(bundle))

    assert plain(results) == plain(load_bundle(bundle).run_tests())
    assert {result.kind for result in results if result.is_measured} == {"seconds", "memory"}
