"""The same facts as a dbmart, as a MEDS data set and as an i2b2 export. Each writer returns its changes of the specification."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.builders import Tables, make_tables, write_table


def make_facts(n_patients: int) -> Tables:
    """Draw a cohort that all three layouts can represent: no static events, no reference ranges, and dates of birth instead of ages."""
    tables = make_tables(n_patients)
    labels = tables.labels.rename_columns(["subject_id", "prediction_time", "boolean_value"])
    return Tables(
        tables.events.filter(pc.is_valid(tables.events["time"])),
        labels.set_column(2, "boolean_value", labels["boolean_value"].cast(pa.bool_())),
        tables.demographics.drop_columns(["age"]),
        tables.concepts.select(["code", "description"]),
    )


def write_dbmart(folder: Path, tables: Tables) -> dict[str, Any]:
    """Write R MLHO's three tables and the concepts."""
    events = tables.events.rename_columns(["patient_num", "start_date", "phenx", "value"])
    write_table(folder / "dbmart.csv.gz", events)
    write_table(folder / "labeldt.csv", tables.labels.rename_columns({"subject_id": "patient_num"}))
    persons = tables.demographics.rename_columns({"patient_id": "patient_num"})
    write_table(folder / "dems.csv", persons)
    write_table(folder / "concepts.csv", tables.concepts.rename_columns(["phenx", "DESCRIPTION"]))
    return {
        "data.source": "dbmart",
        "data.tables": {
            "events": "dbmart.csv.gz",
            "labels": "labeldt.csv",
            "demographics": "dems.csv",
            "concepts": "concepts.csv",
        },
    }


def write_meds(folder: Path, tables: Tables) -> dict[str, Any]:
    """Write two unordered shards with sexes as static rows and births as events."""
    events = tables.events.rename_columns(["subject_id", "time", "code", "numeric_value"])
    sexes = tables.demographics.filter(pc.is_valid(tables.demographics["sex"]))
    births = tables.demographics
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
    write_table(folder / "labels.parquet", tables.labels)
    (folder / "metadata").mkdir()
    parents = pa.nulls(len(tables.concepts), pa.list_(pa.string()))
    write_table(folder / "metadata" / "codes.parquet", tables.concepts.append_column("parent_codes", parents))
    (folder / "metadata" / "dataset.json").write_text('{"dataset_name": "x", "meds_version": "0.4.1"}')
    return {
        "data.source": "meds",
        "data.tables": {"events": "data", "labels": "labels.parquet", "concepts": "metadata/codes.parquet"},
    }


def write_i2b2(folder: Path, tables: Tables) -> dict[str, Any]:
    """Write three tables with upper-case columns, as a database exports them, and labels."""
    facts = tables.events.rename_columns(["PATIENT_NUM", "START_DATE", "CONCEPT_CD", "NVAL_NUM"])
    kinds = np.where(np.asarray(pc.is_valid(facts["NVAL_NUM"])), "N", "@")
    facts = facts.append_column("VALTYPE_CD", pa.array(kinds))
    write_table(
        folder / "observation_fact.csv", facts.append_column("MODIFIER_CD", pa.array(["@"] * len(facts)))
    )
    persons = tables.demographics.rename_columns(
        {"patient_id": "PATIENT_NUM", "sex": "SEX_CD", "birth_date": "BIRTH_DATE"}
    )
    write_table(folder / "patient_dimension.csv", persons)
    concepts = tables.concepts.rename_columns(["CONCEPT_CD", "NAME_CHAR"])
    write_table(folder / "concept_dimension.csv", pa.concat_tables([concepts, concepts]))
    write_table(folder / "labels.csv", tables.labels.rename_columns({"subject_id": "PATIENT_NUM"}))
    return {
        "data.source": "i2b2",
        "data.tables": {
            "events": "observation_fact.csv",
            "labels": "labels.csv",
            "demographics": "patient_dimension.csv",
            "concepts": "concept_dimension.csv",
        },
    }
