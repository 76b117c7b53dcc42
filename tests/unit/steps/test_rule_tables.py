"""A run with a cohort by rule that uses a hierarchy of codes and periods of observation."""

import datetime as dt
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from mlho.encoding.rules.whole import make_rule_labels
from mlho.errors import SpecError
from mlho.sources import list_inputs, source_of
from mlho.store.memory import MemoryStore
from tests.builders import make_spec, make_tables, run_inline, write_tables

INDEX = dt.date(2019, 4, 14)


def rules(**entry):
    return {
        "data.tables.labels": None,
        "cohort.index": None,
        "cohort.unknownPatients": "drop",
        "cohort.rules": {
            "entry": {"which": "last", "priorObservationDays": 30, **entry},
            "outcome": {"codes": ["E11", "I10"], "toDays": 300},
            "observation": {"periods": "periods.csv"},
            "notObservable": "negative",
        },
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write the small cohort, a map of codes to parents, and periods of observation for two thirds of the patients."""
    folder = write_tables(tmp_path_factory.mktemp("data"), make_tables(300, seed=9))
    parquet.write_table(
        pa.table({"code": ["N00", "N01", "N02"], "parent": ["NN", "NN", "NN"]}), folder / "map.parquet"
    )
    lines = ["patient_id,start_date,end_date"]
    lines += [
        f"p{number:05d},{INDEX - dt.timedelta(days=900)},{INDEX + dt.timedelta(days=number % 40)}"
        for number in range(300)
        if number % 3
    ]
    (folder / "periods.csv").write_text("\n".join(lines) + "\n")
    return folder


def cohort_of(home):
    result = json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))
    return result["cohort"], [file["key"] for file in result["inputs"]["files"]]


def test_descendants_are_the_codes_that_are_written_out(data):
    """Descendants from the hierarchy give the same cohort and attrition as naming every code, even if features are rolled
    up. The hierarchy is an input of the run.
    """
    by_name = rules(codes=["NN", "N00", "N01", "N02"])
    below = rules(codes=["NN"], descendants=True)
    below["cohort.rules"] = {**below["cohort.rules"], "hierarchy": "map.parquet"}

    (expected, _), (found, files) = (
        cohort_of(run_inline(data, MemoryStore(), changes)) for changes in (by_name, below)
    )

    assert found == expected
    assert (
        cohort_of(run_inline(data, MemoryStore(), {**below, "features.rollUp": {"table": "map.parquet"}}))[0]
        == expected
    )
    assert {"map.parquet", "periods.csv"} <= set(files)


def test_an_evaluation_and_an_inspection_find_the_samples_of_the_run(data):
    """An evaluation and an inspection, which apply the rules in one process, find the same samples as the run."""
    changes = rules(codes=["NN"], descendants=True)
    changes["cohort.rules"] = {**changes["cohort.rules"], "hierarchy": "map.parquet"}
    spec = make_spec(changes).spec

    home = run_inline(data, MemoryStore(), changes)
    labels = make_rule_labels(spec, source_of(spec.data), data, list_inputs(data, "events"))

    assert home.kinds().count("find_descendants") == 1
    assert len(labels.rows.patient) == cohort_of(home)[0]["n_samples"]
    numbers = [int(patient_id[1:]) for patient_id in labels.rows.patient_ids.to_pylist()]
    assert numbers
    assert all(number % 3 for number in numbers)


@pytest.mark.parametrize(
    ("entry", "more_rules", "message"),
    [
        (
            {"codes": ["N*"], "descendants": True},
            {"hierarchy": "map.parquet"},
            "descendants requires literal codes",
        ),
        ({"codes": ["NN"], "descendants": True}, {}, "descendants and hierarchy require each other"),
        ({"codes": ["NN"]}, {"hierarchy": "map.parquet"}, "descendants and hierarchy require each other"),
        (
            {"codes": ["NN"]},
            {"observation": {"periods": "p.csv", "endDate": "2020-01-01"}},
            "periods and endDate exclude each other",
        ),
    ],
)
def test_tables_that_rules_do_not_use_are_refused(entry, more_rules, message):
    """Given tables that the rules do not use are rejected, because every given table must be read."""
    changes = rules(**entry)
    changes["cohort.rules"] = {**changes["cohort.rules"], **more_rules}
    with pytest.raises(SpecError, match=message):
        make_spec(changes)
