"""The manifest pins every input by key, size and content."""

import hashlib

import pytest

from mlho.errors import DataError, SpecError
from scheduler.engine.manifest import data_root, make_manifest
from tests.builders import make_spec


@pytest.fixture
def tables(tmp_path):
    for name in (
        "events/b.parquet",
        "events/a.parquet",
        "events/_tmp/c.parquet",
        "events/.hidden.parquet",
        "labels.parquet",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return make_spec(
        {"data.tables.demographics": None, "data.tables.concepts": None, "features.demographics": None}
    ).spec.data.tables


def test_inputs_are_pinned_in_one_order(tables, tmp_path):
    """Inputs are sorted by key. Hidden and temporary files are left out, and the version is the content's hash."""
    manifest = make_manifest(tables, tmp_path)

    assert [file.key for file in manifest.tables["events"]] == ["events/a.parquet", "events/b.parquet"]
    first = manifest.tables["events"][0]
    assert (first.size, first.version) == (16, hashlib.sha256(b"events/a.parquet").hexdigest())
    assert manifest.n_bytes == 16 + 16 + 14
    assert manifest.left_out == {"events": ("events/_tmp/c.parquet",)}
    assert set(manifest.plain()) == {"events", "labels", "leftOut"}


def test_the_manifest_is_the_same_elsewhere(tables, tmp_path):
    """The manifest does not depend on the location of the folder."""
    before = make_manifest(tables, tmp_path)
    moved = tmp_path.rename(tmp_path.with_name("moved"))

    assert make_manifest(tables, moved) == before
    moved.rename(tmp_path)


def test_a_table_without_a_file_is_refused(tables, tmp_path):
    """A table without a file is rejected before anything runs."""
    (tmp_path / "labels.parquet").unlink()

    with pytest.raises(DataError, match=r"labels\.parquet: no such file"):
        make_manifest(tables, tmp_path)


def test_a_relative_uri_counts_from_the_specification(tmp_path, monkeypatch):
    """A relative URI is resolved against the specification's folder, independent of the working directory."""
    monkeypatch.chdir("/")

    assert data_root(make_spec(), tmp_path / "spec.yaml") == tmp_path
    spec = make_spec()
    elsewhere = spec.spec.model_copy(
        update={"data": spec.spec.data.model_copy(update={"uri": f"file://{tmp_path}/x"})}
    )
    assert data_root(spec.model_copy(update={"spec": elsewhere}), tmp_path / "y/spec.yaml") == tmp_path / "x"


def test_an_address_that_cannot_be_read_is_refused(tmp_path):
    """The error for an unsupported URI names the field."""
    spec = make_spec()
    other = spec.spec.model_copy(
        update={"data": spec.spec.data.model_copy(update={"uri": "gopher://host/x"})}
    )

    with pytest.raises(SpecError, match=r"data\.uri"):
        data_root(spec.model_copy(update={"spec": other}), tmp_path / "spec.yaml")
