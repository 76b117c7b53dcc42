"""The `mlho` command: help, plan, run, show, list, report, version, and their output."""

import json
import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree
from unittest.mock import Mock

import pytest
import yaml

import scheduler.cli.parser
from mlho import __version__
from mlho.errors import MlhoError
from tests.builders import make_tables, run_inline, write_spec, write_tables

COMMANDS = ("run", "plan", "list", "delete", "prune", "show", "report", "demo", "version")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return write_spec(write_tables(tmp_path / "data", make_tables(200, seed=2)))


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with tables, their specification, and a store in which its run has finished."""
    folder = tmp_path_factory.mktemp("finished")
    data = write_tables(folder / "data", make_tables(200, seed=2))
    write_spec(data)
    run_inline(data, folder / "store")
    return folder


@pytest.fixture
def finished(finished_run: Path, tmp_path: Path) -> Path:
    """Return the specification of a run that has finished in the store of this test. Running it again computes nothing."""
    copytree(finished_run, tmp_path, dirs_exist_ok=True)
    return tmp_path / "data" / "spec.yaml"


def run_of(output) -> str:
    """Return the run id that a command printed."""
    return re.findall(r"^run +([0-9a-f]{16}) ", output.out, re.MULTILINE)[0]


@pytest.mark.parametrize("command_name", ["", *COMMANDS])
def test_help_teaches(command_name, capsys):
    """Help describes every command and every option."""
    with pytest.raises(SystemExit) as ended:
        scheduler.cli.parser.main([command_name, "--help"] if command_name else ["--help"])
    text = capsys.readouterr().out

    assert ended.value.code == 0
    assert f"usage: mlho {command_name}".strip() in text
    undocumented = re.findall(r"^  (-{1,2}[a-z-]+(?: [A-Z]+)?)$(?!\n {10,})", text, re.MULTILINE)
    assert undocumented == []
    if not command_name:
        assert all(
            f"mlho {name}" in text for name in ("demo", "plan spec.yaml", "run spec.yaml", "show", "report")
        )


def test_help_of_run_says_that_it_resumes(capsys):
    """The help of `mlho run` says that the same command resumes a run."""
    with pytest.raises(SystemExit):
        scheduler.cli.parser.main(["run", "--help"])

    assert "the same command continues" in " ".join(capsys.readouterr().out.split())


def test_without_arguments_the_commands_are_listed(capsys):
    """``mlho`` alone prints its whole help, with exit code 2."""
    assert scheduler.cli.parser.main([]) == 2
    assert "mlho demo" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["fly"], ["run"], ["plan", "x.yaml", "--workers", "0"], ["run", "x", "--log", "xml"]]
)
def test_wrong_usage_is_refused(arguments, capsys):
    """Invalid arguments give exit code 2 and the usage."""
    with pytest.raises(SystemExit) as ended:
        scheduler.cli.parser.main(arguments)

    assert ended.value.code == 2
    assert "usage: mlho" in capsys.readouterr().err


def test_metrics_without_a_queue_are_refused(command, spec):
    """`--metrics-port` is rejected without a queue, because no process would serve the metrics."""
    output = command("run", spec, "--metrics-port", "9464")

    assert output.code == 2
    assert "--metrics-port: only a run on a queue serves metrics" in output.err


def test_plan_shows_tasks_bytes_and_time_and_makes_no_store(command, spec):
    """The plan shows tasks, bytes and time by stage and in total, and creates no store."""
    output = command("plan", spec)

    assert (output.code, output.err) == (0, "")
    assert "Plan of small" in output.out
    assert re.search(r"reading events +[│|] +3 +[│|] +[\d.]+ kB", output.out), output.out
    assert re.search(r"all +[│|] +17 +[│|] +[\d.]+ kB", output.out)
    assert not output.store.exists()


@pytest.mark.parametrize("command_name", ["plan", "run"])
def test_local_commands_reject_invalid_cluster_fields(command_name, command, spec):
    """A mistake in ``workers`` or ``desiredState`` is found by local commands, although only a cluster reads these fields."""
    document = yaml.safe_load(spec.read_text())
    document["spec"] |= {"workers": {"maxx": 3}, "desiredState": "Bogus"}
    spec.write_text(yaml.safe_dump(document))

    output = command(command_name, spec)

    assert output.code == 2
    assert "'max'" in output.err
    assert "desiredState" in output.err


def test_plan_refuses_what_run_would(command, spec):
    """`mlho plan` rejects a specification with a missing table, as `mlho run` does."""
    (spec.parent / "labels.parquet").unlink()
    output = command("plan", spec)

    assert output.code == 3
    assert "labels.parquet: no such file or folder" in output.err


def test_run_prints_the_result_and_its_paths(command, spec):
    """`mlho run` prints the result in sentences, the attrition, the ledger and the paths, and the paths exist."""
    output = command("run", spec)

    assert output.code == 0
    assert re.search(r"^reading events: done, 3 tasks in ", output.err, re.MULTILINE)
    assert "AUROC" in output.out
    assert "Event rows" in output.out
    assert "dropped: no code" in output.out
    for name in ("bundle", "report"):
        (path,) = re.findall(rf"^{name} +(.+)$", output.out, re.MULTILINE)
        assert Path(path).exists()
    assert re.search(r"^run +[0-9a-f]{16} \(17 tasks, 17 of them new, ", output.out, re.MULTILINE)
    assert "17 tasks, 0 of them new" in command("run", spec).out


def test_output_in_a_pipe_has_no_control_characters(command, spec):
    """Output to a pipe has neither progress bars nor colors nor other control characters."""
    output = command("run", spec)

    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", output.out + output.err)


def test_a_json_log_is_json_in_every_line(command, spec):
    """With `--log json`, every line of the log is JSON, with one line per task."""
    output = command("run", spec, "--log", "json")
    events = [json.loads(line) for line in output.err.splitlines()]

    warning = events.pop(0)
    assert (warning["event"], warning["level"]) == ("warning_found", "warning")
    assert "The sample is too small." in warning["warning"]
    assert [event["event"] for event in events] == ["run_started", *["task_finished"] * 17, "run_finished"]
    assert {event["level"] for event in events} == {"info"}
    assert events[-1]["n_new"] == 17


def test_show_lists_the_runs(command, finished):
    """`mlho show` lists name, state and outcome of each run."""
    command("run", finished)
    other = write_spec(finished.parent, {"validation.seed": 8}, name="other")
    command("run", other)
    output = command("show")

    assert output.code == 0
    assert re.search(r"small .*[0-9a-f]{16} .*finished .*AUROC 0\.\d{3} for label", output.out), output.out
    assert "other" in output.out


def test_an_unfinished_run_is_listed_as_such(command, inline, spec):
    """A run that stopped half-way is listed without a result, and showing it tells how to continue."""

    def stop(task):
        if task.kind == "summarize_run":
            raise KeyboardInterrupt

    inline.before = stop
    stopped = command("run", spec)

    assert stopped.code == 130
    assert "run the same command to continue" in stopped.err
    assert "stopped" in command("show").out
    for command_name in ("show", "report"):
        output = command(command_name, "small")
        assert output.code == 2
        assert "to continue it" in output.err


def test_show_json_is_the_result(command, finished):
    """`mlho show --json` with the run's id, a prefix of the id or its name prints the content of result.json."""
    run = command("run", finished)
    result = json.loads(run.results[0].read_text())
    run_id = run.results[0].parent.name

    for wanted in (run_id, run_id[:5], "small"):
        assert json.loads(command("show", wanted, "--json").out) == result


