"""The program of a replica, when its configuration is invalid."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mlho.errors import SpecError
from scheduler.api.client import Cluster
from scheduler.replica import program
from scheduler.replica.program import operate


@pytest.fixture
def own_signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep pytest's signal handlers and log configuration."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("own_signals")
def test_a_configuration_that_is_wrong_is_the_last_line_of_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """An invalid configuration is logged as JSON, like all messages of a replica, and ends the program with the exit code of commands."""
    config = tmp_path / "config.yaml"
    config.write_text("watchNamespaces: 5\n")

    code = operate(config, port=0)

    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["error_kind"], event["level"]) == (
        "scheduler_failed",
        "SpecError",
        "critical",
    )
    assert "watchNamespaces" in event["error"]
    assert code == SpecError("").exit_code


@pytest.mark.usefixtures("own_signals")
def test_a_replica_is_not_healthy_before_it_can_take_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A replica that fails at startup has never served its health, so that a rollout keeps the replicas that work."""
    config = tmp_path / "config.yaml"
    worker = {"image": "worker", "serviceAccount": "mlho-worker"}
    config.write_text(
        json.dumps({"watchNamespaces": ["a"], "namespace": "a", "store": "s3://a/b", "worker": worker})
    )
    served: list[int] = []
    monkeypatch.setattr(program, "serve_health", lambda _, *, port: served.append(port))
    monkeypatch.setattr(Cluster, "of_pod", lambda: None)
    monkeypatch.setattr(os, "_exit", pytest.fail)
    monkeypatch.setenv("MLHO_SIGNING_KEY", "short")

    code = operate(config, port=8080)

    assert code == SpecError("").exit_code
    assert served == []
