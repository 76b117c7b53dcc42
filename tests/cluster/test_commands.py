"""The user's commands with a kubeconfig, from ``mlho submit`` to ``mlho export``, print the same as for a run on this machine."""

import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.cluster.conftest import REPO, Kubectl
from tests.cluster.here import Here, Outcome, files_in
from tests.cluster.stack import Stack
from tests.cluster.storage import ACCESS, PORT, SECRET, forwarded
from tests.limits import SLOWER

LEARNS = {"iterations": 48, "folds": 3, "seed": 21}  # several commands are called while it learns
OUTPUTS = ["run", "result", "bundle", "report"]  # the last lines of `mlho run`, too


@pytest.fixture(scope="module")
def wanted(stack: Stack, here: Here) -> Future[Outcome]:
    """Return the run of these tests, which this machine carries out in the meantime."""
    return here.begin(stack.run("typed", validation=LEARNS)["spec"])


@pytest.fixture(scope="module")
def submitted(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """Yield a running ``mlho submit --wait`` of that run."""
    path = tmp_path_factory.mktemp("typed") / "run.yaml"
    path.write_text(json.dumps(stack.run("typed", validation=LEARNS)))
    command = [sys.executable, "-m", "scheduler", "submit", str(path), "--wait", "-n", stack.namespace]
    with subprocess.Popen(
        command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "trainingrun/typed created\n"
        yield process
        process.kill()


def words(lines: str) -> list[str]:
    """Return the first word of each line."""
    return [line.split()[0] for line in lines.splitlines()]


def test_submit_waits_and_prints_the_lines_of_a_local_run(
    stack: Stack, submitted: subprocess.Popen[str], wanted: Future[Outcome]
):
    """During the run, its logs can be read and ``mlho wait`` can time out. At the end, ``mlho submit --wait`` prints the
    digest of this machine.
    """
    stack.wait_until_it_learns("typed")
    too_soon = stack.mlho("wait", "trainingrun/typed", "--timeout=1")
    logs = stack.wait_for(
        "a worker has said something",
        lambda: '"event"' in (output := stack.mlho("logs", "trainingrun/typed")).stdout and output,
    )

    outputs, shown = submitted.communicate(timeout=600)

    assert logs.stdout.startswith("--- typed-")
    assert (too_soon.returncode, words(too_soon.stdout)) == (124, [])
    assert "has not ended after 1 s" in too_soon.stderr
    assert submitted.returncode == 0, shown
    assert words(outputs) == OUTPUTS
    assert wanted.result().digest in outputs
    assert "trainingrun/typed  Running  learn" in shown


def test_a_finished_run_is_shown_and_exported_like_a_local_one(
    stack: Stack, submitted: subprocess.Popen[str], wanted: Future[Outcome], tmp_path: Path
):
    """``wait``, ``status`` and ``export`` of a finished run give the same lines, fields and files as a local run."""
    submitted.wait(600)

    waited = stack.mlho("wait", "trainingrun/typed")
    status = json.loads(stack.mlho("status", "trun/typed").stdout)
    with forwarded(stack.kubectl, "service/seaweedfs", PORT) as address:
        storage = {
            "MLHO_S3_ENDPOINT": f"http://{address}",
            "MLHO_S3_ADDRESSING": "path",
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }
        exported = stack.mlho("export", "trainingrun/typed", f"--to={tmp_path / 'out'}", **storage)
    local = wanted.result().export(tmp_path / "here")

    assert (waited.returncode, words(waited.stdout)) == (0, OUTPUTS)
    assert list(status)[:5] == ["run", "execution", "state", "quarantined", "running"]
    assert (status["run"], status["state"], status["quarantined"]) == (
        stack.status("typed")["runId"],
        "finished",
        [],
    )
    assert status["outputs"]["resultDigest"] == wanted.result().digest
    assert exported.returncode == 0, exported.stderr
    assert words(exported.stdout) == words(local) == OUTPUTS
    assert files_in(tmp_path / "out" / "bundle") == wanted.result().bundle()
    assert files_in(tmp_path / "out").keys() == files_in(tmp_path / "here").keys()


def test_a_run_can_be_suspended_and_resumed(stack: Stack):
    """Within five seconds after ``mlho suspend``, no worker runs. A resumed run succeeds."""
    stack.submit("paused", validation={"iterations": 24, "folds": 5, "seed": 11})
    stack.wait_for("workers", lambda: stack.workers("paused"))

    suspended = stack.mlho("suspend", "trainingrun/paused")
    began = time.monotonic()
    stack.wait_for("no worker", lambda: not stack.workers("paused"))
    took = time.monotonic() - began
    assert stack.wait_for("phase", lambda: stack.status("paused")["phase"] == "Suspended")
    resumed = stack.mlho("resume", "trainingrun/paused")

    assert (
        suspended.stdout == "trainingrun/paused: suspended. Resume it with: mlho resume trainingrun/paused\n"
    )
    assert resumed.stdout == "trainingrun/paused: resumed.\n"
    assert stack.wait("paused", "Succeeded")
    assert took < SLOWER * 5


def test_a_run_can_be_cancelled(stack: Stack):
    """A cancelled run leaves neither workers nor keys."""
    stack.submit("cancelled", validation={"iterations": 60, "folds": 5, "seed": 12})
    stack.wait_until_it_learns("cancelled")

    assert stack.mlho("cancel", "trainingrun/cancelled").returncode == 0

    assert stack.wait("cancelled", "Cancelled")["phase"] == "Cancelled"
    assert stack.mlho("wait", "trainingrun/cancelled").returncode == 3
    assert json.loads(stack.mlho("status", "trainingrun/cancelled").stdout)["state"] == "cancelled"
    stack.wait_for("no worker", lambda: not stack.workers("cancelled"))
    stack.wait_for("no key", lambda: not stack.redis_keys())


def test_submit_by_date_is_made_once(stack: Stack, tmp_path: Path):
    """Submitting by date twice creates one run, so that a CronJob may retry. Without the date, an existing name is an error."""
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(stack.run("template", desiredState="Suspended")))

    # A time zone in which it is noon, because the date must not change between both.
    noon = f"NOON{dt.datetime.now(dt.UTC).hour - 12:+d}"
    first, second = (stack.mlho("submit", str(path), "--by-date", TZ=noon) for _ in range(2))
    named, taken = (stack.mlho("submit", str(path)) for _ in range(2))

    assert first.returncode == second.returncode == named.returncode == 0, first.stderr + second.stderr
    assert "already exists" in second.stdout
    assert taken.returncode != 0
    assert "template" in taken.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "trainingrun/nobody"], "nobody"),
        (["export", "trainingrun/nobody"], "nobody"),
        (["suspend", "nobody"], "write trainingrun/NAME or scoringrun/NAME"),
        (["wait", "trainingrun/nobody", "--context=nowhere"], "nowhere"),
    ],
    ids=["status", "export", "suspend", "context"],
)
def test_a_missing_object_is_reported_without_a_traceback(stack: Stack, arguments: list[str], words: str):
    done = stack.mlho(*arguments)

    assert done.returncode not in (0, 124)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_crd_prints_the_installed_definitions(crds: None):
    """`mlho crd` prints k8s/crd.yaml byte for byte, and the API server finds no difference from the installed definitions."""
    command = [sys.executable, "-m", "scheduler", "crd"]
    printed = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout

    assert printed == (REPO / "k8s" / "crd.yaml").read_text(encoding="utf-8")
    assert Kubectl("default")("diff", "--server-side", "--force-conflicts", "-f", "-", given=printed) == ""
