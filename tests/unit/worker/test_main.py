"""The worker's command line, and its errors before it joins a run."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mlho.errors import SpecError, StoreUnavailable
from mlho.protocol.documents import State
from mlho.settings import Settings
from mlho.store.keys import run_key
from mlho.store.local import LocalStore
from scheduler.queue.executions import begin_execution, end_execution
from worker import command as worker_main
from worker.command import _id_of, _parser, _time_limits, main

RUN = "0123456789abcdef"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set an empty store, and a broker that is not contacted."""
    monkeypatch.setenv("MLHO_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("MLHO_BROKER", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("MLHO_SIGNING_KEY", "k" * 32)
    yield
    structlog.reset_defaults()  # restore pytest's log


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("run", ["tiny", RUN.upper(), RUN + "0", RUN[:8], f"{RUN}-1"])
def test_an_unknown_run_is_refused_at_once(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A `--run` value that is neither a run id nor the name of a run in progress is rejected at once, because waiting for it could never end."""
    assert main(["--run", run]) == os.EX_CONFIG
    event = json.loads(capsys.readouterr().err)
    words = (
        f"--run {run}: no run of this name in progress in the store {tmp_path / 'store'}. Expected the id of a run (16 hexadecimal digits), "
        "or the name of one in progress; mlho list shows both."
    )
    assert (event["error"], event["error_kind"], event["level"]) == (words, "SpecError", "critical")
    assert event["run_id"] == run


@pytest.mark.parametrize("n_open", [1, 2])
def test_a_run_in_progress_is_found_by_its_name(n_open: int, tmp_path: Path):
    """A name, which all other commands take, is that of the only run in progress. Runs that have ended do not count; two are refused."""
    store = LocalStore(tmp_path / "store")
    runs = [letter * 16 for letter in "abc"]
    for number, run in enumerate(runs):
        store.put_if_absent(run_key(run, "spec.yaml"), b"metadata: {name: tiny}")
        execution, _ = begin_execution(store, run, tmp_path)
        if number >= n_open:
            end_execution(store, execution, State.FINISHED)

    if n_open == 1:
        assert _id_of(store, "tiny", "s3://b") == runs[0]
    else:
        with pytest.raises(
            SpecError, match=f"several runs of this name in progress .*: {runs[0]}, {runs[1]}"
        ):
            _id_of(store, "tiny", "s3://b")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("n_bytes", ["0", "-1"])
def test_a_memory_limit_below_one_byte_is_refused(n_bytes: str, capsys: pytest.CaptureFixture[str]):
    """With a negative limit, every task would be stopped for lack of memory; 0 would mean the limit of the container."""
    assert main(["--run", RUN, "--memory", n_bytes]) == os.EX_CONFIG
    assert json.loads(capsys.readouterr().err)["error"] == f"--memory {n_bytes}: must be 1 byte or more."


@pytest.mark.usefixtures("environment")
def test_the_last_line_of_a_worker_is_one_line_of_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """The worker's last error is one line of JSON, like its other messages, so that log collectors can read it. It is
    written without verbose logging, too.
    """

    def refuse(*_: object) -> int:
        raise StoreUnavailable("s3://b: no answer\nfor 9 s. Start it.")

    monkeypatch.setattr(worker_main, "_serve", refuse)

    assert main(["--run", RUN]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert (event["event"], event["error_kind"]) == ("worker_failed", "StoreUnavailable")
    assert event["error"] == "s3://b: no answer\nfor 9 s. Start it."


@pytest.mark.usefixtures("environment")
def test_the_error_for_a_run_that_does_not_start_names_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The error for a run that has not started names the store, because the run may be in another one."""
    assert main(["--run", RUN, "--wait", "0"]) == 1
    assert f"run {RUN}: has not started in the store {tmp_path / 'store'}." in capsys.readouterr().err


@pytest.mark.usefixtures("environment")
def test_a_worker_that_starts_after_the_end_logs_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A worker that starts after its run has ended logs this as the reason and exits with code 0."""
    store = LocalStore(tmp_path / "store")
    execution, _ = begin_execution(store, RUN, tmp_path)
    end_execution(store, execution, State.FAILED)

    assert main(["--run", RUN]) == 0
    assert '"event": "run_is_over"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "settings", "limits"),
    [
        ([], Settings(), (21_600, 21_660)),
        ([], Settings(soft_limit=90), (90, 150)),
        ([], Settings(soft_limit=90, hard_limit=100), (90, 100)),
        (["--soft-limit", "7"], Settings(soft_limit=90, hard_limit=100), (7, 100)),
        (["--hard-limit", "8"], Settings(soft_limit=4, hard_limit=100), (4, 8)),
    ],
)
def test_limits_of_time_are_the_flags_else_the_environments(
    flags: list[str], settings: Settings, limits: tuple[float, float]
):
    """Time limits come from the flags, then from the environment. The defaults are six hours, and one more minute until a task is killed."""
    options = _parser().parse_args(["--run", RUN, *flags])
    assert _time_limits(options.soft_limit, options.hard_limit, settings) == limits


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_a_limit_that_is_no_time_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]):
    """An invalid time limit on the command line is rejected, as in the environment."""
    assert main(["--run", RUN, f"--hard-limit={seconds}"]) == os.EX_CONFIG
    assert f"--hard-limit {seconds}: must be a positive number" in capsys.readouterr().err


def test_the_help_states_the_time_limits(capsys: pytest.CaptureFixture[str]):
    """The help states the default time limits and the variables that set them."""
    with pytest.raises(SystemExit):
        main(["--help"])

    text = " ".join(capsys.readouterr().out.split())
    assert "(default: MLHO_SOFT_LIMIT, or 21600)" in text
    assert "(default: MLHO_HARD_LIMIT, or 60 more than the soft limit, 21660)" in text
