"""Real data: a share of UCI "Diabetes 130-US hospitals" (101,766 encounters; CC BY 4.0), readmission within 30 days.

``benchmarks/real_data.py`` runs five iterations on all of it; the published AUROC is about 0.68.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mlho.spec.training import RunSpec
from mlho.store import open_store
from scheduler.engine.loop import carry_out
from scheduler.engine.manifest import make_manifest
from scheduler.engine.process_pool import LocalPool
from scheduler.engine.training_run import TrainingRun
from tests.builders import NullObserver

SPEC = Path(__file__).parents[2] / "benchmarks" / "specs" / "uci_counts.yaml"
N_PATIENTS = 8_000


def digest(patient: int) -> bytes:
    return hashlib.blake2b(str(patient).encode(), digest_size=8).digest()


def write_share(source: Path, folder: Path) -> None:
    """Write the tables of the patients with the smallest hashes."""
    tables = {
        name: pq.read_table(source / f"{name}.parquet") for name in ("events", "labels", "demographics")
    }
    everyone = np.unique(tables["labels"]["patient_num"].to_numpy())
    chosen = pa.array(sorted(everyone.tolist(), key=digest)[:N_PATIENTS])
    folder.mkdir()
    for name, table in tables.items():
        share = table.filter(pa.compute.is_in(table["patient_num"], value_set=chosen))
        pq.write_table(share, folder / f"{name}.parquet")


@pytest.fixture(scope="module")
def result(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Return the result of one iteration of three folds with both candidates."""
    folder = tmp_path_factory.mktemp("real")
    write_share(data / "uci_diabetes130", folder / "data")
    document = yaml.safe_load(SPEC.read_text(encoding="utf-8"))
    document["spec"]["data"]["uri"] = str(folder / "data")
    document["spec"]["validation"] |= {"iterations": 1, "folds": 3}
    document["spec"]["report"] = {"minCell": 0}  # exact counts of a public table
    spec, store = RunSpec.model_validate(document), folder / "store"
    run = TrainingRun(
        spec, make_manifest(spec.spec.data.tables, folder / "data"), folder / "data", open_store(str(store))
    )
    with LocalPool(str(store), folder / "data", n_workers=2) as pool:
        finished = carry_out(run, pool, NullObserver(), n_slots=2)
    return json.loads((store / "runs" / finished.run_id / "result.json").read_text(encoding="utf-8"))


def test_auroc_is_that_of_the_literature(result: dict):
    """The AUROC of both candidates is between 0.60 and 0.75: a lower one is a defect, a higher one is leakage."""
    aurocs = {
        candidate["classifier"]: candidate["test"]["auroc"]["mean"] for candidate in result["candidates"]
    }

    assert aurocs.keys() == {"glmboost", "xgboost"}
    assert all(0.60 <= auroc <= 0.75 for auroc in aurocs.values()), aurocs


def test_interval_holds_the_auroc_and_is_clustered_by_patient(result: dict):
    """A patient has several encounters, so the interval is Obuchowski's."""
    (estimate,) = result["headline_auroc"]

    assert estimate["low"] < estimate["value"] < estimate["high"]
    assert "Obuchowski" in estimate["method"]


def test_only_a_conflicting_sample_is_left_out(result: dict):
    """Two encounters of one day with different outcomes are dropped, and with them a patient without another encounter."""
    (iteration,) = result["iterations"]

    assert [(row["patients"], row["samples"]) for row in result["cohort"]["attrition"]] == [
        (8000, 11384),
        (7999, 11382),
    ]
    assert (iteration["n_train_patients"], iteration["n_test_patients"]) == (5599, 2400)


def test_known_predictors_of_readmission_rank_first(result: dict):
    """The discharge destination is among the first three features, and no code alone separates the outcome."""
    ranked = sorted(result["features"], key=lambda feature: feature["median_rank"] or np.inf)[:3]

    assert "ADM:discharge_disposition_id:1" in {feature["code"] for feature in ranked}
    assert "leak" not in " ".join(result["warnings"]).lower()
