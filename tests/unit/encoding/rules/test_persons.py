"""The demographics that rules use."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from mlho.encoding.cohort.persons import NO_DATE
from mlho.encoding.rules.persons import RulePersons, read_rule_persons
from mlho.errors import DataError
from mlho.spec.training import parse_spec
from tests.builders import make_document, write_table

DAY_US = 86_400_000_000
IDS = pa.array(["1", "2", "3"], pa.string())


def read(folder: Path, columns: dict[str, Any], **rules: Any) -> RulePersons | None:
    """Return the persons of three patients from a table with some columns."""
    write_table(folder / "demographics.parquet", pa.table({"patient_id": ["2", "1"], **columns}))
    document = make_document(
        {
            "data.tables.labels": None,
            "cohort.index": None,
            "cohort.rules": {"entry": {"codes": ["A"]}, "outcome": {"codes": ["B"], "toDays": 30}, **rules},
        }
    )
    return read_rule_persons(parse_spec(yaml.safe_dump(document)).spec, folder, IDS)


def criterion(**fields: Any) -> dict[str, Any]:
    return {"criteria": [{"name": "it", **fields}]}


def test_rules_that_need_no_person_read_none(tmp_path):
    """Rules that need no demographics do not read the table, which may even be invalid for them."""
    assert read(tmp_path, {}) is None


def test_birth_and_sex_are_in_the_order_of_the_histories(tmp_path):
    """A patient without a row has neither birth date nor sex. Without a column ``sex``, ``gender`` is used."""
    columns = {"birth_date": pa.array([1, 2], pa.date32()), "gender": ["F", None]}

    found = read(
        tmp_path, columns, criteria=[{"name": "a", "age": {"atLeast": 1}}, {"name": "s", "sex": ["F"]}]
    )

    assert found is not None
    assert found.birth_us.tolist() == [2 * DAY_US, DAY_US, NO_DATE]
    assert found.sex == (None, "F", None)


def test_an_age_is_read_where_there_is_no_birth_date(tmp_path):
    """Without a birth date, the age is that of the table, and unknown for a patient without a row."""
    found = read(tmp_path, {"age": [40.5, 17.0]}, **criterion(age={"atLeast": 18}))

    assert found is not None
    np.testing.assert_array_equal(found.age, [17.0, 40.5, np.nan])


def test_days_of_observation_are_meant_whole(tmp_path):
    """Observation lasts from the first microsecond of the first day to the last microsecond of the last day."""
    columns = {"since": pa.array([3, 4], pa.date32()), "until": pa.array([5, None], pa.date32())}

    found = read(tmp_path, columns, observation={"startColumn": "since", "endColumn": "until"})

    assert found is not None
    assert found.start_us is not None
    assert found.end_us is not None
    assert found.start_us.tolist() == [4 * DAY_US, 3 * DAY_US, NO_DATE]
    assert found.end_us.tolist() == [NO_DATE, 6 * DAY_US - 1, NO_DATE]


@pytest.mark.parametrize(
    ("columns", "rules", "message"),
    [
        ({}, criterion(sex=["F"]), "column 'sex' is missing"),
        ({}, criterion(age={"atLeast": 1}), "column 'age' is missing"),
        ({"age": ["40y", "41y"]}, criterion(age={"atLeast": 1}), "column 'age' is text"),
        ({}, {"observation": {"endColumn": "until"}}, "column 'until' is missing"),
        (
            {"patient_id": ["1", "1"], "until": pa.array([1, 2], pa.date32())},
            {"observation": {"endColumn": "until"}},
            "a patient has differing dates in column 'until'",
        ),
    ],
)
def test_a_column_that_a_rule_cannot_read_is_refused(columns, rules, message, tmp_path):
    """If a rule needs a column that is missing or invalid, the message names the column."""
    with pytest.raises(DataError) as error:
        read(tmp_path, columns, **rules)

    assert message in str(error.value)
