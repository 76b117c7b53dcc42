"""The subgroup of ``cohort.only``: the samples that stay, and the rules that drop the others."""

from pathlib import Path

import pytest

from mlho.encoding.cohort.define import CohortResult
from mlho.errors import SpecError
from tests.unit.encoding.cohort.test_define import cohort_of, dropped

LABELS = "patient_id,index_date,label\n" + "".join(
    f"{patient},2020-06-01,{number % 2}\n" for number, patient in enumerate("abcdef")
)
# Born exactly 65 years before the index date, one day later, younger, older, without sex; the sixth patient has no row.
PERSONS = """patient_id,birth_date,sex
a,1955-06-01,F
b,1955-06-02,F
c,1990-01-01,F
d,1940-01-01,M
e,1940-01-01,
"""


def only(folder: Path, **subgroup: object) -> CohortResult:
    return cohort_of(folder, LABELS, PERSONS, features=("age", "sex"), unknown_patients="keep", only=subgroup)


@pytest.mark.parametrize(
    ("subgroup", "kept", "by_rule"),
    [
        ({"age": {"atMost": 64}}, ["b", "c"], {"not of the age of cohort.only": 4}),
        ({"sex": ["F", "M"]}, ["a", "b", "c", "d"], {"not of the sex of cohort.only": 2}),
        (
            {"sex": ["F"], "age": {"atMost": 65}},
            ["a", "b", "c"],
            {"not of the sex of cohort.only": 3},
        ),
        (
            {"sex": ["F"], "age": {"atMost": 64}},
            ["b", "c"],
            {"not of the sex of cohort.only": 3, "not of the age of cohort.only": 1},
        ),
    ],
)
def test_a_subgroup_is_of_sex_and_completed_years(tmp_path, subgroup, kept, by_rule):
    """The age is in completed years at the index date, and an unknown sex or age is in no subgroup. One rule drops each row; the attrition shows it."""
    result = only(tmp_path, **subgroup)

    assert list(result.cohort.patient_ids) == kept
    assert dropped(result) == {**by_rule, "used": len(kept)}
    assert sum(result.label_ledger.values()) == 6
    assert [step["rule"] for step in result.cohort.attrition] == ["label rows", *by_rule]


def test_an_age_of_the_table_is_rounded_down(tmp_path):
    """Without a birth date, the age column is rounded down."""
    persons = "patient_id,age,sex\n" + "".join(
        f"{patient},{age},F\n"
        for patient, age in zip("abcdef", (17.9, 18.0, 18.9, 19.0, 40, 50), strict=True)
    )

    result = cohort_of(
        tmp_path, LABELS, persons, features=("age",), only={"age": {"atLeast": 18, "atMost": 18}}
    )

    assert list(result.cohort.patient_ids) == ["b", "c"]


def test_a_sex_that_the_table_does_not_have_is_refused_with_the_values_of_many_rows(tmp_path):
    """Without this, every sample is dropped, and the error asks for the outcome."""
    persons = "patient_id,birth_date,sex\n" + "".join(
        f"{number},1950-01-01,{sex}\n" for number, sex in enumerate("F" * 12 + "M" * 11 + "X" * 10)
    )

    with pytest.raises(SpecError, match=r"cohort\.only\.sex: the column sex .* at least 11 rows: F, M\."):
        cohort_of(
            tmp_path,
            LABELS,
            persons,
            features=("age", "sex"),
            unknown_patients="keep",
            only={"sex": ["female"]},
        )


def test_a_subgroup_needs_a_table_of_demographics(tmp_path):
    """Without a table of demographics, the error names the field ``cohort.only``."""
    with pytest.raises(SpecError, match=r"cohort\.only: sex or age is not among the demographics"):
        cohort_of(tmp_path, LABELS, only={"sex": ["F"]})
