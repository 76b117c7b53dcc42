"""The AUROC that a run reports is the one that its model has on new patients, for every combination of ``final``.

``benchmarks/attribution.py`` tests ten cohorts with 20,000 new patients each. Here one cohort has many weak codes, so that a model on the
consensus is much worse than one on the ranked features, and thirty steps of boosting are much worse than the winners.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlho.method.evaluation.auroc import auroc
from mlho.model.bundle import load_bundle
from mlho.store.local import LocalStore
from tests.builders import DAY_US, Tables, run_inline, write_tables

N_TRAIN, N_FRESH, N_CODES = 2_500, 8_000, 40
INDEX_US = 18_000 * DAY_US
CHANGES = {
    "data.tables.concepts": None,
    "features.demographics": ["age"],
    "selection.nFeatures": 40,
    "validation.iterations": 5,
    "validation.folds": 3,
    "validation.bootstrapReplicates": 0,
    "consensus.minConfidence": 80,
    "candidates": [
        {"classifier": "glmboost", "grid": {"nSteps": [30]}},
        {"classifier": "elasticnet", "grid": {"l1Ratio": [0.5], "c": [1.0]}},
    ],
}


@dataclass(frozen=True)
class World:
    """A store with the cohort's tables, and new patients who are not in them."""

    data: Path
    store: LocalStore
    events: pd.DataFrame
    index: pd.DataFrame
    demographics: pd.DataFrame
    outcome: pd.Series


def make_tables(has, outcome, first):
    """Return tables of patients numbered from ``first``, as Arrow."""
    ids = np.array([f"q{first + number:05d}" for number in range(len(outcome))])
    patient, code = np.nonzero(has)
    labels = {
        "patient_id": ids,
        "index_date": pa.array([INDEX_US] * len(ids), pa.timestamp("us")),
        "label": outcome,
    }
    events = {
        "patient_id": ids[patient],
        "time": pa.array([INDEX_US - 10 * DAY_US] * len(patient), pa.timestamp("us")),
        "code": np.array([f"C{number:02d}" for number in range(N_CODES)])[code],
        "numeric_value": pa.nulls(len(patient), pa.float64()),
    }
    demographics = pa.table({"patient_id": ids, "age": 40.0 + np.arange(len(ids)) % 40})
    return Tables(pa.table(events), pa.table(labels), demographics, pa.table({"code": ["C00"]}))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a cohort with forty independent codes, each with an odds ratio of 1.4."""
    rng = np.random.default_rng(20)
    has = rng.random((N_TRAIN + N_FRESH, N_CODES)) < 0.3
    log_odds = np.log(1.4) * (has.sum(axis=1) - 0.3 * N_CODES) - 1.0
    outcome = (rng.random(len(has)) < 1 / (1 + np.exp(-log_odds))).astype(np.int8)
    folder = tmp_path_factory.mktemp("attribution")
    data = write_tables(folder / "data", make_tables(has[:N_TRAIN], outcome[:N_TRAIN], 0))
    fresh = make_tables(has[N_TRAIN:], outcome[N_TRAIN:], N_TRAIN)
    labels = fresh.labels.to_pandas()
    return World(
        data, LocalStore(folder / "store"), fresh.events.to_pandas(), labels[["patient_id", "index_date"]],
        fresh.demographics.to_pandas(), labels.set_index("patient_id")["label"],
    )  # fmt: skip


@pytest.mark.parametrize("classifier", ["best", "glmboost", "elasticnet"])
@pytest.mark.parametrize("features", ["ranking", "consensus"])
def test_the_claimed_auroc_is_that_on_fresh_patients(features, classifier, world, tmp_path):
    """The reported AUROC is within 0.04 of that on new patients (the standard error of the cohort is about 0.01). The winners' figure differs by more."""
    home = run_inline(
        world.data, world.store, {**CHANGES, "final.features": features, "final.classifier": classifier}
    )
    result = json.loads(world.store.get(f"runs/{home.finished.run_id}/result.json"))
    for name, content in home.bundle().items():
        path = tmp_path / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    scores = load_bundle(tmp_path / "bundle").predict_events(world.events, world.index, world.demographics)
    fresh_auroc = auroc(world.outcome.loc[scores["patient_id"]].to_numpy(), scores["probability"].to_numpy())

    assert abs(result["headline"]["auroc"]["mean"] - fresh_auroc) <= 0.04
    if features == "consensus" or classifier == "glmboost":
        assert abs(result["winners"]["auroc"]["mean"] - fresh_auroc) > 0.08
