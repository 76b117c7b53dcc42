"""`mlho compare` names the remedy for a run that has no test sets."""

import pytest
import yaml

from mlho.errors import SpecError
from mlho.store.keys import run_key
from mlho.store.memory import MemoryStore
from scheduler.cli.evaluation.compare import _training_run
from tests.unit.scheduler.runs.planted import plant_run

TRAINED, RECALIBRATED = "a" * 16, "b" * 16


@pytest.fixture
def store() -> MemoryStore:
    """Return a store with a training run, and a recalibration with another name."""
    store = MemoryStore()
    plant_run(store, TRAINED)
    plant_run(store, RECALIBRATED, "risk-recalibrated")
    key = run_key(RECALIBRATED, "spec.yaml")
    spec = yaml.safe_load(store.get(key)) | {"kind": "RecalibrationRun"}
    store.delete(key)
    store.put_if_absent(key, yaml.safe_dump(spec).encode())
    return store


@pytest.mark.parametrize("wanted", [RECALIBRATED, "risk-recalibrated"])
def test_a_recalibration_is_refused_with_the_command_that_compares_it(store, wanted):
    """The message names `mlho evaluate` for both bundles."""
    with pytest.raises(SpecError, match=rf"is a RecalibrationRun.*mlho evaluate run:{RECALIBRATED} --spec"):
        _training_run(store, wanted)


def test_a_training_run_is_found_beside_a_recalibration(store):
    assert _training_run(store, "risk").run_id == TRAINED


def test_a_name_that_no_run_has_is_refused_as_before(store):
    with pytest.raises(SpecError, match="no run matches none"):
        _training_run(store, "none")