def test_show_summarizes_a_run(command, finished):
    """`mlho show` prints summary, cohort, ledger and the features with the highest confidence, as in the report."""
    command("run", finished)
    output = command("show", "small")

    assert "Stable features" in output.out
    assert "Type 2 diabetes" in output.out


def test_prune_lists_runs_and_deletes_them_with_yes(command, finished):
    """`mlho prune` keeps the newest run of a name and runs younger than a day. It lists the others, and deletes them only with `--yes`."""
    older = run_of(command("run", finished))
    newer = run_of(command("run", write_spec(finished.parent, {"validation.seed": 8})))
    planned = command("prune", "--keep", 1)

    assert f"Would delete run {older} (small, finished, " in planned.out
    assert "are younger than 24 hours" in planned.out
    assert planned.out.endswith("Nothing was deleted. To delete, add --yes.\n")
    assert f"Deleted run {older} " in command("prune", "--keep", 1, "--yes").out
    assert [entry["run"] for entry in json.loads(command("list", "--json").out)] == [newer]
    assert json.loads(command("prune", "--json").out)["runs"] == []


def test_a_damaged_result_is_named_with_the_remedy(command, finished):
    """Other runs stay listed. Commands that need the result name the file, and the run can be deleted."""
    run = run_of(command("run", finished))
    (finished.parents[1] / "store" / "runs" / run / "result.json").write_text("{")

    assert "result.json is damaged" in command("list").out
    for arguments in (("show", run), ("models",), ("lineage", run)):
        output = command(*arguments)
        assert output.code == 1
        assert output.error == (
            f"error: runs/{run}/result.json: is damaged. Delete this object, and run the specification of run {run} again: it is published again."
        )
    assert command("delete", run, "--yes").code == 0


