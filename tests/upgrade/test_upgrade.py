"""Stores, bundles, custom resources and stopped runs of earlier releases are read, or refused with a remedy."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlho.store.local import LocalStore
from scheduler.api.resource import from_resource
from scheduler.api.status import read_status
from scheduler.runs.channels import inspect_channel
from tests.builders import call_command
from tests.upgrade.release import RELEASES

ARCHIVES = sorted(RELEASES.glob("*.tar.gz"))


@dataclass(frozen=True)
class Release:
    """An unpacked archive."""

    folder: Path
    facts: dict[str, Any]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def store(self) -> Path:
        return self.folder / "store"


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Release:
    """Unpack the archive of a release."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return Release(tmp_path, json.loads((tmp_path / "facts.json").read_text()))


def test_there_is_an_archive_of_a_release():
    """At least one archive of a release exists, because otherwise the other tests would not run."""
    assert ARCHIVES


def test_the_store_of_a_release_is_read(release, capsys):
    """The commands of a user read its runs, result, report, models and channel."""
    listed = json.loads(call_command(["list", "--json"], release.store, capsys).out)
    runs = release.facts["runs"]

    assert {run["run"]: run["state"] for run in listed} == {
        runs["finished"]: "finished",
        runs["scores"]: "finished",
        runs["stopped"]: "stopped",
    }
    for command in ("show", "report", "lineage"):
        assert call_command([command, runs["finished"]], release.store, capsys).code == 0
    dossier = ["dossier", runs["finished"], "--to", release.folder]
    assert call_command(dossier, release.store, capsys).code == 0
    assert call_command(["show", runs["scores"]], release.store, capsys).code == 0
    assert call_command(["audit", "--channel", "production"], release.store, capsys).code == 0
    assert call_command(["models"], release.store, capsys).code == 0


def test_a_stopped_run_of_a_release_ends(release, capsys, inline):
    """The same command finishes a run that the release has stopped."""
    response = call_command(["run", release.data / "stopped.yaml"], release.store, capsys)

    assert response.code == 0
    assert len(response.results) == 2


def test_the_bundle_of_a_release_gives_the_same_scores(release, capsys, inline):
    """The bundle passes its own tests, and scores that are computed again equal those of the release."""
    fresh = release.folder / "fresh"
    assert call_command(["test", release.data / "bundle"], fresh, capsys).code == 0
    assert call_command(["score", release.data / "score.yaml"], fresh, capsys).code == 0
    parts = pq.ParquetDataset(list(fresh.glob("runs/*/scores/*.parquet"))).read().to_pandas()
    scored = parts.sort_values(["patient_id", "index_date"])["probability"]

    np.testing.assert_allclose(scored, release.facts["probabilities"], rtol=0, atol=1e-12)


def test_the_channel_of_a_release_shows_its_model(release):
    """The log of a release's channel has no fault and names the run of its model."""
    channel = inspect_channel(LocalStore(release.store), "production")

    assert channel.faults == ()
    assert channel.head.run == release.facts["runs"]["finished"]


def test_custom_resources_of_a_release_are_read(release):
    """The operator reads the specification and the status after an upgrade."""
    resources = json.loads((release.folder / "resources.json").read_text())

    assert [from_resource(resource).kind for resource in resources] == ["TrainingRun", "ScoringRun"]
    assert {read_status(resource).run_id for resource in resources} == {release.facts["runs"]["finished"]}
