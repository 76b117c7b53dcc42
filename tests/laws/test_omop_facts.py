"""The same facts as an OMOP folder and as one table of events give the same result."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlho.external.scores import evaluated_spec, score_cohort
from mlho.model.bundle import load_bundle
from mlho.report.digest import PROSE
from mlho.store.keys import run_key
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from tests.builders import CREATININE, INFORMATIVE, Home, Tables, make_tables, run_inline, write_table
from tests.unit.scoring.conftest import score_inline

OF_THE_SOURCE = ("inputs", "ledger", "lineage", "made_at", "timing")
COMMON = {
    "features.aggregates": ["presence", "last"],
    "features.demographics": ["age", "gender"],
    "data.tables.concepts": None,
}
GENDERS = {"female": 8532, "male": 8507, None: 0}


def domain_of(code: str) -> str:
    return "measurement" if code == CREATININE else "condition" if code in INFORMATIVE else "drug"


def concept_of(code: str) -> int:
    return 1000 + int(code[1:]) if code[0] == "N" else 1 + ["E11", "I10", CREATININE].index(code)


@pytest.fixture(scope="module")
def facts() -> Tables:
    """Return facts whose persons have numeric ids and whose events all have codes and times."""
    tables = make_tables(150, prefix="1")
    events = tables.events.filter(
        pc.and_(pc.is_valid(tables.events["code"]), pc.is_valid(tables.events["time"]))
    )
    events = events.filter(pc.match_substring_regex(events["patient_id"], "^[0-9]+$"))
    persons = tables.demographics.drop_columns(["age"])
    return Tables(events, tables.labels, persons, tables.concepts)


def write_native(folder: Path, tables: Tables) -> dict[str, Any]:
    codes = [f"{domain_of(code)}:{concept_of(code)}" for code in tables.events["code"].to_pylist()]
    (folder / "events").mkdir(parents=True)
    write_table(folder / "events" / "0.parquet", tables.events.set_column(2, "code", pa.array(codes)))
    write_table(folder / "labels.parquet", tables.labels)
    persons = tables.demographics.rename_columns({"sex": "gender"})
    write_table(folder / "demographics.parquet", persons)
    return {}


def write_omop(folder: Path, tables: Tables) -> dict[str, Any]:
    """Write three tables of events in two files each, with births as year, month and day."""
    codes = tables.events["code"].to_pylist()
    place = np.array([domain_of(code) for code in codes])
    for domain, table, start in (
        ("measurement", "measurement", "measurement"),
        ("condition", "condition_occurrence", "condition_start"),
        ("drug", "drug_exposure", "drug_exposure_start"),
    ):
        rows = tables.events.take(np.flatnonzero(place == domain))
        concepts = [concept_of(code) for code in rows["code"].to_pylist()]
        columns = {
            "PERSON_ID": rows["patient_id"].cast(pa.int64()),
            f"{domain}_concept_id": concepts,
            f"{start}_date": rows["time"].cast(pa.date32(), safe=False),
            f"{start}_datetime": rows["time"],
        }
        if domain == "measurement":
            columns["value_as_number"] = rows["numeric_value"]
        found = pa.table(columns)
        (folder / table).mkdir(parents=True)
        for number in (0, 1):
            write_table(folder / table / f"{number}.parquet", found.take(np.arange(number, len(found), 2)))
    births = tables.demographics["birth_date"].to_pylist()
    persons = {
        "person_id": tables.demographics["patient_id"].cast(pa.int64()),
        "year_of_birth": [day.year for day in births],
        "month_of_birth": [day.month for day in births],
        "day_of_birth": [day.day for day in births],
        "gender_concept_id": [GENDERS[sex] for sex in tables.demographics["sex"].to_pylist()],
    }
    write_table(folder / "person.csv", pa.table(persons))
    write_table(folder / "labels.csv", tables.labels.rename_columns({"patient_id": "person_id"}))
    write_table(folder / "cdm_source.csv", pa.table({"cdm_version": ["5.4"]}))
    write_table(
        folder / "death.csv",
        pa.table({"person_id": pa.array([], pa.int64()), "death_date": pa.array([], pa.date32())}),
    )
    return {
        "data.source": "omop",
        "data.tables": {"events": ".", "labels": "labels.csv", "demographics": "person.csv"},
    }


def result_of(home: Home) -> dict[str, Any]:
    result = json.loads(home.run.store.get(run_key(home.run.run_id, "result.json")))
    return {name: part for name, part in result.items() if name not in PROSE.union(OF_THE_SOURCE)}


@pytest.fixture(scope="module")
def homes(facts: Tables, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Home]]:
    """Return the folder and the finished run of each layout."""
    found = {}
    for name, write in (("native", write_native), ("omop", write_omop)):
        folder = tmp_path_factory.mktemp(name)
        changes = {**COMMON, **write(folder, facts)}
        found[name] = folder, run_inline(folder, LocalStore(tmp_path_factory.mktemp("store")), changes)
    return found


def test_the_same_facts_give_the_same_result(facts, homes):
    """All of ``result.json`` is equal except its prose and the parts that describe the source. The ledger counts the same rows."""
    native, omop = (result_of(homes[name][1]) for name in ("native", "omop"))

    assert {name for name in native if omop[name] != native[name]} == set()
    ledgers = [
        json.loads(home.run.store.get(run_key(home.run.run_id, "result.json")))["ledger"]
        for _, home in homes.values()
    ]
    assert ledgers[0] == ledgers[1]
    assert ledgers[0]["rows_in"] == len(facts.events)


def test_the_same_facts_give_the_same_scores(homes):
    """A CDM folder gives the same scores. It is scored as one partition, because its tables share patients."""
    changes: dict[str, dict[str, Any]] = {
        "native": {},
        "omop": {
            "data.source": "omop",
            "data.tables": {"events": ".", "cohort": "labels.csv", "demographics": "person.csv"},
        },
    }
    scored = {}
    for name, (folder, home) in homes.items():
        for key, content in home.bundle().items():
            path = folder / "bundle" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        scored[name] = score_inline(folder, MemoryStore(), changes[name])

    assert scored["omop"].kinds().count("score_partition") == 1
    assert scored["omop"].table().equals(scored["native"].table())
    assert scored["omop"].scores["ledger"] == scored["native"].scores["ledger"]
    assert scored["omop"].manifest["parts"][0]["source"] == "."


def test_the_same_facts_give_the_same_evaluation(homes):
    """``mlho evaluate`` gives the same scores and the same ledger for both layouts."""
    folder, home = homes["native"]
    bundle_folder = folder / "evaluated"
    for key, content in home.bundle().items():
        path = bundle_folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    bundle = load_bundle(bundle_folder)
    native, omop = (
        score_cohort(bundle, evaluated_spec(trained.run.spec.spec, bundle), place)
        for place, trained in homes.values()
    )

    assert np.array_equal(native.probability, omop.probability)
    assert native.ledger == omop.ledger
