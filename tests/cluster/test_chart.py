"""The chart on a real cluster: its own test, an upgrade during a run, and scheduled runs."""

import datetime as dt
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from tests.cluster.conftest import new_namespace
from tests.cluster.here import Here
from tests.cluster.stack import BUCKET, ONE_WORKER, Stack, adopt_crds, image_values, installed
from tests.cluster.storage import listed, storage_here, upload

# An earlier chart, packaged by `helm package --version 0.0.9`.
OLDER_CHART: Final = Path(__file__).parent / "fixtures" / "mlho-0.0.9.tgz"
BY_HAND: Final = "was not created by a CronJob"


def test_helm_test_carries_out_a_tiny_run(stack: Stack):
    """``helm test`` creates a cohort and a run that workers carry out, and succeeds."""
    command = ["helm", "test", "mlho", f"--namespace={stack.namespace}", "--timeout=10m", "--logs"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    names = [obj["metadata"]["name"] for obj in stack.items("trun")]
    (run,) = [name for name in names if name.startswith("mlho-helm-test-")]
    status = stack.wait(run, "Succeeded")
    assert status["workers"]["generation"] >= 1
    assert status["outputs"]["resultDigest"] in done.stdout


@pytest.fixture
def older(kubeconfig: str, crds: None, cohort: Path) -> Iterator[Stack]:
    """Install the older chart, with Redis on a volume, which is the default."""
    with (
        new_namespace("upgrade") as kubectl,
        installed(kubectl, cohort, chart=OLDER_CHART, **image_values()) as release,
    ):
        yield release


def secrets_of(stack: Stack) -> list[Any]:
    """Return the Secrets that the chart generated at its first installation."""
    return [stack.get("secret", name)["data"] for name in ("mlho-redis", "mlho-signing")]


def test_an_upgrade_with_other_values_during_a_run_loses_nothing(older: Stack, here: Here):
    """During an upgrade, schedulers and Redis are replaced and the run continues: no task is repeated or fails, and the digest is the same."""
    obj = older.submit("during", validation={"iterations": 120, "folds": 3, "seed": 41}, workers=ONE_WORKER)
    wanted = here.begin(obj["spec"])
    older.wait_until_it_learns("during")
    schedulers = {pod["metadata"]["name"] for pod in older.pods("scheduler")}
    secrets, before, done = secrets_of(older), older.commits(), older.done("during")
    execution = older.status("during")["execution"]
    trial = {"resources": {"requests": {"cpu": "60m", "memory": "96Mi"}, "limits": {"memory": "384Mi"}}}

    adopt_crds(older.namespace)
    older.upgrade(
        crds={"install": True},
        scheduler={"resources": {"requests": {"cpu": "60m"}, "limits": {"memory": "384Mi"}}},
        worker={"podLabels": {"team": "statistics"}},
        redis={"trial": {**image_values()["redis"]["trial"], **trial}},
    )
    at_once = older.status("during")
    status = older.wait("during", "Succeeded", seconds=900)

    older.wait_for(
        "the former schedulers are gone",
        lambda: schedulers.isdisjoint(pod["metadata"]["name"] for pod in older.pods("scheduler")),
    )
    assert secrets_of(older) == secrets
    assert at_once["phase"] in ("Running", "Waiting")  # the run must not end before the upgrade
    assert status["execution"] == execution
    assert at_once["tasks"]["done"] >= done
    assert status["tasks"]["done"] == status["tasks"]["total"] >= at_once["tasks"]["done"]
    assert status["tasks"]["quarantined"] == 0
    assert status["outputs"]["resultDigest"] == wanted.result().digest
    assert before.items() <= older.commits().items()


@pytest.fixture(scope="module")
def zone() -> str:
    """Return a time zone whose date differs from that of UTC. It is chosen once, for the tests may run past midnight."""
    return "Pacific/Pago_Pago" if dt.datetime.now(dt.UTC).hour < 10 else "Pacific/Kiritimati"


@pytest.fixture(scope="module")
def day(zone: str) -> str:
    """Return today's date in the schedules' time zone, which is the same for at least an hour."""
    return dt.datetime.now(ZoneInfo(zone)).date().isoformat()


@pytest.fixture(scope="module")
def calendar(stack: Stack, cohort: Path, zone: str, day: str) -> Iterator[Stack]:
    """Yield the installation with a nightly scoring of the day's patients, and a retraining that is due each minute."""
    training = stack.submit("champion", validation={"iterations": 2, "folds": 3, "seed": 51})
    run_id = stack.wait("champion", "Succeeded")["runId"]
    with storage_here(stack.kubectl) as s3:
        upload(s3, cohort, BUCKET, f"inpatients/{day}/")
    scoring = {
        "bundle": {"uri": f"run:{run_id}"},
        "data": {
            "uri": f"s3://{BUCKET}/inpatients/{{date}}/",
            "source": "dbmart",
            "partitionedBy": "patient",
            "tables": {"events": "events/", "demographics": "demographics/"},
        },
        "index": {"date": "{date}"},
        "workers": ONE_WORKER,
    }
    common = {"timeZone": zone}
    night = {
        "name": "night",
        "schedule": "0 3 * * *",
        "suspend": True,  # only the test creates its Kubernetes Jobs, although it may run at three
        "resource": {"kind": "ScoringRun", "spec": scoring},
    }
    month = {
        "name": "month",
        "schedule": "* * * * *",
        "resource": {"kind": "TrainingRun", "spec": training["spec"]},
    }
    stack.upgrade(schedules=[common | night, common | month])
    yield stack
    stack.upgrade()


def trigger(stack: Stack, name: str) -> str:
    """Create a Kubernetes Job from the nightly CronJob now, and return its log."""
    stack.kubectl("create", "job", name, "--from=cronjob/mlho-night")
    stack.kubectl("wait", "--for=condition=Complete", f"job/{name}", "--timeout=5m", seconds=330)
    return stack.kubectl("logs", f"job/{name}")


def succeeded_jobs(stack: Stack, prefix: str) -> list[str]:
    """Return the names of the succeeded Kubernetes Jobs whose names begin with the prefix, the newest first."""
    succeeded = [
        job["metadata"]["name"] for job in stack.items("jobs") if job.get("status", {}).get("succeeded")
    ]
    return sorted((name for name in succeeded if name.startswith(prefix)), reverse=True)


def scored(stack: Stack) -> dict[str, bytes]:
    """Return the published files of scoring runs."""
    with storage_here(stack.kubectl) as s3:
        keys = [key for key in listed(s3, BUCKET, "store/runs/") if "/scores/" in key]
        return {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


def test_a_night_is_scored_once_however_often_its_cronjob_fires(calendar: Stack, day: str):
    """A night's run is named by the date in the schedule's time zone. If the CronJob fires again, nothing is created or written."""
    output = trigger(calendar, "night-one")
    name = f"night-{day}"
    status = calendar.wait(name, "Succeeded", kind="scoringrun")
    published = scored(calendar)

    again = trigger(calendar, "night-two")

    assert f"scoringrun/{name} created" in output
    assert BY_HAND in output
    assert f"scoringrun/{name} already exists" in again
    assert [obj["metadata"]["name"] for obj in calendar.items("srun") if day in obj["metadata"]["name"]] == [
        name
    ]
    assert calendar.status(name, kind="scoringrun") == status
    assert scored(calendar) == published
    manifest = next(json.loads(text) for key, text in published.items() if key.endswith("manifest.json"))
    assert manifest["scores"]["samples"] > 0


def test_a_due_retraining_is_created_by_its_schedule(calendar: Stack, day: str):
    """The CronJob creates the retraining at its minute, and the run succeeds."""
    name = f"month-{day}"
    calendar.wait_for(
        "the calendar has made it",
        lambda: name in [obj["metadata"]["name"] for obj in calendar.items("trun")],
        seconds=300,
    )

    assert calendar.wait(name, "Succeeded")["outputs"] == calendar.status("champion")["outputs"]
    newest, *_ = calendar.wait_for(
        "a Kubernetes Job of the schedule has succeeded",
        lambda: succeeded_jobs(calendar, "mlho-month-"),
        seconds=300,
    )
    assert BY_HAND not in calendar.kubectl("logs", f"job/{newest}")
