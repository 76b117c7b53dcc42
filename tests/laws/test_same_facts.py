"""The same facts as a dbmart, as a MEDS data set and as an i2b2 export give the same result."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlho.report.digest import PROSE
from mlho.store.keys import run_key
from mlho.store.local import LocalStore
from tests.builders import Home, Tables, make_tables, run_inline, write_table

# What says where the facts came from, and the account of rows, which counts the static rows of MEDS.
OF_THE_SOURCE = ("inputs", "ledger", "lineage", "made_at", "timing")
COMMON = {
    "cohort": {"outcome": "boolean_value", "index": {"column": "prediction_time"}},
    "features.aggregates": ["presence", "last"],
    "features.demographics": ["age", "sex"],
    "features.exclude": ["MEDS_BIRTH"],
}


def write_dbmart(folder: Path, own: Tables) -> dict[str, Any]:
    events = own.events.rename_columns(["patient_num", "start_date", "phenx", "value"])
    write_table(folder / "dbmart.csv.gz", events)
    write_table(folder / "labeldt.csv", own.labels.rename_columns({"subject_id": "patient_num"}))
    persons = own.demographics.rename_columns({"patient_id": "patient_num"})
    write_table(folder / "dems.csv", persons)
    write_table(folder / "concepts.csv", own.concepts.rename_columns(["phenx", "DESCRIPTION"]))
    return {
        "data.source": "dbmart",
        "data.tables": {
            "events": "dbmart.csv.gz",
            "labels": "labeldt.csv",
            "demographics": "dems.csv",
            "concepts": "concepts.csv",
        },
    }


def write_meds(folder: Path, own: Tables) -> dict[str, Any]:
    """Two shards in disorder, sexes as static rows, births as events at birth."""
    events = own.events.rename_columns(["subject_id", "time", "code", "numeric_value"])
    sexes = own.demographics.filter(pc.is_valid(own.demographics["sex"]))
    births = own.demographics
    static = pa.table(
        {
            "subject_id": pa.concat_arrays(
                [sexes["patient_id"].combine_chunks(), births["patient_id"].combine_chunks()]
            ),
            "time": pa.concat_arrays(
                [
                    pa.nulls(len(sexes), pa.timestamp("us")),
                    births["birth_date"].cast(pa.timestamp("us")).combine_chunks(),
                ]
            ),
            "code": [*(f"GENDER//{sex}" for sex in sexes["sex"].to_pylist()), *["MEDS_BIRTH"] * len(births)],
            "numeric_value": pa.nulls(len(sexes) + len(births), pa.float64()),
        }
    )
    rows = pa.concat_tables([events, static.cast(events.schema)])
    order = np.random.default_rng(0).permutation(len(rows))
    for shard in (0, 1):
        (folder / "data" / f"{shard}").mkdir(parents=True)
        write_table(folder / "data" / f"{shard}" / "0.parquet", rows.take(order[shard::2]))
    write_table(folder / "labels.parquet", own.labels)
    (folder / "metadata").mkdir()
    parents = pa.nulls(len(own.concepts), pa.list_(pa.string()))
    write_table(folder / "metadata" / "codes.parquet", own.concepts.append_column("parent_codes", parents))
    (folder / "metadata" / "dataset.json").write_text('{"dataset_name": "x", "meds_version": "0.4.1"}')
    return {
        "data.source": "meds",
        "data.tables": {"events": "data", "labels": "labels.parquet", "concepts": "metadata/codes.parquet"},
    }


def write_i2b2(folder: Path, own: Tables) -> dict[str, Any]:
    facts = own.events.rename_columns(["PATIENT_NUM", "START_DATE", "CONCEPT_CD", "NVAL_NUM"])
    kinds = np.where(np.asarray(pc.is_valid(facts["NVAL_NUM"])), "N", "@")
    facts = facts.append_column("VALTYPE_CD", pa.array(kinds))
    write_table(
        folder / "observation_fact.csv", facts.append_column("MODIFIER_CD", pa.array(["@"] * len(facts)))
    )
    persons = own.demographics.rename_columns(
        {"patient_id": "PATIENT_NUM", "sex": "SEX_CD", "birth_date": "BIRTH_DATE"}
    )
    write_table(folder / "patient_dimension.csv", persons)
    concepts = own.concepts.rename_columns(["CONCEPT_CD", "NAME_CHAR"])
    write_table(folder / "concept_dimension.csv", pa.concat_tables([concepts, concepts]))
    write_table(folder / "labels.csv", own.labels.rename_columns({"subject_id": "PATIENT_NUM"}))
    return {
        "data.source": "i2b2",
        "data.tables": {
            "events": "observation_fact.csv",
            "labels": "labels.csv",
            "demographics": "patient_dimension.csv",
            "concepts": "concept_dimension.csv",
        },
    }


@pytest.fixture(scope="module")
def facts() -> Tables:
    own = make_tables(150)
    labels = own.labels.rename_columns(["subject_id", "prediction_time", "boolean_value"])
    return Tables(
        own.events.filter(pc.is_valid(own.events["time"])),
        labels.set_column(2, "boolean_value", labels["boolean_value"].cast(pa.bool_())),
        own.demographics.drop_columns(["age"]),
        own.concepts.select(["code", "description"]),
    )


@pytest.fixture(scope="module")
def homes(facts: Tables, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Home]:
    found = {}
    for write in (write_dbmart, write_meds, write_i2b2):
        name, folder = write.__name__.removeprefix("write_"), tmp_path_factory.mktemp("facts")
        changes = {**COMMON, **write(folder, facts)}
        found[name] = run_inline(folder, LocalStore(folder / "store"), changes)
    return found


def result_of(home: Home) -> dict[str, Any]:
    result = json.loads(home.run.store.get(run_key(home.run.run_id, "result.json")))
    return {name: part for name, part in result.items() if name not in PROSE.union(OF_THE_SOURCE)}


@pytest.mark.parametrize("source", ["meds", "i2b2"])
def test_the_same_facts_give_the_same_result(homes, source):
    """All of ``result.json`` but its prose and what says where the facts came from."""
    theirs, ours = result_of(homes[source]), result_of(homes["dbmart"])

    assert {name for name in ours if theirs[name] != ours[name]} == set()


def test_the_ledger_names_what_only_one_source_has(homes):
    """Static rows of MEDS are dropped as events, and its births here by the specification."""

    def dropped(name: str) -> dict[str, int]:
        ledger = json.loads(homes[name].run.store.get(run_key(homes[name].run.run_id, "result.json")))[
            "ledger"
        ]
        return {rule["rule"]: rule["rows"] for rule in ledger["rules"]}

    assert dropped("i2b2") == dropped("dbmart")
    more = {rule: n for rule, n in dropped("meds").items() if n != dropped("dbmart").get(rule, 0)}
    assert set(more) == {"no time", "excluded code"}
