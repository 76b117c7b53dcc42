"""Findings of the inspection of a cohort by rule."""

from pathlib import Path
from typing import Any

import pytest

import mlho.inspection.training
from mlho.inspection.findings import Inspection
from mlho.inspection.training import inspect_training
from tests.builders import make_spec, make_tables, write_tables

RULES: dict[str, Any] = {
    "entry": {"codes": ["N0*"]},
    "outcome": {"codes": ["E11", "I10"], "toDays": 300},
    "notObservable": "negative",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("tables"), make_tables(300), partitions=3)


def inspected(folder: Path, *, has_all_events: bool = True, **rules: Any) -> Inspection:
    changes = {"data.tables.labels": None, "cohort.index": None, "cohort.rules": {**RULES, **rules}}
    changes["cohort.unknownPatients"] = "drop"
    return inspect_training(make_spec(changes).spec, folder, has_all_events=has_all_events)


def test_few_events_show_who_enters(folder):
    """Patients, samples and those with the outcome are counted as in the run, with the size that a plan needs."""
    found = inspected(folder)

    assert found.errors == []
    assert found.n_samples is not None
    assert found.size is not None
    assert found.facts["cohort"] == f"{found.size[0]} patients, {found.n_samples} samples"


def test_many_events_are_left_to_the_run(folder, monkeypatch):
    """Above a size limit, or if files are missing, nothing is counted or estimated."""
    partial = inspected(folder, has_all_events=False)
    monkeypatch.setattr(mlho.inspection.training, "MOST_EVENT_BYTES", 10)

    for found in (partial, inspected(folder)):
        assert found.errors == []
        assert (found.facts["cohort"], found.size) == ("by rule; the run counts who enters", None)


def test_a_misspelt_entry_is_an_error_before_the_run(folder):
    """A misspelt entry code is an error before the run, with the field and the problem."""
    (error,) = inspected(folder, entry={"codes": ["n0*"]}).errors

    assert str(error).startswith("cohort.rules.entry: no event has a code that the patterns match.")


def test_levels_of_sex_that_no_patient_has_are_a_warning(folder):
    """The level gives a warning, and the error says that no sample is left, and by which rule."""
    found = inspected(folder, criteria=[{"name": "women", "sex": ["FEMALE"]}])

    (error,) = found.errors
    assert "no possible sample is left" in str(error)
    assert "women" in str(error)


def test_patients_that_the_rules_leave_out_are_no_unknown_ids(folder):
    """Most event rows are of other patients if few enter: that is what the rules ask for, and the ids are not to be checked."""
    found = inspected(folder, entry={"codes": ["N01"]})

    assert found.errors == []
    assert "unknown patient" in found.facts["sampled event rows"]
    assert not [warning for warning in found.warnings if "unknown patient" in warning]
