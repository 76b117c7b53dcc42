"""Files of later data that the model of a bundle was trained on."""

import json

import pytest

from mlho.spec.scoring import BundleSource
from mlho.store.keys import run_key
from mlho.store.memory import MemoryStore
from scheduler.runs.origin import known_files

RUN = "a" * 16
MANIFEST = {
    "events": [
        {"key": "events/0.csv", "size": 900, "version": "e0"},
        {"key": "events/1.csv", "size": 30, "version": "header"},
    ],
    "labels": [{"key": "labels.csv", "size": 90, "version": "l"}],
}


@pytest.fixture
def store():
    """Return a store with a run, whose second file of events had no row."""
    store = MemoryStore()
    result = {"inputs": {"ledger_by_partition": [{"rows_in": 20}, {"rows_in": 0}]}}
    for name, content in {
        "manifest.json": json.dumps(MANIFEST),
        "spec.yaml": "{kind: TrainingRun}",
        "result.json": json.dumps(result),
    }.items():
        store.put_if_absent(run_key(RUN, name), content.encode())
    return store


@pytest.mark.parametrize(
    ("events", "n_known"), [(["e0", "header"], 1), (["header", "new"], 0), (["new"], 0)], ids=str
)
def test_files_of_events_without_rows_are_not_known(events, n_known, store):
    """Two exports with an empty partition have no patient in common."""
    later = {"events": [{"version": version} for version in events], "labels": [{"version": "later"}]}

    assert known_files(BundleSource(uri=f"run:{RUN}"), store, later) == n_known


def test_labels_of_training_are_known(store):
    """Labels count as before."""
    assert known_files(BundleSource(uri=f"run:{RUN}"), store, {"labels": [{"version": "l"}]}) == 1