def test_a_deletion_is_confirmed_on_a_terminal(command, finished, monkeypatch):
    """A deletion on a terminal asks for confirmation, and any answer other than yes keeps the run."""
    run = run_of(command("run", finished))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    for answer, n_left in (("", 1), ("no", 1), ("y", 0)):
        monkeypatch.setattr("builtins.input", lambda answer=answer: answer)
        command("delete", run[:8])
        assert len(json.loads(command("list", "--json").out)) == n_left


def test_a_question_without_an_answer_deletes_nothing(command, finished, monkeypatch):
    """Ctrl-D at the question, and standard input that a supervisor has closed, keep the run."""
    run = run_of(command("run", finished))
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdin", None)
        closed = command("delete", run)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", Mock(side_effect=EOFError))
    unanswered = command("delete", run)

    assert (closed.code, unanswered.code) == (0, 0)
    assert closed.out.endswith("Nothing was deleted. To delete, add --yes.\n")
    assert unanswered.out.endswith("Delete? [y/N] \nNothing was deleted.\n")
    assert len(json.loads(command("list", "--json").out)) == 1


@pytest.mark.parametrize("arguments", [["--keep", "0"], ["--older-than", "90"], ["--older-than", "3 months"]])
def test_a_senseless_retention_is_refused(arguments, capsys):
    """An invalid retention is rejected with the expected format."""
    with pytest.raises(SystemExit) as ended:
        scheduler.cli.parser.main(["prune", *arguments])

    assert ended.value.code == 2
    assert re.search(r"whole number of 1 or more|write 90d", capsys.readouterr().err)


@pytest.mark.parametrize(
    "command_name", ["list", "prune", "show", "report", "status", "cancel", "retry", "export"]
)
def test_a_missing_store_is_not_created(command_name, command):
    """Commands that read a store do not create a missing one, which is usually a typo. The error says how to start a run."""
    output = command(command_name)

    assert output.code == 2
    assert re.search(r"--store .*store: no such folder.*mlho run spec.yaml", output.err)
    assert not output.store.exists()


def test_retry_without_quarantined_tasks_says_so(command, finished):
    """Retrying a run without quarantined tasks says that there are none, and runs nothing."""
    command("run", finished)

    assert "no task is quarantined" in command("retry").out


def test_status_does_not_contact_an_embedded_queue(command, finished, monkeypatch):
    """`mlho status` does not contact an embedded queue, because that belongs to the process that started it."""
    command("run", finished)
    monkeypatch.setenv("MLHO_BROKER", "embedded")

    status = json.loads(command("status").out)
    assert status["state"] == "not on a queue"
    assert set(status["cost"]) == {"cpu_seconds", "read_bytes", "stored_bytes"}


@pytest.mark.parametrize("command_name", ["show", "report"])
def test_a_missing_run_is_refused(command_name, command, finished):
    """The error for a missing run lists the existing runs."""
    command("run", finished)
    output = command(command_name, "nothing")

    assert output.code == 2
    assert re.search(r"no run matches nothing\. The store has: [0-9a-f]{16} \(small\)", output.err)


def test_an_ambiguous_run_is_refused(command, finished):
    """Without a name, two runs are ambiguous, and the command asks for one of their ids or names."""
    first = run_of(command("run", finished))
    second = run_of(command("run", write_spec(finished.parent, {"validation.seed": 8}, name="other")))
    output = command("report")

    assert output.code == 2
    expected = f"the store has 2 runs, and no name is given. Give one of: {second} (other), {first} (small)."
    assert expected in output.err


def test_show_without_a_name_says_how_to_see_one_run(command, finished):
    """``mlho show`` prints the results of a run only if it is named: the list of all runs says so."""
    command("run", finished)

    assert "To see the result of a run, name it: mlho show small" in command("show").err
    assert command("list").err == ""
    assert command("show", "--json").err == ""


def test_a_name_is_the_newest_run_of_that_name(command, finished, tmp_path):
    """In every command, a name refers to its newest run. The older run is found by its id; starting it again makes it the newest."""
    first = run_of(command("run", finished))
    second = run_of(command("run", write_spec(finished.parent, {"validation.seed": 8})))

    assert json.loads(command("status", "small").out)["run"] == second
    assert second in command("report", "small").out
    assert first in command("report", first[:6]).out
    assert second in command("export", "small", "--to", tmp_path / "out").out
    assert json.loads(command("show", "small", "--json").out) == json.loads(
        command("show", second, "--json").out
    )

    command("run", write_spec(finished.parent))
    assert first in command("report", "small").out


