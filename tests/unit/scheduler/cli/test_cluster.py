"""Commands that talk to a cluster: the objects that they create, and the input that they reject first."""

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import scheduler.cli.parser
from scheduler.api.client import Cluster
from tests.builders import make_tables, write_spec, write_tables

RUN = "0123456789abcdef"


class UsersCluster:
    """A cluster of a kubeconfig. It records created objects and returns one run."""

    namespace = "of-the-context"

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.status: dict[str, Any] = {"runId": RUN}

    def create(self, kind: object, obj: dict[str, Any]) -> dict[str, Any]:
        """Record a created object."""
        self.made.append(obj)
        return obj

    def get(self, kind: object, namespace: str, name: str) -> dict[str, Any]:
        """Return the run."""
        return {"status": self.status}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> UsersCluster:
    """Make commands use an in-memory cluster, and return it."""
    found = UsersCluster()
    monkeypatch.setattr(Cluster, "of_user", lambda context: found)
    return found


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """Write a specification and return its path."""
    return write_spec(write_tables(tmp_path / "data", make_tables(20, seed=2)))


@pytest.mark.parametrize(
    ("in_file", "option", "namespace"),
    [
        (None, None, "of-the-context"),
        ("of-the-file", None, "of-the-file"),
        ("of-the-file", "of-the-option", "of-the-option"),
    ],
)
def test_a_run_is_created_in_the_named_namespace(
    cluster: UsersCluster, spec: Path, in_file: str | None, option: str | None, namespace: str
):
    """The namespace is taken from the option, else from the file, else from the context, as in kubectl."""
    document = yaml.safe_load(spec.read_text())
    document["metadata"] |= {"namespace": in_file} if in_file else {}
    spec.write_text(yaml.safe_dump(document))

    assert (
        scheduler.cli.parser.main(["submit", str(spec), *([f"--namespace={option}"] if option else [])]) == 0
    )

    assert [obj["metadata"]["namespace"] for obj in cluster.made] == [namespace]


def test_a_range_of_nights_is_one_run_for_each(cluster: UsersCluster, spec: Path):
    """A range of dates creates one run for each date, with the date in its name. `--by-date`, which means today, is rejected beside it."""
    command = ["submit", str(spec), "--as-of", "2026-11-29..2026-12-01"]
    name = yaml.safe_load(spec.read_text())["metadata"]["name"]

    assert scheduler.cli.parser.main(command) == 0
    assert [obj["metadata"]["name"] for obj in cluster.made] == [
        f"{name}-{day}" for day in ("2026-11-29", "2026-11-30", "2026-12-01")
    ]
    assert scheduler.cli.parser.main([*command, "--by-date"]) == 2


@pytest.fixture
def in_auckland(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set a time zone whose day begins half a day before that of UTC."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_auckland")
@pytest.mark.parametrize("days_ago", [0, 1, 20])
def test_a_run_of_a_schedule_has_the_day_of_its_scheduled_time(
    cluster: UsersCluster, spec: Path, days_ago: int
):
    """A pod that starts, or is tried again, after midnight makes the run of the day before: the day of the schedule, in its time zone."""
    late = dt.datetime.now().astimezone().replace(hour=0, minute=0) - dt.timedelta(days=days_ago, minutes=2)
    job = f"mlho-nightly-{int(late.timestamp()) // 60}"
    name = yaml.safe_load(spec.read_text())["metadata"]["name"]

    assert scheduler.cli.parser.main(["submit", str(spec), "--by-date", f"--scheduled-by={job}"]) == 0
    assert [obj["metadata"]["name"] for obj in cluster.made] == [f"{name}-{late.date()}"]


def test_a_job_that_was_created_by_hand_makes_the_run_of_today(
    cluster: UsersCluster, spec: Path, capsys: pytest.CaptureFixture[str]
):
    """Its name has no scheduled time, even if it ends with a date. The command says which day it takes."""
    command = ["submit", str(spec), "--by-date", "--scheduled-by=nightly-20261124"]
    name = yaml.safe_load(spec.read_text())["metadata"]["name"]

    before = dt.datetime.now().astimezone().date()
    assert scheduler.cli.parser.main(command) == 0
    today = {before, dt.datetime.now().astimezone().date()}  # two days if midnight passed
    assert [obj["metadata"]["name"] for obj in cluster.made] in [[f"{name}-{day}"] for day in today]
    assert "nightly-20261124 was not created by a CronJob" in capsys.readouterr().err
    assert scheduler.cli.parser.main([word for word in command if word != "--by-date"]) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file or directory"),
        ("a: [1", "not valid YAML at line"),
        ("apiVersion: mlho.io/v1alpha1\nkind: Job\n", "expected a TrainingRun or a ScoringRun"),
    ],
)
def test_a_file_that_is_no_run_is_refused(
    cluster: UsersCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: str
):
    """A file that is not a run is rejected with the problem, and nothing is sent."""
    path = tmp_path / "run.yaml"
    if text is not None:
        path.write_text(text)

    assert scheduler.cli.parser.main(["submit", str(path)]) == 2

    assert words in capsys.readouterr().err
    assert cluster.made == []


def test_retry_of_a_run_in_a_cluster_needs_its_store(
    cluster: UsersCluster, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """`mlho retry` of a run in a cluster needs its store, because the quarantine is there. A run that was not accepted has no quarantine."""
    assert scheduler.cli.parser.main(["retry", "trainingrun/first", f"--store={tmp_path}"]) == 2
    assert "Give --store s3://bucket/prefix" in capsys.readouterr().err

    cluster.status = {}
    assert scheduler.cli.parser.main(["retry", "trainingrun/first", "--store=s3://bucket/store"]) == 2
    assert "mlho status trainingrun/first" in capsys.readouterr().err


def test_a_wait_for_a_run_that_no_scheduler_has_seen_names_the_remedy(
    cluster: UsersCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A run in a namespace that no release watches never gets a status. ``mlho wait`` says so once, with the remedy."""
    cluster.status = {}
    monkeypatch.setattr("scheduler.cli.cluster._UNSEEN_SECONDS", 0.0)
    monkeypatch.setattr("scheduler.cli.cluster._POLL_SECONDS", 0.01)

    code = scheduler.cli.parser.main(["wait", "trainingrun/first", "--timeout=0.1"])

    told = capsys.readouterr().err
    assert code == 124
    assert told.count("no scheduler carries out the runs of the namespace of-the-context") == 1
    assert "watchNamespaces" in told
