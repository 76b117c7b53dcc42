"""Bundles of version 0.1, in which absent meant zero for every classifier, keep their scores to the last bit.

``written_before`` holds four bundles of one made-up cohort, written by version 0.1 before trees treated absent values as
missing, and their scores for eleven patients: one without events, one aged 0, one of unknown age, one of unknown sex.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlho.model.bundle import load_bundle

FOLDER = Path(__file__).with_name("written_before")
GIVEN = json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(GIVEN["expected"]))
def test_a_bundle_written_before_scores_to_the_bit_as_it_did(name):
    """Probabilities (calibrated and uncalibrated), contributions, and the bundle's own tests are unchanged."""
    bundle, expected = load_bundle(FOLDER / name), GIVEN["expected"][name]
    tables = {table: pd.DataFrame(GIVEN[table]) for table in ("events", "index", "demographics")}
    tables["events"]["time"] = pd.to_datetime(tables["events"]["time"], format="ISO8601")
    tables["events"]["numeric_value"] = tables["events"]["numeric_value"].astype(float)
    tables["index"]["index_date"] = pd.to_datetime(tables["index"]["index_date"])

    scores, explained = bundle.predict_events(**tables), bundle.explain_events(**tables)

    assert bundle.classifier.absent == "zero"
    assert scores["patient_id"].tolist() == expected["patient_id"]
    assert scores["probability"].tolist() == expected["probability"]
    assert scores["uncalibrated"].tolist() == expected["uncalibrated"]
    assert explained.iloc[:, 2:].to_numpy().tolist() == expected["contributions"]
    assert [result for result in bundle.run_tests() if not result.passed] == []


@pytest.mark.parametrize("name", sorted(GIVEN["expected"]))
def test_it_still_treats_absent_as_zero_and_refuses_missing_numbers(name):
    """The model's file still says ``absent: zero``, its golden rows have no NaN, and a NaN in the input is refused."""
    bundle = load_bundle(FOLDER / name)

    assert json.loads(bundle.classifier.to_files()["model.json"])["absent"] == "zero"
    assert not np.isnan(bundle.golden.X).any()
    with pytest.raises(ValueError, match="1 NaN"):
        bundle.predict_proba(np.full((1, len(bundle.columns)), [np.nan, *[0.0] * (len(bundle.columns) - 1)]))
