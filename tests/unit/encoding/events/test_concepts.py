"""Descriptions and reference ranges of codes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlho.encoding.events.concepts import Concepts, harvest_descriptions, read_concepts
from mlho.errors import DataError
from mlho.sources import list_inputs, source_named

NATIVE, DBMART = source_named("native"), source_named("dbmart")


def concepts_of(root: Path, text: str, source=NATIVE) -> Concepts:
    (root / "concepts.csv").write_text(text)
    return read_concepts(source, list_inputs(root, "concepts.csv"))


def test_descriptions_and_ranges_are_read(tmp_path):
    """Description and bounds may be absent, and codes stay text."""
    concepts = concepts_of(
        tmp_path,
        "code,description,low,high,parent\n0012,Glucose,70,99.5,x\nA,,,5,\nB,\n".replace(
            "B,\n", "B,bee,,,\n"
        ),
    )

    assert concepts == Concepts({"0012": "Glucose", "B": "bee"}, {"0012": 70.0}, {"0012": 99.5, "A": 5.0})


def test_only_the_code_is_required(tmp_path):
    """A table of Parquet with R's names needs only the code."""
    pq.write_table(pa.table({"phenx": ["A"], "DESCRIPTION": ["a"]}), tmp_path / "c.parquet")

    assert read_concepts(DBMART, list_inputs(tmp_path, "c.parquet")) == Concepts({"A": "a"})


def test_equal_rows_collapse(tmp_path):
    """A code may have several rows if they agree."""
    assert concepts_of(tmp_path, "code,description\nA,a\nA,a\nA,\n").descriptions == {"A": "a"}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("code,description\nA,a\nA,b\n", "a code has differing rows"),
        ("code,low,high\nA,5,3\n", "the bounds of a reference range are swapped"),
        ("code,low\nA,many\n", "column 'low' contains text that is not a number"),
        ("name,low\nA,1\n", "column 'code' is missing"),
    ],
)
def test_bad_concepts_are_refused(tmp_path, text, rule):
    """The error for invalid concepts names the file and the rule."""
    with pytest.raises(DataError) as caught:
        concepts_of(tmp_path, text)

    assert caught.value.rule == rule
    assert caught.value.where == "concepts.csv"


def test_numeric_codes_are_refused(tmp_path):
    """Numeric codes are refused, because they would have lost their leading zeros."""
    pq.write_table(pa.table({"code": [12]}), tmp_path / "c.parquet")

    with pytest.raises(DataError, match="codes are text"):
        read_concepts(NATIVE, list_inputs(tmp_path, "c.parquet"))


@pytest.mark.parametrize("cut", [0, 2, 5, 8])
def test_the_most_frequent_description_is_harvested_however_the_rows_are_cut(tmp_path, cut):
    """Ties go to the first description in alphabetical order, and files without descriptions are skipped."""
    rows = ["A,zed", "A,zed", "A,alpha", "B,two", "B,one", "C,", ",none", "D, spaced"]
    for number, part in enumerate((rows[:cut], rows[cut:])):
        lines = [f"1,2020-01-31,{row}" for row in part]
        text = "\n".join(["patient_num,start_date,phenx,DESCRIPTION", *lines])
        (tmp_path / f"part-{number}.csv").write_text(text)
    (tmp_path / "part-9.csv").write_text("patient_num,start_date,phenx\n1,2020-01-31,E\n")

    found = harvest_descriptions(DBMART, list_inputs(tmp_path, "."))

    assert found == {"A": "zed", "B": "one", "D": " spaced"}
    assert list(found) == ["A", "B", "D"]
