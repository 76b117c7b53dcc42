"""Structured logs: known fields only, one JSON object per line, and no output on a terminal by default."""

import ast
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mlho.errors import DataError
from mlho.log import FIELDS, bind_run, bound_run, configure, error_fields, keep_known_fields, log

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _default_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_a_line_is_a_json_object_on_stderr(capsys):
    """A log line is a JSON object with level and time on stderr, so that stdout is free for the command's output."""
    configure("json", verbose=True)
    log.info("task_finished", step="run_fold", seconds=0.5)
    captured = capsys.readouterr()
    line = json.loads(captured.err)

    assert captured.out == ""
    assert (line["event"], line["level"], line["step"], line["seconds"]) == (
        "task_finished",
        "info",
        "run_fold",
        0.5,
    )
    assert line["timestamp"].endswith("Z")


def test_a_process_for_one_run_logs_its_id_in_every_line(capsys):
    """A process that serves one run adds its id to every event, unless the event has its own run id."""
    configure("json", verbose=True, run_id="0a1b")
    log.info("worker_started")
    log.info("run_ended", run_id="2c3d")

    assert [json.loads(line)["run_id"] for line in capsys.readouterr().err.splitlines()] == ["0a1b", "2c3d"]


def test_an_unknown_field_is_dropped(capsys):
    """An unknown field is dropped, so that a patient's id that was passed by mistake is not logged."""
    configure("json", verbose=True)
    log.info("task_finished", patient_id="Jane-Q-Canary-1234", n_patients=3)

    err = capsys.readouterr().err
    assert "Canary" not in err
    assert json.loads(err)["n_patients"] == 3


def test_no_field_is_a_patients():
    """The known fields have counts of patients only."""
    assert {name for name in FIELDS if "patient" in name} == {"n_patients"}
    assert keep_known_fields(None, "info", {"event": "x", "code": "E11"}) == {"event": "x"}


def test_every_field_of_the_product_is_known():
    """A field that is not on the list would be dropped silently."""
    files = [
        path for package in ("mlho", "scheduler", "worker") for path in (REPOSITORY / package).rglob("*.py")
    ]
    calls = [
        node for path in files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    ]
    logged = [call for call in calls if ast.unparse(call.func).startswith("log.") and call.args]
    fields = {keyword.arg for call in logged for keyword in call.keywords if keyword.arg is not None}

    assert {"seconds", "n_items"} <= fields
    assert fields <= FIELDS


def test_text_is_quiet_unless_it_is_asked_for(capsys):
    """The text log is silent unless verbose, because the command prints errors itself."""
    configure("text", verbose=False)
    log.error("task_failed", task="fold/0001/00")

    assert capsys.readouterr().err == ""
    configure("text", verbose=True)
    log.info("task_finished", task="fold/0001/00")
    assert "fold/0001/00" in capsys.readouterr().err


def test_a_process_with_warnings_logs_them_without_being_verbose(capsys):
    """A worker logs warnings and errors even if it is not verbose, because it has no other output."""
    configure("json", verbose=False, warns=True)
    log.info("worker_started")
    log.warning("queue_unavailable")
    log.error("worker_stuck")

    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events == ["queue_unavailable", "worker_stuck"]


def test_only_messages_of_mlho_errors_are_logged():
    """The message of a library's error is not logged, because it may quote data."""
    ours = DataError("a.csv", "rule", expected="1", got="2", remedy="Mend it.")

    assert error_fields(ours) == {"error_kind": "DataError", "error": str(ours)}
    assert error_fields(KeyError("Jane-Q-Canary-1234")) == {
        "error_kind": "KeyError",
        "error": "not shown: it may quote data",
    }


def test_control_characters_of_an_error_do_not_reach_the_terminal(capsys):
    """Control characters of an error are made visible in the log, because a message may contain a code."""
    configure("text", verbose=True)
    log.error("task_failed", error="code 'E11\x1b[2J\x9b' is too large")

    err = capsys.readouterr().err
    assert "code 'E11␛[2J�' is too large" in err
    assert "\x1b[2J" not in err


def test_a_process_that_logs_nothing_does_not_import_the_library():
    """The log library is imported at the first event, because its import takes longer than many commands."""
    program = (
        "import sys; from mlho.log import bound_run, configure, log\n"
        "configure('text', verbose=False)\n"
        "with bound_run('0a1b'): log.warning('commit_lost', task='x')\n"
        "print('structlog' in sys.modules)\n"
        "log.critical('lease_lost')\n"
        "print('structlog' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "True"]
    assert "lease_lost" in done.stderr
    assert "commit_lost" not in done.stderr


def closed_pipe() -> int:
    """Return a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full_disk() -> int:
    """Return a file that nothing can be written to."""
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("opened", [closed_pipe, full_disk])
def test_a_log_that_cannot_be_written_ends_no_program(opened):
    """A program goes on without its log, and has its own exit code."""
    program = (
        "from mlho.log import configure, log\n"
        "configure('json', verbose=True)\n"
        "for _ in range(3):\n"
        "    log.info('task_finished')\n"
        "print('done')"
    )
    file = opened()
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=file, check=False)
    os.close(file)

    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_a_block_and_a_thread_add_their_run_to_events(capsys):
    """Inside the block and in the thread, events get the bound run id, unless they have their own. The binding ends with the block."""
    configure("json", verbose=True, run_id="0a1b")
    with bound_run("2c3d"):
        log.info("task_finished")
        log.info("task_finished", run_id="4e5f")
    log.info("task_finished")
    thread = threading.Thread(target=lambda: (bind_run("6a7b"), log.info("task_finished")))
    thread.start()
    thread.join()
    log.info("task_finished")

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["run_id"] for line in lines] == ["2c3d", "4e5f", "0a1b", "6a7b", "0a1b"]