def test_a_name_whose_newest_run_failed_is_refused_with_the_last_good_one(command, inline, finished):
    """If the newest run of a name failed, the command is refused and names the last finished run, so that an older result is
    never shown by mistake.
    """
    first = run_of(command("run", finished))

    def fail(task):
        if task.kind == "summarize_run":
            raise MlhoError("no luck. Try again.")

    inline.before = fail
    assert command("run", write_spec(finished.parent, {"validation.seed": 8})).code == 1
    output = command("report", "small")

    assert output.code == 2
    assert "not finished (failed: no luck. Try again). " in output.err
    assert f"The newest finished run of this name is {first}." in output.err


def test_commands_with_tables_print_json_on_request(command, spec):
    """With `--json`, standard output has only JSON, with numbers in bytes and seconds."""
    (plan,) = json.loads(command("plan", spec, "--json").out)
    (run,) = json.loads(command("run", spec, "--json").out)
    versions = json.loads(command("version", "--json").out)

    assert (plan["name"], plan["tasks"], plan["run"]) == ("small", 17, run["run"])
    assert sum(stage["tasks"] for stage in plan["stages"]) == plan["tasks"]
    assert plan["seconds"] > 0
    assert (run["state"], run["name"]) == ("finished", "small")
    assert (Path(run["folder"]) / "result.json").exists()
    assert {"mlho-batch", "python"} <= set(versions)


def test_list_shows_state_duration_headline_and_reason(command, inline, finished):
    """`mlho list` shows state, duration, headline and reason, the newest run first. As JSON, it has the same facts with times in UTC."""
    first = run_of(command("run", finished))

    def fail(task):
        raise MlhoError("no luck. Try again.")

    inline.before = fail
    command("run", write_spec(finished.parent, {"validation.seed": 8}, name="other"))
    listed, facts = command("list").out, json.loads(command("list", "--json").out)

    assert re.search(
        rf"other .*training .*failed .*no luck\. Try again\..*\n.*small .*{first} .*finished .*AUROC 0\.\d{{3}}",
        listed,
    )
    assert [(entry["name"], entry["state"], entry["reason"]) for entry in facts] == [
        ("other", "failed", "no luck. Try again."),
        ("small", "finished", None),
    ]
    assert facts[1]["run"] == first
    assert facts[1]["seconds"] > 0
    assert facts[1]["headline"].startswith("AUROC 0.")
    assert facts[1]["started"].endswith("+00:00")


def test_a_finished_run_that_is_started_again_keeps_its_duration(command, spec):
    """Starting a finished run again computes nothing and does not change its duration."""
    command("run", spec)
    (first,) = json.loads(command("list", "--json").out)
    command("run", spec)
    (second,) = json.loads(command("list", "--json").out)

    assert second["seconds"] == first["seconds"]


def test_report_prints_the_path_alone(command, finished):
    """`mlho report` prints only the path, for use in scripts."""
    run = command("run", finished)
    output = command("report")

    assert output.out == f"{run.results[0].parent / 'report.html'}\n"


def test_version_names_the_libraries(command):
    """`mlho version` prints our version and those of the libraries."""
    output = command("version")

    assert re.search(rf"^mlho-batch +{re.escape(__version__)}$", output.out, re.MULTILINE)
    assert re.search(r"^python +3\.", output.out, re.MULTILINE)


def test_the_command_starts_without_heavy_libraries():
    """Starting the command imports no heavy library, so that checking a specification is quick."""
    code = (
        "import sys, scheduler.cli.parser; "
        "slow = ('numpy', 'pandas', 'pyarrow', 'numba', 'sklearn', 'scipy', 'structlog', 'asyncio'); "
        "print([name for name in slow if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_an_interrupt_inside_compiled_code_is_an_interrupt(monkeypatch, capsys):
    """Ctrl-C gives exit code 130 and a remedy, even if a library wraps the interrupt in its own error. A command without tasks
    does not say that results are kept.
    """

    def wrapped(_options):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise RuntimeError("Error calling function") from error

    monkeypatch.setattr("scheduler.cli.about._version", wrapped)

    assert scheduler.cli.parser.main(["version"]) == 130
    assert capsys.readouterr().err == "\nStopped. Run the same command again.\n"


def test_ctrl_c_while_the_command_line_is_read_is_no_traceback(capsys, monkeypatch):
    """The parser of all commands takes some hundredths of a second."""

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(scheduler.cli.parser, "_parser", interrupted)

    assert scheduler.cli.parser.main(["version"]) == 130
    assert "Stopped." in capsys.readouterr().err


def test_report_opens_the_browser_if_asked(command, finished, monkeypatch):
    """`mlho report --open` opens the browser and prints the path. Without a browser, it says what to do."""
    run = command("run", finished)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or len(opened) == 1)
    path = run.results[0].parent / "report.html"

    assert command("report", "--open").out == f"{path}\n"
    assert opened == [path.as_uri()]
    output = command("report", "--open")
    assert (output.code, output.out) == (1, f"{path}\n")
    assert "mlho export" in output.err
